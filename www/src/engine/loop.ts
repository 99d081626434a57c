// One request at a time, and training between requests: a person who asks for something while the model trains waits for
// one chunk of steps, never for the run.
import type { Reply } from '../lib/protocol.gen'
import type { Engine, FromWorker, ToWorker } from './border'

/** A chunk of this length (ms) keeps the map moving and leaves room for requests between chunks. */
export const CHUNK_TARGET_MS = 150
export const CHUNK_MOST = 64
/** A checkpoint is kept at this spacing, so that a crash or a lost device costs little; the first one sooner. */
export const CHECKPOINT_EVERY_MS = 30_000
export const FIRST_CHECKPOINT_MS = 5_000

/** The next chunk's steps from the last one's steps and milliseconds. At most doubles: a first chunk may be unusually fast or slow. */
export function nextChunk(steps: number, ms: number, target = CHUNK_TARGET_MS): number {
  if (!(ms > 0) || steps < 1) return Math.max(1, Math.min(CHUNK_MOST, steps * 2))
  const wanted = Math.round((steps * target) / ms)
  return Math.max(1, Math.min(CHUNK_MOST, steps * 2, wanted))
}

type Pending = { id: number; request: Extract<ToWorker, { kind: 'request' }>['request']; buffers: Uint8Array[] }

export class Loop {
  private pending: Pending[] = []
  private mode: 'idle' | 'run' | 'step' | 'stop' = 'idle'
  private chunk = 1
  private stepsWanted = 0
  private pumping = false
  private savedAt = 0
  private ended = false

  constructor(
    private readonly engine: Engine,
    private readonly post: (message: FromWorker, transfer?: Transferable[]) => void,
    private readonly now: () => number = () => performance.now(),
    private readonly breathe: () => Promise<void> = () => new Promise((go) => setTimeout(go)),
  ) {}

  receive(message: ToWorker): void {
    switch (message.kind) {
      case 'request':
        this.pending.push(message)
        break
      case 'run':
        this.mode = 'run'
        this.ended = false
        this.chunk = Math.max(1, message.chunk)
        this.savedAt = this.now() - CHECKPOINT_EVERY_MS + FIRST_CHECKPOINT_MS
        this.post({ kind: 'loop', state: 'running', ended: false })
        break
      case 'step':
        this.mode = 'step'
        this.ended = false
        this.stepsWanted += Math.max(1, message.n)
        break
      case 'pause':
        this.rest()
        break
      case 'stop':
        this.mode = 'stop'
        break
    }
    void this.pump()
  }

  private rest(): void {
    this.mode = 'idle'
    this.stepsWanted = 0
    this.post({ kind: 'loop', state: 'idle', ended: this.ended })
  }

  private async pump(): Promise<void> {
    if (this.pumping) return
    this.pumping = true
    try {
      for (;;) {
        const next = this.pending.shift()
        if (next) await this.answer(next)
        else if (this.mode === 'run') await this.train(this.chunk)
        else if (this.mode === 'step') await this.train(Math.min(this.stepsWanted, CHUNK_MOST))
        else if (this.mode === 'stop') await this.finish()
        else break
        // Lets messages in: without it a page's "pause" would wait behind the whole run.
        await this.breathe()
      }
    } finally {
      this.pumping = false
    }
  }

  private async answer({ id, request, buffers }: Pending): Promise<void> {
    const answer = await this.ask(request, buffers)
    this.post({ kind: 'reply', id, ...answer }, answer.buffers.map((bytes) => bytes.buffer as ArrayBuffer))
  }

  private async ask(request: Pending['request'], buffers: Uint8Array[] = []): ReturnType<Engine['handle']> {
    try {
      return await this.engine.handle(request, buffers)
    } catch (error) {
      return { reply: { type: 'error', message: error instanceof Error ? error.message : String(error) }, buffers: [] }
    }
  }

  private async train(steps: number): Promise<void> {
    const start = this.now()
    const { reply } = await this.ask({ type: 'train', steps })
    const ms = this.now() - start
    const taken = this.tell(reply, ms)
    if (taken === null || reply.type !== 'events') {
      this.rest()
    } else if (reply.finished) {
      this.ended = true
      await this.checkpoint()
      this.rest()
    } else if (this.mode === 'run') {
      this.chunk = nextChunk(steps, ms)
      if (this.now() - this.savedAt > CHECKPOINT_EVERY_MS) await this.checkpoint()
    } else if (this.mode === 'step') {
      this.stepsWanted -= Math.max(1, taken)
      if (this.stepsWanted <= 0) this.rest()
    }
  }

  private async finish(): Promise<void> {
    const { reply } = await this.ask({ type: 'stop' })
    if (this.tell(reply, 0) !== null) {
      this.ended = true
      await this.checkpoint()
    }
    this.rest()
  }

  /** Tells what happened, and after it what went wrong. Answers how many steps were taken; null where something went wrong. */
  private tell(reply: Reply, ms: number): number | null {
    let steps = 0
    if (reply.type === 'events') {
      steps = reply.events.filter((event) => event.type === 'step').length
      this.post({ kind: 'events', events: reply.events, finished: reply.finished, steps, ms })
    }
    const trouble = reply.type === 'error' ? reply.message : reply.type === 'events' ? reply.error : null
    if (trouble === null) return steps
    this.post({ kind: 'trouble', message: trouble })
    return null
  }

  private async checkpoint(): Promise<void> {
    this.savedAt = this.now()
    const { reply, buffers } = await this.ask({ type: 'save' })
    const bytes = buffers[0]
    if (reply.type === 'saved' && bytes) {
      this.post({ kind: 'checkpoint', name: reply.name, step: reply.step, bytes }, [bytes.buffer as ArrayBuffer])
    }
  }
}
