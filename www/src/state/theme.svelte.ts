// Light or dark: the system's wish, until a person chooses.
import { flushSync } from 'svelte'
import type { Theme } from '../lib/colour'
import { drain } from '../lib/frames'

const KEY = 'avascope.theme'
const system = window.matchMedia('(prefers-color-scheme: dark)')

// Storage can be switched off (private windows, files opened from disk); the choice then lasts as long as the page.
function stored(): Theme | null {
  try {
    const value = localStorage.getItem(KEY)
    return value === 'light' || value === 'dark' ? value : null
  } catch {
    return null
  }
}

class ThemeState {
  private chosen = $state<Theme | null>(stored())
  private systemDark = $state(system.matches)
  private printing = $state(false)
  readonly current: Theme = $derived(this.printing ? 'light' : (this.chosen ?? (this.systemDark ? 'dark' : 'light')))

  constructor() {
    system.addEventListener('change', (event) => (this.systemDark = event.matches))
    // Paper is light. The browser takes its picture right after this event, so the colours must stand by then.
    window.addEventListener('beforeprint', () => this.print(true))
    window.addEventListener('afterprint', () => this.print(false))
    this.show()
  }

  private print(printing: boolean): void {
    flushSync(() => (this.printing = printing))
    this.show()
    if (printing) drain(flushSync)
  }

  toggle = () => {
    this.chosen = this.current === 'dark' ? 'light' : 'dark'
    try {
      localStorage.setItem(KEY, this.chosen)
    } catch {
      // See `stored`.
    }
    this.show()
  }

  private show(): void {
    if (this.chosen || this.printing) document.documentElement.dataset.theme = this.current
    else delete document.documentElement.dataset.theme
  }
}

export const theme = new ThemeState()
