// Colours of token rewards: a diverging scale, orange for below zero and blue for above, which the common forms of colour
// blindness keep apart. Mixed in OKLab so that equal steps of reward look like equal steps of colour.

export type Rgb = readonly [number, number, number]
export type Theme = 'light' | 'dark'

const ENDS: Record<Theme, { below: Rgb; zero: Rgb; above: Rgb }> = {
  light: { below: [236, 140, 52], zero: [255, 255, 255], above: [91, 163, 224] },
  dark: { below: [178, 84, 8], zero: [34, 39, 46], above: [24, 106, 178] },
}
const INK: Record<'black' | 'white', Rgb> = { black: [20, 24, 29], white: [255, 255, 255] }

const toLinear = (c: number) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
const fromLinear = (c: number) => (c <= 0.0031308 ? c * 12.92 : 1.055 * c ** (1 / 2.4) - 0.055)

/** OKLab (Ottosson 2020) of an sRGB colour with channels 0 to 255. */
function toOklab([r8, g8, b8]: Rgb): Rgb {
  const [r, g, b] = [toLinear(r8 / 255), toLinear(g8 / 255), toLinear(b8 / 255)]
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b)
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b)
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b)
  return [
    0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
  ]
}

function fromOklab([lightness, a, b]: Rgb): Rgb {
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3
  const channel = (c: number) => Math.round(255 * fromLinear(Math.min(1, Math.max(0, c))))
  return [
    channel(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
    channel(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
    channel(-0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s),
  ]
}

/** The colour of `value` on a scale from `-range` to `range`; beyond it the ends' colours, not a number: zero's. */
export function rewardColour(value: number, range: number, theme: Theme): Rgb {
  const { below, zero, above } = ENDS[theme]
  const t = Number.isFinite(value) && range > 0 ? Math.max(-1, Math.min(1, value / range)) : 0
  const from = toOklab(zero)
  const to = toOklab(t < 0 ? below : above)
  const k = Math.abs(t)
  return fromOklab([from[0] + k * (to[0] - from[0]), from[1] + k * (to[1] - from[1]), from[2] + k * (to[2] - from[2])])
}

/** Relative luminance, WCAG 2. */
export function luminance([r, g, b]: Rgb): number {
  return 0.2126 * toLinear(r / 255) + 0.7152 * toLinear(g / 255) + 0.0722 * toLinear(b / 255)
}

/** Contrast ratio, WCAG 2: 1 to 21. */
export function contrast(a: Rgb, b: Rgb): number {
  const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x) as [number, number]
  return (high + 0.05) / (low + 0.05)
}

/** Dark or white text, whichever reads better on `background`. */
export function inkOn(background: Rgb): Rgb {
  return contrast(INK.black, background) >= contrast(INK.white, background) ? INK.black : INK.white
}

export const css = ([r, g, b]: Rgb) => `rgb(${r} ${g} ${b})`

const STEPS = [0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]

/** A round range that holds all of `values`, never below 0.25: at the start of a run means near zero should look like zero. */
export function autoRange(values: Iterable<number>): number {
  let most = 0.25
  for (const value of values) if (Number.isFinite(value)) most = Math.max(most, Math.abs(value))
  return STEPS.find((step) => step >= most * 0.999) ?? most
}
