// Checkpoints as a person handles them: saved from the page, opened in it again after a reload or where another run was set
// up, and carried over to the command and back. And what a checkpoint is there for: a run whose loss left its range goes on
// from it with lower rates.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { mapStands, withPage } from './harness.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const command = process.env.AVASCOPE_BIN ?? join(here, '..', '..', 'target', 'release', 'avascope');
/** What the page's checkpoint is kept as, for whoever wants to open it outside of the page. */
const KEPT = join(here, 'out', 'page-checkpoint.safetensors');
/** Page and command compute with other loops over memory. */
const TOLERANCE = 1e-3;
const STEPS = 8;

const by = (page, id) => page.locator(`[data-testid="${id}"]`).first();
const status = (page, words) => page.waitForFunction((wanted) => document.querySelector('[data-testid="status"]').textContent.includes(wanted), words);
const atLeast = (page, steps) =>
  page.waitForFunction((wanted) => Number.parseInt(document.querySelector('[data-testid="step-count"]').textContent, 10) >= wanted, steps);

/** Runs inside the page, before its own scripts: notes the loss of every step that the worker tells of. */
function noteLosses() {
  const losses = new Map();
  globalThis.__losses = losses;
  const Plain = globalThis.Worker;
  globalThis.Worker = class extends Plain {
    constructor(...from) {
      super(...from);
      this.addEventListener('message', ({ data }) => {
        if (data.kind !== 'events') return;
        for (const event of data.events) if (event.type === 'step') losses.set(event.step, event.metrics.loss);
      });
    }
  };
}
const losses = async (page, from) => (await page.evaluate(() => [...globalThis.__losses])).filter(([step]) => step > from);

/** Takes steps one by one until `wanted` are taken. */
async function stepTo(page, wanted) {
  for (;;) {
    const taken = Number.parseInt(await by(page, 'step-count').innerText(), 10);
    if (taken >= wanted) return;
    await by(page, 'step').click();
    await atLeast(page, taken + 1);
    await page.waitForFunction(() => !/Training/.test(document.querySelector('[data-testid="status"]').textContent));
  }
}

/** Sets the number of steps of a run that has not begun. */
async function plan(page, steps) {
  await by(page, 'steps').fill(`${steps}`);
  await by(page, 'apply').click();
  await status(page, `of ${steps}`);
}

async function download(page, path) {
  const [file] = await Promise.all([page.waitForEvent('download'), by(page, 'save').click()]);
  mkdirSync(dirname(path), { recursive: true });
  await file.saveAs(path);
  return file.suggestedFilename();
}

/** Opens a checkpoint and takes the steps that are left of its plan; answers their losses. */
async function goOn(page, path, from) {
  await page.setInputFiles('[data-testid="checkpoint-file"]', path);
  await status(page, `step ${from} of ${STEPS}`);
  await page.evaluate(() => globalThis.__losses.clear());
  await by(page, 'start').click();
  await status(page, 'Ended: all steps taken');
  return losses(page, from);
}

const watched = { script: noteLosses };

test('a checkpoint of the page goes on after a reload with the losses of a run that never stopped', async () => {
  await withPage('cpu', async ({ page, problems }) => {
    await mapStands(page);
    await plan(page, STEPS);
    await stepTo(page, 3);
    assert.equal(await download(page, KEPT), 'avascope-ava_p-step-000003.safetensors');
    await stepTo(page, STEPS);
    await status(page, 'Ended: all steps taken');
    const straight = await losses(page, 3);
    assert.equal(straight.length, STEPS - 3);

    await page.reload();
    await mapStands(page);
    assert.deepEqual(await goOn(page, KEPT, 3), straight);
    assert.deepEqual(problems, []);
  }, watched);
});

