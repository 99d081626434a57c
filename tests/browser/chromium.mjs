// Where Chromium or a browser built from it is. `node chromium.mjs` prints the path, or fails with what was tried.
import { accessSync, constants, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome', 'microsoft-edge'];

function usualPlaces() {
  if (process.platform === 'darwin') {
    const programs = ['Chromium', 'Google Chrome', 'Microsoft Edge'];
    return ['/Applications', join(homedir(), 'Applications')].flatMap((folder) =>
      programs.map((name) => join(folder, `${name}.app`, 'Contents', 'MacOS', name)),
    );
  }
  if (process.platform === 'win32') {
    const folders = [process.env.ProgramFiles, process.env['ProgramFiles(x86)'], process.env.LOCALAPPDATA];
    const programs = ['Chromium\\Application\\chrome.exe', 'Google\\Chrome\\Application\\chrome.exe', 'Microsoft\\Edge\\Application\\msedge.exe'];
    return folders.filter(Boolean).flatMap((folder) => programs.map((program) => join(folder, program)));
  }
  return ['/snap/bin/chromium', '/usr/lib/chromium/chromium', '/opt/google/chrome/chrome'];
}

function isProgram(path) {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** The path of the browser, or an Error that names what was tried. */
export function findChromium() {
  for (const name of ['CHROME', 'CHROMIUM_PATH']) {
    const path = process.env[name];
    if (!path) continue;
    if (isProgram(path)) return path;
    throw new Error(`$${name} is "${path}", which is not a program that can be started`);
  }
  const suffix = process.platform === 'win32' ? '.exe' : '';
  const searched = (process.env.PATH ?? '').split(delimiter).filter(Boolean);
  const inPath = NAMES.flatMap((name) => searched.map((folder) => join(folder, name + suffix)));
  const found = [...inPath, ...usualPlaces()].find(isProgram);
  if (found) return found;
  throw new Error(
    `no Chromium or Google Chrome was found: neither ${NAMES.join(', ')} in PATH nor ${usualPlaces().join(', ')}. ` +
      'Install one, or set CHROME to its path',
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    console.log(findChromium());
  } catch (error) {
    console.error(`error: ${error.message}`);
    process.exitCode = 1;
  }
}
