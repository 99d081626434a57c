// Node, with modules compiled and resolved as for the browser: runes then behave as they do in the page.
import type { Environment } from 'vitest/runtime'

export default <Environment>{ name: 'page', viteEnvironment: 'client', setup: () => ({ teardown: () => undefined }) }
