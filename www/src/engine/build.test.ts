import { existsSync, readFileSync } from 'node:fs'
import { expect, it } from 'vitest'

const root = new URL('../../../', import.meta.url)

it('is told how the engine is built for the page, wherever a person is told', () => {
  expect(existsSync(new URL('.cargo/page.toml', root))).toBe(true)
  for (const file of ['www/README.md', 'www/vite.config.ts']) {
    const told = readFileSync(new URL(file, root), 'utf8').match(/wasm-pack build[^`)]*/)?.[0]
    expect(told, file).toMatch(/--target web .*-- --config \.cargo\/page\.toml$/)
  }
})
