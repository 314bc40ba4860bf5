/**
 * A small Llama of random blocks in a GGUF format, and what it computes, in double precision from the numbers that its
 * blocks stand for.
 *
 * @module
 */
import { fillRandom, Noise } from "../bench/peers/random_blocks.ts";
import {
  GGUF_TYPES,
  type GgufTensor,
  type GgufType,
  type GgufValue,
  writeGguf,
} from "../bench/peers/gguf_writer.ts";
import { readGgufHeader } from "../runtime/model/gguf/reader.ts";
import { madeUpTokenizer, vector } from "./gguf_models.ts";

/** The formats whose numbers come in blocks. */
export const BLOCK_FORMATS = ["Q8_0", "Q4_0", "Q4_K", "Q5_K", "Q6_K"] as const satisfies readonly GgufType[];

const SHAPE = { hidden: 256, layers: 2, heads: 4, kvHeads: 2, headDim: 64, intermediate: 512, vocab: 384 };
const { hidden, layers, heads, kvHeads, headDim, intermediate, vocab } = SHAPE;
const EPSILON = 1e-5;
const THETA = 10000;

/** Tokens that are text: prompts are made of them. */
export const FIRST_TOKEN = 3;
export const VOCAB = vocab;

/**
 * Norms that make up for weights of 0.02: queries and keys of 2, so that attention is peaked, an FFN that weighs as
 * much as attention, and logits of 2.6.
 */
const NORMS = { attention: 6, ffn: 4, output: 8 };

/** Writes the model with all matrices in one format. The same bytes for the same seed. */
export function writeQuantisedModel(path: string, type: GgufType, seed = 1): void {
  const noise = new Noise(seed);
  const matrix = (name: string, rows: number, cols: number): GgufTensor => ({
    name: `${name}.weight`,
    type,
    shape: [rows, cols],
    fill: (bytes) => fillRandom(type, bytes, noise),
  });
  const norm = (name: string, scale: number) =>
    vector(
      `${name}.weight`,
      Float32Array.from({ length: hidden }, () => scale * (1 + 0.25 * noise.next() / 2 ** 31)),
    );
  const tensors = [matrix("token_embd", vocab, hidden)];
  for (let layer = 0; layer < layers; layer++) {
    const block = `blk.${layer}.`;
    tensors.push(
      norm(`${block}attn_norm`, NORMS.attention),
      matrix(`${block}attn_q`, heads * headDim, hidden),
      matrix(`${block}attn_k`, kvHeads * headDim, hidden),
      matrix(`${block}attn_v`, kvHeads * headDim, hidden),
      matrix(`${block}attn_output`, hidden, heads * headDim),
      norm(`${block}ffn_norm`, NORMS.ffn),
      matrix(`${block}ffn_gate`, intermediate, hidden),
      matrix(`${block}ffn_up`, intermediate, hidden),
      matrix(`${block}ffn_down`, hidden, intermediate),
    );
  }
  tensors.push(norm("output_norm", NORMS.output), matrix("output", vocab, hidden));
  const metadata: Record<string, GgufValue> = {
    "general.architecture": "llama",
    "general.name": `random ${type}`,
    "llama.context_length": { u32: 512 },
    "llama.embedding_length": { u32: hidden },
    "llama.block_count": { u32: layers },
    "llama.feed_forward_length": { u32: intermediate },
    "llama.attention.head_count": { u32: heads },
    "llama.attention.head_count_kv": { u32: kvHeads },
    "llama.attention.layer_norm_rms_epsilon": { f32: EPSILON },
    "llama.rope.dimension_count": { u32: headDim },
    "llama.rope.freq_base": { f32: THETA },
    "llama.vocab_size": { u32: vocab },
    ...madeUpTokenizer(vocab),
  };
  writeGguf(path, metadata, tensors);
}

