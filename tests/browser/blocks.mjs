// How long the page's main thread is held while it trains: the longest tasks by the wall clock, with the processor time that
// each had and what it was spent on. No test: a measurement, to be read beside an idle machine's.
//
//   node tests/browser/blocks.mjs [cpu|webgpu] [SECONDS] [--model FILES --data FILE]
//
// The built page is opened in headless Chromium and trained for so many seconds (20): the built-in world, or own files as the
// page takes them (several with commas between). Wall time beyond processor time is waiting, for a core or for Chromium's
// other threads.
import { withPage } from './harness.mjs';

const args = process.argv.slice(2);
const files = (option) => (args.includes(option) ? args.splice(args.indexOf(option), 2)[1].split(',') : null);
const model = files('--model');
const data = files('--data');
const [mode = 'cpu', seconds = '20'] = args;
const MOST = 8;
/** Chromium's names of what a task does, in the order of printing. */
const PARTS = {
  RunMicrotasks: 'microtasks',
  FunctionCall: 'script',
  FireAnimationFrame: 'frame callbacks',
  TimerFire: 'timers',
  HandlePostMessage: 'messages',
  EvaluateScript: 'scripts evaluated',
  'v8.evaluateModule': 'modules evaluated',
  'v8.compileModule': 'modules compiled',
  ParseHTML: 'HTML',
  EventDispatch: 'events',
  UpdateLayoutTree: 'style',
  Layout: 'layout',
  IntersectionObserverController: 'intersections',
  PrePaint: 'before paint',
  Paint: 'paint',
  Layerize: 'layers',
  Commit: 'commit',
  MinorGC: 'small collections',
  MajorGC: 'large collections',
};

const by = (page, id) => page.locator(`[data-testid="${id}"]`).first();
const ms = (us) => (us / 1000).toFixed(1);

/** Prints what the page's main thread did while `body` ran. */
async function traced(page, blocks, when, body) {
  const browser = page.context().browser();
  await browser.startTracing(page, { categories: ['toplevel', 'devtools.timeline', 'v8', 'disabled-by-default-v8.gc'] });
  await body();
  const events = JSON.parse(await browser.stopTracing()).traceEvents;
  const long = await blocks.list();
  await blocks.reset();
  // The page's own renderer is the one whose main thread had the most to do.
  const mains = events
    .filter((event) => event.name === 'thread_name' && event.args.name === 'CrRendererMain')
    .map(({ pid, tid }) => events.filter((event) => event.pid === pid && event.tid === tid && event.ph === 'X'));
  const own = mains.reduce((most, each) => (each.length > most.length ? each : most));
  const tasks = own.filter(({ name }) => name === 'RunTask' || name === 'ThreadControllerImpl::RunTask');
  const begin = Math.min(...tasks.map((task) => task.ts));
  const span = Math.max(...tasks.map((task) => task.ts + task.dur)) - begin;
  const busy = tasks.reduce((sum, task) => sum + (task.tdur ?? 0), 0);
  console.log(`${mode}, ${when}: above 50 ms by the browser's own count: ${long.map(({ duration }) => duration.toFixed(0)).join(', ') || 'none'}`);
  console.log(`  ${tasks.length} tasks, which computed ${((100 * busy) / span).toFixed(0)} % of the time, ${ms(Math.max(...tasks.map((task) => task.tdur ?? 0)))} ms at most in one; the longest:`);
  for (const task of [...tasks].sort((a, b) => b.dur - a.dur).slice(0, MOST)) {
    const inside = own.filter((event) => event !== task && event.ts >= task.ts && event.ts + event.dur <= task.ts + task.dur);
    const parts = Object.keys(PARTS).flatMap((name) => {
      const all = inside.filter((event) => event.name === name);
      return all.length ? [`${PARTS[name]} ${ms(all.reduce((sum, event) => sum + (event.tdur ?? 0), 0))}/${ms(all.reduce((sum, event) => sum + event.dur, 0))}`] : [];
    });
    console.log(`  ${ms(task.dur).padStart(6)} ms, processor ${ms(task.tdur ?? 0).padStart(5)} ms, at ${((task.ts - begin) / 1e6).toFixed(1)} s: ${parts.join(', ') || 'nothing named'}`);
  }
}

const start = { path: 'favicon.svg' };
await withPage(mode, async ({ page, url, blocks }) => {
  await traced(page, blocks, 'opening', async () => {
    await page.goto(url);
    await by(page, 'token').waitFor();
    await page.waitForTimeout(2000);
  });
  if (model || data) {
    await traced(page, blocks, 'own files', async () => {
      await by(page, 'use-files').click();
      if (model) await page.setInputFiles('[data-testid="model-files"]', model);
      if (data) {
        // The engine takes one file after the other.
        await page.waitForFunction(() => document.querySelector('[data-testid="data-file"]')?.disabled === false);
        await page.setInputFiles('[data-testid="data-file"]', data);
      }
      await page.waitForFunction(() => document.querySelector('[data-testid="start"]')?.disabled === false && !document.querySelector('[data-testid="needs-rows"]'));
      await page.waitForTimeout(2000);
    });
  }
  await traced(page, blocks, 'training', async () => {
    await by(page, 'start').click();
    await page.waitForTimeout(1000 * Number(seconds));
  });
  console.log(`${mode}: ${await by(page, 'step-count').innerText()} steps in ${seconds} s`);
}, start);
