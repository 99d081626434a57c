// Everything the page knows about the engine and the run, and everything a person can ask of them. Components read its
// fields and call its methods; only this file speaks with the engine.
import { EngineError, openWorker, type Client, type Notice } from '../engine/client'
import { checkpointFiles, naming, readData, readModel } from '../lib/files'
import { idle, inAFrame } from '../lib/frames'
import { History } from '../lib/history'
import type { DataInfo, DeviceChoice, DeviceInfo, Event, FinishReason, MethodInfo, RunInfo, TokenRewardRecord, TrainConfig } from '../lib/protocol.gen'

/** The page is redrawn from the run at most this often. */
const REDRAW_MS = 250
/** A page that is still busy with earlier news is asked again after this time. */
const BUSY_MS = 50
/** How the engine's message begins when its device fails, lost or not (for want of memory, for example). */
const DEVICE_FAILED = 'the device failed'

/** `failed`: the run's numbers left their range, and it cannot go on with the weights it has. */
export type Phase = 'opening' | 'ready' | 'running' | 'paused' | 'ended' | 'failed' | 'crashed'
/** The control that an error belongs to. */
export type Place = 'engine' | 'model' | 'data' | 'settings' | 'run' | 'answer' | 'checkpoint'
export type Source = 'world' | 'files'

/** `config`: what its run goes on with. `changed`: that is not what is written in it. */
type Checkpoint = { name: string; step: number; bytes: Uint8Array; config: TrainConfig; changed: boolean }

/** The end of a graphics device in plain words; `reason` is the browser's. */
const lostDevice = (reason: string) =>
  'The browser took the graphics device away from this page, and the latest state of the model with it. This happens when a graphics driver restarts, ' +
  `when graphics memory runs out, or after the computer slept.${reason ? ` The browser says: ${reason.trim().replace(/\.?$/, '.')}` : ''}`

const dataOf = (reply: DataInfo, source: Source) => ({ name: reply.name, rows: reply.rows, pairs: reply.pairs, longerWins: reply.longer_wins, source })

const message = (error: unknown) => (error instanceof Error ? error.message : String(error))

export class Session {
  phase = $state<Phase>('opening')
  busy = $state<string | null>('Loading the engine')
  errors = $state<Partial<Record<Place, string>>>({})
  notes = $state<string[]>([])
  /** What ended the engine: a fault of its own, or the graphics device that it computed on went away. */
  ended = $state<'crash' | 'device' | null>(null)

  device = $state.raw<DeviceInfo | null>(null)
  deviceChoice = $state<DeviceChoice>('auto')
  source = $state<Source>('world')
  model = $state.raw<{ name: string; summary: string; parameters: number } | null>(null)
  data = $state.raw<ReturnType<typeof dataOf> | null>(null)
  methods = $state.raw<MethodInfo[]>([])
  /** What the controls show. */
  config = $state<TrainConfig | null>(null)
  /** What the run was made from. */
  applied = $state.raw<TrainConfig | null>(null)
  worldSeed = $state(0)
  worldRows = $state(3000)

  run = $state.raw<RunInfo | null>(null)
  watchable = $state.raw<string[]>([])
  watched = $state(0)
  /** Rows that were asked for and have not come yet: while a step is taken, they wait for its end. */
  coming = $state(0)
  step = $state(0)
  total = $state(0)
  /** Steps a second over the last chunks. */
  rate = $state(0)
  finishedBecause = $state<FinishReason | null>(null)
  records = $state.raw<TokenRewardRecord[]>([])
  own = $state.raw<TokenRewardRecord[]>([])
  /** A map kept for comparison with a later one. */
  kept = $state.raw<TokenRewardRecord[]>([])
  /** Grows whenever `history` has news. */
  version = $state(0)
  readonly history = new History()
  checkpoint = $state.raw<Checkpoint | null>(null)

  private client: Client | null = null
  /** The row whose records are shown. */
  private looked = 0
  private files: { model: File[]; data: File | null } = { model: [], data: null }
  /** The world that the rows are from; the controls may show another one by now. */
  private world = { seed: 0, rows: 3000 }
  /** Training was asked for until it is paused or done, not for one step. */
  private endless = false
  /** Such training was cut off by the end of the engine or of its device. */
  private cut = false
  private readonly news: Event[] = []
  /** Told by events and not yet shown. */
  private readonly unseen: { records: TokenRewardRecord[] | null; curves: boolean } = { records: null, curves: false }
  /** What a redraw is cut into. */
  private readonly parts = { records: {}, curves: {} }
  private redrawAt = 0
  private redrawTimer: ReturnType<typeof setTimeout> | null = null
  /** The run told that its numbers left their range. */
  private broken = false

