import { describe, expect, it } from 'vitest'
import type { TokenReward } from './protocol.gen'
import { glyphs, units } from './units'

const token = (text: string, start: number, mean = 1, std = 3): TokenReward => ({ id: start, text, start, end: start + [...text].length, mean, std, true_mean: mean })
const eos: TokenReward = { id: 2, text: '<eos>', start: 9, end: 9, mean: 0.5, std: 1 }

describe('what the token view draws', () => {
  it('keeps every token as it is, with its space outside the colour', () => {
    const [a, b] = units([token('un', 0), token(' do', 2)], 'token', 'un do')
    expect([a!.lead, a!.shown, b!.lead, b!.shown]).toEqual(['', 'un', ' ', 'do'])
  })
  it('joins tokens into words whose rewards add up', () => {
    const words = units([token('un', 0, 1, 3), token('do', 2, 2, 4), token(' it', 4, -1), eos], 'word', 'undo it')
    expect(words.map((word) => word.shown)).toEqual(['undo', 'it', '<eos>'])
    expect(words[0]).toMatchObject({ mean: 3, std: 5, truth: 3, ids: [0, 2], first: 0 })
    expect(words[2]).toMatchObject({ special: true, truth: null, first: 3 })
  })
  it('sees the spaces that no token holds, in tokens and in words', () => {
    // Places are code points: the first letter takes two UTF-16 units.
    const answer = '\u{1d51e}b c, d'
    const tokens = [token('\u{1d51e}', 0, 1), token('b', 1, 2), token('c', 3, 4), token(',', 4, 8), token('d', 6, 16), { ...eos, start: 7, end: 7 }]
    expect(units(tokens, 'token', answer).map((unit) => [unit.shown, unit.gap])).toEqual([['\u{1d51e}', false], ['b', false], ['c', true], [',', false], ['d', true], ['<eos>', false]])
    const words = units(tokens, 'word', answer)
    expect(words.map((word) => [word.shown, word.gap, word.mean])).toEqual([['\u{1d51e}b', false, 3], ['c,', true, 12], ['d', true, 16], ['<eos>', false, 0.5]])
  })
  it('shows white space, line ends and characters that hide', () => {
    expect(glyphs('\n')).toBe('⏎')
    expect(units([token('  ', 0)], 'token', '  ')[0]!.shown).toBe('␣␣')
    expect(units([token('a\n', 0)], 'token', 'a\n')[0]).toMatchObject({ shown: 'a⏎', breaks: true })
    expect(glyphs('\u202e')).toBe('\ufffd')
  })
  it('gives ignorance and the total of single tokens alone', () => {
    const known = (text: string, start: number): TokenReward => ({ ...token(text, start), ignorance_std: 4, total_std: 5 })
    expect(units([known('un', 0), token('do', 2)], 'token', 'undo').map((unit) => [unit.ignorance, unit.total])).toEqual([[4, 5], [null, null]])
    expect(units([known('un', 0), known('do', 2)], 'word', 'undo')[0]).toMatchObject({ ignorance: null, total: null })
  })
  it('does not take a missing number for zero', () => {
    expect(units([{ ...eos, mean: null as unknown as number }], 'token', '')[0]!.mean).toBeNaN()
  })
  it('takes no tokens', () => {
    expect(units([], 'word', '')).toEqual([])
  })
})
