import { expect, it } from 'vitest'
import type { Side, TokenRewardRecord } from '../lib/protocol.gen'
import { pairs } from './pairs'

const record = (id: string, side: Side, method = 'm') => ({ id, side, provenance: { method, model: 'x', checkpoint: 'c' } }) as TokenRewardRecord
const names = (records: TokenRewardRecord[]) => pairs(records).map((group) => group.map((each) => `${each.id}${each.side[0]}`).join('+'))

it('puts the sides of a row together, chosen first, and keeps methods and lone answers apart', () => {
  expect(names([record('1', 'rejected'), record('2', 'answer'), record('1', 'chosen'), record('1', 'chosen', 'other'), record('2', 'answer')])).toEqual(['1c+1r', '2a', '1c', '2a'])
  expect(pairs([])).toEqual([])
})
