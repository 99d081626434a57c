// Everything the page knows about the engine and the run, and everything a person can ask of them. Components read its
// fields and call its methods; only this file speaks with the engine.
import { EngineError, openWorker, type Client, type Notice } from '../engine/client'
import { readData, readModel } from '../lib/files'
import { History } from '../lib/history'
import type { DeviceChoice, DeviceInfo, Event, FinishReason, MethodInfo, RunInfo, TokenRewardRecord, TrainConfig } from '../lib/protocol.gen'

/** The page is redrawn from the run at most this often. */
const REDRAW_MS = 250

export type Phase = 'opening' | 'ready' | 'running' | 'paused' | 'ended' | 'crashed'
/** The control that an error belongs to. */
export type Place = 'engine' | 'model' | 'data' | 'settings' | 'run' | 'answer' | 'checkpoint'
export type Source = 'world' | 'files'

type Checkpoint = { name: string; step: number; bytes: Uint8Array; config: TrainConfig }

const message = (error: unknown) => (error instanceof Error ? error.message : String(error))

export class Session {
  phase = $state<Phase>('opening')
  busy = $state<string | null>('Loading the engine')
  errors = $state<Partial<Record<Place, string>>>({})
  notes = $state<string[]>([])

  device = $state.raw<DeviceInfo | null>(null)
  deviceChoice = $state<DeviceChoice>('auto')
  source = $state<Source>('world')
  model = $state.raw<{ name: string; summary: string; parameters: number } | null>(null)
  data = $state.raw<{ name: string; rows: number; pairs: boolean; longerWins: number | null; source: Source } | null>(null)
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
  private files: { model: File[]; data: File | null } = { model: [], data: null }
  private news: Event[] = []
  private redrawAt = 0
  private redrawTimer: ReturnType<typeof setTimeout> | null = null
  private stopping = false

