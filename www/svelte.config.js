// Svelte reads TypeScript and CSS itself; no preprocessor is needed.
export default {}
