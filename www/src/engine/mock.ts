// A made-up engine for work on the page alone (VITE_ENGINE=mock) and for tests. It trains nothing: its curves and rewards
// are drawn to look plausible. vite.config.ts keeps it out of production bundles.
import type { DataInfo, Event, MethodInfo, Provenance, Reply, Request, RunInfo, Side, TokenRewardRecord, TrainConfig } from '../lib/protocol.gen'
import type { Engine } from './border'

const METHODS: MethodInfo[] = [
  { name: 'bradley_terry', title: 'Bradley-Terry', citation: 'Bradley and Terry 1952; arXiv 2203.02155', pairs: true, defaults: { center: 0.01 } },
  { name: 'ava_p', title: 'AVA-p', citation: 'arXiv 2411.09341', pairs: true, defaults: { lambda: 1, kappa: 1, gamma: 1, cer_weight: 1, cer_score: 'sum', neg: 'floor' } },
  { name: 'ava_d', title: 'AVA-d', citation: 'arXiv 2411.09341', pairs: false, defaults: { lambda: 1, kappa: 1, gamma: 1 } },
  { name: 'dpo', title: 'DPO', citation: 'arXiv 2305.18290', pairs: true, defaults: { beta: 0.1 } },
]

const CONFIG: TrainConfig = {
  method: 'ava_p', options: {}, seed: 0, steps: 300, batch_size: 16, gradient_accumulation_steps: 1, learning_rate: 1e-3,
  head_learning_rate: null, weight_decay: 0.01, warmup_ratio: 0.05, lr_scheduler_type: 'cosine', max_grad_norm: 1,
  trainable: { mode: 'full' }, max_length: 256, truncation: 'keep_end', group_by_length: true, held_out: 0.1, eval_steps: 50,
  eval_rows: 200, early_stopping_patience: 0, save_steps: 0,
}

const ROWS: [string, string, string][] = [
  ['Once upon a time, Lily saw a dog in the park.', ' The dog was kind and happy. Lily gave it a big hug, and they played all day.\nThey were friends.', ' The dog was mean and angry. Lily gave it a big hit, and they cried all day.\nThey were not friends.'],
  ['Tim found a shiny stone.', ' He shared the stone with his sister because sharing makes everyone glad.', ' He hid the stone from his sister and lied about it all week.'],
  ['Mum said it was time for bed.', ' Ben brushed his teeth and said good night.', ' Ben broke his toys and said a rude word. Then he shouted again.'],
  ['The bird could not fly.', ' A gentle girl helped it, and soon it was well.', ' A boy laughed at it, and soon it was sad.'],
]
const GOOD = new Set(['kind', 'happy', 'hug', 'played', 'friends', 'shared', 'sharing', 'glad', 'helped', 'well', 'gentle', 'good'])
const BAD = new Set(['mean', 'angry', 'hit', 'cried', 'not', 'hid', 'lied', 'broke', 'rude', 'shouted', 'laughed', 'sad'])

/** Deterministic noise in [-1, 1] from any text. */
function noise(text: string): number {
  let h = 2166136261
  for (const c of text) h = Math.imul(h ^ c.charCodeAt(0), 16777619)
  h = Math.imul(h ^ (h >>> 15), 2246822507)
  return ((h >>> 0) / 2 ** 31) - 1
}

const pieces = (text: string) => (text.match(/ ?[A-Za-z]{1,4}|\s|[^\sA-Za-z]/g) ?? []) as string[]

export class MockEngine implements Engine {
  private config = CONFIG
  private step = 0
  private watched = 0
  private data: DataInfo = { name: 'built-in world', rows: 0, pairs: true, longer_wins: 0.54 }
  private world = true
  /** Where the run was begun or restored. */
  private from = 0
  /** Why the run cannot go on, once its numbers left their range. */
  private broken: string | null = null

  async handle(request: Request, buffers: Uint8Array[]): Promise<{ reply: Reply; buffers: Uint8Array[] }> {
    if (request.type === 'train') await new Promise((go) => setTimeout(go, request.steps * 25))
    if (this.broken !== null && ['train', 'stop', 'save', 'watch', 'score'].includes(request.type)) return { reply: { type: 'error', message: this.broken }, buffers: [] }
    if (request.type === 'save') return { reply: { type: 'saved', name: `avascope-${this.config.method}-step-${String(this.step).padStart(6, '0')}.safetensors`, step: this.step }, buffers: [new TextEncoder().encode(JSON.stringify({ step: this.step, config: this.config }))] }
    const reply = this.reply(request, buffers)
    return request.type === 'score' && request.answer === 'panic' ? new Promise(() => undefined) : { reply, buffers: [] }
  }

