// A value that the page shows in a frame of its own, after it changed.
import { untrack } from 'svelte'
import { forget, inAFrame } from './frames'

/** Follows what `read` gives, one frame behind. To be called while a component is set up. */
export function staged<T>(read: () => T): { readonly now: T } {
  let now = $state.raw(untrack(read))
  const key = {}
  let first = true
  $effect(() => {
    const next = read()
    if (!first) inAFrame(key, () => (now = next))
    first = false
  })
  $effect(() => () => forget(key))
  return {
    get now() {
      return now
    },
  }
}
