// The file that `avascope inspect` writes, opened from disk with no network at all: the token maps of both answers, in
// colour, with exact numbers by pointer and by keyboard.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';
import { findChromium } from './chromium.mjs';
import { MODES, drawn, mapStands } from './harness.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const command = process.env.AVASCOPE_BIN ?? join(root, 'target', 'release', 'avascope');
const ROWS = 5;
/** Text that would end the script element or run, were it not written as text. */
const HOSTILE = '</script><script>globalThis.harmed = 1</script><img src=x onerror=globalThis.harmed=1><!--';

let folder;
let report;
before(() => {
  assert.ok(existsSync(command), `the command is not built: ${command}; \`cargo xtask test\` builds it`);
  folder = mkdtempSync(join(tmpdir(), 'avascope-report-'));
  const run = join(folder, 'run');
  avascope('train', '--data', 'world', '--world-rows', '120', '--steps', '20', '--batch-size', '4', '--eval-steps', '0', '--device', 'cpu', '--quiet', '--out', run);
  report = join(folder, 'map of tokens.html');
  avascope('inspect', run, '--limit', `${ROWS}`, '--device', 'cpu', '--out', report);
  const rows = join(folder, 'hostile.jsonl');
  writeFileSync(rows, `${JSON.stringify({ prompt: HOSTILE, chosen: 'we enjoyed the staff .', rejected: HOSTILE })}\n`);
  avascope('inspect', run, '--data', rows, '--device', 'cpu', '--out', join(folder, 'hostile.html'));
});
after(() => rmSync(folder, { recursive: true, force: true }));

