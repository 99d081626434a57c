// What the token view draws: tokens, or words made of tokens. Rewards add up, so a word's reward is the sum of its tokens'.
import type { TokenReward } from './protocol.gen'

export interface Unit {
  /** Text before the first visible character: spaces only, drawn without colour. */
  lead: string
  /** White space of the answer stands before the unit and belongs to no token (tokenizers that split at spaces drop them). */
  gap: boolean
  /** What is drawn in colour; glyphs stand for characters that would not be seen. */
  shown: string
  /** Whether a line of the answer ends here. */
  breaks: boolean
  /** The unit covers no text of the answer (`<eos>`). */
  special: boolean
  ids: number[]
  /** Index of its first token. */
  first: number
  mean: number
  /** Of a word: the sum's standard deviation if its tokens were independent. */
  std: number
  /** How far the mean itself may be off for want of data. Not of words of several tokens: those share what is unknown. */
  ignorance: number | null
  /** Own spread and ignorance together, where there are both; of single tokens, as above. */
  total: number | null
  truth: number | null
  truthStd: number | null
  labelled: boolean | null
  /** What two units must share to be the same: the token's id, or the word's text. */
  key: number | string
}

export type Granularity = 'token' | 'word'

/** Text with glyphs for what cannot be seen: new lines, tabs, other control characters. */
export function glyphs(text: string): string {
  return text
    .replace(/\r\n|\n|\r/g, '⏎')
    .replace(/\t/g, '⇥')
    .replace(/ /g, '␣')
    // Control and direction characters could reorder or hide their surroundings; the replacement character stands for each.
    .replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g, '\ufffd')
}

/** Splits the spaces off the front, so that a token's colour begins at its first visible character. */
function shape(text: string): Pick<Unit, 'lead' | 'shown' | 'breaks'> {
  const breaks = /[\n\r]/.test(text)
  const lead = /^ +(?=\S)/.exec(text)?.[0] ?? ''
  const core = text.slice(lead.length)
  // Spaces inside stay spaces, a unit of nothing but white space becomes visible.
  const shown = /^\s*$/.test(core) ? glyphs(core) : core.split(' ').map(glyphs).join(' ')
  return { lead, shown, breaks }
}

/** A number that a file may not hold: JSON writes a NaN as null. */
const numeric = (value: unknown) => (typeof value === 'number' ? value : NaN)

function unit(tokens: TokenReward[], first: number, gap: boolean, key: number | string): Unit {
  const sum = (of: (token: TokenReward) => number) => tokens.reduce((total, token) => total + of(token), 0)
  const all = (of: (token: TokenReward) => unknown) => tokens.every((token) => of(token) != null)
  const labels = tokens.map((token) => token.labelled).filter((label) => label != null)
  return {
    ...shape(tokens.map((token) => token.text).join('')),
    gap,
    special: tokens.every((token) => token.start === token.end),
    ids: tokens.map((token) => token.id),
    first,
    mean: sum((token) => numeric(token.mean)),
    std: Math.sqrt(sum((token) => numeric(token.std) ** 2)),
    ignorance: tokens.length === 1 ? (tokens[0]!.ignorance_std ?? null) : null,
    total: tokens.length === 1 ? (tokens[0]!.total_std ?? null) : null,
    truth: all((token) => token.true_mean) ? sum((token) => token.true_mean!) : null,
    truthStd: all((token) => token.true_std) ? Math.sqrt(sum((token) => token.true_std! ** 2)) : null,
    labelled: labels.length ? labels.includes(true) : null,
    key,
  }
}

/** For every token, whether white space that no token covers stands before it in `answer`, whose places are code points. */
function gapsBefore(tokens: TokenReward[], answer: string): boolean[] {
  if (tokens.every((token, i) => i === 0 || token.start <= tokens[i - 1]!.end)) return tokens.map(() => false)
  const letters = [...answer]
  return tokens.map((token, i) => i > 0 && letters.slice(tokens[i - 1]!.end, token.start).some((letter) => /\s/.test(letter)))
}

/**
 * The tokens of `answer` as units, or joined into words: a word begins at white space, whether a token holds it or none
 * does, and at a token that covers no text.
 */
export function units(tokens: TokenReward[], granularity: Granularity, answer: string): Unit[] {
  const gaps = gapsBefore(tokens, answer)
  if (granularity === 'token') return tokens.map((token, i) => unit([token], i, gaps[i]!, token.id))
  const words: Unit[] = []
  let from = 0
  for (let i = 1; i <= tokens.length; i++) {
    const token = tokens[i]
    const before = tokens[i - 1]!
    const begins =
      !token || gaps[i] || /^\s/.test(token.text) || /\s$/.test(before.text) || token.start === token.end || before.start === before.end
    if (!begins) continue
    const part = tokens.slice(from, i)
    words.push(unit(part, from, gaps[from]!, part.map((each) => each.text).join('').trim()))
    from = i
  }
  return words
}
