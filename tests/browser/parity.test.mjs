// The same model, rows and seed give the same losses in the page and in the command: 20 steps, on the page's CPU path
// and on WebGPU. The engine is driven through its one method, as the page's worker does.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { findChromium } from './chromium.mjs';
import { MODES } from './harness.mjs';
import { serve } from './server.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const command = process.env.AVASCOPE_BIN ?? join(root, 'target', 'release', 'avascope');
const TOLERANCE = 1e-3;
// Small enough for a software GPU: four rows of at most 18 tokens a step.
const RUN = { rows: 120, seed: 7, steps: 20, batch_size: 2 };

function nativeLosses() {
  assert.ok(existsSync(command), `the command is not built: ${command}; \`cargo xtask test\` builds it`);
  const out = mkdtempSync(join(tmpdir(), 'avascope-parity-'));
  try {
    const { status, stdout, stderr } = spawnSync(
      command,
      ['train', '--data', 'world', '--world-rows', `${RUN.rows}`, '--seed', `${RUN.seed}`, '--steps', `${RUN.steps}`,
        '--batch-size', `${RUN.batch_size}`, '--eval-steps', '0', '--device', 'cpu', '--json', '--quiet',
        '--out', join(out, 'run')],
      { encoding: 'utf8' },
    );
    assert.equal(status, 0, stderr);
    const events = stdout.trim().split('\n').map((line) => JSON.parse(line));
    return events.filter((event) => event.type === 'step').map((event) => event.metrics.loss);
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
}

/** Runs inside the browser. */
async function pageLosses({ run, choice }) {
  const { default: init, Engine } = await import('/avascope.js');
  await init({ module_or_path: '/avascope_bg.wasm' });
  const engine = Engine.new();
  const ask = async (request, buffers = []) => {
    const { reply } = await engine.handle(request, buffers);
    if (reply.type === 'error' || reply.error) throw new Error(reply.message ?? reply.error);
    return reply;
  };
  await ask({ type: 'open_device', choice });
  // Asked for again, as the page's device control does: the same device, not an error.
  const { device } = await ask({ type: 'open_device', choice });
  const { config } = await ask({ type: 'describe' });
  await ask({ type: 'use_world', seed: run.seed, rows: run.rows, demonstrations: false });
  await ask({
    type: 'configure',
    config: { ...config, seed: run.seed, steps: run.steps, batch_size: run.batch_size, eval_steps: 0, eval_rows: 2 },
  });
  const losses = [];
  const times = [];
  while (losses.length < run.steps) {
    const begun = performance.now();
    const { events } = await ask({ type: 'train', steps: 1 });
    times.push(performance.now() - begun);
    for (const event of events) if (event.type === 'step') losses.push(event.metrics.loss);
  }
  return { device, losses, times };
}

for (const [mode, choice] of [['cpu', 'cpu'], ['webgpu', 'webgpu']]) {
  test(`page and command give the same 20 losses (${mode})`, async () => {
    const native = nativeLosses();
    assert.equal(native.length, RUN.steps);
    const server = await serve(join(root, 'pkg'));
    const browser = await chromium.launch({ executablePath: findChromium(), args: MODES[mode], headless: true });
    try {
      const page = await browser.newPage();
      page.setDefaultTimeout(900_000);
      page.on('console', (message) => message.type() === 'error' && console.error(`the page said: ${message.text()}`));
      await page.goto(new URL('package.json', server.url).href);
      const { device, losses, times } = await page.evaluate(pageLosses, { run: RUN, choice });
      assert.equal(device.backend, choice, `the device is ${JSON.stringify(device)}`);
      assert.equal(losses.length, RUN.steps);
      let largest = 0;
      losses.forEach((loss, i) => {
        const difference = Math.abs(loss - native[i]) / Math.abs(native[i]);
        largest = Math.max(largest, difference);
        assert.ok(difference <= TOLERANCE, `step ${i + 1}: ${loss} in the page, ${native[i]} in the command`);
      });
      const median = [...times].sort((a, b) => a - b)[Math.floor(times.length / 2)];
      console.log(`${mode} on ${device.adapter}: largest relative difference ${largest.toExponential(1)}, median step ${median.toFixed(0)} ms`);
    } finally {
      await browser.close();
      await server.close();
    }
  });
}