  readonly deviceFailed = $derived(this.errors.run?.startsWith(DEVICE_FAILED) ?? false)
  readonly method = $derived(this.methods.find((method) => method.name === this.config?.method) ?? null)
  readonly changed = $derived(this.applied !== null && JSON.stringify(this.config) !== JSON.stringify(this.applied))
  /** The step that a run with changed settings would go on from; null where there is none, or where another method was chosen. */
  readonly goesOnFrom = $derived.by(() => {
    if (this.run === null || this.config?.method !== this.applied?.method) return null
    return this.phase === 'failed' ? (this.checkpoint?.step ?? null) : this.step > 0 ? this.step : null
  })
  readonly idle = $derived(this.busy === null && this.phase !== 'running' && this.phase !== 'crashed')

  /** Starts the engine and opens the built-in world, so that a first look needs no click. */
  async open(): Promise<void> {
    if (!(await this.connect())) return
    await this.attempt('engine', 'Drawing the built-in world', async () => {
      await this.openSource()
      await this.configure()
    })
  }

  private async connect(): Promise<boolean> {
    this.client?.close()
    this.phase = 'opening'
    this.ended = null
    this.run = null
    this.client = openWorker((notice) => this.hear(notice))
    return this.attempt('engine', 'Opening the device', async (client) => {
      const choice = this.deviceChoice
      try {
        this.device = (await client.ask({ type: 'open_device', choice })).device
      } catch (error) {
        if (choice !== 'webgpu' || !(error instanceof EngineError) || this.ended) throw error
        throw new Error(`This browser gave the page no WebGPU device. Compute on the CPU, or turn WebGPU on in the browser's settings. (${message(error).split('. Use `--device')[0]})`)
      }
      const catalogue = await client.ask({ type: 'describe' })
      this.methods = catalogue.methods
      this.config ??= this.withDefaults(catalogue.config, catalogue.config.method)
    })
  }

  /** Runs `work` with its errors shown at `place`. Answers whether it went well. */
  private async attempt(place: Place, what: string, work: (client: Client) => Promise<void>): Promise<boolean> {
    if (!this.client || this.phase === 'crashed') return false
    this.busy = what
    delete this.errors[place]
    try {
      await work(this.client)
      return true
    } catch (error) {
      this.complain(place, error)
      return false
    } finally {
      this.busy = null
    }
  }

  private complain(place: Place, error: unknown): void {
    // A crash has told its own story already.
    if (!(error instanceof EngineError && this.phase === 'crashed')) this.errors[place] = message(error)
  }

  // ---- what is trained on ----

  private async openSource(): Promise<void> {
    // A fresh engine holds nothing: what a person did not give is the world's.
    if (this.source === 'world' || !this.files.model.length || !this.files.data) {
      const method = this.methods.find((each) => each.name === this.config!.method)
      const reply = await this.client!.ask({ type: 'use_world', ...this.world, demonstrations: method ? !method.pairs : false })
      this.data = dataOf(reply, 'world')
      this.model = null
      this.run = null
    }
    if (this.source === 'world') return
    if (this.files.model.length) await this.sendModel(this.files.model)
    if (this.files.data) await this.sendData(this.files.data)
  }

  /** Whether model and rows are such that a run can be made of them: a model of one's own does not know the world's words. */
  private get complete(): boolean {
    return this.source === 'world' || this.files.data !== null
  }

  private async sendModel(files: File[]): Promise<void> {
    const bytes = await readModel(files)
    const name = files.length === 1 ? files[0]!.name.replace(/\.gguf$/i, '') : (files[0]!.webkitRelativePath.split('/')[0] || 'own model')
    const names = files.map((file) => file.name)
    const reply = await naming(names, this.client!.ask({ type: 'open_model', name, files: names }, bytes))
    this.run = null
    this.model = { name: reply.name, summary: reply.summary, parameters: reply.parameters }
  }

  private async sendData(file: File): Promise<void> {
    const bytes = await readData(file)
    const reply = await this.client!.ask({ type: 'open_data', name: file.name }, [bytes])
    this.run = null
    this.data = dataOf(reply, 'files')
  }

  async useWorld(): Promise<void> {
    delete this.errors.model
    delete this.errors.data
    const world = { seed: this.worldSeed, rows: this.worldRows }
    if (!Number.isSafeInteger(world.seed) || world.seed < 0 || !Number.isInteger(world.rows) || world.rows < 20 || world.rows > 100_000) {
      this.errors.data = 'Rows is a whole number from 20 to 100,000, and the seed one from 0 on.'
      return
    }
    this.source = 'world'
    this.world = world
    this.files = { model: [], data: null }
    await this.attempt('settings', 'Drawing the built-in world', async () => {
      await this.openSource()
      await this.configure()
    })
  }

  async giveModel(files: File[]): Promise<void> {
    if (!files.length) return
    const done = await this.attempt('model', 'Opening the model', async () => {
      await this.sendModel(files)
      this.files.model = files
      this.source = 'files'
    })
    if (!done) return
    if (this.complete) await this.attempt('settings', 'Preparing the rows', () => this.configure())
    else this.awaitRows()
  }

  async giveData(file: File | undefined): Promise<void> {
    if (!file) return
    const done = await this.attempt('data', 'Reading the rows', async () => {
      await this.sendData(file)
      this.files.data = file
      this.source = 'files'
    })
    // Rows decide which methods can learn from them.
    if (done && this.method && this.data && this.method.pairs !== this.data.pairs) {
      const fit = this.methods.filter((method) => method.pairs === this.data!.pairs)
      const other = fit.find((method) => method.name.startsWith('ava')) ?? fit[0]
      if (other) this.setMethod(other.name)
    }
    if (done) await this.attempt(this.files.model.length ? 'settings' : 'data', 'Preparing the rows', () => this.configure())
  }

  // ---- settings ----

  private withDefaults(config: TrainConfig, method: string): TrainConfig {
    const defaults = this.methods.find((each) => each.name === method)?.defaults ?? {}
    return { ...config, method, options: { ...defaults, ...(method === config.method ? config.options : {}) } }
  }

  private setMethod(name: string): void {
    this.config = this.withDefaults($state.snapshot(this.config!) as TrainConfig, name)
  }

  async pickMethod(name: string): Promise<void> {
    this.setMethod(name)
    if (this.step === 0 && this.idle) await this.reset()
  }

  /** Nothing of an earlier run is left to look at. */
  private clear(): void {
    this.step = 0
    this.rate = this.rateNow = 0
    this.finishedBecause = null
    this.drop()
    this.history.clear()
    this.own = []
    this.records = []
    this.watchable = []
    this.checkpoint = null
    this.broken = false
    delete this.errors.run
    this.version++
    this.phase = 'ready'
  }

  /** A model of one's own is open, and rows for it are not. */
  private awaitRows(): void {
    this.clear()
    this.data = null
  }

  /** Makes a run of the settings: untrained, at step 0. */
  private async configure(): Promise<void> {
    const config = $state.snapshot(this.config!) as TrainConfig
    const method = this.methods.find((each) => each.name === config.method)
    if (this.source === 'world' && method && this.data && method.pairs !== this.data.pairs) await this.openSource()
    let reply
    try {
      reply = await this.client!.ask({ type: 'configure', config })
    } catch (error) {
      // Rows or a model were opened, and no run could be made of them: the engine holds none.
      if (!this.run && this.phase !== 'crashed') this.clear()
      throw error
    }
    const before = this.records
    this.clear()
    this.applied = config
    this.run = reply.run
    this.watchable = reply.watchable
    this.total = reply.run.total_steps
    this.notes = [...reply.run.warnings]
    this.watched = Math.min(this.watched, Math.max(0, this.watchable.length - 1))
    // The old map stands until the new one is there: an empty moment would make the page jump.
    if (this.watchable.length) this.records = before
    await this.look()
  }

  private async look(): Promise<void> {
    if (!this.watchable.length) return
    this.records = (await this.client!.ask({ type: 'watch', row: this.watched })).records
    this.looked = this.watched
  }

  /** Back to step 0 with the settings as they stand. */
  reset = () => this.attempt('settings', 'Preparing the run', () => this.configure())

  // ---- the run ----

  async start(): Promise<void> {
    if (!this.idle || this.phase === 'failed') return
    if ((this.phase === 'ended' || (this.step === 0 && this.changed)) && !(await this.reset())) return
    delete this.errors.run
    this.cut = false
    this.endless = true
    this.phase = 'running'
    this.client!.run(1)
  }

  pause = () => this.client?.pause()

  async takeStep(): Promise<void> {
    if (!this.idle || this.phase === 'ended' || this.phase === 'failed') return
    if (this.step === 0 && this.changed && !(await this.reset())) return
    delete this.errors.run
    this.endless = this.cut = false
    this.phase = 'running'
    this.client!.step(1)
  }

  stop = () => this.client?.stop()

  async watch(row: number): Promise<void> {
    this.watched = row
    this.coming++
    try {
      const { records } = await this.client!.ask({ type: 'watch', row })
      // News of the row watched before must not be drawn over this one.
      this.redraw()
      this.records = records
      this.looked = row
    } catch (error) {
      this.complain('run', error)
    } finally {
      this.coming--
      // A row that did not come is not the one that is shown.
      if (this.coming === 0) this.watched = this.looked
    }
  }

  async score(prompt: string, answer: string): Promise<void> {
    delete this.errors.answer
    try {
      this.own = (await this.client!.ask({ type: 'score', prompt, answer })).records
    } catch (error) {
      this.complain('answer', error)
    }
  }

  keep = () => (this.kept = this.records)

  // ---- checkpoints and crashes ----

  /** A checkpoint's name and bytes, to be offered as a file: of the run as it is, or of a failed run the last good one. */
  async save(): Promise<{ name: string; bytes: Uint8Array } | null> {
    if (this.phase === 'failed') return this.checkpoint
    delete this.errors.checkpoint
    try {
      const { name, step, buffers } = await this.client!.ask({ type: 'save' })
      const bytes = buffers[0]
      if (!bytes) return null
      this.checkpoint = { name, step, bytes, config: this.applied!, changed: false }
      return { name, bytes }
    } catch (error) {
      this.complain('checkpoint', error)
      return null
    }
  }

  /** Opens a checkpoint, and beside it, where it is among the files, what its map passed (`trust.json`). */
  openCheckpoint = (...files: File[]) =>
    this.attempt('checkpoint', 'Opening the checkpoint', async () => {
      const before = JSON.stringify(this.applied)
      const { checkpoint, trust } = checkpointFiles(files)
      const bytes = async (file: File) => new Uint8Array(await file.arrayBuffer())
      await this.restore(checkpoint.name, await bytes(checkpoint), null, trust && (await bytes(trust)))
      // The same settings, seed and rows are the same run. Another one's curves are not this one's.
      if (JSON.stringify(this.applied) !== before) this.history.clear()
    })

  /** Goes on from a checkpoint: with `config`, or as it was written. Everything that the page shows of the run is its. */
  private async restore(name: string, bytes: Uint8Array, config: TrainConfig | null, trust?: Uint8Array): Promise<void> {
    // A copy: the bytes move to the worker, and should the engine end they are needed again.
    const reply = await this.client!.ask({ type: 'restore', config }, trust ? [bytes.slice(), trust] : [bytes.slice()])
    const applied = this.withDefaults(reply.config, reply.config.method)
    this.applied = applied
    this.config = structuredClone(applied)
    this.checkpoint = { name, step: reply.step, bytes, config: applied, changed: config !== null }
    this.run = reply.run
    this.data = dataOf(reply.data, this.data?.source ?? this.source)
    this.watchable = reply.watchable
    this.watched = Math.min(this.watched, Math.max(0, this.watchable.length - 1))
    this.notes = [...reply.run.warnings]
    this.step = reply.step
    this.total = reply.run.total_steps
    this.rate = this.rateNow = 0
    this.finishedBecause = reply.finished
    this.own = []
    this.drop()
    this.broken = false
    delete this.errors.run
    delete this.errors.settings
    this.history.cut(reply.step)
    this.version++
    this.phase = reply.finished !== null ? 'ended' : reply.step > 0 ? 'paused' : 'ready'
    if (!this.watchable.length) this.records = []
    await this.look()
  }

  /**
   * Goes on with the settings as they stand, from where the run is; one that failed from its last checkpoint, or, where none
   * was kept, from the beginning.
   */
  goOn = async (): Promise<boolean> => {
    if (!this.idle || !this.run) return false
    const failed = this.phase === 'failed'
    const saved = await this.save()
    // A run that could have been saved and was not has said why.
    if (!saved && !failed) return false
    const config = $state.snapshot(this.config!) as TrainConfig
    const done = saved ? await this.attempt('settings', 'Setting up the run', () => this.restore(saved.name, saved.bytes, config)) : await this.reset()
    if (done && failed && this.endless) await this.start()
    return done
  }

  /** A new worker with the same files and settings; the last checkpoint goes on where it was, and so do the curves. */
  async afresh(choice = this.deviceChoice): Promise<void> {
    const last = this.checkpoint
    const trained = this.cut && this.ended !== 'crash'
    const settings = last?.config ?? (this.step > 0 ? this.applied : null)
    const past = this.history.copy()
    this.deviceChoice = choice
    this.errors = {}
    this.cut = false
    if (!(await this.connect())) {
      this.cut = trained
      return
    }
    if (settings) this.config = structuredClone(settings)
    const done = await this.attempt('engine', 'Starting afresh', async () => {
      await this.openSource()
      if (!this.complete) return this.awaitRows()
      await this.configure()
      if (!last) return
      await this.restore(last.name, last.bytes, last.changed ? last.config : null)
      this.history.take(past)
      this.history.cut(last.step)
      this.version++
    })
    // Whatever went wrong, what was saved stays.
    if (!done) this.checkpoint ??= last
    if (done && trained && this.run) await this.start()
  }

  /** Another device for the same run: it goes on where it stands. */
  async chooseDevice(choice: DeviceChoice): Promise<void> {
    if (this.run && this.step > 0 && this.phase !== 'crashed' && this.phase !== 'failed' && !(await this.save())) return
    await this.afresh(choice)
  }

  // ---- what the worker says ----

  private hear(notice: Notice): void {
    switch (notice.kind) {
      case 'events': {
        if (notice.steps > 0 && notice.ms > 0) {
          const now = (1000 * notice.steps) / notice.ms
          this.rateNow = this.rateNow ? 0.8 * this.rateNow + 0.2 * now : now
        }
        this.news.push(...notice.events)
        this.redrawSoon()
        break
      }
      case 'checkpoint':
        this.checkpoint = { name: notice.name, step: notice.step, bytes: notice.bytes, config: this.applied!, changed: false }
        break
      case 'loop':
        this.redraw()
        if (notice.state === 'running') this.phase = 'running'
        else if (this.broken) this.phase = 'failed'
        else if (this.phase === 'running' || notice.ended) this.phase = notice.ended ? 'ended' : 'paused'
        break
      case 'trouble':
        this.errors.run = notice.message
        // The engine often meets the loss of its device before the browser tells of it.
        if (notice.message.startsWith(DEVICE_FAILED)) this.cut = this.endless && this.phase === 'running'
        break
      case 'crashed':
      case 'device_lost':
        this.redraw()
        this.cut ||= this.endless && this.phase === 'running'
        this.phase = 'crashed'
        this.busy = null
        this.ended = notice.kind === 'crashed' ? 'crash' : 'device'
        // What failed because of this is no news.
        delete this.errors.run
        this.errors.engine = notice.kind === 'crashed' ? notice.message : lostDevice(notice.message)
        break
    }
  }

  private rateNow = 0

  /** Shows the news, one part a frame, once the last ones are on the page. */
  private redrawSoon(wait = this.redrawAt + REDRAW_MS - performance.now()): void {
    if (this.redrawTimer) return
    this.redrawTimer = setTimeout(() => {
      this.redrawTimer = null
      if (!idle()) return this.redrawSoon(BUSY_MS)
      this.takeNews()
      inAFrame(this.parts.records, () => this.showRecords())
      inAFrame(this.parts.curves, () => this.showCurves())
    }, Math.max(0, wait))
  }

  /** Everything that is known, at once: before something else is shown that must not be overtaken. */
  private redraw(): void {
    if (this.redrawTimer) clearTimeout(this.redrawTimer)
    this.redrawTimer = null
    this.takeNews()
    this.showRecords()
    this.showCurves()
  }

  /** News of a run that is no longer looked at. */
  private drop(): void {
    this.news.length = 0
    this.unseen.records = null
    this.unseen.curves = false
  }

  private takeNews(): void {
    if (!this.news.length) return
    this.redrawAt = performance.now()
    for (const event of this.news.splice(0)) {
      this.history.add(event)
      if (event.type === 'step') {
        this.step = event.step
        this.total = event.total_steps
      } else if (event.type === 'tokens') this.unseen.records = event.records
      else if (event.type === 'started') this.run = event.run
      else if (event.type === 'failed') this.broken = true
      else if (event.type === 'finished') this.finishedBecause = event.reason
    }
    this.rate = this.rateNow
    this.unseen.curves = true
  }

  private showRecords(): void {
    if (this.unseen.records) this.records = this.unseen.records
    this.unseen.records = null
  }

  private showCurves(): void {
    if (this.unseen.curves) this.version++
    this.unseen.curves = false
  }
}
