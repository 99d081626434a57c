// The report: one HTML file with everything in it, which the avascope command fills with records and a person opens from
// disk. Its content security policy allows the file's own script and style by their hashes, and nothing else.
import { createHash } from 'node:crypto'
import { svelte } from '@sveltejs/vite-plugin-svelte'
import { defineConfig, type Plugin } from 'vite'

/** Where the command puts the records: JSON with every `<` written as \u003c. Stands in the file exactly once. */
export const PLACE = '[/*avascope-records*/]'

const hash = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`

const oneFile: Plugin = {
  name: 'one-file',
  enforce: 'post',
  generateBundle(_, bundle) {
    const files = Object.values(bundle)
    const css = files.flatMap((file) => (file.type === 'asset' && file.fileName.endsWith('.css') ? [String(file.source)] : [])).join('')
    const chunks = files.flatMap((file) => (file.type === 'chunk' ? [file.code] : []))
    if (chunks.length !== 1) this.error(`The report must be one script; the build made ${chunks.length}.`)
    // A sequence that would end the script element, or open a comment in it, can stand in a string or regular expression only, where the backslash changes nothing.
    const script = chunks[0]!.replace(/<(\/script|!--)/gi, '<\\$1').trim()
    for (const name of Object.keys(bundle)) delete bundle[name]
    const html = `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src ${hash(script)}; style-src ${hash(css)}; base-uri 'none'; form-action 'none'" />
    <meta name="color-scheme" content="light dark" />
    <title>avascope: token rewards</title>
    <style>${css}</style>
  </head>
  <body>
    <div id="app"></div>
    <noscript>This report draws its token maps by a script inside the file. It needs JavaScript.</noscript>
    <script type="application/json" id="records">${PLACE}</script>
    <script type="module">${script}</script>
  </body>
</html>
`
    this.emitFile({ type: 'asset', fileName: 'report.html', source: html })
  },
}

export default defineConfig({
  plugins: [svelte(), oneFile],
  publicDir: false,
  build: {
    target: 'es2022',
    outDir: 'dist-report',
    cssCodeSplit: false,
    modulePreload: false,
    rollupOptions: { input: 'src/report/main.ts', output: { codeSplitting: false } },
  },
})
