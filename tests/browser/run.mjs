// Runs the browser tests: node run.mjs [words of file names]. Each file opens browsers of its own, one file at a time.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const wanted = process.argv.slice(2);
const files = readdirSync(here)
  .filter((name) => name.endsWith('.test.mjs'))
  .filter((name) => wanted.length === 0 || wanted.some((word) => name.includes(word)))
  .sort()
  .map((name) => join(here, name));

function fail(message) {
  console.error(`error: ${message}`);
  process.exit(1);
}

if (files.length === 0) fail(`no test file in ${here} has one of these in its name: ${wanted.join(', ')}`);
if (!existsSync(join(here, 'node_modules', 'playwright-core'))) {
  fail(`playwright-core is missing; install it with \`npm ci\` in ${here}, or run \`cargo xtask test --only browser\``);
}

// A page that hangs must not hold up the whole run: a file ends after half an hour at the latest.
const arguments_ = ['--test', '--test-concurrency=1', '--test-reporter=spec', '--test-timeout=1800000', ...files];
const { status, error } = spawnSync(process.execPath, arguments_, { stdio: 'inherit' });
if (error) fail(`Node.js could not be started: ${error.message}`);
process.exit(status ?? 1);
