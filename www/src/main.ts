import './view/view.css'
import './page/page.css'
import { mount } from 'svelte'
import { inAFrame } from './lib/frames'
import App from './page/App.svelte'

// Not in the task that read the scripts: that one is long enough.
inAFrame({}, () => mount(App, { target: document.getElementById('app')! }))
