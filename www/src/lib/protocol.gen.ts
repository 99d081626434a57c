// Generated from src/web/protocol.rs by `AVASCOPE_WRITE_TYPES=1 cargo test --release protocol_types`. Do not edit.

export type Truncation = "keep_end" | "keep_start" | "error";

export type Side = "chosen" | "rejected" | "answer";

export type Uncertainty = "td_spread" | "epistemic" | "prior_only";

export type Trust = "exploratory" | "checked";

export type Provenance = { method: string, model: string, checkpoint: string, device: string, precision: string, uncertainty: Uncertainty, trust: Trust, };

export type TokenReward = { id: number, text: string, start: number, end: number, mean: number, std: number, true_mean?: number | null, true_std?: number | null, labelled?: boolean | null, };

export type AnswerScore = { last: number, sum: number, mean: number, sum_std: number, };

export type TokenRewardRecord = { schema: string, id: string, side: Side, prompt: string, answer: string, truncated: boolean, provenance: Provenance, tokens: Array<TokenReward>, score: AnswerScore, };

export type Schedule = "constant" | "linear" | "cosine";

export type LoraConfig = { r: number, alpha: number, targets: Array<string>, };

export type Trainable = { "mode": "full" } | { "mode": "lora" } & LoraConfig | { "mode": "heads" };

export type TrainConfig = { method: string, options: Record<string, unknown>, seed: number, steps: number, batch_size: number, gradient_accumulation_steps: number, learning_rate: number, head_learning_rate: number | null, weight_decay: number, warmup_ratio: number, lr_scheduler_type: Schedule, max_grad_norm: number, trainable: Trainable, max_length: number, truncation: Truncation, group_by_length: boolean, held_out: number, eval_steps: number, eval_rows: number, early_stopping_patience: number, save_steps: number, };

export type DeviceInfo = { asked: string, backend: string, adapter: string, precision: string, note: string | null, };

export type RunInfo = { method: string, model: string, device: DeviceInfo, parameters: number, trainable_parameters: number, train_rows: number, held_out_rows: number, total_steps: number, truncated_rows: number, seed: number, data_fingerprint: string, warnings: Array<string>, };

export type FinishReason = "completed" | "early_stop" | "stopped";

export type Event = { "type": "started", step: number, run: RunInfo, } | { "type": "step", step: number, total_steps: number, metrics: Record<string, number>, } | { "type": "evaluation", step: number, metrics: Record<string, number>, } | { "type": "tokens", step: number, records: Array<TokenRewardRecord>, } | { "type": "checkpoint", step: number, name: string, } | { "type": "warning", message: string, } | { "type": "finished", step: number, reason: FinishReason, };

export type DeviceChoice = "auto" | "webgpu" | "cpu";

export type Request = { "type": "open_device", choice: DeviceChoice, } | { "type": "use_world", seed: number, rows: number, demonstrations: boolean, } | { "type": "open_model", name: string, files: Array<string>, } | { "type": "open_data", name: string, } | { "type": "configure", config: TrainConfig, } | { "type": "train", steps: number, } | { "type": "evaluate" } | { "type": "watch", row: number, } | { "type": "score", prompt: string, answer: string, } | { "type": "save" } | { "type": "restore" } | { "type": "describe" };

export type MethodInfo = { name: string, title: string, citation: string, pairs: boolean, defaults: Record<string, unknown>, };

export type Reply = { "type": "device", device: DeviceInfo, } | { "type": "model", name: string, summary: string, parameters: number, } | { "type": "data", name: string, rows: number, pairs: boolean, longer_wins: number | null, } | { "type": "configured", run: RunInfo, watchable: Array<string>, } | { "type": "events", events: Array<Event>, finished: boolean, } | { "type": "tokens", records: Array<TokenRewardRecord>, } | { "type": "saved", name: string, step: number, } | { "type": "restored", step: number, } | { "type": "catalogue", methods: Array<MethodInfo>, config: TrainConfig, } | { "type": "error", message: string, };

