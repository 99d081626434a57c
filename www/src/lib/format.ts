// Numbers and names as people read them.
import type { DeviceInfo, Trust, Uncertainty } from './protocol.gen'

const MINUS = '\u2212'

/** A signed reward with two decimals; more where two would show nothing. */
export function reward(value: number): string {
  if (!Number.isFinite(value)) return 'not a number'
  const size = Math.abs(value)
  const text = size !== 0 && size < 1e-4 ? size.toExponential(0) : size !== 0 && size < 0.005 ? size.toFixed(4) : size >= 1000 ? size.toPrecision(4) : size.toFixed(2)
  return (value < 0 && Number(text) !== 0 ? MINUS : '+') + text
}

/** An unsigned number with three significant digits. */
export function number(value: number): string {
  if (!Number.isFinite(value)) return String(value)
  const size = Math.abs(value)
  const text =
    size === 0 ? '0' : size < 1e-3 || size >= 1e6 ? size.toExponential(2) : Number.isInteger(value) ? size.toString() : size.toPrecision(3)
  return (value < 0 ? MINUS : '') + text
}

/** The end of a colour scale: as it is where a person reads it at a glance. */
export const scaleEnd = (value: number) => (value >= 1e4 ? number(value) : String(value))

export const percent = (share: number) => `${(100 * share).toFixed(0)} %`

export function count(value: number): string {
  if (value >= 1e9) return `${(value / 1e9).toPrecision(3)} billion`
  if (value >= 1e6) return `${(value / 1e6).toPrecision(3)} million`
  return value.toLocaleString('en')
}

/** How many rows, of which kind. */
export function rows({ rows, pairs }: { rows: number; pairs: boolean }): string {
  const kind = pairs ? 'pair' : 'demonstration'
  return `${rows.toLocaleString('en')} ${kind}${rows === 1 ? '' : 's'}`
}

export function duration(seconds: number): string {
  if (!Number.isFinite(seconds) || seconds < 0) return ''
  const s = Math.round(seconds)
  if (s < 60) return `${s} s`
  if (s < 3600) return `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, '0')} s`
  return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, '0')} min`
}

/** The device in plain words. */
export function device(info: DeviceInfo): string {
  const reason = info.note?.replace(/\.$/, '')
  if (info.backend === 'cpu') return `CPU in this page${reason ? `: ${reason}` : info.asked === 'cpu' ? ', as asked' : ', because no WebGPU adapter was granted'}`
  const name = { webgpu: 'WebGPU', vulkan: 'Vulkan', metal: 'Metal', dx12: 'Direct3D 12', cuda: 'CUDA', rocm: 'ROCm' }[info.backend] ?? info.backend
  return `${name}${info.adapter ? `, ${info.adapter}` : ''}${reason ? ` (${reason})` : ''}`
}

export const UNCERTAINTY: Record<Uncertainty, { short: string; long: string }> = {
  td_spread: {
    short: 'spread of one-sample temporal-difference residuals, not ignorance',
    long: 'The posterior\u2019s \u03c3 follows the spread of one-sample temporal-difference residuals, pulled towards the prior. It does not shrink as data grows: a small \u03c3 does not mean that the model knows.',
  },
  preference_spread: {
    short: 'trained by the likelihood of preferences and the prior, not shown to be ignorance',
    long: 'The posterior\u2019s \u03c3 is trained by the likelihood of preferences together with the prior. Nothing shows that it is ignorance: a small \u03c3 does not mean that the model knows.',
  },
  prior_only: {
    short: 'the prior\u2019s: nothing was learned of it',
    long: 'This method, or the way its score was spread over the tokens, learns no spread. The standard deviation shown is the prior\u2019s and says nothing about the token.',
  },
}

export const TRUST: Record<Trust, { short: string; long: string }> = {
  exploratory: { short: 'exploratory', long: 'This map was not held against people\u2019s labels, or did not pass all that it was held against. Read it as a hint.' },
  checked: { short: 'checked', long: 'This map passed every truth that it was held against and not trained on, people\u2019s labels among them: better than chance and every floor.' },
}
