/**
 * GGUF files of random weights for measuring engines beside each other: any Llama shape, any type, with a tokenizer
 * that was made up. Every engine reads the same bytes.
 *
 *     deno run --allow-read --allow-write bench/peers/random_gguf.ts 160m Q8_0 build/bench/160m-Q8_0.gguf
 *
 * @module
 */
import { dirname, join } from "node:path";
import { GGUF_TYPES, type GgufTensor, type GgufType, type GgufValue, writeGguf } from "./gguf_writer.ts";
import { fillRandom, Noise } from "./random_blocks.ts";

/** A Llama's shape. */
export interface LlamaShape {
  hidden: number;
  layers: number;
  heads: number;
  kvHeads: number;
  intermediate: number;
  vocab: number;
  /** Default 16,384. */
  context?: number;
}

/** The shapes that the suites measure. */
export const SHAPES = {
  "160m": { hidden: 768, layers: 12, heads: 12, kvHeads: 4, intermediate: 3072, vocab: 32_000 },
  "1.1b": { hidden: 2048, layers: 22, heads: 32, kvHeads: 4, intermediate: 5632, vocab: 32_000 },
} as const satisfies Record<string, LlamaShape>;

/** A type for all matrices, or `Q4_K_M`: llama.cpp's mix of Q4_K and Q6_K. */
export type WeightMix = GgufType | "Q4_K_M";

/** llama.cpp's numbers for what most of a file's tensors are. */
const FILE_TYPES: Record<WeightMix, number> = {
  F32: 0,
  F16: 1,
  Q4_0: 2,
  Q8_0: 7,
  Q4_K: 14,
  Q4_K_M: 15,
  Q5_K: 16,
  Q6_K: 18,
  BF16: 32,
};

/** Tokens that are no text: unknown, begin, end, then the 256 bytes. */
const SPECIAL = ["<unk>", "<s>", "</s>"];
/** The first token that is text. */
export const FIRST_TEXT_TOKEN: number = SPECIAL.length + 256;

/** What a token is, by llama.cpp's numbers. */
const NORMAL = 1, UNKNOWN = 2, CONTROL = 3, BYTE = 6;

/** Strings of `length` small letters, in order. */
function* words(length: number): Generator<string> {
  if (length === 0) return yield "";
  for (const start of words(length - 1)) {
    for (let letter = 97; letter < 123; letter++) yield start + String.fromCharCode(letter);
  }
}

/** ASCII, then words of one to four letters, each with and without the mark that a space becomes. */
function* pieces(): Generator<string> {
  yield "▁";
  for (let code = 33; code < 127; code++) yield String.fromCharCode(code);
  for (let length = 1; length <= 4; length++) {
    for (const word of words(length)) {
      if (length > 1) yield word;
      yield "▁" + word;
    }
  }
}

