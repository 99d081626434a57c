import { expect, it } from 'vitest'
import * as format from './format'

it('signs rewards, and never writes a negative zero', () => {
  expect(format.reward(0.1234)).toBe('+0.12')
  expect(format.reward(-1.5)).toBe('\u22121.50')
  expect(format.reward(-0)).toBe('+0.00')
  expect(format.reward(-0.001)).toBe('\u22120.0010')
})
it('writes times as people say them', () => {
  expect(format.duration(59)).toBe('59 s')
  expect(format.duration(61)).toBe('1 min 01 s')
  expect(format.duration(3700)).toBe('1 h 01 min')
  expect(format.duration(Infinity)).toBe('')
})
it('counts rows by their kind', () => {
  expect(format.rows({ rows: 1, pairs: true })).toBe('1 pair')
  expect(format.rows({ rows: 3000, pairs: false })).toBe('3,000 demonstrations')
})
it('says which device computes, and why', () => {
  const base = { asked: 'auto', adapter: 'wasm32', precision: 'f32', note: null }
  expect(format.device({ ...base, backend: 'cpu' })).toBe('CPU in this page, because no WebGPU adapter was granted')
  expect(format.device({ ...base, backend: 'webgpu', adapter: 'Some GPU' })).toBe('WebGPU, Some GPU')
})
it('ends a colour scale with a number that can be read', () => {
  expect(format.scaleEnd(0.25)).toBe('0.25')
  expect(format.scaleEnd(6.896465148062566e28)).toBe('6.90e+28')
})
