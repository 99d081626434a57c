// The page's end of the border: requests become promises of typed replies, everything else becomes a call of `listener`.
import type { Reply, Request } from '../lib/protocol.gen'
import type { FromWorker, ToWorker } from './border'

/** The reply that a request is answered by when all goes well. */
export type ReplyTo = {
  open_device: 'device'
  use_world: 'data'
  open_model: 'model'
  open_data: 'data'
  configure: 'configured'
  train: 'events'
  stop: 'events'
  watch: 'tokens'
  score: 'tokens'
  save: 'saved'
  restore: 'restored'
  describe: 'catalogue'
}
export type Answer<R extends Request> = Extract<Reply, { type: ReplyTo[R['type']] }> & { buffers: Uint8Array[] }

/** The engine said no; its message is for people. */
export class EngineError extends Error {}

/** The part of a Worker that the client needs. */
export interface Port {
  postMessage(message: ToWorker, transfer: Transferable[]): void
  onmessage: ((event: MessageEvent<FromWorker>) => void) | null
  onerror: ((event: ErrorEvent) => void) | null
  terminate(): void
}

export type Notice = Exclude<FromWorker, { kind: 'reply' }>

export class Client {
  private nextId = 1
  private waiting = new Map<number, { resolve: (value: Reply & { buffers: Uint8Array[] }) => void; reject: (error: Error) => void }>()
  private closed = false

  constructor(
    private readonly port: Port,
    private readonly listener: (notice: Notice) => void,
  ) {
    port.onmessage = (event) => this.receive(event.data)
    port.onerror = (event) => this.end({ kind: 'crashed', message: event.message || 'The engine\'s worker could not be started.' })
  }

  /** Sends a request. `buffers` are moved to the worker: they are empty here afterwards. Rejects with `EngineError`. */
  ask<R extends Request>(request: R, buffers: Uint8Array[] = []): Promise<Answer<R>> {
    if (this.closed) return Promise.reject(new EngineError('The engine has stopped.'))
    const id = this.nextId++
    return new Promise<Answer<R>>((resolve, reject) => {
      this.waiting.set(id, { resolve: resolve as (value: Reply & { buffers: Uint8Array[] }) => void, reject })
      this.port.postMessage({ kind: 'request', id, request, buffers }, buffers.map((bytes) => bytes.buffer as ArrayBuffer))
    })
  }

  run = (chunk = 1) => this.port.postMessage({ kind: 'run', chunk }, [])
  pause = () => this.port.postMessage({ kind: 'pause' }, [])
  step = (n = 1) => this.port.postMessage({ kind: 'step', n }, [])
  stop = () => this.port.postMessage({ kind: 'stop' }, [])

  close(): void {
    this.closed = true
    this.port.onmessage = null
    this.port.onerror = null
    this.port.terminate()
    this.waiting.forEach(({ reject }) => reject(new EngineError('The engine has stopped.')))
    this.waiting.clear()
  }

  /** Nothing more can come of this worker. */
  private end(notice: Notice): void {
    if (this.closed) return
    this.close()
    this.listener(notice)
  }

  private receive(message: FromWorker): void {
    if (message.kind === 'crashed' || message.kind === 'device_lost') return this.end(message)
    if (message.kind !== 'reply') return this.listener(message)
    const waiting = this.waiting.get(message.id)
    if (!waiting) return
    this.waiting.delete(message.id)
    if (message.reply.type === 'error') waiting.reject(new EngineError(message.reply.message))
    else waiting.resolve({ ...message.reply, buffers: message.buffers })
  }
}

export function openWorker(listener: (notice: Notice) => void): Client {
  return new Client(new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' }) as unknown as Port, listener)
}
