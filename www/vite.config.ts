// The page. The engine is the WebAssembly package in ../pkg; with VITE_ENGINE=mock a made-up engine stands in for it, for
// work on the page alone. The choice is an alias, so that the made-up engine can never be part of a production bundle.
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { svelte } from '@sveltejs/vite-plugin-svelte'
import type { Plugin } from 'vite'
import { defineConfig } from 'vitest/config'

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url))

/** Says what is missing before the bundler stumbles over it. */
const engineIsThere: Plugin = {
  name: 'engine-is-there',
  buildStart() {
    if (existsSync(at('../pkg/avascope.js')) && existsSync(at('../pkg/avascope_bg.wasm'))) return
    this.error(
      'The engine is missing: ../pkg holds no avascope.js and avascope_bg.wasm. Build it first, in the repository\'s root ' +
        '(wasm-pack build --release --target web --no-opt -- --config .cargo/page.toml), or set VITE_ENGINE=mock to work on the page with a made-up engine.',
    )
  },
}

export default defineConfig(({ mode }) => {
  const testing = mode === 'test'
  const mock = process.env.VITE_ENGINE === 'mock' || testing
  return {
    base: './',
    plugins: [svelte(), ...(mock ? [] : [engineIsThere])],
    resolve: {
      alias: {
        '#engine': at(mock ? './src/engine/mock.ts' : './src/engine/wasm.ts'),
        '#pkg': at('../pkg'),
      },
    },
    // No data: addresses, which the page's content security policy refuses.
    build: { target: 'es2022', assetsInlineLimit: 0, modulePreload: { polyfill: false }, chunkSizeWarningLimit: 700 },
    worker: { format: 'es' },
    server: { fs: { allow: ['.', '../pkg'] } },
    test: {
      projects: [
        { extends: true, test: { name: 'node', include: ['src/**/*.test.ts'], exclude: ['src/state/**'], environment: 'node' } },
        // The session's runes have to behave as in the page; for a server they are compiled to plain fields.
        { extends: true, test: { name: 'page', include: ['src/state/**/*.test.ts'], environment: './vitest.environment.ts' } },
      ],
    },
  }
})
