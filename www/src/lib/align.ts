// Which tokens of two answers are the same token in the same place, by a shortest edit (insertions and deletions only).

export interface Alignment {
  /** Per token of the left answer: the index of its partner on the right, or -1 where it differs. */
  left: Int32Array
  /** Per token of the right answer: the index of its partner on the left, or -1 where it differs. */
  right: Int32Array
}

/** Beyond this many cells (product of the differing middles' lengths) only common ends are matched. */
const MOST_CELLS = 16_000_000

/** Aligns two lists of keys. Ties go to the earliest partner on both sides, so the answer is always the same one. */
export function align(a: ArrayLike<number | string>, b: ArrayLike<number | string>): Alignment {
  const left = new Int32Array(a.length).fill(-1)
  const right = new Int32Array(b.length).fill(-1)
  const match = (i: number, j: number) => {
    left[i] = j
    right[j] = i
  }

  let start = 0
  const shorter = Math.min(a.length, b.length)
  while (start < shorter && a[start] === b[start]) match(start, start++)
  let endA = a.length
  let endB = b.length
  while (endA > start && endB > start && a[endA - 1] === b[endB - 1]) match(--endA, --endB)

  const n = endA - start
  const m = endB - start
  if (n === 0 || m === 0 || n * m > MOST_CELLS) return { left, right }

  // longest[i, j]: the longest common subsequence of what follows i and j. Read forwards afterwards.
  const width = m + 1
  const longest = new Uint16Array((n + 1) * width)
  for (let i = n - 1; i >= 0; i--) {
    for (let j = m - 1; j >= 0; j--) {
      longest[i * width + j] =
        a[start + i] === b[start + j]
          ? longest[(i + 1) * width + j + 1]! + 1
          : Math.max(longest[(i + 1) * width + j]!, longest[i * width + j + 1]!)
    }
  }
  for (let i = 0, j = 0; i < n && j < m; ) {
    if (a[start + i] === b[start + j]) match(start + i++, start + j++)
    else if (longest[(i + 1) * width + j]! >= longest[i * width + j + 1]!) i++
    else j++
  }
  return { left, right }
}
