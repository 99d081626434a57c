// A person's own files in the page: a model as a Hugging Face directory or as one GGUF file, with rows of pairs. They
// open, train and colour the tokens; broken ones are told beside their control, by name, and the page goes on.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { TOKEN, asFile, asFiles, readLlama2cVocabulary, readSafetensors, writeGguf } from './files.mjs';
import { drawn, mapStands, withPage } from './harness.mjs';
import { shared, skipWithout } from './shared.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const command = process.env.AVASCOPE_BIN ?? join(root, 'target', 'release', 'avascope');
const STORIES = 'models/stories260K/stories260K.bin';
const stories = dirname(shared(STORIES));

const PAIRS = 40;
const pairs = Array.from({ length: PAIRS }, (_, i) => {
  const [name, thing] = [['Lily', 'Tim', 'Ben', 'Sue'][i % 4], ['dog', 'ball', 'cake', 'bird', 'tree'][i % 5]];
  return { prompt: `${name} saw a ${thing}.`, chosen: ` The ${thing} was nice and ${name} was happy.`, rejected: ` The ${thing} was bad and ${name} was sad.` };
});
const jsonl = (rows) => rows.map((row) => `${JSON.stringify(row)}\n`).join('');

let folder;
before(() => {
  assert.ok(existsSync(command), `the command is not built: ${command}; \`cargo xtask test\` builds it`);
  folder = mkdtempSync(join(tmpdir(), 'avascope-files-'));
});
after(() => rmSync(folder, { recursive: true, force: true }));

