import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { forget, idle, inAFrame } from './frames'

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

  it('takes the latest of a key, and nothing that was taken back', () => {
    inAFrame(a, piece('old'))
    inAFrame(b, piece('b'))
    inAFrame(a, piece('new'))
    inAFrame(c, piece('c'))
    forget(c)
    for (let i = 0; i < 4; i++) draw()
    expect(done).toEqual(['b', 'new'])
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

  it('goes on in a page that is not seen, which draws no frames', () => {
    inAFrame(a, piece('a'))
    inAFrame(b, piece('b'))
    vi.advanceTimersByTime(250)
    expect(done).toEqual(['a', 'b'])
    // Frames that come late find nothing to do.
    draw()
    expect(done).toEqual(['a', 'b'])
  })

  it('may ask for more', () => {
    inAFrame(a, () => inAFrame(a, piece('again')))
    draw()
    expect(done).toEqual([])
    draw()
    expect(done).toEqual(['again'])
  })
})
