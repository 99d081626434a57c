// The page as a person uses it, with a GPU and without: it opens without an error, shows the built-in world's token map
// at once, trains, and the map moves.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { MODES, drawn, mapStands, withPage } from './harness.mjs';

const GRANTED = { webgpu: true, cpu: false };
const SAYS = { webgpu: /webgpu/i, cpu: /CPU/ };
/** A software GPU takes about a second a step, and compiles its shaders first. */
const STEPS = { webgpu: 2, cpu: 20 };

/** From navigation to the first coloured tokens of the built-in world, on two cores without a GPU. */
const FIRST_TOKENS_MS = 5000;

const by = (page, id) => page.locator(`[data-testid="${id}"]`).first();
async function means(page) {
  await drawn(page);
  return page.$$eval('[data-testid="token"]', (tokens) => tokens.map((token) => Number(token.dataset.mean)));
}
const stepCount = async (page) => Number((await by(page, 'step-count').innerText()).replace(/\D.*$/, ''));

for (const mode of Object.keys(MODES)) {
  test(`the built-in world opens, trains and its token map moves (${mode})`, async () => {
    await withPage(mode, async ({ page, problems, external, screenshot, blocks }) => {
      assert.notEqual(await page.title(), '', 'the page has a title');
      const granted = await page.evaluate(async () => (await navigator.gpu?.requestAdapter()) != null);
      assert.equal(granted, GRANTED[mode], 'the browser grants a GPU in webgpu mode and none in cpu mode');

      await by(page, 'token').waitFor();
      const first = await page.evaluate(() => performance.now());
      console.log(`${mode}: first coloured tokens ${(first / 1000).toFixed(1)} s after navigation`);
      if (mode === 'cpu') assert.ok(first <= FIRST_TOKENS_MS, `the first tokens took ${first.toFixed(0)} ms`);
      assert.match(await by(page, 'device').innerText(), SAYS[mode], 'the page says which device computes');
      const before = await means(page);
      assert.ok(before.length > 5, 'a pair of answers is shown');
      assert.ok(before.every((mean) => mean === 0), 'an untrained head is the prior: every mean is 0');
      await screenshot('untrained');

      await blocks.reset();
      const clicked = await page.evaluate(() => performance.now());
      await by(page, 'start').click();
      await page.waitForFunction(() =>
        [...document.querySelectorAll('[data-testid="token"]')].some((token) => Number(token.dataset.mean) !== 0),
      );
      const learned = (await page.evaluate(() => performance.now())) - clicked;
      console.log(`${mode}: first learned colour ${(learned / 1000).toFixed(1)} s after Start`);
      await page.waitForFunction(
        (steps) => Number.parseInt(document.querySelector('[data-testid="step-count"]')?.textContent ?? '0', 10) >= steps,
        STEPS[mode],
      );
      await by(page, 'pause').click();
      await page.waitForFunction(() => /training \d+ %/.test(document.querySelector('[data-testid="chart-accuracy"]')?.textContent ?? ''));
      assert.match(await by(page, 'chart-elbo').innerText(), /negative log-likelihood\s*[\d.]+.*KL to the prior\s*[\d.e−-]+.*TD: log q\s*[−\d.]+.*contrast \(CER\)\s*[−\d.]+/s, 'every term of the loss has a curve');
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
    await mapStands(page);
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

test('stopping ends a run for good, and AVA-d shows one answer a row and learns from it', async () => {
  await withPage('cpu', async ({ page, problems }) => {
    const status = (words) => page.waitForFunction((wanted) => document.querySelector('[data-testid="status"]').textContent.includes(wanted), words);
    await mapStands(page);
    await by(page, 'start').click();
    await page.waitForFunction(() => Number.parseInt(document.querySelector('[data-testid="step-count"]').textContent, 10) >= 1);
    await by(page, 'stop').click();
    await status('Ended: stopped by you');
    assert.ok(await by(page, 'step').isDisabled(), 'an ended run takes no more steps');
    await by(page, 'reset').click();
    await status('Ready, untrained');
    assert.equal(await stepCount(page), 0);

    await by(page, 'method').selectOption('ava_d');
    await page.waitForFunction(() => document.querySelectorAll('.answer').length === 1);
    assert.equal(await page.locator('.answer').getAttribute('data-side'), 'answer');
    // The residual's weight is warmed up from zero, so the first step moves the language model and no reward.
    for (const wanted of [1, 2, 3]) {
      await by(page, 'step').click();
      await page.waitForFunction((count) => Number.parseInt(document.querySelector('[data-testid="step-count"]').textContent, 10) === count, wanted);
    }
    await page.waitForFunction(() => [...document.querySelectorAll('[data-testid="token"]')].some((token) => Number(token.dataset.mean) !== 0));
    assert.deepEqual(problems, []);
  });
});

test('a broken file is told beside its control, and nothing is lost', async () => {
  await withPage('cpu', async ({ page }) => {
    await mapStands(page);
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

test('tokens read as words, and copying gives the words', async () => {
  await withPage('cpu', async ({ page }) => {
    await mapStands(page);
    const [download] = await Promise.all([page.waitForEvent('download'), by(page, 'export-jsonl').click()]);
    const records = readFileSync(await download.path(), 'utf8').trim().split('\n').map((line) => JSON.parse(line));
    const { answer, tokens } = records.find((record) => record.side === 'chosen');
    const spaced = tokens.map((token, i) => i > 0 && /\s/.test([...answer].slice(tokens[i - 1].end, token.start).join('')));
    assert.ok(spaced.filter(Boolean).length > 2, `"${answer}" has words, with spaces that no token holds`);
    const chosen = page.locator('.answer[data-side="chosen"]');
    const boxes = await chosen.locator('[data-testid="token"]').evaluateAll((all) => all.map((token) => token.getBoundingClientRect().toJSON()));
    boxes.forEach((box, i) => {
      if (i === 0 || Math.abs(box.top - boxes[i - 1].top) > box.height / 2) return;
      const gap = box.left - boxes[i - 1].right;
      if (spaced[i]) assert.ok(gap > 4, `a gap of ${gap} before "${tokens[i].text}"`);
    });
    const copied = await chosen.locator('.tokens').evaluate((list) => {
      getSelection().selectAllChildren(list);
      return getSelection().toString();
    });
    assert.equal(copied.trim(), tokens.map((token, i) => (spaced[i] ? ' ' : '') + token.text).join(''));
    assert.ok(copied.includes(answer), 'the answer as it was written');

    await page.getByRole('button', { name: 'Words', exact: true }).click();
    await drawn(page);
    const words = await chosen.locator('[data-testid="token"]').allInnerTexts();
    assert.deepEqual(words.slice(0, 2), answer.split(' ').slice(0, 2), 'a word ends where the answer has a space');
  });
});

test('the keyboard alone starts, pauses, steps and reads, and keeps its place', async () => {
  await withPage('cpu', async ({ page, problems }) => {
    await mapStands(page);
    const here = () => page.evaluate(() => document.activeElement?.dataset?.testid ?? document.activeElement?.tagName);
    const tabTo = async (wanted) => {
      for (let i = 0; i < 80; i++) {
        await page.keyboard.press('Tab');
        if ((await here()) === wanted) {
          const outlined = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle !== 'none' || getComputedStyle(document.activeElement.parentElement).outlineStyle !== 'none');
          assert.ok(outlined, `${wanted} shows that it has the focus`);
          return;
        }
      }
      assert.fail(`Tab does not reach ${wanted}`);
    };
    const idle = () => page.waitForFunction(() => /Paused/.test(document.querySelector('[data-testid="status"]').textContent));
    await tabTo('step');
    for (const step of [1, 2]) {
      await page.keyboard.press('Enter');
      await page.waitForFunction((wanted) => Number.parseInt(document.querySelector('[data-testid="step-count"]').textContent, 10) === wanted, step);
      await idle();
      await page.waitForFunction(() => document.activeElement?.dataset?.testid === 'step');
    }
    await page.keyboard.press('Shift+Tab');
    assert.equal(await here(), 'start');
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.activeElement?.dataset?.testid === 'pause');
    await page.keyboard.press(' ');
    await idle();
    await page.waitForFunction(() => document.activeElement?.dataset?.testid === 'start');
    await tabTo('pair-picker');
    await tabTo('token');
    await page.keyboard.press('End');
    await page.keyboard.press('Enter');
    assert.match(await by(page, 'pinned').innerText(), /<eos>/);
    for (const control of ['own-prompt', 'own-answer']) await tabTo(control);
    await page.keyboard.type('we enjoyed the staff .');
    await tabTo('score');
    await page.keyboard.press('Enter');
    await page.locator('[aria-label="Token rewards of your own answer"] [data-testid="token"]').first().waitFor();
    for (const control of ['use-world', 'use-files', 'device-choice', 'method', 'steps']) await tabTo(control);
    assert.deepEqual(problems, []);
  });
});

/** Runs inside the page: visible texts whose contrast with what is behind them is below 4.5 (WCAG 2, AA); what is switched off is exempt. */
function faintTexts() {
  // A canvas turns every way to write a colour into channels.
  const canvas = Object.assign(document.createElement('canvas'), { width: 1, height: 1 }).getContext('2d', { willReadFrequently: true });
  const channels = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([r, g, b]) => {
    const linear = [r, g, b].map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = channels(getComputedStyle(at).backgroundColor);
      if (colour[3] > 250) return colour;
    }
    return [255, 255, 255, 255];
  };
  const faint = [];
  let looked = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility({ opacityProperty: true }) || element.closest(':disabled, noscript, script, option, .unseen')) continue;
    const svg = element.closest('svg');
    const front = channels(svg ? getComputedStyle(element).fill : getComputedStyle(element).color);
    const [high, low] = [luminance(front), luminance(behind(svg ? svg.parentElement : element))].sort((a, b) => b - a);
    looked++;
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) faint.push(`${node.data.trim()}: ${ratio.toFixed(2)}`);
  }
  return { faint, looked };
}

const LOOKS = [
  ['light', { context: { colorScheme: 'light' } }],
  ['dark', { context: { colorScheme: 'dark', reducedMotion: 'reduce' } }],
  ['narrow', { viewport: { width: 400, height: 800 }, context: { colorScheme: 'light' } }],
];
for (const [look, options] of LOOKS) {
  test(`every text can be read and nothing runs out of the page (${look})`, async () => {
    await withPage(
      'cpu',
      async ({ page, screenshot }) => {
        await mapStands(page);
        const check = async (when) => {
          const { faint, looked } = await page.evaluate(faintTexts);
          assert.ok(looked > 60, `${looked} texts were looked at`);
          assert.deepEqual(faint, [], `texts are too faint ${when}`);
          const [content, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
          assert.ok(content <= window, `the page is ${content} wide in a window of ${window}, ${when}`);
        };
        await check('before training');
        await by(page, 'token').click();
        for (const summary of await page.locator('summary').all()) await summary.click();
        await by(page, 'start').click();
        await page.waitForFunction(() => Number.parseInt(document.querySelector('[data-testid="step-count"]').textContent, 10) >= 60);
        await by(page, 'pause').click();
        await page.waitForFunction(() => /Paused/.test(document.querySelector('[data-testid="status"]').textContent));
        // Nothing fades or slides: a page that is drawn anew four times a second beside an engine has no time for it.
        await drawn(page);
        const moving = await page.evaluate(() => document.getAnimations().length);
        assert.equal(moving, 0, `${moving} animations run`);
        await by(page, 'use-files').click();
        await page.setInputFiles('[data-testid="data-file"]', { name: `${'a-very-long-name-of-a-file-'.repeat(5)}.jsonl`, mimeType: '', buffer: Buffer.from('{') });
        await by(page, 'error').waitFor();
        await check('during training');
        await screenshot(`look-${look}`);
      },
      options,
    );
  });
}

test('wherever the page writes ± or σ it says which uncertainty that is', async () => {
  await withPage('cpu', async ({ page }) => {
    await mapStands(page);
    await by(page, 'token').click();
    await drawn(page);
    const says = /spread of one-sample temporal-difference residuals, not ignorance/;
    for (const place of ['.legend', '.scores', '[data-testid="inspector"]', '.provenance', '[data-testid="chart-truth"]']) {
      assert.match(await page.locator(place).first().innerText(), says, place);
    }
    assert.match(await page.locator('.tokens').first().getAttribute('aria-label'), says);
    // A method without a spread of its own must not borrow AVA's.
    await by(page, 'method').selectOption('bradley_terry');
    await page.waitForFunction(() => /Method bradley_terry/.test(document.querySelector('.provenance').textContent));
    await drawn(page);
    for (const place of ['.legend', '.scores', '.provenance', '[data-testid="chart-truth"]']) {
      const text = await page.locator(place).first().innerText();
      assert.doesNotMatch(text, says, place);
      assert.match(text, /gives a mean only|nothing was learned of it/, place);
    }
  });
});
