// The module worker that holds the engine. It answers requests in order and runs the training loop itself.
//
// A Rust panic leaves the engine's promise forever unsettled; all it does is write to console.error. So that is watched,
// and the page is told to start a new worker.
import { newEngine } from '#engine'
import type { FromWorker, ToWorker } from './border'
import { Loop } from './loop'
import { adapters, watchDevices } from './lost'

// The page's type library is the window's; a worker's own face is narrower.
const scope = self as unknown as {
  postMessage(message: FromWorker, transfer?: Transferable[]): void
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null
  addEventListener(type: 'error', listen: (event: ErrorEvent) => void): void
  addEventListener(type: 'unhandledrejection', listen: (event: PromiseRejectionEvent) => void): void
}

let crashed = false
const crash = (message: string) => {
  if (crashed) return
  crashed = true
  scope.postMessage({ kind: 'crashed', message })
}

const write = console.error.bind(console)
console.error = (...parts: unknown[]) => {
  write(...parts)
  const text = parts.map(String).join(' ')
  if (text.includes('panicked at') || text.includes('RuntimeError')) crash(text.split('\n\nStack')[0] ?? text)
}
scope.addEventListener('error', (event) => crash(event.message))
scope.addEventListener('unhandledrejection', (event) => crash(String(event.reason)))

watchDevices(adapters, (message) => {
  // Whatever the engine says after this is a consequence of it.
  if (crashed) return
  crashed = true
  scope.postMessage({ kind: 'device_lost', message })
})

const early: ToWorker[] = []
scope.onmessage = (event) => early.push(event.data)

newEngine().then(
  (engine) => {
    const loop = new Loop(engine, (message, transfer) => scope.postMessage(message, transfer ?? []))
    scope.onmessage = (event) => loop.receive(event.data)
    scope.postMessage({ kind: 'ready' })
    early.forEach((message) => loop.receive(message))
  },
  (error: unknown) => crash(`The engine could not be loaded: ${error instanceof Error ? error.message : String(error)}`),
)
