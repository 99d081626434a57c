// Generated from src/web/protocol.rs by `AVASCOPE_WRITE_TYPES=1 cargo test --release protocol_types`. Do not edit.

export type Truncation = "keep_end" | "keep_start" | "error";

export type Side = "chosen" | "rejected" | "answer";

export type Uncertainty = "td_spread" | "preference_spread" | "prior_only";

export type Trust = "exploratory" | "checked";

export type IgnoranceKind = "laplace_head" | "laplace_lora" | "ensemble" | "dropout";

export type Ignorance = { 
/**
 * The estimate.
 */
kind: IgnoranceKind, 
/**
 * Its settings, in words: members, pairs, prior, samples.
 */
detail: string, };

export type Provenance = { 
/**
 * The method's name, as in the configuration.
 */
method: string, 
/**
 * The model's name.
 */
model: string, 
/**
 * The checkpoint: run, step, or `untrained`.
 */
checkpoint: string, 
/**
 * The device and adapter that computed the numbers.
 */
device: string, 
/**
 * The arithmetic, for example `f32`.
 */
precision: string, 
/**
 * What `std` measures.
 */
uncertainty: Uncertainty, 
/**
 * How a sequence's reward was spread over its tokens; `own`: the method's own token rewards.
 */
credit: string, 
/**
 * Where `ignorance_std` comes from, where it was asked for.
 */
ignorance?: Ignorance, 
/**
 * Whether the map was held against a truth.
 */
trust: Trust, 
/**
 * The truths that this map was held against and passed, in words; empty for an exploratory map.
 */
checked: Array<string>, };

export type TokenReward = { 
/**
 * Vocabulary id.
 */
id: number, 
/**
 * The part of the answer's text that the token covers, or the token's own name (`<eos>`) where it covers none.
 */
text: string, 
/**
 * First code point in the answer's text; equal to `end` where the token covers no text.
 */
start: number, 
/**
 * One past the last code point.
 */
end: number, 
/**
 * Posterior mean of the reward.
 */
mean: number, 
/**
 * Posterior standard deviation of the reward.
 */
std: number, 
/**
 * Ignorance: the standard deviation of `mean` itself, where it was asked for.
 */
ignorance_std?: number, 
/**
 * The root of `std` squared plus `ignorance_std` squared. Absent where `std` is only the prior's: a total of a number
 * that nothing was learned of means nothing.
 */
total_std?: number, 
/**
 * The true reward, where it is known (synthetic world).
 */
true_mean?: number | null, 
/**
 * The true spread, where it is known.
 */
true_std?: number | null, 
/**
 * Whether a labelled span covers the token, where the row has labels.
 */
labelled?: boolean | null, };

export type ScoreIgnorance = { 
/**
 * Of the last token's mean.
 */
last: number, 
/**
 * Of the sum of the means.
 */
sum: number, 
/**
 * Of the mean of the means.
 */
mean: number, 
/**
 * Of the difference of the two answers' ranking scores, where the row is a pair: what a comparison needs, because
 * what both answers share cancels in it.
 */
margin?: number, };

export type ScoreTotal = { 
/**
 * Of the last token's mean.
 */
last: number, 
/**
 * Of the sum of the means.
 */
sum: number, 
/**
 * Of the mean of the means.
 */
mean: number, 
/**
 * Of the difference of the two answers' ranking scores, where the row is a pair; their own spreads are taken as
 * independent.
 */
margin?: number, };

export type AnswerScore = { 
/**
 * The last token's mean.
 */
last: number, 
/**
 * The sum of the means.
 */
sum: number, 
/**
 * The mean of the means.
 */
mean: number, 
/**
 * The square root of the sum of the variances: the sum's standard deviation if tokens were independent.
 */
sum_std: number, 
/**
 * Ignorance about these scores, where it was asked for.
 */
ignorance?: ScoreIgnorance, 
/**
 * Own spread and ignorance together; absent where either is.
 */
total?: ScoreTotal, };

export type TokenRewardRecord = { 
/**
 * [`SCHEMA`].
 */
schema: string, 
/**
 * The row's id; both sides of a pair share it.
 */
id: string, 
/**
 * Which answer of the row.
 */
side: Side, 
/**
 * What the row's own label says of this answer, where it has one: 1 desirable, 0 undesirable; of pairs 1 better, 0
 * worse, 0.5 a tie.
 */
label?: number, 
/**
 * The prompt as the model read it.
 */
prompt: string, 
/**
 * The answer's text; token offsets count its code points.
 */
answer: string, 
/**
 * Whether the row was cut to fit the context.
 */
truncated: boolean, 
/**
 * How the numbers were obtained.
 */
provenance: Provenance, 
/**
 * The answer's tokens in order.
 */
tokens: Array<TokenReward>, 
/**
 * The answer's scores.
 */
score: AnswerScore, };

