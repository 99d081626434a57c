// Work cut into pieces, one a frame. What a training step changes on the page is small, but drawn at once (map, numbers, four
// charts) it would hold the page for longer than a person should wait for a click on a slow machine. So each piece has a task of
// its own, and what it changed is laid out and painted in another, before the next piece runs.

/** Where no frame comes for so long, the next piece does not wait for one. */
const LATE_MS = 100
/** A page that is not seen draws no frames, and nobody waits for it: there all pieces are done at once. */
const seen = () => typeof document === 'undefined' || document.visibilityState !== 'hidden'

const queue = new Map<object, () => void>()
let waiting = false

/** While pieces wait, the document says so (`data-drawing`), for whoever looks at the page from outside. */
function mark(drawing: boolean): void {
  if (typeof document !== 'undefined') document.documentElement.toggleAttribute('data-drawing', drawing)
}

/**
 * Runs `work` in one of the next frames. Work of the same key that still waits is left out, and this takes its place in the line:
 * whoever asks often, such as a slider that is dragged, holds up nobody.
 */
export function inAFrame(key: object, work: () => void): void {
  queue.set(key, work)
  if (!waiting) nextFrame()
}

/** What waits under `key` is not to be done any more. */
export const forget = (key: object) => void queue.delete(key)

/** Whether nothing waits. */
export const idle = () => queue.size === 0

/** Does now all that waits, and what comes of it once `settle` ran behind each piece: before a picture is taken of the page. */
export function drain(settle: () => void): void {
  // An end to pieces that ask for themselves.
  for (let left = 10_000; queue.size && left > 0; left--) {
    takeNext()
    settle()
  }
}

function nextFrame(): void {
  waiting = true
  mark(true)
  let called = false
  const run = () => {
    if (called) return
    called = true
    clearTimeout(late)
    // Behind the frame, not in it: its layout and paint belong to the piece before.
    setTimeout(runNext, 0)
  }
  const late = setTimeout(run, seen() ? LATE_MS : 0)
  if (typeof requestAnimationFrame === 'function') requestAnimationFrame(run)
}

function runNext(): void {
  if (!queue.size) {
    waiting = false
    return mark(false)
  }
  try {
    do takeNext()
    while (queue.size && !seen())
  } finally {
    // Also behind the last one: what it asks for comes with its frame.
    nextFrame()
  }
}

function takeNext(): void {
  const [[key, work]] = queue as unknown as [[object, () => void]]
  queue.delete(key)
  work()
}
