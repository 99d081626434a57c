// What browser tests read beside the checkout, and how they say what they leave out for want of it: the rules and the line of
// the Rust tests (src/test_data/skips.rs), so that `cargo xtask test` counts both.
import { appendFileSync, existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const folder = resolve(root, process.env.AVASCOPE_SHARED || join('..', 'shared'));

/** Where something of the shared folder is, or would be. */
export const shared = (name) => join(folder, name);

/** node:test's `skip` for the test called `title`, which reads `name`: false where it is there, else why it is not. */
export function skipWithout(name, title) {
  if (existsSync(shared(name))) return false;
  const why = `the shared folder ${folder} ${existsSync(folder) ? 'does not hold it' : 'is absent'}`;
  if (process.env.AVASCOPE_SKIPS) appendFileSync(process.env.AVASCOPE_SKIPS, `${title}: ${name}: ${why}\n`);
  return why;
}