/** Numbers of a matrix in a file: [rows][cols], flat. Layouts: ggml-common.h of https://github.com/ggml-org/ggml. */
export function dequantise(type: GgufType, bytes: Uint8Array): Float64Array {
  const { values, bytes: size } = GGUF_TYPES[type];
  const out = new Float64Array(bytes.length / size * values);
  for (let block = 0; block * size < bytes.length; block++) {
    const view = new DataView(bytes.buffer, bytes.byteOffset + block * size, size);
    for (let i = 0; i < values; i++) out[block * values + i] = VALUES[type](view, i);
  }
  return out;
}

/** The number at place i of a block. */
type ValueOf = (block: DataView, i: number) => number;

/** Scale and minimum of 32 numbers of a Q4_K or Q5_K block: six bits each, the first four whole, then in pieces. */
function kScale(block: DataView, j: number): [scale: number, minimum: number] {
  const byte = (i: number) => block.getUint8(4 + i);
  if (j < 4) return [byte(j) & 63, byte(j + 4) & 63];
  return [byte(j + 4) & 15 | byte(j - 4) >> 6 << 4, byte(j + 4) >> 4 | byte(j) >> 6 << 4];
}

const kValue = (quantum: ValueOf): ValueOf => (block, i) => {
  const [scale, minimum] = kScale(block, i >> 5);
  return block.getFloat16(0, true) * scale * quantum(block, i) - block.getFloat16(2, true) * minimum;
};

const nibble = (byte: number, high: boolean | number) => high ? byte >> 4 : byte & 15;

const VALUES: Record<GgufType, ValueOf> = {
  F32: (block) => block.getFloat32(0, true),
  F16: (block) => block.getFloat16(0, true),
  BF16: (block) => new Float32Array(Uint32Array.of(block.getUint16(0, true) << 16).buffer)[0]!,
  Q8_0: (block, i) => block.getFloat16(0, true) * block.getInt8(2 + i),
  Q4_0: (block, i) => block.getFloat16(0, true) * (nibble(block.getUint8(2 + i % 16), i >= 16) - 8),
  Q4_K: kValue((block, i) => nibble(block.getUint8(16 + (i >> 6) * 32 + i % 32), i >> 5 & 1)),
  Q5_K: kValue((block, i) =>
    nibble(block.getUint8(48 + (i >> 6) * 32 + i % 32), i >> 5 & 1) |
    (block.getUint8(16 + i % 32) >> (i >> 5) & 1) << 4
  ),
  Q6_K: (block, i) => {
    const [half, quarter, lane] = [i >> 7, i >> 5 & 3, i & 31];
    const low = nibble(block.getUint8(half * 64 + (quarter & 1) * 32 + lane), quarter >> 1);
    const high = block.getUint8(128 + half * 32 + lane) >> 2 * quarter & 3;
    return block.getFloat16(208, true) * block.getInt8(192 + (i >> 4)) * ((low | high << 4) - 32);
  },
};

/**
 * Rounds to eight bits by the block of 32, as engines do with what they multiply with quantised weights: of the 255
 * steps that the largest of a block allows, the nearest.
 */
function rounded(x: Float64Array): Float64Array {
  const out = new Float64Array(x.length);
  for (let at = 0; at < x.length; at += 32) {
    const step = x.subarray(at, at + 32).reduce((most, value) => Math.max(most, Math.abs(value)), 0) / 127;
    for (let i = at; i < at + 32 && step > 0; i++) out[i] = Math.round(x[i]! / step) * step;
  }
  return out;
}

/** The model in a file, computed in double precision; or with activations that are rounded to eight bits. */
export class Reference {
  readonly #weights: Map<string, Float64Array>;
  /** [layer][position]: keys and values. */
  #keys: Float64Array[][] = [];
  #values: Float64Array[][] = [];

  readonly #rounded: boolean;

  private constructor(weights: Map<string, Float64Array>, roundActivations: boolean) {
    this.#weights = weights;
    this.#rounded = roundActivations;
  }

  static read(path: string): Reference {
    const bytes = Deno.readFileSync(path);
    const weights = new Map<string, Float64Array>();
    for (const [name, { type, offset, bytes: size }] of readGgufHeader(path).tensors) {
      const data = bytes.subarray(offset, offset + size);
      weights.set(name.replace(/\.weight$/, ""), dequantise(type!.name as GgufType, data));
    }
    return new Reference(weights, false);
  }

