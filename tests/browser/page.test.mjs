// The page opens, with a GPU and without: it has a title, and nothing goes wrong in it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MODES, withPage } from './harness.mjs';

const GRANTED = { webgpu: true, cpu: false };

for (const mode of Object.keys(MODES)) {
  test(`the page opens without an error (${mode})`, async () => {
    await withPage(mode, async ({ page, problems, external, screenshot }) => {
      assert.notEqual(await page.title(), '', 'the page has a title');
      const granted = await page.evaluate(async () => (await navigator.gpu?.requestAdapter()) != null);
      assert.equal(granted, GRANTED[mode], 'the browser grants a GPU in webgpu mode and none in cpu mode');
      await page.waitForLoadState('load');
      await screenshot('front');
      assert.deepEqual(problems, [], 'nothing goes wrong on the page');
      assert.deepEqual(external, [], 'the page fetches nothing from elsewhere');
    });
  });
}
