import { describe, expect, it } from 'vitest'
import { autoRange, contrast, inkOn, luminance, rewardColour } from './colour'

describe('the reward colour scale', () => {
  it('keeps text at a contrast of 4.5 or more everywhere, in both themes', () => {
    for (const theme of ['light', 'dark'] as const) {
      for (let i = -100; i <= 100; i++) {
        const background = rewardColour(i / 100, 1, theme)
        expect(contrast(inkOn(background), background)).toBeGreaterThanOrEqual(4.5)
      }
    }
  })

  it('is orange below zero and blue above', () => {
    for (const theme of ['light', 'dark'] as const) {
      const [r1, , b1] = rewardColour(-1, 1, theme)
      const [r2, , b2] = rewardColour(1, 1, theme)
      expect(r1).toBeGreaterThan(b1)
      expect(b2).toBeGreaterThan(r2)
    }
  })

  it('grows away from zero without turning back', () => {
    for (const sign of [-1, 1]) {
      let last = luminance(rewardColour(0, 1, 'light'))
      for (let i = 1; i <= 50; i++) {
        const next = luminance(rewardColour((sign * i) / 50, 1, 'light'))
        expect(next).toBeLessThanOrEqual(last)
        last = next
      }
    }
  })

  it('stays at its ends beyond the range, and at zero for what is no number', () => {
    expect(rewardColour(9, 1, 'light')).toEqual(rewardColour(1, 1, 'light'))
    expect(rewardColour(NaN, 1, 'light')).toEqual(rewardColour(0, 1, 'light'))
    expect(rewardColour(1, 0, 'light')).toEqual(rewardColour(0, 1, 'light'))
  })

  it('chooses a round range that holds the values', () => {
    expect(autoRange([])).toBe(0.25)
    expect(autoRange([0.01, -0.02])).toBe(0.25)
    expect(autoRange([0.3, -0.9])).toBe(1)
    expect(autoRange([NaN, 3])).toBe(5)
  })
})
