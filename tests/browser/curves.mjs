// Two loss curves side by side: the same run in headless Chromium and in the command. Not a test: a measurement.
//
//   AVASCOPE_BIN=.../avascope node curves.mjs webgpu 20 rows.jsonl model.bin tok.bin
//
// Arguments: cpu or webgpu, steps, a JSONL file of pairs, the model's files. Prints a Markdown table.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { findChromium } from './chromium.mjs';
import { MODES } from './harness.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const [mode, steps, data, ...models] = process.argv.slice(2);
if (!(mode in MODES) || !(Number(steps) > 0) || !data || models.length === 0) {
  console.error('usage: node curves.mjs cpu|webgpu STEPS ROWS.jsonl MODEL_FILE [TOKENIZER_FILE]');
  process.exit(2);
}
const run = { method: 'ava_p', seed: 0, steps: Number(steps), batch_size: 4, max_length: 64, learning_rate: 1e-3, eval_steps: 0, eval_rows: 4 };

const out = mkdtempSync(join(tmpdir(), 'avascope-curves-'));
const native = spawnSync(
  process.env.AVASCOPE_BIN ?? 'avascope',
  ['train', '--model', models[0], ...(models[1] ? ['--tokenizer', models[1]] : []), '--data', data, '--device', 'cpu', '--json', '--quiet',
    '--method', run.method, '--seed', `${run.seed}`, '--steps', steps, '--batch-size', `${run.batch_size}`, '--max-length', `${run.max_length}`,
    '--learning-rate', `${run.learning_rate}`, '--eval-steps', '0', '--eval-rows', `${run.eval_rows}`, '--out', join(out, 'run')],
  { encoding: 'utf8', maxBuffer: 1 << 28 },
);
rmSync(out, { recursive: true, force: true });
if (native.status !== 0) throw new Error(native.stderr);
const nativeLosses = native.stdout.trim().split('\n').map((line) => JSON.parse(line)).filter((event) => event.type === 'step').map((event) => event.metrics.loss);

const served = new Map([
  ['/', [Buffer.from('<!doctype html><title>curves</title>'), 'text/html']],
  ['/favicon.ico', [Buffer.alloc(0), 'image/x-icon']],
  ['/avascope.js', [readFileSync(join(root, 'pkg/avascope.js')), 'text/javascript']],
  ['/avascope_bg.wasm', [readFileSync(join(root, 'pkg/avascope_bg.wasm')), 'application/wasm']],
  ['/rows', [readFileSync(data), 'application/octet-stream']],
  ...models.map((file, i) => [`/model${i}`, [readFileSync(file), 'application/octet-stream']]),
]);
const server = createServer((request, response) => {
  const found = served.get(request.url);
  response.writeHead(found ? 200 : 404, { 'content-type': found?.[1] ?? 'text/plain' });
  response.end(found?.[0]);
});
await new Promise((done) => server.listen(0, '127.0.0.1', done));
const browser = await chromium.launch({ executablePath: findChromium(), args: MODES[mode], headless: true });
try {
  const page = await browser.newPage();
  page.on('console', (message) => message.type() === 'error' && console.error(`the page said: ${message.text()}`));
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  const result = await page.evaluate(
    async ({ run, mode, files, name }) => {
      const { default: init, Engine } = await import('/avascope.js');
      await init({ module_or_path: '/avascope_bg.wasm' });
      const engine = Engine.new();
      const bytes = async (url) => new Uint8Array(await (await fetch(url)).arrayBuffer());
      const ask = async (request, buffers = []) => {
        const { reply } = await engine.handle(request, buffers);
        if (reply.type === 'error' || reply.error) throw new Error(reply.message ?? reply.error);
        return reply;
      };
      const { device } = await ask({ type: 'open_device', choice: mode });
      const { config } = await ask({ type: 'describe' });
      await ask({ type: 'open_model', name: files[0], files }, await Promise.all(files.map((_, i) => bytes(`/model${i}`))));
      await ask({ type: 'open_data', name }, [await bytes('/rows')]);
      await ask({ type: 'configure', config: { ...config, ...run } });
      const losses = [];
      const times = [];
      while (losses.length < run.steps) {
        const begun = performance.now();
        const { events } = await ask({ type: 'train', steps: 1 });
        times.push(performance.now() - begun);
        for (const event of events) if (event.type === 'step') losses.push(event.metrics.loss);
      }
      return { device, losses, times };
    },
    { run, mode, files: models.map((file, i) => (i === 0 ? basename(file) : `tok-${basename(file)}`)), name: basename(data) },
  );
  console.log(`page: ${result.device.backend}, ${result.device.adapter}; command: cpu\n\n| step | page | command | relative difference |\n|---|---|---|---|`);
  let largest = 0;
  result.losses.forEach((loss, i) => {
    const difference = Math.abs(loss - nativeLosses[i]) / Math.abs(nativeLosses[i]);
    largest = Math.max(largest, difference);
    console.log(`| ${i + 1} | ${loss.toFixed(6)} | ${nativeLosses[i].toFixed(6)} | ${difference.toExponential(1)} |`);
  });
  const sorted = [...result.times].sort((a, b) => a - b);
  console.log(`\nlargest relative difference ${largest.toExponential(1)}; median step in the page ${sorted[Math.floor(sorted.length / 2)].toFixed(0)} ms, with the watched pair scored after each`);
} finally {
  await browser.close();
  server.close();
}
