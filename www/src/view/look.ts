// How a token stands in its line of text: its colour, the bar of its spread, its frame, and what is between it and the next.
import { css, inkOn, rewardColour, type Theme } from '../lib/colour'
import type { Unit } from '../lib/units'

/** The height of a bar as wide as can be, in pixels. */
const BAR = 7

export interface Token {
  unit: Unit
  index: number
  differs: boolean
  /** Spaces before it that are text, and those that are shown as signs of their own. */
  lead: string
  signs: string
  /** Whether it stands apart from the next one. */
  gap: boolean
  background: string
  color: string
  shadow: string
}

export interface Looks {
  units: Unit[]
  /** Of each unit, whether the other answer has another one there. */
  marked: boolean[]
  /** The reward at the end of the colour scale. */
  range: number
  /** The spread of a whole bar. */
  sigmaFull: number
  spaces: boolean
  theme: Theme
}

/** The tokens from `from` on and before `to`. */
export function look({ units, marked, range, sigmaFull, spaces, theme }: Looks, from: number, to: number): Token[] {
  return units.slice(from, to).map((unit, i) => {
    const index = from + i
    const background = rewardColour(unit.mean, range, theme)
    const bar = Number.isFinite(unit.std) ? Math.max(0.75, (BAR * unit.std) / sigmaFull) : 0
    const edge = marked[index] ? 'inset 0 0 0 1.5px var(--edge)' : 'inset 0 0 0 1px var(--hair)'
    return {
      unit,
      index,
      differs: marked[index]!,
      lead: unit.lead && !spaces && index > 0 && !units[index - 1]!.breaks ? unit.lead : '',
      signs: spaces ? '\u2423'.repeat(unit.lead.length) : '',
      gap: !!units[index + 1]?.gap && !unit.breaks,
      background: css(background),
      color: css(inkOn(background)),
      shadow: `${edge}, 0 ${bar.toFixed(2)}px 0 0 var(--bar)`,
    }
  })
}