function avascope(...words) {
  const { status, stdout, stderr } = spawnSync(command, words, { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  return stdout;
}

/** The files of a Hugging Face directory that the command writes. */
function converted(name, ...from) {
  const to = join(folder, name);
  if (!existsSync(to)) avascope('convert', from[0], to, ...from.slice(1));
  return asFiles(readdirSync(to, { withFileTypes: true }).filter((entry) => entry.isFile()).map(({ name: file }) => join(to, file)));
}
const world = () => converted('world', 'world');
/** The same as a folder, with what else lies in the folders that people download. */
function worldFolder() {
  world();
  const to = join(folder, 'world');
  writeFileSync(join(to, 'README.md'), 'A tiny model.');
  mkdirSync(join(to, 'onnx'), { recursive: true });
  writeFileSync(join(to, 'onnx', 'config.json'), '{}');
  return to;
}
const story = () => converted('stories', join(stories, 'stories260K.bin'), '--tokenizer', join(stories, 'tok512.bin'));
const content = (files, name) => files.find((file) => file.name === name).buffer;
const json = (files, name) => JSON.parse(content(files, name).toString('utf8'));

/** The built-in world's weights with a vocabulary of letters. */
function letters() {
  const files = world();
  const config = json(files, 'config.json');
  const control = ['<pad>', '<s>', '</s>', '<unk>'].map((text) => ({ text, score: 0, kind: text === '<unk>' ? TOKEN.unknown : TOKEN.control }));
  const plain = [...'\u2581abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;:!?\'"-()'].map((text) => ({ text, score: -1, kind: TOKEN.normal }));
  const rest = Array.from({ length: config.vocab_size - control.length - plain.length }, (_, i) => ({ text: `<unused${i}>`, score: 0, kind: TOKEN.control }));
  return asFile('letters.gguf', writeGguf(config, readSafetensors(content(files, 'model.safetensors')), [...control, ...plain, ...rest], { bos: 1, eos: 2, unknown: 3 }));
}

function storyGguf() {
  const files = story();
  const kind = (text, i) => (i === 0 ? TOKEN.unknown : i < 3 ? TOKEN.control : /^<0x..>$/.test(text) ? TOKEN.byte : TOKEN.normal);
  const vocabulary = readLlama2cVocabulary(readFileSync(join(stories, 'tok512.bin'))).map(({ text, score }, i) => ({
    text: i < 3 ? text.trim() : text.replaceAll(' ', '\u2581'), score, kind: kind(text, i),
  }));
  return asFile('stories.gguf', writeGguf(json(files, 'config.json'), readSafetensors(content(files, 'model.safetensors')), vocabulary, { bos: 1, eos: 2, unknown: 0 }));
}

const by = (page, id) => page.locator(`[data-testid="${id}"]`).first();
async function tokens(page) {
  await drawn(page);
  return page.$$eval('[data-testid="token"]', (all) =>
    all.map((token) => ({ text: token.textContent, mean: Number(token.dataset.mean), std: Number(token.dataset.std), colour: getComputedStyle(token).backgroundColor })),
  );
}
const atLeast = (page, steps) =>
  page.waitForFunction((wanted) => Number.parseInt(document.querySelector('[data-testid="step-count"]')?.textContent ?? '0', 10) >= wanted, steps);
/** The page has answered: no request is on its way. */
const settled = (page) => page.waitForFunction(() => !document.querySelector('[data-testid="model-files"]').disabled);

async function open(page, model, rows) {
  await mapStands(page);
  await by(page, 'use-files').click();
  // A path is a folder's, which is chosen whole; files are chosen one by one.
  await page.setInputFiles(typeof model === 'string' ? '[data-testid="model-files-folder"]' : '[data-testid="model-files"]', model);
  await by(page, 'needs-rows').waitFor();
  assert.ok(await by(page, 'start').isDisabled(), 'a model without rows cannot start');
  assert.equal((await tokens(page)).length, 0, 'and no map of other rows is shown for it');
  await page.setInputFiles('[data-testid="data-file"]', asFile('rows.jsonl', rows));
  await mapStands(page);
}

const CASES = [
  ['a Hugging Face directory', null, () => worldFolder(), () => avascope('data', 'world', '--rows', '60'), '60 pairs'],
  ['a GGUF file', null, () => [letters()], () => jsonl(pairs), `${PAIRS} pairs`],
  ['a Hugging Face directory of stories260K', STORIES, () => story(), () => jsonl(pairs), `${PAIRS} pairs`],
];
for (const [what, needed, model, rows, count] of CASES) {
  const title = `${what} opens with rows of pairs, and training colours the tokens`;
  test(title, { skip: needed ? skipWithout(needed, title) : false }, async () => {
    await withPage('cpu', async ({ page, problems, external, screenshot }) => {
      await open(page, model(), rows());
      assert.match(await page.locator('.head .facts').innerText(), new RegExp(`rows\\.jsonl, ${count}`));
      const fresh = await tokens(page);
      assert.ok(fresh.length > 5 && fresh.every((token) => token.mean === 0 && token.std > 0), 'an untrained head is the prior');
      await by(page, 'start').click();
      await atLeast(page, 5);
      await page.waitForFunction(() => [...document.querySelectorAll('[data-testid="token"]')].some((token) => Number(token.dataset.mean) !== 0));
      await by(page, 'pause').click();
      await page.waitForFunction((was) => [...document.querySelectorAll('[data-testid="token"]')].some((token, i) => getComputedStyle(token).backgroundColor !== was[i]), fresh.map((token) => token.colour));
      const now = await tokens(page);
      assert.deepEqual(now.map((token) => token.text), fresh.map((token) => token.text), 'the same answers');
      assert.ok(now.every((token) => Number.isFinite(token.mean) && token.std > 0));
      await screenshot(`own-${what.replaceAll(' ', '-')}`);
      assert.deepEqual(problems, []);
      assert.deepEqual(external, [], 'nothing leaves the page');
    });
  });
}

const ALIKE = 'one model gives the same rewards out of a directory and out of a GGUF file';
test(ALIKE, { skip: skipWithout(STORIES, ALIKE) }, async () => {
  const trained = (model) =>
    withPage('cpu', async ({ page }) => {
      await open(page, model, jsonl(pairs));
      await by(page, 'step').click();
      await atLeast(page, 1);
      await by(page, 'step').click();
      await atLeast(page, 2);
      return tokens(page);
    });
  const [directory, gguf] = [await trained(story()), await trained([storyGguf()])];
  assert.deepEqual(gguf.map((token) => token.text), directory.map((token) => token.text), 'the same tokens');
  assert.ok(directory.some((token) => Math.abs(token.mean) > 1e-4), 'the head has learned something');
  directory.forEach((token, i) => {
    for (const number of ['mean', 'std']) {
      assert.ok(Math.abs(token[number] - gguf[i][number]) < 1e-4, `${token.text}: ${number} ${token[number]} out of the directory, ${gguf[i][number]} out of the GGUF`);
    }
  });
});

test('broken files are told by name beside their control, and the page goes on', async () => {
  await withPage('cpu', async ({ page, problems }) => {
    await mapStands(page);
    const shown = await tokens(page);
    await by(page, 'use-files').click();
    const good = world();
    const replaced = (name, change) => good.map((file) => (file.name === name ? asFile(name, change(file.buffer)) : file));
    const gguf = letters().buffer;
    const lying = Buffer.from(gguf);
    lying.writeBigUInt64LE(0xffff_ffff_ffffn, 8);
    const models = [
      [replaced('model.safetensors', (bytes) => bytes.subarray(0, bytes.length / 2)), /model\.safetensors/, /damaged or cut short/],
      [replaced('config.json', () => '{"model_type": "llama",'), /config\.json/, /JSON/],
      [good.filter((file) => file.name !== 'tokenizer.json'), /tokenizer\.json/, /missing/],
      [[asFile('liar.gguf', lying)], /liar\.gguf/, /281474976710655 tensors do not fit/],
      [[asFile('short.gguf', gguf.subarray(0, gguf.length - 4096))], /short\.gguf/, /past the end/],
      [[asFile('notes.txt', 'hello')], /notes\.txt/, /give one \.gguf file/],
    ];
    const told = async (id, files) => {
      await page.setInputFiles(`[data-testid="${id}"]`, files);
      await page.waitForFunction(() => document.querySelector('[data-testid="error"]'));
      await settled(page);
      return page.locator('.setup [data-testid="error"]').allInnerTexts();
    };
    for (const [files, name, reason] of models) {
      const messages = await told('model-files', files);
      assert.equal(messages.length, 1);
      assert.match(messages[0], name);
      assert.match(messages[0], reason);
    }
    const lines = jsonl(pairs).split('\n');
    for (const [line, wrong] of [[3, '{"prompt": '], [7, '{"prompt": "a", "chosen": "b"}'], [12, '[1, 2]']]) {
      const rows = lines.with(line - 1, wrong).join('\n');
      const messages = await told('data-file', asFile('mine.jsonl', rows));
      assert.match(messages.at(-1), new RegExp(`mine\\.jsonl, line ${line}\\b`), 'the file and the line');
    }
    assert.deepEqual(await tokens(page), shown, 'the map from before is still there');

    await by(page, 'step').click();
    await atLeast(page, 1);
    await page.setInputFiles('[data-testid="model-files"]', good);
    await by(page, 'needs-rows').waitFor();
    await page.setInputFiles('[data-testid="data-file"]', asFile('mine.jsonl', avascope('data', 'world', '--rows', '40')));
    await mapStands(page);
    assert.equal(await page.locator('[data-testid="error"]').count(), 0, 'sound files take the errors away');
    await by(page, 'step').click();
    await atLeast(page, 1);
    assert.deepEqual(problems, []);
  });
});

test('rows of a JSON array open as those of JSON Lines do', async () => {
  await withPage('cpu', async ({ page, problems }) => {
    await mapStands(page);
    await by(page, 'use-files').click();
    await page.setInputFiles('[data-testid="data-file"]', asFile('rows.json', JSON.stringify(pairs, null, 2)));
    await page.waitForFunction((count) => document.querySelector('.head .facts').textContent.includes(`rows.json, ${count} pairs`), PAIRS);
    await mapStands(page);
    await by(page, 'step').click();
    await atLeast(page, 1);
    assert.equal(await page.locator('[data-testid="error"]').count(), 0);
    assert.deepEqual(problems, []);
  });
});

test('rows that leave nothing to hold out show no map of other rows', async () => {
  await withPage('cpu', async ({ page, problems }) => {
    await mapStands(page);
    await by(page, 'use-files').click();
    await page.setInputFiles('[data-testid="data-file"]', asFile('one.jsonl', jsonl(pairs.slice(0, 1))));
    await page.waitForFunction(() => /one\.jsonl, 1 pair\b/.test(document.querySelector('.head .facts').textContent));
    await by(page, 'nothing-held-out').waitFor();
    assert.equal((await tokens(page)).length, 0);
    assert.deepEqual(problems, []);
  });
});