  /** The same weights with activations that are rounded. */
  rounding(): Reference {
    return new Reference(this.#weights, true);
  }

  /** Logits before each token of an answer: [token][vocab]. */
  along(prompt: readonly number[], answer: readonly number[]): Float64Array[] {
    this.#reset();
    const all = [...prompt, ...answer].slice(0, -1).map((token) => this.next(token));
    return all.slice(prompt.length - 1);
  }

  #reset(): void {
    this.#keys = Array.from({ length: layers }, () => []);
    this.#values = Array.from({ length: layers }, () => []);
  }

  /** Logits after the next token of the text: [vocab]. */
  next(token: number): Float64Array {
    let x = this.#of("token_embd").slice(token * hidden, (token + 1) * hidden);
    for (let layer = 0; layer < layers; layer++) {
      const block = `blk.${layer}.`;
      x = sum(x, this.#attend(layer, this.#norm(x, `${block}attn_norm`)));
      const normed = this.#norm(x, `${block}ffn_norm`);
      const gate = this.#times(`${block}ffn_gate`, normed);
      const up = this.#times(`${block}ffn_up`, normed);
      const gated = gate.map((g, i) => g / (1 + Math.exp(-g)) * up[i]!);
      x = sum(x, this.#times(`${block}ffn_down`, gated));
    }
    return this.#times("output", this.#norm(x, "output_norm"));
  }

  #attend(layer: number, x: Float64Array): Float64Array {
    const [keys, values] = [this.#keys[layer]!, this.#values[layer]!];
    const position = keys.length;
    const project = (name: string) => this.#times(`blk.${layer}.attn_${name}`, x);
    const query = rotate(project("q"), position);
    keys.push(rotate(project("k"), position));
    values.push(project("v"));
    const out = new Float64Array(heads * headDim);
    for (let head = 0; head < heads; head++) {
      const at = head * headDim;
      const kvAt = Math.floor(head * kvHeads / heads) * headDim;
      const scores = keys.map((key) => {
        let score = 0;
        for (let i = 0; i < headDim; i++) score += query[at + i]! * key[kvAt + i]!;
        return score / Math.sqrt(headDim);
      });
      const top = Math.max(...scores);
      const weights = scores.map((score) => Math.exp(score - top));
      const total = weights.reduce((a, b) => a + b);
      values.forEach((value, p) => {
        for (let i = 0; i < headDim; i++) out[at + i]! += weights[p]! / total * value[kvAt + i]!;
      });
    }
    return this.#times(`blk.${layer}.attn_output`, out);
  }

  #of(name: string): Float64Array {
    return this.#weights.get(name)!;
  }

  #times(name: string, input: Float64Array): Float64Array {
    const matrix = this.#of(name);
    const x = this.#rounded ? rounded(input) : input;
    const out = new Float64Array(matrix.length / x.length);
    for (let row = 0; row < out.length; row++) {
      const from = row * x.length;
      let product = 0;
      for (let i = 0; i < x.length; i++) product += matrix[from + i]! * x[i]!;
      out[row] = product;
    }
    return out;
  }

  #norm(x: Float64Array, name: string): Float64Array {
    const weights = this.#of(name);
    const scale = 1 / Math.sqrt(x.reduce((total, value) => total + value * value, 0) / x.length + EPSILON);
    return x.map((value, i) => value * scale * weights[i]!);
  }
}

const sum = (a: Float64Array, b: Float64Array) => a.map((value, i) => value + b[i]!);

/** RoPE of neighbours, as the rows of a `llama` file want it. */
function rotate(x: Float64Array, position: number): Float64Array {
  const out = x.slice();
  for (let i = 0; i < x.length; i += 2) {
    const angle = position * THETA ** (-(i % headDim) / headDim);
    const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
    out[i] = x[i]! * cos - x[i + 1]! * sin;
    out[i + 1] = x[i]! * sin + x[i + 1]! * cos;
  }
  return out;
}
