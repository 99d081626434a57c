import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { drain, forget, idle, inAFrame } from './frames'

let frames: (() => void)[] = []
/** The browser draws a frame; what waits behind it runs. */
const draw = () => {
  for (const frame of frames.splice(0)) frame()
  vi.advanceTimersByTime(1)
}

describe('work cut into pieces', () => {
  let done: string[] = []
  const piece = (name: string) => () => void done.push(name)
  const [a, b, c] = [{}, {}, {}]

  beforeEach(() => {
    vi.useFakeTimers()
    frames = []
    done = []
    vi.stubGlobal('requestAnimationFrame', (frame: () => void) => frames.push(frame))
  })
  afterEach(() => {
    vi.runAllTimers()
    expect(idle()).toBe(true)
    vi.useRealTimers()
    vi.unstubAllGlobals()
  })

  it('is done in order, one piece behind each frame', () => {
    inAFrame(a, piece('a'))
    inAFrame(b, piece('b'))
    expect(done).toEqual([])
    for (const frame of frames.splice(0)) frame()
    expect(done).toEqual([])
    vi.advanceTimersByTime(1)
    expect(done).toEqual(['a'])
    draw()
    expect(done).toEqual(['a', 'b'])
  })

  it('takes the latest of a key, in the place of the one before, and nothing that was taken back', () => {
    inAFrame(a, piece('old'))
    inAFrame(b, piece('b'))
    inAFrame(a, piece('new'))
    inAFrame(c, piece('c'))
    forget(c)
    for (let i = 0; i < 4; i++) draw()
    expect(done).toEqual(['new', 'b'])
  })

  it('comes to everybody, however often one asks', () => {
    for (let i = 0; i < 6; i++) {
      inAFrame(a, piece('a'))
      inAFrame(b, piece('b'))
      draw()
    }
    expect(done).toEqual(['a', 'b', 'a', 'b', 'a', 'b'])
  })

  it('is done at once before a picture is taken, with what comes of it', () => {
    let settled = 0
    inAFrame(a, () => inAFrame(c, piece('c')))
    inAFrame(b, piece('b'))
    drain(() => settled++)
    expect([done, settled, idle()]).toEqual([['b', 'c'], 3, true])
    draw()
    expect(done).toEqual(['b', 'c'])
  })

  it('goes on behind a piece that fails', () => {
    inAFrame(a, () => {
      throw new Error('a piece')
    })
    inAFrame(b, piece('b'))
    expect(draw).toThrow('a piece')
    draw()
    expect(done).toEqual(['b'])
  })

  it('goes on where no frame comes', () => {
    inAFrame(a, piece('a'))
    inAFrame(b, piece('b'))
    vi.advanceTimersByTime(250)
    expect(done).toEqual(['a', 'b'])
    // Frames that come late find nothing to do.
    draw()
    expect(done).toEqual(['a', 'b'])
  })

  it('is done at once in a page that is not seen', () => {
    vi.stubGlobal('document', { visibilityState: 'hidden', documentElement: { toggleAttribute: () => undefined } })
    for (const [key, name] of [[a, 'a'], [b, 'b'], [c, 'c']] as const) inAFrame(key, piece(name))
    expect(done).toEqual([])
    vi.advanceTimersByTime(1)
    expect(done).toEqual(['a', 'b', 'c'])
    draw()
  })

  it('may ask for more', () => {
    inAFrame(a, () => inAFrame(a, piece('again')))
    draw()
    expect(done).toEqual([])
    draw()
    expect(done).toEqual(['again'])
  })
})
