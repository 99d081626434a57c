// Model files for tests, as a person would have them: read from and written to plain bytes, with no library.
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';

/** Files as Playwright's `setInputFiles` takes them. */
export const asFiles = (paths) => paths.map((path) => asFile(basename(path), readFileSync(path)));
export const asFile = (name, content) => ({ name, mimeType: 'application/octet-stream', buffer: Buffer.from(content) });

/** A safetensors file of F32 tensors: a map of name to `{ shape, values }`. */
export function readSafetensors(bytes) {
  const headerEnd = 8 + Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, headerEnd).toString('utf8'));
  delete header.__metadata__;
  return new Map(
    Object.entries(header).map(([name, { dtype, shape, data_offsets: [start, end] }]) => {
      if (dtype !== 'F32') throw new Error(`${name} is ${dtype}; only F32 is read here`);
      const copy = Uint8Array.prototype.slice.call(bytes, headerEnd + start, headerEnd + end);
      return [name, { shape, values: new Float32Array(copy.buffer, 0, copy.length / 4) }];
    }),
  );
}

/** The vocabulary of llama2.c's tokenizer file: `[{ text, score }]`, in the order of ids. */
export function readLlama2cVocabulary(bytes) {
  const out = [];
  for (let at = 4; at < bytes.length; ) {
    const [score, length] = [bytes.readFloatLE(at), bytes.readInt32LE(at + 4)];
    out.push({ score, text: bytes.toString('utf8', at + 8, at + 8 + length) });
    at += 8 + length;
  }
  return out;
}

const PARTS = {
  'self_attn.q_proj': 'attn_q', 'self_attn.k_proj': 'attn_k', 'self_attn.v_proj': 'attn_v', 'self_attn.o_proj': 'attn_output',
  'mlp.gate_proj': 'ffn_gate', 'mlp.up_proj': 'ffn_up', 'mlp.down_proj': 'ffn_down',
  input_layernorm: 'attn_norm', post_attention_layernorm: 'ffn_norm',
};

function ggufName(name) {
  const whole = { 'model.embed_tokens.weight': 'token_embd.weight', 'model.norm.weight': 'output_norm.weight', 'lm_head.weight': 'output.weight' }[name];
  if (whole) return whole;
  const [, layer, part] = /^model\.layers\.(\d+)\.(.+)\.weight$/.exec(name) ?? [];
  if (!(part in PARTS)) throw new Error(`${name} has no name in GGUF`);
  return `blk.${layer}.${PARTS[part]}.weight`;
}

/** Rows of a rotary projection in the file's order: the halves of each head interleaved, as llama.cpp stores them. */
function interleave({ shape, values }, headWidth) {
  const width = shape[1];
  const out = new Float32Array(values.length);
  for (let row = 0; row < shape[0]; row++) {
    const [head, i] = [Math.floor(row / headWidth), row % headWidth];
    const from = head * headWidth + (i % 2) * (headWidth / 2) + Math.floor(i / 2);
    out.set(values.subarray(from * width, (from + 1) * width), row * width);
  }
  return { shape, values: out };
}

/** What llama.cpp calls the kinds of tokens. */
export const TOKEN = { normal: 1, unknown: 2, control: 3, byte: 6 };

/**
 * A GGUF file (version 3, F32) of a Llama: its Hugging Face configuration and tensors, and a SentencePiece vocabulary
 * `[{ text, score, kind }]` with its ids of begin, end and unknown.
 */
export function writeGguf(config, tensors, vocabulary, { bos, eos, unknown }) {
  const parts = [];
  const u32 = (n) => (parts.push(Buffer.alloc(4)), parts.at(-1).writeUInt32LE(n));
  const u64 = (n) => (parts.push(Buffer.alloc(8)), parts.at(-1).writeBigUInt64LE(BigInt(n)));
  const f32 = (x) => (parts.push(Buffer.alloc(4)), parts.at(-1).writeFloatLE(x));
  const text = (s) => (u64(Buffer.byteLength(s)), parts.push(Buffer.from(s)));
  const kinds = { u32: [4, u32], f32: [6, f32], text: [8, text] };
  const write = { one: (kind, value) => (u32(kinds[kind][0]), kinds[kind][1](value)), list: (kind, values) => (u32(9), u32(kinds[kind][0]), u64(values.length), values.forEach(kinds[kind][1])) };
  const meta = [
    ['general.architecture', 'one', 'text', 'llama'],
    ['llama.embedding_length', 'one', 'u32', config.hidden_size],
    ['llama.feed_forward_length', 'one', 'u32', config.intermediate_size],
    ['llama.block_count', 'one', 'u32', config.num_hidden_layers],
    ['llama.attention.head_count', 'one', 'u32', config.num_attention_heads],
    ['llama.attention.head_count_kv', 'one', 'u32', config.num_key_value_heads],
    ['llama.attention.layer_norm_rms_epsilon', 'one', 'f32', config.rms_norm_eps],
    ['llama.context_length', 'one', 'u32', config.max_position_embeddings],
    ['llama.rope.freq_base', 'one', 'f32', config.rope_theta],
    ['tokenizer.ggml.model', 'one', 'text', 'llama'],
    ['tokenizer.ggml.tokens', 'list', 'text', vocabulary.map((token) => token.text)],
    ['tokenizer.ggml.scores', 'list', 'f32', vocabulary.map((token) => token.score)],
    ['tokenizer.ggml.token_type', 'list', 'u32', vocabulary.map((token) => token.kind)],
    ['tokenizer.ggml.bos_token_id', 'one', 'u32', bos],
    ['tokenizer.ggml.eos_token_id', 'one', 'u32', eos],
    ['tokenizer.ggml.unknown_token_id', 'one', 'u32', unknown],
  ];
  const stored = [...tensors].map(([name, tensor]) => [ggufName(name), /[qk]_proj/.test(name) ? interleave(tensor, config.head_dim) : tensor]);
  parts.push(Buffer.from('GGUF'));
  u32(3);
  u64(stored.length);
  u64(meta.length);
  for (const [key, shape, kind, value] of meta) {
    text(key);
    write[shape](kind, value);
  }
  const up = (n) => Math.ceil(n / 32) * 32;
  let offset = 0;
  for (const [name, { shape, values }] of stored) {
    text(name);
    u32(shape.length);
    // The fastest dimension first.
    [...shape].reverse().forEach(u64);
    u32(0);
    u64(offset);
    offset = up(offset + values.byteLength);
  }
  const head = Buffer.concat(parts);
  const body = [head, Buffer.alloc(up(head.length) - head.length)];
  for (const [, { values }] of stored) body.push(Buffer.from(values.buffer, values.byteOffset, values.byteLength), Buffer.alloc(up(values.byteLength) - values.byteLength));
  return Buffer.concat(body);
}