export type Schedule = "constant" | "linear" | "cosine";

export type LoraConfig = { 
/**
 * Rank of the update.
 */
r: number, 
/**
 * The update is scaled by `alpha / r`.
 */
alpha: number, 
/**
 * Ends of the names of the linear layers that are adapted.
 */
targets: Array<string>, };

export type Trainable = { "mode": "full" } | { "mode": "lora" } & LoraConfig | { "mode": "heads" };

export type TrainConfig = { 
/**
 * The method's name; `avascope methods` lists them.
 */
method: string, 
/**
 * The method's own switches; absent ones keep the method's defaults.
 */
options: Record<string, unknown>, 
/**
 * Seed of initial heads, adapters and row order.
 */
seed: number, 
/**
 * Optimiser steps.
 */
steps: number, 
/**
 * Rows (pairs or demonstrations) in a micro-batch.
 */
batch_size: number, 
/**
 * Micro-batches added up before an optimiser step.
 */
gradient_accumulation_steps: number, 
/**
 * Peak learning rate of the trunk or its adapters.
 */
learning_rate: number, 
/**
 * Peak learning rate of the reward head; the trunk's where absent.
 */
head_learning_rate: number | null, 
/**
 * Decoupled weight decay on matrices.
 */
weight_decay: number, 
/**
 * Share of the steps in which the learning rate rises from zero.
 */
warmup_ratio: number, 
/**
 * How the learning rate moves after that.
 */
lr_scheduler_type: Schedule, 
/**
 * Largest global gradient norm; larger ones are scaled down to it. Zero turns clipping off.
 */
max_grad_norm: number, 
/**
 * What trains.
 */
trainable: Trainable, 
/**
 * Longest row in tokens.
 */
max_length: number, 
/**
 * What is cut from a longer row.
 */
truncation: Truncation, 
/**
 * Whether rows of like length share a batch.
 */
group_by_length: boolean, 
/**
 * Share of the rows held out, chosen by the hash of their content.
 */
held_out: number, 
/**
 * Steps between evaluations; zero evaluates only at the end.
 */
eval_steps: number, 
/**
 * Most held-out rows scored at an evaluation; zero scores all.
 */
eval_rows: number, 
/**
 * Evaluations without a better held-out accuracy (pairs) or loss (demonstrations) before the run stops; zero never stops early.
 */
early_stopping_patience: number, 
/**
 * Steps between checkpoints; zero writes one at the end.
 */
save_steps: number, };

export type DeviceInfo = { 
/**
 * What was asked for: `auto`, `gpu`, `cpu`, ...
 */
asked: string, 
/**
 * The backend that was chosen: `webgpu`, `vulkan`, `metal`, `dx12`, `cuda`, `rocm`, `cpu`.
 */
backend: string, 
/**
 * The adapter's own name, or the processor.
 */
adapter: string, 
/**
 * The arithmetic: `f32`, and where matrix products are less than that, how they are computed.
 */
precision: string, 
/**
 * Why this one, where it is not what was asked for first.
 */
note: string | null, };

export type RunInfo = { 
/**
 * The method's name.
 */
method: string, 
/**
 * The model's name.
 */
model: string, 
/**
 * The reference policy, where it is another model than this one before training.
 */
reference?: string, 
/**
 * The device.
 */
device: DeviceInfo, 
/**
 * All parameters, heads included.
 */
parameters: number, 
/**
 * Those that train.
 */
trainable_parameters: number, 
/**
 * Rows that train.
 */
train_rows: number, 
/**
 * Rows held out by hash.
 */
held_out_rows: number, 
/**
 * Optimiser steps planned.
 */
total_steps: number, 
/**
 * Rows cut to fit the context.
 */
truncated_rows: number, 
/**
 * The seed.
 */
seed: number, 
/**
 * SHA-256 over the rows' content.
 */
data_fingerprint: string, 
/**
 * What deserves attention before training, each with its reason.
 */
warnings: Array<string>, };

export type FinishReason = "completed" | "early_stop" | "stopped";