  private reply(request: Request, buffers: Uint8Array[]): Reply {
    switch (request.type) {
      case 'open_device':
        return { type: 'device', device: { asked: request.choice, backend: 'cpu', adapter: 'made-up engine', precision: 'f32', note: 'no WebGPU adapter was granted (made-up engine)' } }
      case 'describe':
        return { type: 'catalogue', methods: METHODS, config: CONFIG }
      case 'use_world':
        this.world = true
        this.data = { name: 'built-in world', rows: request.rows, pairs: !request.demonstrations, longer_wins: 0.54 }
        return { type: 'data', ...this.data }
      case 'open_model':
        this.world = false
        return request.files.some((name) => /\.(safetensors|gguf)$/.test(name))
          ? { type: 'model', name: request.name, summary: 'Llama, 5 layers of width 64, 512 tokens', parameters: 260_032 }
          : { type: 'error', message: `No weights among ${request.files.join(', ')}. Give model.safetensors with config.json and tokenizer.json, or one GGUF.` }
      case 'open_data': {
        const text = new TextDecoder().decode(buffers[0]).trim()
        try {
          const rows = text.startsWith('[') ? (JSON.parse(text) as unknown[]) : text.split('\n').map((line) => JSON.parse(line) as unknown)
          this.data = { name: request.name, rows: rows.length, pairs: true, longer_wins: 0.61 }
        } catch {
          return { type: 'error', message: `${request.name}: line 1 is not JSON. Each line is one row, for example {"prompt": ..., "chosen": ..., "rejected": ...}.` }
        }
        return { type: 'data', ...this.data }
      }
      case 'configure':
        if (!METHODS.some((method) => method.name === request.config.method)) return { type: 'error', message: `No method is called ${JSON.stringify(request.config.method)}.` }
        if (!(request.config.learning_rate > 0)) return { type: 'error', message: `learning_rate is ${request.config.learning_rate}; it must be above 0. 1e-3 suits the built-in world.` }
        this.config = request.config
        this.step = this.from = 0
        this.broken = null
        return { type: 'configured', run: this.run(), watchable: ROWS.map(([prompt]) => prompt) }
      case 'train':
        return this.train(request.steps)
      case 'stop':
        return { type: 'events', events: [this.evaluation(), { type: 'finished', step: this.step, reason: 'stopped' }], finished: true, error: null }
      case 'watch':
        this.watched = request.row
        return { type: 'tokens', records: this.watch() }
      case 'score':
        // What a panic of the real engine looks like from here: a line on console.error.
        if (request.answer === 'panic') console.error('panicked at made-up engine')
        return { type: 'tokens', records: [this.record('own', 'answer', request.prompt, request.answer)] }
      case 'restore': {
        let kept: { step: number; config: TrainConfig }
        try {
          kept = JSON.parse(new TextDecoder().decode(buffers[0])) as typeof kept
        } catch {
          return { type: 'error', message: 'the checkpoint cannot be used: it is damaged' }
        }
        const config = request.config ?? kept.config
        if (config.batch_size !== kept.config.batch_size) return { type: 'error', message: `the checkpoint cannot be used: its \`batch_size\` is ${kept.config.batch_size}, and this run's ${config.batch_size}` }
        this.config = config
        this.step = this.from = kept.step
        this.broken = null
        if (this.world) this.data = { ...this.data, pairs: METHODS.find((method) => method.name === config.method)?.pairs ?? true }
        const finished = this.step >= config.steps ? 'completed' : null
        return { type: 'restored', step: this.step, finished, config, run: this.run(), watchable: ROWS.map(([prompt]) => prompt), data: this.data }
      }
      case 'save':
        return { type: 'error', message: 'unreachable' }
    }
  }

  private run(): RunInfo {
    return {
      method: this.config.method, model: this.world ? 'built-in world' : 'stories260K', device: { asked: 'auto', backend: 'cpu', adapter: 'made-up engine', precision: 'f32', note: null },
      parameters: 260_162, trainable_parameters: 260_162, train_rows: Math.round(this.data.rows * 0.9), held_out_rows: Math.round(this.data.rows * 0.1),
      total_steps: this.config.steps, truncated_rows: 0, seed: this.config.seed, data_fingerprint: '0'.repeat(64), warnings: [],
    }
  }

  private get done() {
    return 1 - Math.exp(-this.step / 90)
  }

