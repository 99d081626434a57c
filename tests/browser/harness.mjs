// Opens the built page in a real Chromium, with a GPU or without, and notes what goes wrong in it.
//
//   await withPage('cpu', async ({ page, problems, blocks, screenshot }) => { ... });
//
// `page` is Playwright's. The environment: CHROME or CHROMIUM_PATH names the browser, AVASCOPE_DIST another folder than
// www/dist to serve, AVASCOPE_SHOTS another folder than tests/browser/out for pictures.
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { findChromium } from './chromium.mjs';
import { serve } from './server.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const dist = resolve(process.env.AVASCOPE_DIST ?? join(here, '..', '..', 'www', 'dist'));
const shots = resolve(process.env.AVASCOPE_SHOTS ?? join(here, 'out'));

// --no-sandbox: a container's root has no user namespace to sandbox with; only our own page is opened.
// The others keep Chromium from calling home and from asking questions.
const QUIET = [
  '--no-sandbox',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** How the browser is started: `webgpu` grants Chromium's software adapter on every machine, `cpu` grants none. */
export const MODES = {
  webgpu: [...QUIET, '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'],
  // Where there is a real GPU, --disable-gpu keeps it from being granted.
  cpu: [...QUIET, '--disable-gpu'],
};

/** Software shaders compile slowly: waits in webgpu mode want more than Playwright's 30 s. */
export const TIMEOUT_MS = { webgpu: 240_000, cpu: 60_000 };

/** A browser that ends by itself while it starts (a crash of Chromium's own, before any page) is started once more. */
async function launch(options) {
  try {
    return await chromium.launch(options);
  } catch (error) {
    if (!/browser has been closed/.test(error.message)) throw error;
    console.log(`Chromium ended while it started, and is started once more: ${/signal=\w+/.exec(error.message)?.[0] ?? error.message.split('\n')[0]}`);
    return chromium.launch(options);
  }
}

/**
 * Serves the page, starts the browser and opens it. The result:
 * - `page`, `context`, `url`, `mode`
 * - `problems`: console errors, uncaught errors, failed requests and crashes so far, as lines of text
 * - `external`: addresses outside of the served folder that the page asked for; none of them is let through
 * - `blocks`: how long the main thread was blocked (see below)
 * - `screenshot(name)`: writes out/NAME-MODE.png and returns its path
 * - `close()`
 * Options: `path` (what to open, '' for the front page), `viewport`, `context` (more of Playwright's context options),
 * `script` (a function to run inside the page before its own scripts).
 */
export async function openPage(mode, { path = '', viewport = { width: 1280, height: 800 }, context: more = {}, script } = {}) {
  const args = MODES[mode];
  if (!args) throw new Error(`"${mode}" is no mode; there are: ${Object.keys(MODES).join(', ')}`);
  if (!existsSync(join(dist, 'index.html'))) {
    throw new Error(`there is no page in ${dist}; build it with \`cargo xtask build\``);
  }
  const server = await serve(dist);
  let browser;
  try {
    browser = await launch({ executablePath: findChromium(), args, headless: true });
    const context = await browser.newContext({ viewport, acceptDownloads: true, ...more });
    context.setDefaultTimeout(TIMEOUT_MS[mode]);
    const external = [];
    await context.route(
      (url) => /^(https?|wss?):$/.test(url.protocol) && url.origin !== new URL(server.url).origin,
      (route) => {
        external.push(route.request().url());
        return route.abort();
      },
    );
    await context.addInitScript(watchLongTasks);
    if (script) await context.addInitScript(script);
    const page = await context.newPage();
    const problems = watchProblems(page);
    await page.goto(new URL(path, server.url).href);
    return {
      page,
      context,
      url: server.url,
      mode,
      problems,
      external,
      blocks: longTasks(page),
      screenshot: async (name) => {
        await mkdir(shots, { recursive: true });
        const file = join(shots, `${name}-${mode}.png`);
        await page.screenshot({ path: file });
        return file;
      },
      close: async () => {
        await browser.close();
        await server.close();
      },
    };
  } catch (error) {
    await browser?.close();
    await server.close();
    throw error;
  }
}

/** Opens the page, runs `body` on it and closes it in any case; a failing body leaves a picture in out/failed-*.png. */
export async function withPage(mode, body, options) {
  const opened = await openPage(mode, options);
  try {
    return await body(opened);
  } catch (error) {
    const file = await opened.screenshot(`failed-${Date.now()}`).catch(() => null);
    if (file) console.error(`the page as it was: ${file}`);
    for (const problem of opened.problems) console.error(`the page said: ${problem}`);
    throw error;
  } finally {
    await opened.close();
  }
}

/** Waits until a map of tokens stands whole: the page puts it up in parts. */
export async function mapStands(page) {
  await page.locator('[data-testid="token"]').first().waitFor();
  await drawn(page);
}

/** Waits until what is known is on the page: it changes in parts, one a frame. */
export const drawn = (page) => page.waitForFunction(() => !document.documentElement.hasAttribute('data-drawing'));

/** Also hears workers: Chromium shows their console, uncaught errors included, as the page's. */
function watchProblems(page) {
  const problems = [];
  page.on('console', (message) => {
    if (message.type() !== 'error') return;
    const { url, lineNumber } = message.location();
    problems.push(`console: ${message.text()}${url ? ` (${url}:${lineNumber + 1})` : ''}`);
  });
  page.on('pageerror', (error) => problems.push(`uncaught: ${error.stack ?? error}`));
  page.on('crash', () => problems.push('the page crashed'));
  page.on('requestfailed', (request) => {
    // A download counts as a navigation that was given up.
    const reason = request.failure()?.errorText ?? '';
    if (reason !== 'net::ERR_ABORTED') problems.push(`request: ${request.url()} ${reason}`);
  });
  return problems;
}

/** Runs inside the page, before its own scripts. */
function watchLongTasks() {
  const noted = [];
  globalThis.__longTasks = noted;
  const observer = new PerformanceObserver((list) => note(list.getEntries()));
  const note = (entries) => {
    for (const entry of entries) noted.push({ start: entry.startTime, duration: entry.duration });
  };
  observer.observe({ type: 'longtask', buffered: true });
  globalThis.__takeLongTasks = () => {
    note(observer.takeRecords());
    return noted;
  };
}

/** Main-thread blocks in milliseconds; Chromium reports those above 50. Tasks still running are not counted. */
function longTasks(page) {
  const list = async () => {
    // Entries arrive after the task that they tell of has ended: one turn of the event loop later.
    await page.evaluate(() => new Promise((done) => setTimeout(done, 0)));
    return page.evaluate(() => globalThis.__takeLongTasks());
  };
  return {
    /** All noted blocks since the last reset, `{ start, duration }`, by start. */
    list,
    /** The longest of them, 0 where there was none. */
    longest: async () => Math.max(0, ...(await list()).map((task) => task.duration)),
    /** Forgets what was noted, for measuring from here on. */
    reset: async () => {
      await list();
      await page.evaluate(() => void (globalThis.__longTasks.length = 0));
    },
  };
}
