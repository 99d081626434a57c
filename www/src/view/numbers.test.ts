// The three standard deviations in words and numbers: own spread, ignorance, total.
import { render } from 'svelte/server'
import { describe, expect, it } from 'vitest'
import type { AnswerScore, TokenRewardRecord } from '../lib/protocol.gen'
import { units } from '../lib/units'
import Inspector from './Inspector.svelte'
import Scores from './Scores.svelte'

const plain: AnswerScore = { last: 1, sum: 2, mean: 1, sum_std: 0.31 }
const both: AnswerScore = {
  ...plain,
  ignorance: { last: 0.41, sum: 0.42, mean: 0.43, margin: 0.44 },
  total: { last: 0.51, sum: 0.52, mean: 0.53, margin: 0.54 },
}
const record = (side: 'chosen' | 'rejected', score: AnswerScore, further: object): TokenRewardRecord => ({
  schema: 'avascope.token-rewards/1', id: 'a', side, prompt: '', answer: 'ab', truncated: false, score,
  provenance: { method: 'ava_p', model: 'm', checkpoint: 'c', device: 'd', precision: 'f32', uncertainty: 'td_spread', credit: 'own', trust: 'exploratory', checked: [] },
  tokens: [{ id: 1, text: 'ab', start: 0, end: 2, mean: 1, std: 0.21, ...further }],
})
const text = (body: string) => body.replace(/<[^>]*>/g, ' ').replace(/\s+/g, ' ')

describe('standard deviations on the page', () => {
  it('stand side by side for scores and the margin', () => {
    const { body } = render(Scores, { props: { records: [record('chosen', both, {}), record('rejected', both, {})] } })
    const said = text(body)
    for (const number of ['0.41', '0.42', '0.43', '0.51', '0.52', '0.53']) expect(said.split(`± ${number}`).length, number).toBe(3)
    expect(said).toContain('ignorance ± 0.44, total ± 0.54')
    expect(said).toContain('is σ: spread of one-sample temporal-difference residuals, not ignorance')
  })
  it('are not made up where there are none', () => {
    const { body } = render(Scores, { props: { records: [record('chosen', plain, {}), record('rejected', plain, {})] } })
    expect(text(body)).not.toMatch(/gnorance ±|otal ±|Margin/)
  })
  it('stand side by side for a token', () => {
    const shown = (further: object) => {
      const [unit] = units(record('chosen', plain, further).tokens, 'token', 'ab')
      const current = { unit: unit!, side: 'chosen' as const, index: 0, differs: false, word: false }
      return text(render(Inspector, { props: { current, pins: [], uncertainty: 'preference_spread', onclear: () => {} } }).body)
    }
    const all = shown({ ignorance_std: 0.61, total_std: 0.71 })
    for (const number of ['0.21', '0.61', '0.71']) expect(all).toContain(`± ${number}`)
    expect(all).toContain('σ: trained by the likelihood of preferences and the prior, not shown to be ignorance')
    expect(shown({})).not.toMatch(/Ignorance|Total/)
    // Without a spread of its own a token has ignorance and no total.
    expect(shown({ ignorance_std: 0.61 })).not.toContain('Total')
  })
})
