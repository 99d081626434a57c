import { describe, expect, it } from 'vitest'
import type { Engine, FromWorker, ToWorker } from './border'
import { Client, EngineError, type Notice, type Port } from './client'
import { Loop, nextChunk } from './loop'
import { watchDevices } from './lost'
import { MockEngine } from './mock'

/** A worker without a thread: the same client, the same loop, messages copied as a real border would. */
function connect(engine: Engine) {
  const notices: Notice[] = []
  let terminated = false
  const port: Port = { postMessage: (message) => loop.receive(structuredClone(message)), onmessage: null, onerror: null, terminate: () => (terminated = true) }
  const loop = new Loop(engine, (message) => port.onmessage?.({ data: structuredClone(message) } as MessageEvent<FromWorker>))
  const client = new Client(port, (notice) => notices.push(notice))
  const until = async (met: () => boolean) => {
    for (let i = 0; i < 2000 && !met(); i++) await new Promise((go) => setTimeout(go, 5))
    expect(met()).toBe(true)
  }
  return { client, port, notices, until, terminated: () => terminated }
}

/** Counts how many requests are inside the engine at once. */
class Watched implements Engine {
  inside = 0
  most = 0
  order: string[] = []
  private inner = new MockEngine()
  async handle(...request: Parameters<Engine['handle']>) {
    this.most = Math.max(this.most, ++this.inside)
    this.order.push(request[0].type)
    try {
      return await this.inner.handle(...request)
    } finally {
      this.inside--
    }
  }
}

describe('the border', () => {
  it('answers each request with its own reply, one at a time and in order', async () => {
    const engine = new Watched()
    const { client } = connect(engine)
    const [device, catalogue, data] = await Promise.all([
      client.ask({ type: 'open_device', choice: 'auto' }),
      client.ask({ type: 'describe' }),
      client.ask({ type: 'use_world', seed: 0, rows: 12, demonstrations: false }),
    ])
    expect([device.type, catalogue.type, data.rows]).toEqual(['device', 'catalogue', 12])
    expect(engine.most).toBe(1)
    expect(engine.order).toEqual(['open_device', 'describe', 'use_world'])
  })

  it('turns an error reply into a rejection that carries the engine\'s sentence', async () => {
    const { client } = connect(new MockEngine())
    await expect(client.ask({ type: 'open_model', name: 'm', files: ['a.txt'] })).rejects.toThrow(EngineError)
  })

  it('trains to the end, answers a request in between, and keeps a checkpoint', async () => {
    const engine = new Watched()
    const { client, notices, until } = connect(engine)
    const { config } = await client.ask({ type: 'describe' })
    await client.ask({ type: 'configure', config: { ...config, steps: 12 } })
    client.run()
    expect((await client.ask({ type: 'watch', row: 1 })).records.length).toBe(2)
    await until(() => notices.some((notice) => notice.kind === 'loop' && notice.ended))
    const steps = notices.flatMap((notice) => (notice.kind === 'events' ? notice.events : [])).filter((event) => event.type === 'step')
    expect(steps.length).toBe(12)
    expect(notices.some((notice) => notice.kind === 'checkpoint' && notice.step === 12)).toBe(true)
    expect(engine.most).toBe(1)
  })

  it('takes exactly the steps asked for, and pauses', async () => {
    const { client, notices, until } = connect(new MockEngine())
    const { config } = await client.ask({ type: 'describe' })
    await client.ask({ type: 'configure', config })
    client.step(3)
    await until(() => notices.some((notice) => notice.kind === 'loop' && notice.state === 'idle'))
    const count = () => notices.flatMap((notice) => (notice.kind === 'events' ? notice.events : [])).filter((event) => event.type === 'step').length
    expect(count()).toBe(3)
    client.run()
    await until(() => count() > 3)
    client.pause()
    await until(() => notices.filter((notice) => notice.kind === 'loop' && notice.state === 'idle').length === 2)
    const paused = count()
    await new Promise((go) => setTimeout(go, 150))
    // The chunk that was under way when "pause" came may still arrive; nothing after it.
    expect(count() - paused).toBeLessThanOrEqual(16)
  })

  it('stops for good: it evaluates, keeps a checkpoint, and says that the run has ended', async () => {
    const engine = new Watched()
    const { client, notices, until } = connect(engine)
    const { config } = await client.ask({ type: 'describe' })
    await client.ask({ type: 'configure', config })
    const events = () => notices.flatMap((notice) => (notice.kind === 'events' ? notice.events : []))
    client.run()
    await until(() => events().some((event) => event.type === 'step'))
    client.stop()
    await until(() => notices.some((notice) => notice.kind === 'loop' && notice.ended))
    expect(engine.order.slice(-2)).toEqual(['stop', 'save'])
    expect(events().at(-1)).toMatchObject({ type: 'finished', reason: 'stopped' })
    expect(notices.some((notice) => notice.kind === 'checkpoint')).toBe(true)
    expect(notices.at(-1)).toEqual({ kind: 'loop', state: 'idle', ended: true })
    const taken = events().length
    await new Promise((go) => setTimeout(go, 100))
    expect(events().length).toBe(taken)
  })

  it('tells the steps that were taken before a failure, then the failure, and rests', async () => {
    const { client, notices, until } = connect(new MockEngine())
    const { config } = await client.ask({ type: 'describe' })
    await client.ask({ type: 'configure', config: { ...config, learning_rate: 1e30 } })
    client.step(5)
    await until(() => notices.some((notice) => notice.kind === 'loop'))
    expect(notices.map((notice) => notice.kind)).toEqual(['events', 'trouble', 'loop'])
    const [told, trouble, loop] = notices
    expect(told).toMatchObject({ steps: 1, finished: false })
    expect(told?.kind === 'events' && told.events.map((event) => event.type)).toEqual(['started', 'step', 'failed'])
    expect(trouble).toMatchObject({ message: expect.stringContaining('step 2') as string })
    expect(loop).toEqual({ kind: 'loop', state: 'idle', ended: false })
  })

  it('after a crash rejects what waits, ends the worker and says so once', async () => {
    const silent: Engine = { handle: () => new Promise(() => undefined) }
    const { client, port, notices, terminated } = connect(silent)
    const waiting = client.ask({ type: 'describe' })
    port.onmessage?.({ data: { kind: 'crashed', message: 'panicked at x' } } as MessageEvent<FromWorker>)
    await expect(waiting).rejects.toThrow('stopped')
    await expect(client.ask({ type: 'save' })).rejects.toThrow('stopped')
    expect(terminated()).toBe(true)
    expect(notices).toEqual([{ kind: 'crashed', message: 'panicked at x' }])
  })

  it('says that the device was lost, and takes nothing more from that worker', async () => {
    const silent: Engine = { handle: () => new Promise(() => undefined) }
    const { client, port, notices, terminated } = connect(silent)
    const waiting = client.ask({ type: 'save' })
    const hear = port.onmessage!
    hear({ data: { kind: 'device_lost', message: 'driver restarted' } } as MessageEvent<FromWorker>)
    hear({ data: { kind: 'crashed', message: 'a consequence' } } as MessageEvent<FromWorker>)
    await expect(waiting).rejects.toThrow('stopped')
    expect(terminated()).toBe(true)
    expect(notices).toEqual([{ kind: 'device_lost', message: 'driver restarted' }])
  })

  it('carries every kind of message as plain data', () => {
    const messages: ToWorker[] = [{ kind: 'run', chunk: 1 }, { kind: 'pause' }, { kind: 'step', n: 1 }, { kind: 'stop' }]
    expect(structuredClone(messages)).toEqual(messages)
  })
})