export type Event = { "type": "started", 
/**
 * Steps already taken.
 */
step: number, 
/**
 * What the run is.
 */
run: RunInfo, } | { "type": "step", 
/**
 * Steps taken so far.
 */
step: number, 
/**
 * Steps planned.
 */
total_steps: number, 
/**
 * Its metrics.
 */
metrics: Record<string, number>, } | { "type": "evaluation", 
/**
 * Steps taken so far.
 */
step: number, 
/**
 * Metrics under `eval_`.
 */
metrics: Record<string, number>, } | { "type": "tokens", 
/**
 * Steps taken so far.
 */
step: number, 
/**
 * One record an answer.
 */
records: Array<TokenRewardRecord>, } | { "type": "checkpoint", 
/**
 * Steps taken so far.
 */
step: number, 
/**
 * Its name.
 */
name: string, } | { "type": "failed", 
/**
 * The step that it was seen at, counted from 1.
 */
step: number, 
/**
 * The first term that is not finite.
 */
term: string, 
/**
 * Where it was first seen, in words.
 */
row: string, 
/**
 * What happened, and the way out.
 */
message: string, } | { "type": "finished", 
/**
 * Steps taken.
 */
step: number, 
/**
 * Why.
 */
reason: FinishReason, };

export type DeviceChoice = "auto" | "gpu" | "vulkan" | "metal" | "dx12" | "webgpu" | "cuda" | "rocm" | "cpu";

export type Request = { "type": "open_device", 
/**
 * Which.
 */
choice: DeviceChoice, } | { "type": "use_world", 
/**
 * Seed of the rows.
 */
seed: number, 
/**
 * Rows to draw.
 */
rows: number, 
/**
 * Demonstrations instead of preference pairs.
 */
demonstrations: boolean, } | { "type": "open_model", 
/**
 * The name shown for it.
 */
name: string, 
/**
 * File names.
 */
files: Array<string>, } | { "type": "open_data", 
/**
 * The file's name, used in errors.
 */
name: string, } | { "type": "configure", 
/**
 * The run's configuration.
 */
config: TrainConfig, } | { "type": "train", 
/**
 * How many.
 */
steps: number, } | { "type": "stop" } | { "type": "watch", 
/**
 * Which held-out row, from 0.
 */
row: number, } | { "type": "score", 
/**
 * The prompt.
 */
prompt: string, 
/**
 * The answer.
 */
answer: string, } | { "type": "save" } | { "type": "restore", 
/**
 * Settings to go on with in place of the checkpoint's own: other learning rates, say. Those that fix what trains, or
 * which rows are drawn, must be its own.
 */
config: TrainConfig | null, } | { "type": "describe" };

export type MethodInfo = { 
/**
 * Its name in configurations.
 */
name: string, 
/**
 * Its name for people.
 */
title: string, 
/**
 * Where it comes from.
 */
citation: string, 
/**
 * Whether it learns from pairs (else from demonstrations).
 */
pairs: boolean, 
/**
 * Its switches with their defaults.
 */
defaults: Record<string, unknown>, };

export type DataInfo = { 
/**
 * The file's or world's name.
 */
name: string, 
/**
 * How many rows.
 */
rows: number, 
/**
 * Pairs (else demonstrations).
 */
pairs: boolean, 
/**
 * Accuracy of "the longer answer wins", for pairs.
 */
longer_wins: number | null, };

export type Reply = { "type": "device", 
/**
 * Which, and why.
 */
device: DeviceInfo, } | { "type": "model", 
/**
 * Its name.
 */
name: string, 
/**
 * Its architecture and sizes, in words.
 */
summary: string, 
/**
 * Its parameters.
 */
parameters: number, } | { "type": "data" } & DataInfo | { "type": "configured", 
/**
 * What it is.
 */
run: RunInfo, 
/**
 * Short titles of the held-out rows that can be watched.
 */
watchable: Array<string>, } | { "type": "events", 
/**
 * In order.
 */
events: Array<Event>, 
/**
 * Whether the run has ended.
 */
finished: boolean, 
/**
 * What broke off the request after these events; they happened all the same.
 */
error: string | null, } | { "type": "tokens", 
/**
 * One record an answer.
 */
records: Array<TokenRewardRecord>, } | { "type": "saved", 
/**
 * The file name to offer.
 */
name: string, 
/**
 * Steps taken.
 */
step: number, } | { "type": "restored", 
/**
 * Steps taken.
 */
step: number, 
/**
 * Why it had ended, if it had.
 */
finished: FinishReason | null, 
/**
 * Its configuration.
 */
config: TrainConfig, 
/**
 * What it is.
 */
run: RunInfo, 
/**
 * Short titles of the held-out rows that can be watched.
 */
watchable: Array<string>, 
/**
 * Its rows: the built-in world draws them anew where the method learns from the other kind.
 */
data: DataInfo, } | { "type": "catalogue", 
/**
 * Methods, in their order of teaching.
 */
methods: Array<MethodInfo>, 
/**
 * The default configuration.
 */
config: TrainConfig, } | { "type": "error", 
/**
 * What, where, and the way out.
 */
message: string, };

