// The border between the page and its worker, both ways, in one place. What the engine itself is asked and answers is
// `Request` and `Reply` (generated from the Rust enums); here stand the envelopes around them and the training loop.
import type { Event, Reply, Request } from '../lib/protocol.gen'

/** Whatever answers requests: the WebAssembly package, or the made-up engine of the page's own tests. */
export interface Engine {
  handle(request: Request, buffers: Uint8Array[]): Promise<{ reply: Reply; buffers: Uint8Array[] }>
}

export type LoopState = 'idle' | 'running'

export type ToWorker =
  | { kind: 'request'; id: number; request: Request; buffers: Uint8Array[] }
  /** Trains on until paused or finished; `chunk` is the first guess at the steps that take the target time. */
  | { kind: 'run'; chunk: number }
  | { kind: 'pause' }
  | { kind: 'step'; n: number }
  /** Ends the run here: held-out rows are scored once more. */
  | { kind: 'stop' }

export type FromWorker =
  | { kind: 'ready' }
  | { kind: 'reply'; id: number; reply: Reply; buffers: Uint8Array[] }
  | { kind: 'events'; events: Event[]; finished: boolean; steps: number; ms: number }
  | { kind: 'checkpoint'; name: string; step: number; bytes: Uint8Array }
  | { kind: 'loop'; state: LoopState; ended: boolean }
  | { kind: 'trouble'; message: string }
  | { kind: 'crashed'; message: string }
  /** The graphics device is gone, and with it whatever lay on it; `message` is the browser's. */
  | { kind: 'device_lost'; message: string }