test('a checkpoint goes on in the command that the page wrote, and in the page that the command wrote', async () => {
  assert.ok(existsSync(command), `the command is not built: ${command}; \`cargo xtask test\` builds it`);
  const folder = mkdtempSync(join(tmpdir(), 'avascope-checkpoint-'));
  const train = (...words) => {
    const { status: code, stdout, stderr } = spawnSync(command, ['train', '--device', 'cpu', '--json', '--quiet', ...words], { encoding: 'utf8' });
    assert.equal(code, 0, stderr);
    const events = stdout.trim().split('\n').map((line) => JSON.parse(line));
    return events.filter((event) => event.type === 'step').map((event) => [event.step, event.metrics.loss]);
  };
  const alike = (page, native) => {
    assert.deepEqual(page.map(([step]) => step), native.map(([step]) => step));
    page.forEach(([step, loss], i) => {
      assert.ok(Math.abs(loss - native[i][1]) <= TOLERANCE * Math.abs(native[i][1]), `step ${step}: ${loss} in the page, ${native[i][1]} in the command`);
    });
  };
  try {
    await withPage('cpu', async ({ page, problems }) => {
      await mapStands(page);
      await plan(page, STEPS);
      await stepTo(page, 3);
      const fromPage = join(folder, 'page.safetensors');
      await download(page, fromPage);
      await stepTo(page, STEPS);
      alike(await losses(page, 3), train('--resume-from', fromPage, '--out', join(folder, 'on')));

      // The page's world: 3,000 rows of seed 0.
      const run = join(folder, 'run');
      const native = train('--data', 'world', '--world-rows', '3000', '--seed', '0', '--steps', `${STEPS}`, '--save-steps', '5', '--out', run);
      alike(await goOn(page, join(run, 'checkpoints', 'step-000005.safetensors'), 5), native.slice(5));
      assert.deepEqual(problems, []);
    }, watched);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('what a map passed is opened with its checkpoint, and is forgotten with the next step', async () => {
  assert.ok(existsSync(command), `the command is not built: ${command}; \`cargo xtask test\` builds it`);
  const folder = mkdtempSync(join(tmpdir(), 'avascope-trust-'));
  try {
    await withPage('cpu', async ({ page, problems }) => {
      const badge = (words) => page.waitForFunction((wanted) => document.querySelector('.badge')?.textContent === wanted, words);
      await mapStands(page);
      await stepTo(page, 3);
      const file = join(folder, 'page.safetensors');
      await download(page, file);
      const { status: code, stderr } = spawnSync(command, ['eval', file, '--device', 'cpu', '--truth', 'intervention', '--interventions', '1', '--limit', '40', '--json'], { encoding: 'utf8' });
      assert.equal(code, 0, stderr);
      const trust = join(folder, 'trust.json');

      // What the command found: interventions alone make no map checked, whatever they say.
      await page.setInputFiles('[data-testid="checkpoint-file"]', [file, trust]);
      await status(page, 'step 3 of');
      await badge('exploratory');

      // The same results as if people's labels had been asked, and the map had passed.
      const results = JSON.parse(readFileSync(trust, 'utf8'));
      for (const { result } of results.entries) {
        result.truth = 'spans';
        for (const figure of result.figures) {
          figure.value = 0.9;
          figure.interval = { low: 0.85, high: 0.95, level: 0.95 };
          figure.floors = [{ name: 'chance', value: 0.5 }];
        }
      }
      writeFileSync(trust, JSON.stringify(results));
      await page.setInputFiles('[data-testid="checkpoint-file"]', [file, trust]);
      await badge('checked');
      await page.getByText('Held against: spans on').first().waitFor();

      // Another checkpoint is another map.
      await by(page, 'step').click();
      await atLeast(page, 4);
      await badge('exploratory');
      assert.deepEqual(problems, []);
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('a checkpoint of another method and plan brings its own into the controls, and its run goes on', async () => {
  await withPage('cpu', async ({ page, problems }) => {
    await mapStands(page);
    await by(page, 'method').selectOption('ava_d');
    await page.waitForFunction(() => document.querySelectorAll('.answer').length === 1);
    await plan(page, 1000);
    await stepTo(page, 3);
    const folder = mkdtempSync(join(tmpdir(), 'avascope-checkpoint-'));
    const file = join(folder, 'demonstrations.safetensors');
    await download(page, file);

    await page.reload();
    await mapStands(page);
    await plan(page, 2);
    await stepTo(page, 2);
    await status(page, 'Ended');
    await page.setInputFiles('[data-testid="checkpoint-file"]', file);
    await status(page, 'step 3 of 1000');
    // Not before the page has read it.
    rmSync(folder, { recursive: true });
    await status(page, 'Paused');
    assert.equal(await by(page, 'method').inputValue(), 'ava_d');
    assert.equal(await by(page, 'steps').inputValue(), '1000');
    assert.match(await page.locator('.head .facts').innerText(), /demonstrations/);
    await page.waitForFunction(() => document.querySelectorAll('.answer').length === 1);
    assert.match(await page.locator('.provenance').first().innerText(), /ava_d.*step 3/s);
    assert.equal(await by(page, 'apply').count(), 0, 'nothing is left to be applied');
    await by(page, 'start').click();
    await atLeast(page, 5);
    await by(page, 'pause').click();
    await status(page, 'Paused');
    assert.ok(Number.parseInt(await by(page, 'step-count').innerText(), 10) >= 5, 'the run was not begun again');
    assert.deepEqual(problems, []);
  });
});

test('a loss out of range is told, and the run goes on from its checkpoint with lower rates', async () => {
  await withPage('cpu', async ({ page, problems, screenshot }) => {
    await mapStands(page);
    await stepTo(page, 2);
    await by(page, 'learning-rate').fill('1e30');
    await by(page, 'go-on-with').click();
    await page.waitForFunction(() => !document.querySelector('[data-testid="go-on-with"]'));
    await status(page, 'step 2 of');
    await by(page, 'start').click();
    await by(page, 'go-on-lower').waitFor();
    await status(page, 'Failed');
    assert.match(await by(page, 'error').innerText(), /learning.rate/);
    assert.ok(Number.parseInt(await by(page, 'step-count').innerText(), 10) >= 3, 'the step before the break was taken');
    assert.match(await by(page, 'kept').innerText(), /checkpoint of step 2 is kept/);
    for (const control of ['start', 'step', 'stop']) assert.ok(await by(page, control).isDisabled(), `${control} is no way out`);
    const folder = mkdtempSync(join(tmpdir(), 'avascope-checkpoint-'));
    assert.match(await download(page, join(folder, 'good.safetensors')), /step-000002/, 'what is saved is the last good checkpoint');
    rmSync(folder, { recursive: true });
    await screenshot('failed-run');

    await by(page, 'lower-learning-rate').fill('1e-4');
    await by(page, 'head-lower-learning-rate').fill('1e-3');
    await by(page, 'go-on-lower').click();
    await status(page, 'Training');
    await atLeast(page, 6);
    await by(page, 'pause').click();
    await status(page, 'Paused');
    assert.equal(await page.locator('[data-testid="error"]').count(), 0, 'the trouble is over');
    assert.equal(Number(await by(page, 'learning-rate').inputValue()), 1e-4);
    assert.equal(Number(await by(page, 'head-learning-rate').inputValue()), 1e-3);
    assert.deepEqual(problems, []);
  });
});