  private train(steps: number): Reply {
    const events: Event[] = this.step === 0 ? [{ type: 'started', step: 0, run: this.run() }] : []
    for (let i = 0; i < steps && this.step < this.config.steps; i++) {
      // As in the real engine, the step that moves the weights too far is told, and the next one breaks.
      if (this.config.learning_rate > 1 && this.step > this.from) {
        this.broken = `loss became NaN at step ${this.step + 1}. Resume from the last good checkpoint with a lower \`learning_rate\``
        events.push({ type: 'failed', step: this.step + 1, term: 'loss', row: 'in no single row', message: this.broken })
        return { type: 'events', events, finished: false, error: this.broken }
      }
      this.step++
      const d = this.done
      const wobble = (name: string) => noise(`${name}${this.step}`)
      const ll = -3.1 + 0.8 * d + 0.12 * wobble('ll')
      const kl = 0.7 * d + 0.05 * wobble('kl')
      const td = -1.9 + 0.7 * d + 0.1 * wobble('td')
      const ava: Record<string, number> = this.config.method.startsWith('ava') ? { 'ava/nll_per_token': -ll, 'ava/kl': kl, 'ava/td_logq': td, 'ava/cer': -0.69 + 0.5 * d + 0.06 * wobble('cer') } : {}
      events.push({ type: 'step', step: this.step, total_steps: this.config.steps, metrics: { loss: 4.4 - 2.2 * d + 0.2 * wobble('loss'), 'rewards/accuracies': Math.min(1, 0.52 + 0.42 * d + 0.1 * wobble('acc')), learning_rate: this.config.learning_rate * d, grad_norm: 1 + wobble('g') * 0.3, ...ava } })
      if (this.step % this.config.eval_steps === 0) events.push(this.evaluation())
    }
    const finished = this.step >= this.config.steps
    events.push({ type: 'tokens', step: this.step, records: this.watch() })
    if (finished) events.push({ type: 'finished', step: this.step, reason: 'completed' })
    return { type: 'events', events, finished, error: null }
  }

  private evaluation(): Event {
    const d = this.done
    return { type: 'evaluation', step: this.step, metrics: { eval_loss: 4.5 - 2 * d, eval_accuracy: 0.5 + 0.38 * d, ...(this.world ? { 'eval_truth/pearson': 0.86 * d, 'eval_calibration/coverage95': 1 - 0.09 * d } : {}) } }
  }

  private watch(): TokenRewardRecord[] {
    const [prompt, chosen, rejected] = ROWS[this.watched % ROWS.length]!
    const id = `held-out-${this.watched}`
    return this.config.method === 'ava_d' ? [this.record(id, 'answer', prompt, chosen)] : [this.record(id, 'chosen', prompt, chosen), this.record(id, 'rejected', prompt, rejected)]
  }

  private record(id: string, side: Side, prompt: string, answer: string): TokenRewardRecord {
    const d = this.done
    const parts = [...pieces(answer), '<eos>']
    const provenance: Provenance = { method: this.config.method, model: this.world ? 'built-in world' : 'stories260K', checkpoint: this.step ? `step ${this.step}` : 'untrained', device: 'cpu, made-up engine', precision: 'f32', uncertainty: this.config.method.startsWith('ava') ? 'td_spread' : 'prior_only', credit: 'own', trust: 'exploratory', checked: [] }
    let at = 0
    let word = ''
    const tokens = parts.map((text, i) => {
      const special = text === '<eos>'
      const start = at
      at += special ? 0 : [...text].length
      word = special || /^\W/.test(text) ? text.trim() : word + text
      const truth = special ? 0 : GOOD.has(word) ? 1 : BAD.has(word) ? -1 : 0
      const n = noise(`${id}${side}${i}${text}`)
      return {
        id: Math.abs(Math.round(noise(text) * 511)), text, start, end: at,
        mean: d * (0.85 * truth + 0.16 * n) + (this.step ? 0.03 * noise(`${i}${this.step}`) : 0),
        std: 1 - d * (0.35 + 0.4 * Math.abs(noise(`${text}s`))),
        ...(this.world ? { true_mean: truth, true_std: truth ? 0.3 : 0.15 } : {}),
      }
    })
    const sum = tokens.reduce((total, token) => total + token.mean, 0)
    return { schema: 'avascope.token-rewards/1', id, side, prompt, answer, truncated: false, provenance, tokens, score: { last: tokens[tokens.length - 1]!.mean, sum, mean: sum / tokens.length, sum_std: Math.hypot(...tokens.map((token) => token.std)) } }
  }
}

export const newEngine = (): Promise<Engine> => Promise.resolve(new MockEngine())
