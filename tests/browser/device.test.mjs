// The graphics device goes away in the middle of a run: the page says so, and goes on from its last checkpoint on the CPU.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { drawn, mapStands, withPage } from './harness.mjs';

const by = (page, id) => page.locator(`[data-testid="${id}"]`).first();
const atLeast = (page, steps) =>
  page.waitForFunction((wanted) => Number.parseInt(document.querySelector('[data-testid="step-count"]')?.textContent ?? '0', 10) >= wanted, steps);

test('a lost graphics device is told in plain words, and the run goes on from its checkpoint on the CPU', async () => {
  await withPage('webgpu', async ({ page, context, screenshot }) => {
    await mapStands(page);
    assert.match(await by(page, 'device').innerText(), /webgpu/i);
    await by(page, 'start').click();
    await atLeast(page, 1);
    const [download] = await Promise.all([page.waitForEvent('download'), by(page, 'save').click()]);
    const step = Number(/step-(\d+)/.exec(download.suggestedFilename())?.[1]);
    assert.ok(step >= 1, `a checkpoint of a run that has begun: ${download.suggestedFilename()}`);

    // As a driver that restarts would: Chromium's process for the GPU ends. Nothing answers this call.
    const browser = await context.browser().newBrowserCDPSession();
    void browser.send('Browser.crashGpuProcess').catch(() => {});
    await by(page, 'error').waitFor();
    assert.match(await by(page, 'error').innerText(), /graphics device/);
    assert.equal(await page.locator('[data-testid="error"]').count(), 1, 'one trouble is told once');
    assert.match(await by(page, 'status').innerText(), /graphics device was lost/);
    const kept = Number(/step (\d+)/.exec(await by(page, 'kept').innerText())?.[1]);
    assert.ok(kept >= step, 'what was saved is kept');
    assert.ok(await by(page, 'token').isVisible(), 'the map is still there');
    await screenshot('device-lost');

    await by(page, 'go-on-cpu').click();
    await page.waitForFunction(() => /CPU/.test(document.querySelector('[data-testid="device"]')?.textContent ?? ''));
    await atLeast(page, kept + 2);
    assert.equal(await page.locator('[data-testid="error"]').count(), 0, 'the trouble is over');
    await by(page, 'pause').click();
    assert.ok(await page.$$eval('[data-testid="token"]', (tokens) => tokens.some((token) => Number(token.dataset.mean) !== 0)));
    await screenshot('device-gone-on');
  });
});

test('another device takes the run along', async () => {
  await withPage('cpu', async ({ page, problems }) => {
    await mapStands(page);
    await by(page, 'step').click();
    await atLeast(page, 1);
    await drawn(page);
    const before = await page.$$eval('[data-testid="token"]', (tokens) => tokens.map((token) => Number(token.dataset.mean)));
    // There is no GPU here: asking for one and nothing else fails, says the way out, and loses nothing.
    await by(page, 'device-choice').selectOption('webgpu');
    assert.match(await by(page, 'error').innerText(), /no WebGPU device.*CPU/s);
    assert.match(await by(page, 'kept').innerText(), /checkpoint of step 1 is kept/);
    await by(page, 'go-on-cpu').click();
    await page.waitForFunction(() => /Paused/.test(document.querySelector('[data-testid="status"]')?.textContent ?? ''));
    assert.match(await by(page, 'step-count').innerText(), /^1$/);
    await drawn(page);
    const after = await page.$$eval('[data-testid="token"]', (tokens) => tokens.map((token) => Number(token.dataset.mean)));
    assert.deepEqual(after, before, 'the same map');
    await by(page, 'step').click();
    await atLeast(page, 2);
    assert.deepEqual(problems, []);
  });
});
