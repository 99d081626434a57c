import { describe, expect, it } from 'vitest'
import { align } from './align'

const words = (text: string) => text.split(' ')
const differing = (a: string, b: string) => {
  const { left, right } = align(words(a), words(b))
  return [words(a).filter((_, i) => left[i] === -1), words(b).filter((_, j) => right[j] === -1)]
}
/** Length of a longest common subsequence, the slow plain way. */
const naive = (a: string, b: string): number =>
  !a || !b ? 0 : a[0] === b[0] ? 1 + naive(a.slice(1), b.slice(1)) : Math.max(naive(a.slice(1), b), naive(a, b.slice(1)))

describe('alignment of two answers', () => {
  it('marks one replaced token on each side', () => {
    expect(differing('the cat sat', 'the dog sat')).toEqual([['cat'], ['dog']])
  })
  it('keeps what surrounds an insertion', () => {
    expect(differing('a b c', 'a b very c')).toEqual([[], ['very']])
  })
  it('of equal answers marks nothing, of strangers everything', () => {
    expect(differing('a b', 'a b')).toEqual([[], []])
    expect(differing('a b', 'c d')).toEqual([['a', 'b'], ['c', 'd']])
  })
  it('takes empty answers', () => {
    expect([...align([], [1]).right]).toEqual([-1])
    expect([...align([], []).left]).toEqual([])
  })
  it('is a shortest edit, keeps order, and pairs only equal tokens', () => {
    let seed = 1
    const next = () => (seed = (seed * 1103515245 + 12345) % 2147483648) / 2147483648
    for (let round = 0; round < 200; round++) {
      const make = () => Array.from({ length: Math.floor(next() * 8) }, () => 'abc'[Math.floor(next() * 3)]!).join('')
      const [a, b] = [make(), make()]
      const { left, right } = align([...a], [...b])
      const pairs = [...left].map((j, i) => [i, j] as const).filter(([, j]) => j >= 0)
      expect(pairs.length).toBe(naive(a, b))
      pairs.forEach(([i, j], k) => {
        expect(a[i]).toBe(b[j])
        expect(right[j]).toBe(i)
        if (k > 0) expect(j).toBeGreaterThan(pairs[k - 1]![1])
      })
    }
  })
})