/** A SentencePiece vocabulary of `size` tokens. Any ASCII text can be written in it; a longer piece is of shorter ones. */
function tokenizer(size: number): Record<string, GgufValue> {
  const tokens = [...SPECIAL], types = [UNKNOWN, CONTROL, CONTROL];
  for (let byte = 0; byte < 256; byte++) {
    tokens.push(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
    types.push(BYTE);
  }
  const text = pieces();
  while (tokens.length < size) {
    const { value, done } = text.next();
    if (done) throw new RangeError(`making a vocabulary of ${size} tokens: wanted at most ${tokens.length}`);
    tokens.push(value);
    types.push(NORMAL);
  }
  return {
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.pre": "default",
    "tokenizer.ggml.tokens": { strings: tokens.slice(0, size) },
    "tokenizer.ggml.scores": {
      f32s: Float32Array.from({ length: size }, (_, i) => i < FIRST_TEXT_TOKEN ? 0 : FIRST_TEXT_TOKEN - i),
    },
    "tokenizer.ggml.token_type": { i32s: Int32Array.from(types.slice(0, size)) },
    "tokenizer.ggml.bos_token_id": { u32: 1 },
    "tokenizer.ggml.eos_token_id": { u32: 2 },
    "tokenizer.ggml.unknown_token_id": { u32: 0 },
    "tokenizer.ggml.add_bos_token": true,
    "tokenizer.ggml.add_eos_token": false,
    "tokenizer.chat_template": "{% for message in messages %}{{ message['content'] }} {% endfor %}",
  };
}

/** Where llama.cpp's Q4_K_M has Q6_K: in the head, and in half of the layers' value and down matrices. */
function mixed(mix: WeightMix, name: string, layer: number, layers: number): GgufType {
  if (mix !== "Q4_K_M") return mix;
  if (name === "output") return "Q6_K";
  const eighth = Math.floor(layers / 8);
  const more = layer < eighth || layer >= Math.floor(7 * layers / 8) || (layer - eighth) % 3 === 2;
  return more && (name === "attn_v" || name === "ffn_down") ? "Q6_K" : "Q4_K";
}

function llamaTensors(shape: LlamaShape, mix: WeightMix, seed: number): GgufTensor[] {
  const { hidden, layers, heads, kvHeads, intermediate, vocab } = shape;
  const kv = hidden / heads * kvHeads;
  const noise = new Noise(seed);
  const matrix = (name: string, rows: number, columns: number, prefix = "", layer = 0): GgufTensor => {
    const type = mixed(mix, name, layer, layers);
    return {
      name: `${prefix}${name}.weight`,
      type,
      shape: [rows, columns],
      fill: (bytes) => fillRandom(type, bytes, noise),
    };
  };
  const norm = (name: string): GgufTensor => ({
    name: `${name}.weight`,
    type: "F32",
    shape: [hidden],
    fill: (bytes) => void new Float32Array(bytes.buffer, bytes.byteOffset, hidden).fill(1),
  });
  const tensors = [matrix("token_embd", vocab, hidden)];
  for (let layer = 0; layer < layers; layer++) {
    const block = `blk.${layer}.`;
    const of = (name: string, rows: number, columns: number) => matrix(name, rows, columns, block, layer);
    tensors.push(
      norm(`${block}attn_norm`),
      of("attn_q", hidden, hidden),
      of("attn_k", kv, hidden),
      of("attn_v", kv, hidden),
      of("attn_output", hidden, hidden),
      norm(`${block}ffn_norm`),
      of("ffn_gate", intermediate, hidden),
      of("ffn_up", intermediate, hidden),
      of("ffn_down", hidden, intermediate),
    );
  }
  const head = matrix("output", vocab, hidden);
  // Zeros for what is no text, so that a greedy answer never ends early nor waits for the rest of a character.
  const withoutSpecial = (bytes: Uint8Array<ArrayBuffer>, row: number) => {
    fillRandom(head.type, bytes, noise);
    const { values, bytes: size } = GGUF_TYPES[head.type];
    bytes.subarray(0, Math.max(0, FIRST_TEXT_TOKEN - row) * hidden / values * size).fill(0);
  };
  tensors.push(norm("output_norm"), { ...head, fill: withoutSpecial });
  return tensors;
}

/**
 * Writes a Llama of random weights; returns the file's bytes. Its logits are finite and its greedy answers are text.
 *
 * @throws {RangeError} a width that is no multiple of the type's block
 */
export function writeRandomGguf(
  path: string,
  shape: LlamaShape,
  mix: WeightMix,
  { name = "random", seed = 1 }: { name?: string; seed?: number } = {},
): number {
  const headDim = shape.hidden / shape.heads;
  const metadata: Record<string, GgufValue> = {
    "general.architecture": "llama",
    "general.name": name,
    "general.file_type": { u32: FILE_TYPES[mix] },
    "general.quantization_version": { u32: 2 },
    "llama.context_length": { u32: shape.context ?? 16_384 },
    "llama.embedding_length": { u32: shape.hidden },
    "llama.block_count": { u32: shape.layers },
    "llama.feed_forward_length": { u32: shape.intermediate },
    "llama.attention.head_count": { u32: shape.heads },
    "llama.attention.head_count_kv": { u32: shape.kvHeads },
    "llama.attention.layer_norm_rms_epsilon": { f32: 1e-5 },
    "llama.rope.dimension_count": { u32: headDim },
    "llama.rope.freq_base": { f32: 10_000 },
    "llama.vocab_size": { u32: shape.vocab },
    ...tokenizer(shape.vocab),
  };
  return writeGguf(path, metadata, llamaTensors(shape, mix, seed));
}

/** Bytes of a model's matrices that a decode step reads: all of them but the embedding, of which it reads rows. */
export function streamedBytes(shape: LlamaShape, mix: WeightMix): number {
  const bytes = (tensor: GgufTensor) =>
    tensor.shape.reduce((a, b) => a * b, 1) / GGUF_TYPES[tensor.type].values * GGUF_TYPES[tensor.type].bytes;
  return llamaTensors(shape, mix, 0).slice(1).reduce((sum, tensor) => sum + bytes(tensor), 0);
}

/** The file of a shape and mix in `folder`, written if it is not there. */
export function cachedGguf(folder: string, shape: keyof typeof SHAPES, mix: WeightMix): string {
  const path = join(folder, `${shape}-${mix}.gguf`);
  try {
    Deno.statSync(path);
    return path;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  Deno.mkdirSync(folder, { recursive: true });
  // Under its own name only when it is whole.
  writeRandomGguf(`${path}.part`, SHAPES[shape], mix, { name: shape });
  Deno.renameSync(`${path}.part`, path);
  return path;
}

if (import.meta.main) {
  const [shape, mix, path] = Deno.args;
  if (shape === undefined || !(shape in SHAPES) || mix === undefined || !(mix in FILE_TYPES) || !path) {
    const wanted = `${Object.keys(SHAPES).join("|")} ${Object.keys(FILE_TYPES).join("|")} FILE`;
    Deno.stderr.writeSync(new TextEncoder().encode(`usage: random_gguf.ts ${wanted}\n`));
    Deno.exit(2);
  }
  Deno.mkdirSync(dirname(path), { recursive: true });
  const bytes = writeRandomGguf(path, SHAPES[shape as keyof typeof SHAPES], mix as WeightMix, {
    name: shape,
  });
  Deno.stdout.writeSync(new TextEncoder().encode(`${path}: ${(bytes / 1e6).toFixed(0)} MB\n`));
}