function avascope(...words) {
  const { status, stderr } = spawnSync(command, words, { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
}

/** Opens a file from disk in a browser that reaches no network, and runs `body`. */
async function withReport(file, body, context = {}) {
  const browser = await chromium.launch({ executablePath: findChromium(), args: MODES.cpu, headless: true });
  try {
    const opened = await browser.newContext({ viewport: { width: 1100, height: 900 }, ...context });
    const asked = [];
    await opened.route((url) => url.protocol !== 'file:', (route) => {
      asked.push(route.request().url());
      return route.abort();
    });
    await opened.setOffline(true);
    const page = await opened.newPage();
    page.setDefaultTimeout(60_000);
    const problems = [];
    page.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
    page.on('pageerror', (error) => problems.push(`${error}`));
    page.on('request', (request) => new URL(request.url()).protocol === 'file:' || asked.push(request.url()));
    await page.goto(pathToFileURL(file).href);
    await mapStands(page);
    await body(page);
    assert.deepEqual(problems, [], 'nothing goes wrong in the report');
    assert.deepEqual(asked, [], 'the report asks the network for nothing');
  } finally {
    await browser.close();
  }
}

const records = (file) => JSON.parse(/<script type="application\/json" id="records">(.*?)<\/script>/s.exec(readFileSync(file, 'utf8'))[1]);
const side = (page, name) => page.locator(`.answer[data-side="${name}"]`);
async function tokens(page, name) {
  await drawn(page);
  return side(page, name).locator('[data-testid="token"]').evaluateAll((all) =>
    all.map((token) => ({ text: token.textContent, mean: Number(token.dataset.mean), std: Number(token.dataset.std), colour: getComputedStyle(token).backgroundColor })),
  );
}
/** As the page writes a reward with two decimals. */
const signed = (value) => `${value < 0 ? '\u2212' : '+'}${Math.abs(value).toFixed(2)}`;

test('a report opens from disk and shows the chosen and the rejected answer in colour', async () => {
  const written = records(report);
  assert.equal(written.length, 2 * ROWS);
  await withReport(report, async (page) => {
    for (const name of ['chosen', 'rejected']) {
      const record = written.find((each) => each.side === name);
      const shown = await tokens(page, name);
      assert.deepEqual(shown.map((token) => token.text), record.tokens.map((token) => token.text));
      assert.deepEqual(shown.map((token) => [token.mean, token.std]), record.tokens.map((token) => [token.mean, token.std]), 'the numbers of the file');
      assert.ok(new Set(shown.map((token) => token.colour)).size > 1, `the ${name} answer has more than one colour`);
    }
    const both = [...(await tokens(page, 'chosen')), ...(await tokens(page, 'rejected'))].sort((a, b) => a.mean - b.mean);
    const channels = (token) => token.colour.match(/\d+/g).map(Number);
    const [low, high] = [channels(both[0]), channels(both.at(-1))];
    assert.ok(both[0].mean < 0 && low[0] > low[2], `the lowest reward is orange: ${low}`);
    assert.ok(both.at(-1).mean < 0 || high[2] >= high[0], `a reward above zero is blue: ${high}`);
    assert.match(await page.locator('.map').innerText(), /spread of one-sample temporal-difference residuals, not ignorance/, 'which uncertainty is said');
    assert.equal(await page.locator('[data-testid="pair-picker"] option').count(), ROWS);
  });
});

test('pointer and keyboard read exact numbers out of a report, and rows are walked through', async () => {
  const written = records(report);
  const [chosen, rejected] = ['chosen', 'rejected'].map((name) => written.find((each) => each.side === name).tokens);
  const inspected = (page) => page.locator('[data-testid="inspected"]').innerText();
  const says = (text, token) => {
    assert.ok(text.includes(`± ${token.std.toFixed(2)}`), `${text} holds ± ${token.std.toFixed(2)}`);
    assert.ok(Math.abs(token.mean) < 0.005 || text.includes(`${signed(token.mean)} ±`), `${text} holds ${signed(token.mean)}`);
    assert.ok(text.includes(`id ${token.id}`), `${text} holds id ${token.id}`);
    if (token.true_mean != null) assert.match(text, /True/);
  };
  await withReport(report, async (page) => {
    await side(page, 'rejected').locator('[data-index="2"]').hover();
    says(await inspected(page), rejected[2]);

    // By keyboard alone: Tab until a token has the focus.
    await page.locator('h1').click();
    for (let i = 0; i < 30 && !(await page.evaluate(() => document.activeElement?.matches('[data-testid="token"]'))); i++) await page.keyboard.press('Tab');
    says(await inspected(page), chosen[0]);
    await page.keyboard.press('ArrowRight');
    says(await inspected(page), chosen[1]);
    await page.keyboard.press('Enter');
    await page.keyboard.press('End');
    says(await inspected(page), chosen.at(-1));
    await page.keyboard.press('Enter');
    assert.match(await page.locator('[data-testid="difference"]').innerText(), /±/);

    const before = await page.locator('[data-testid="prompt"]').innerText();
    const first = await tokens(page, 'chosen');
    await page.getByRole('button', { name: 'Next' }).click();
    assert.notDeepEqual([await page.locator('[data-testid="prompt"]').innerText(), await tokens(page, 'chosen')], [before, first], 'another row');
  });
});

test('paper gets the row that was asked for, whole and light, also out of a dark page in the middle of a change', async () => {
  const second = records(report).filter((each) => each.side === 'chosen')[1];
  await withReport(report, async (page) => {
    const light = (colours) => colours.every((colour) => Math.min(...colour.match(/\d+/g).map(Number)) > 90);
    assert.ok(!light((await tokens(page, 'chosen')).map((token) => token.colour)), 'the page is dark');
    const printed = await page.evaluate(() => {
      [...document.querySelectorAll('button')].find((button) => button.textContent === 'Next').click();
      dispatchEvent(new Event('beforeprint'));
      const all = [...document.querySelectorAll('.answer[data-side="chosen"] [data-testid="token"]')];
      return { texts: all.map((token) => token.textContent), colours: all.map((token) => getComputedStyle(token).backgroundColor), prompt: document.querySelector('[data-testid="prompt"]').innerText };
    });
    assert.deepEqual(printed.texts, second.tokens.map((token) => token.text));
    assert.equal(printed.prompt.trim(), second.prompt.trim());
    assert.ok(light(printed.colours), `colours on paper: ${printed.colours}`);
    await page.evaluate(() => dispatchEvent(new Event('afterprint')));
    assert.ok(!light((await tokens(page, 'chosen')).map((token) => token.colour)), 'and dark again');
  }, { colorScheme: 'dark' });
});

test('own spread, ignorance and the total stand side by side, for tokens, scores and the margin', async () => {
  const file = join(folder, 'ignorance.html');
  avascope('inspect', join(folder, 'run'), '--limit', '1', '--device', 'cpu', '--ignorance', 'dropout', '--dropout-samples', '3', '--out', file);
  const [chosen, rejected] = ['chosen', 'rejected'].map((name) => records(file).find((each) => each.side === name));
  const fixed = (value) => `\u00b1 ${value.toFixed(2)}`;
  await withReport(file, async (page) => {
    await side(page, 'chosen').locator('[data-index="1"]').hover();
    const inspected = await page.locator('[data-testid="inspected"]').innerText();
    const { std, ignorance_std, total_std } = chosen.tokens[1];
    for (const value of [std, ignorance_std, total_std]) assert.ok(inspected.includes(fixed(value)), `${inspected} holds ${fixed(value)}`);
    assert.match(inspected, /Ignorance[^]*Total/);
    const scores = await page.locator('.scores').innerText();
    for (const { score } of [chosen, rejected])
      for (const kind of ['last', 'sum', 'mean'])
        for (const value of [score.ignorance[kind], score.total[kind]]) assert.ok(scores.includes(fixed(value)), `${scores} holds ${fixed(value)}`);
    const margin = await page.locator('[data-testid="margin"]').innerText();
    assert.ok(margin.includes(`ignorance ${fixed(chosen.score.ignorance.margin)}`) && margin.includes(`total ${fixed(chosen.score.total.margin)}`), margin);
  });
});

test('text in a report stays text', async () => {
  await withReport(join(folder, 'hostile.html'), async (page) => {
    assert.equal(await page.locator('[data-testid="prompt"]').innerText(), HOSTILE);
    assert.equal(await page.evaluate(() => globalThis.harmed), undefined);
  });
});
