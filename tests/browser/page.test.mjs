// The page as a person uses it, with a GPU and without: it opens without an error, shows the built-in world's token map
// at once, trains, and the map moves.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MODES, withPage } from './harness.mjs';

const GRANTED = { webgpu: true, cpu: false };
const SAYS = { webgpu: /webgpu/i, cpu: /CPU/ };
/** A software GPU takes about a second a step, and compiles its shaders first. */
const STEPS = { webgpu: 2, cpu: 20 };

const by = (page, id) => page.locator(`[data-testid="${id}"]`).first();
const means = (page) => page.$$eval('[data-testid="token"]', (tokens) => tokens.map((token) => Number(token.dataset.mean)));
const stepCount = async (page) => Number((await by(page, 'step-count').innerText()).replace(/\D.*$/, ''));

for (const mode of Object.keys(MODES)) {
  test(`the built-in world opens, trains and its token map moves (${mode})`, async () => {
    await withPage(mode, async ({ page, problems, external, screenshot, blocks }) => {
      assert.notEqual(await page.title(), '', 'the page has a title');
      const granted = await page.evaluate(async () => (await navigator.gpu?.requestAdapter()) != null);
      assert.equal(granted, GRANTED[mode], 'the browser grants a GPU in webgpu mode and none in cpu mode');

      await by(page, 'token').waitFor();
      assert.match(await by(page, 'device').innerText(), SAYS[mode], 'the page says which device computes');
      const before = await means(page);
      assert.ok(before.length > 5, 'a pair of answers is shown');
      assert.ok(before.every((mean) => mean === 0), 'an untrained head is the prior: every mean is 0');
      await screenshot('untrained');

      await blocks.reset();
      await by(page, 'start').click();
      await page.waitForFunction(
        (steps) => Number.parseInt(document.querySelector('[data-testid="step-count"]')?.textContent ?? '0', 10) >= steps,
        STEPS[mode],
      );
      await page.waitForFunction(() =>
        [...document.querySelectorAll('[data-testid="token"]')].some((token) => Number(token.dataset.mean) !== 0),
      );
      await by(page, 'pause').click();
      const stds = await page.$$eval('[data-testid="token"]', (tokens) => tokens.map((token) => Number(token.dataset.std)));
      assert.ok(stds.every((std) => Number.isFinite(std) && std > 0), 'every token has a standard deviation');
      console.log(`${mode}: longest main-thread block while training ${(await blocks.longest()).toFixed(0)} ms`);
      await screenshot('trained');
      assert.deepEqual(problems, [], 'nothing goes wrong on the page');
      assert.deepEqual(external, [], 'the page fetches nothing from elsewhere');
    });
  });
}

test('pausing holds the run, one step goes one step, and the keyboard walks the tokens', async () => {
  await withPage('cpu', async ({ page, problems }) => {
    await by(page, 'token').waitFor();
    await by(page, 'step').click();
    await page.waitForFunction(() => /^1\b/.test(document.querySelector('[data-testid="step-count"]')?.textContent ?? ''));
    await page.waitForTimeout(500);
    assert.equal(await stepCount(page), 1, 'a paused run stands still');
    await by(page, 'token').focus();
    await page.keyboard.press('ArrowRight');
    const index = await page.evaluate(() => document.activeElement?.dataset.index);
    assert.equal(index, '1', 'the arrow key moves to the next token');
    assert.deepEqual(problems, []);
  });
});

test('a broken file is told beside its control, and nothing is lost', async () => {
  await withPage('cpu', async ({ page }) => {
    await by(page, 'token').waitFor();
    await by(page, 'use-files').click();
    await page.setInputFiles('[data-testid="data-file"]', {
      name: 'broken.jsonl',
      mimeType: 'application/jsonl',
      buffer: Buffer.from('{"prompt": "a", "chosen": "b", "rejected": "c"}\n{"prompt": \n'),
    });
    const message = await by(page, 'error').innerText();
    assert.match(message, /broken\.jsonl/, 'the error names the file');
    assert.match(message, /\b2\b/, 'and the line');
    assert.ok(await by(page, 'token').isVisible(), 'the token map is still there');
  });
});
