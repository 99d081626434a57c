// The report that the avascope command writes: records inside the file, drawn by the same token view as the page.
import '../view/view.css'
import { mount } from 'svelte'
import Report from './Report.svelte'

mount(Report, { target: document.getElementById('app')!, props: { text: document.getElementById('records')?.textContent ?? '' } })
