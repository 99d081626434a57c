// Light or dark: the system's wish, until a person chooses.
import type { Theme } from '../lib/colour'

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
  readonly current: Theme = $derived(this.chosen ?? (this.systemDark ? 'dark' : 'light'))

  constructor() {
    system.addEventListener('change', (event) => (this.systemDark = event.matches))
    this.show()
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
    if (this.chosen) document.documentElement.dataset.theme = this.chosen
  }
}

export const theme = new ThemeState()