describe('a graphics device', () => {
  it('is watched from its opening, and tells of its loss but not of its return', async () => {
    const losers: ((lost: { reason: string; message: string }) => void)[] = []
    class Adapter {
      constructor(readonly name: string) {}
      requestDevice(wish: string) {
        return Promise.resolve({ label: `${this.name} ${wish}`, lost: new Promise<{ reason: string; message: string }>((lose) => losers.push(lose)) })
      }
    }
    const told: string[] = []
    watchDevices(Adapter as never, (message) => told.push(message))
    const device = await new Adapter('a').requestDevice('f32')
    expect(device.label).toBe('a f32')
    await new Adapter('b').requestDevice('f32')
    losers[0]!({ reason: 'destroyed', message: 'given back' })
    losers[1]!({ reason: 'unknown', message: 'gone' })
    await Promise.resolve()
    expect(told).toEqual(['gone'])
  })
  it('is not there to be watched in a browser without WebGPU', () => {
    expect(() => watchDevices(undefined, () => undefined)).not.toThrow()
  })
})

describe('the chunk of steps', () => {
  it('moves towards the target time, at most doubling, within its limits', () => {
    expect(nextChunk(1, 10, 150)).toBe(2)
    expect(nextChunk(8, 150, 150)).toBe(8)
    expect(nextChunk(8, 600, 150)).toBe(2)
    expect(nextChunk(1, 9000, 150)).toBe(1)
    expect(nextChunk(64, 1, 150)).toBe(64)
    expect(nextChunk(4, 0, 150)).toBe(8)
  })
})
