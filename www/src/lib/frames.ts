// Work cut into pieces, one a frame. What a training step changes on the page is small, but drawn at once (map, numbers, four
// charts) it would hold the page for longer than a person should wait for a click on a slow machine. So each piece has a task of
// its own, and what it changed is laid out and painted in another, before the next piece runs.

/** A page that is not seen draws no frames: its pieces go on all the same, at this pace. */
const UNSEEN_MS = 100

const queue = new Map<object, () => void>()
let waiting = false

/** While pieces wait, the document says so (`data-drawing`), for whoever looks at the page from outside. */
function mark(drawing: boolean): void {
  if (typeof document !== 'undefined') document.documentElement.toggleAttribute('data-drawing', drawing)
}

/** Runs `work` in one of the next frames. Work of the same key that still waits is left out: this takes its place, at the end. */
export function inAFrame(key: object, work: () => void): void {
  queue.delete(key)
  queue.set(key, work)
  if (!waiting) nextFrame()
}

/** What waits under `key` is not to be done any more. */
export const forget = (key: object) => void queue.delete(key)

/** Whether nothing waits. */
export const idle = () => queue.size === 0

function nextFrame(): void {
  waiting = true
  mark(true)
  let called = false
  const run = () => {
    if (called) return
    called = true
    clearTimeout(unseen)
    // Behind the frame, not in it: its layout and paint belong to the piece before.
    setTimeout(runNext, 0)
  }
  const unseen = setTimeout(run, UNSEEN_MS)
  if (typeof requestAnimationFrame === 'function') requestAnimationFrame(run)
}

function runNext(): void {
  const next = queue.entries().next().value
  if (!next) {
    waiting = false
    return mark(false)
  }
  const [key, work] = next
  queue.delete(key)
  try {
    work()
  } finally {
    // Also behind the last one: what it asks for comes with its frame.
    nextFrame()
  }
}
