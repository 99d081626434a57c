import { expect, it } from 'vitest'
import { History, smooth, thin } from './history'

it('keeps metrics by step, drops what is no number, and overwrites from a restored step on', () => {
  const history = new History()
  for (const step of [1, 2, 3, 2]) history.add({ type: 'step', step, total_steps: 9, metrics: { loss: step, bad: NaN } })
  expect(history.points('loss').map((point) => point.step)).toEqual([1, 2])
  expect(history.names()).toEqual(['loss'])
  expect(history.latest('loss')).toBe(2)
})
it('goes on from a checkpoint with the curves up to it', () => {
  const history = new History()
  for (const step of [1, 2, 3]) history.add({ type: 'step', step, total_steps: 9, metrics: { loss: step } })
  const kept = history.copy()
  history.clear()
  expect(history.points('loss')).toEqual([])
  history.take(kept)
  history.cut(2)
  expect(history.points('loss').map((point) => point.step)).toEqual([1, 2])
  history.add({ type: 'step', step: 3, total_steps: 9, metrics: { loss: 30 } })
  expect(history.points('loss').map((point) => point.value)).toEqual([1, 2, 30])
})
it('thins to means and keeps the last step', () => {
  const points = Array.from({ length: 1000 }, (_, i) => ({ step: i, value: i % 2 }))
  const few = thin(points, 100)
  expect(few.length).toBe(100)
  expect(few.at(-1)).toEqual({ step: 999, value: 0.5 })
  expect(thin(few, 100)).toBe(few)
})
it('smooths a constant to itself', () => {
  expect(smooth([1, 2, 3].map((step) => ({ step, value: 4 })), 10).every((point) => Math.abs(point.value - 4) < 1e-12)).toBe(true)
})
