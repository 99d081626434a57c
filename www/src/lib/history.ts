// What the charts draw: every metric's values by step, kept whole and thinned when drawn.
import type { Event } from './protocol.gen'

export type Point = { step: number; value: number }

export class History {
  private series = new Map<string, Point[]>()

  clear(): void {
    this.series.clear()
  }

  /** Takes what steps and evaluations carry. A step that is taken again (after a restored checkpoint) replaces what followed it. */
  add(event: Event): void {
    if (event.type !== 'step' && event.type !== 'evaluation') return
    for (const [name, value] of Object.entries(event.metrics)) {
      if (!Number.isFinite(value)) continue
      const points = this.series.get(name) ?? []
      while (points.length && points[points.length - 1]!.step >= event.step) points.pop()
      points.push({ step: event.step, value })
      this.series.set(name, points)
    }
  }

  copy = () => new Map(this.series)

  take(series: Map<string, Point[]>): void {
    this.series = new Map(series)
  }

  /** Forgets what came after `step`: a run that goes on from a checkpoint takes those steps again. */
  cut(step: number): void {
    for (const [name, points] of this.series) this.series.set(name, points.filter((point) => point.step <= step))
  }

  names = () => [...this.series.keys()].sort()
  points = (name: string) => this.series.get(name) ?? []
  latest = (name: string) => this.series.get(name)?.at(-1)?.value
}

/** At most `most` points: means over equal stretches of steps. */
export function thin(points: Point[], most: number): Point[] {
  if (points.length <= most) return points
  const out: Point[] = []
  for (let k = 0; k < most; k++) {
    const part = points.slice(Math.floor((k * points.length) / most), Math.floor(((k + 1) * points.length) / most))
    out.push({
      step: part[part.length - 1]!.step,
      value: part.reduce((sum, point) => sum + point.value, 0) / part.length,
    })
  }
  return out
}

/** Exponentially weighted mean with a memory of about `span` points, corrected for its start. */
export function smooth(points: Point[], span: number): Point[] {
  const keep = 1 - 1 / Math.max(1, span)
  let sum = 0
  let weight = 0
  return points.map(({ step, value }) => {
    sum = keep * sum + value
    weight = keep * weight + 1
    return { step, value: sum / weight }
  })
}
