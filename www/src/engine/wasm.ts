// The real engine: the package that wasm-pack builds.
import init, { Engine as Wasm } from '#pkg/avascope.js'
import address from '#pkg/avascope_bg.wasm?url'
import type { Engine } from './border'

export async function newEngine(): Promise<Engine> {
  await init({ module_or_path: address })
  return Wasm.new()
}
