// The session against the made-up engine, over the real client and loop: what the page knows after each thing a person does.
import { describe, expect, it, vi } from 'vitest'
import type { FromWorker } from '../engine/border'
import type * as client from '../engine/client'
import { Loop } from '../engine/loop'
import { MockEngine } from '../engine/mock'
import { Session } from './session.svelte'

vi.mock('../engine/client', async (original) => {
  const real = await original<typeof client>()
  const openWorker: typeof real.openWorker = (listener) => {
    const port: client.Port = { postMessage: (message) => loop.receive(structuredClone(message)), onmessage: null, onerror: null, terminate: () => undefined }
    const loop = new Loop(new MockEngine(), (message) => port.onmessage?.({ data: structuredClone(message) } as MessageEvent<FromWorker>))
    return new real.Client(port, listener)
  }
  return { ...real, openWorker }
})

const until = async (met: () => boolean) => {
  for (let i = 0; i < 2000 && !met(); i++) await new Promise((go) => setTimeout(go, 5))
  expect(met()).toBe(true)
}

async function opened(): Promise<Session> {
  const session = new Session()
  await session.open()
  return session
}

async function steps(session: Session, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const wanted = session.step + 1
    await session.takeStep()
    await until(() => session.step === wanted && session.phase !== 'running')
  }
}

const asFile = ({ name, bytes }: { name: string; bytes: Uint8Array }) => new File([bytes as Uint8Array<ArrayBuffer>], name)
const losses = (session: Session) => session.history.points('loss')

describe('a checkpoint from a file', () => {
  it('brings its own method, plan, rows and name for what is watched, whatever the controls showed', async () => {
    const other = await opened()
    await other.pickMethod('ava_d')
    other.config!.steps = 1000
    await other.reset()
    await steps(other, 3)
    const saved = (await other.save())!
    await steps(other, 1)
    const next = losses(other).at(-1)

    const session = await opened()
    session.config!.steps = 2
    await session.reset()
    await steps(session, 2)
    expect(session.phase).toBe('ended')
    session.config!.learning_rate = 0.5
    await session.openCheckpoint(asFile(saved))
    expect(session.errors).toEqual({})
    expect({ phase: session.phase, step: session.step, total: session.total, because: session.finishedBecause }).toEqual({ phase: 'paused', step: 3, total: 1000, because: null })
    expect(session.config).toEqual(other.applied)
    expect(session.changed).toBe(false)
    expect(session.run?.method).toBe('ava_d')
    expect(session.data?.pairs).toBe(false)
    expect(session.records.map((record) => record.side)).toEqual(['answer'])
    expect(session.goesOnFrom).toBe(3)
    // The curves were another run's.
    expect(losses(session)).toEqual([])
    await steps(session, 1)
    expect(losses(session)).toEqual([next])
  })

  it('of the same run keeps the curves up to it, and one that was complete has ended', async () => {
    const session = await opened()
    session.config!.steps = 3
    await session.reset()
    await steps(session, 2)
    const saved = (await session.save())!
    await steps(session, 1)
    const ended = (await session.save())!
    await session.openCheckpoint(asFile(saved))
    expect(losses(session).map((point) => point.step)).toEqual([1, 2])
    expect(session.phase).toBe('paused')
    await session.openCheckpoint(asFile(ended))
    expect([session.phase, session.finishedBecause]).toEqual(['ended', 'completed'])
    // A longer plan goes on from there.
    session.config!.steps = 5
    expect(await session.goOn()).toBe(true)
    expect([session.phase, session.step, session.total]).toEqual(['paused', 3, 5])
  })

  it('that is damaged changes nothing', async () => {
    const session = await opened()
    await steps(session, 1)
    const before = [session.step, session.phase, session.run, session.applied]
    await session.openCheckpoint(asFile({ name: 'a.safetensors', bytes: new Uint8Array([1, 2]) }))
    expect(session.errors.checkpoint).toMatch('damaged')
    expect([session.step, session.phase, session.run, session.applied]).toEqual(before)
  })
})

describe('a loss out of range', () => {
  it('is a failure with a way back: from the kept checkpoint, with lower rates', async () => {
    const session = await opened()
    await steps(session, 2)
    session.config!.learning_rate = 1e30
    expect(await session.goOn()).toBe(true)
    expect([session.phase, session.step, session.applied?.learning_rate]).toEqual(['paused', 2, 1e30])
    await session.start()
    await until(() => session.phase === 'failed')
    expect(session.errors.run).toMatch('learning_rate')
    // What was taken before the break is not lost.
    expect(losses(session).map((point) => point.step)).toEqual([1, 2, 3])
    expect([session.checkpoint?.step, session.goesOnFrom]).toEqual([2, 2])
    // No step is taken with such weights, and a checkpoint is the last good one.
    await session.start()
    await session.takeStep()
    expect(session.phase).toBe('failed')
    expect((await session.save())?.bytes).toBe(session.checkpoint?.bytes)

    // A setting that cannot be changed is refused, and leaves the way open.
    session.config!.batch_size = 5
    expect(await session.goOn()).toBe(false)
    expect(session.errors.settings).toMatch('batch_size')
    expect([session.phase, session.checkpoint?.step]).toEqual(['failed', 2])

    session.config!.batch_size = session.applied!.batch_size
    session.config!.learning_rate = 1e-4
    session.config!.head_learning_rate = 1e-3
    expect(await session.goOn()).toBe(true)
    await until(() => session.step > 3)
    expect(session.errors).toEqual({})
    expect([session.phase, session.applied?.learning_rate, session.applied?.head_learning_rate]).toEqual(['running', 1e-4, 1e-3])
    session.pause()
    await until(() => session.phase === 'paused')

    // The engine afresh goes on with the rates that the run had, not with those that are written in the checkpoint.
    await session.afresh()
    expect([session.phase, session.step, session.applied?.learning_rate]).toEqual(['paused', 2, 1e-4])
  })

  it('without a kept checkpoint begins again with the settings as they stand', async () => {
    const session = await opened()
    session.config!.learning_rate = 1e30
    await session.start()
    await until(() => session.phase === 'failed')
    expect([session.checkpoint, session.goesOnFrom, await session.save()]).toEqual([null, null, null])
    session.config!.learning_rate = 1e-3
    await session.goOn()
    await until(() => session.step > 2)
    expect([session.phase, session.applied?.learning_rate]).toEqual(['running', 1e-3])
    session.stop()
    await until(() => session.phase === 'ended')
    expect(session.finishedBecause).toBe('stopped')
  })
})

describe('news while training', () => {
  it('reach the page in parts, and an older map never covers the row that is looked at now', async () => {
    const session = await opened()
    await session.start()
    await until(() => session.step > 2)
    for (const row of [1, 2, 3, 0, 2]) {
      await session.watch(row)
      const shown = session.records.map((record) => record.prompt)
      // Several redraws later it is still this row.
      const step = session.step
      await until(() => session.step > step + 2)
      expect(session.records.map((record) => record.prompt)).toEqual(shown)
    }
    session.pause()
    await until(() => session.phase === 'paused')
    // What is on the page is all that is known.
    expect(losses(session).at(-1)?.step).toBe(session.step)
  })
})