  readonly method = $derived(this.methods.find((method) => method.name === this.config?.method) ?? null)
  readonly changed = $derived(this.applied !== null && JSON.stringify(this.config) !== JSON.stringify(this.applied))
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
    this.client = openWorker((notice) => this.hear(notice))
    return this.attempt('engine', 'Opening the device', async (client) => {
      this.device = (await client.ask({ type: 'open_device', choice: this.deviceChoice })).device
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
    const client = this.client!
    if (this.source === 'world') {
      const method = this.methods.find((each) => each.name === this.config!.method)
      const reply = await client.ask({ type: 'use_world', seed: this.worldSeed, rows: this.worldRows, demonstrations: method ? !method.pairs : false })
      this.data = { name: reply.name, rows: reply.rows, pairs: reply.pairs, longerWins: reply.longer_wins, source: 'world' }
      this.model = null
      return
    }
    if (this.files.model.length) await this.sendModel(this.files.model)
    if (this.files.data) await this.sendData(this.files.data)
  }

  private async sendModel(files: File[]): Promise<void> {
    const bytes = await readModel(files)
    const name = files.length === 1 ? files[0]!.name.replace(/\.gguf$/i, '') : (files[0]!.webkitRelativePath.split('/')[0] || 'own model')
    const reply = await this.client!.ask({ type: 'open_model', name, files: files.map((file) => file.name) }, bytes)
    this.model = { name: reply.name, summary: reply.summary, parameters: reply.parameters }
  }

  private async sendData(file: File): Promise<void> {
    const bytes = await readData(file)
    const reply = await this.client!.ask({ type: 'open_data', name: file.name }, [bytes])
    this.data = { name: reply.name, rows: reply.rows, pairs: reply.pairs, longerWins: reply.longer_wins, source: 'files' }
  }

  async useWorld(): Promise<void> {
    this.source = 'world'
    delete this.errors.model
    delete this.errors.data
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
    if (done && this.files.data) await this.attempt('settings', 'Preparing the rows', () => this.configure())
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

  /** Makes a run of the settings: untrained, at step 0. */
  private async configure(): Promise<void> {
    const config = $state.snapshot(this.config!) as TrainConfig
    const method = this.methods.find((each) => each.name === config.method)
    if (this.source === 'world' && method && this.data && method.pairs !== this.data.pairs) await this.openSource()
    const reply = await this.client!.ask({ type: 'configure', config })
    this.applied = config
    this.run = reply.run
    this.watchable = reply.watchable
    this.step = 0
    this.total = reply.run.total_steps
    this.rate = this.rateNow = 0
    this.finishedBecause = null
    this.notes = [...reply.run.warnings]
    this.news = []
    this.history.clear()
    this.own = []
    this.version++
    this.phase = 'ready'
    this.watched = Math.min(this.watched, Math.max(0, this.watchable.length - 1))
    if (this.watchable.length) this.records = (await this.client!.ask({ type: 'watch', row: this.watched })).records
  }

  /** Back to step 0 with the settings as they stand. */
  reset = () => this.attempt('settings', 'Preparing the run', () => this.configure())

  // ---- the run ----

  async start(): Promise<void> {
    if (!this.idle) return
    if ((this.phase === 'ended' || (this.step === 0 && this.changed)) && !(await this.reset())) return
    delete this.errors.run
    this.stopping = false
    this.phase = 'running'
    this.client!.run(1)
  }

  pause = () => this.client?.pause()

  async takeStep(): Promise<void> {
    if (!this.idle || this.phase === 'ended') return
    if (this.step === 0 && this.changed && !(await this.reset())) return
    delete this.errors.run
    this.phase = 'running'
    this.client!.step(1)
  }

  stop = () => {
    this.stopping = true
    this.client?.stop()
  }

  async watch(row: number): Promise<void> {
    this.watched = row
    try {
      const { records } = await this.client!.ask({ type: 'watch', row })
      // News of the row watched before must not be drawn over this one.
      this.redraw()
      this.records = records
    } catch (error) {
      this.complain('run', error)
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

  /** A checkpoint's name and bytes, to be offered as a file. */
  async save(): Promise<{ name: string; bytes: Uint8Array } | null> {
    delete this.errors.checkpoint
    try {
      const { name, step, buffers } = await this.client!.ask({ type: 'save' })
      const bytes = buffers[0]
      if (!bytes) return null
      this.checkpoint = { name, step, bytes, config: this.applied! }
      return { name, bytes }
    } catch (error) {
      this.complain('checkpoint', error)
      return null
    }
  }

  openCheckpoint = (file: File) =>
    this.attempt('checkpoint', 'Opening the checkpoint', async () => this.restore(new Uint8Array(await file.arrayBuffer())))

  private async restore(bytes: Uint8Array): Promise<void> {
    const { step } = await this.client!.ask({ type: 'restore' }, [bytes])
    this.step = step
    this.phase = step >= this.total ? 'ended' : 'paused'
    if (this.watchable.length) this.records = (await this.client!.ask({ type: 'watch', row: this.watched })).records
  }

  /** A new worker with the same device choice, files and settings; the last checkpoint goes on where it was. */
  async afresh(): Promise<void> {
    this.errors = {}
    if (!(await this.connect())) return
    const last = this.checkpoint
    if (last) this.config = structuredClone(last.config)
    await this.attempt('engine', 'Starting afresh', async () => {
      await this.openSource()
      await this.configure()
      // A copy: the bytes move to the worker, and a second crash needs them again.
      if (last) await this.restore(last.bytes.slice())
    })
  }

  async chooseDevice(choice: DeviceChoice): Promise<void> {
    this.deviceChoice = choice
    this.checkpoint = null
    await this.afresh()
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
        this.checkpoint = { name: notice.name, step: notice.step, bytes: notice.bytes, config: this.applied! }
        break
      case 'loop':
        this.redraw()
        if (notice.state === 'running') this.phase = 'running'
        else if (this.phase === 'running' || notice.ended) this.phase = notice.ended ? 'ended' : 'paused'
        if (notice.ended && this.stopping) this.finishedBecause ??= 'stopped'
        break
      case 'trouble':
        this.errors.run = notice.message
        break
      case 'crashed':
        this.phase = 'crashed'
        this.busy = null
        this.errors.engine = notice.message
        break
    }
  }

  private rateNow = 0

  private redrawSoon(): void {
    if (this.redrawTimer) return
    this.redrawTimer = setTimeout(() => this.redraw(), Math.max(0, this.redrawAt + REDRAW_MS - performance.now()))
  }

  private redraw(): void {
    if (this.redrawTimer) clearTimeout(this.redrawTimer)
    this.redrawTimer = null
    if (!this.news.length) return
    this.redrawAt = performance.now()
    const news = this.news
    this.news = []
    let tokens: TokenRewardRecord[] | null = null
    for (const event of news) {
      this.history.add(event)
      if (event.type === 'step') {
        this.step = event.step
        this.total = event.total_steps
      } else if (event.type === 'tokens') tokens = event.records
      else if (event.type === 'started') this.run = event.run
      else if (event.type === 'warning') this.notes = [...this.notes.slice(-9), event.message]
      else if (event.type === 'finished') this.finishedBecause = event.reason
    }
    if (tokens) this.records = tokens
    this.rate = this.rateNow
    this.version++
  }
}
