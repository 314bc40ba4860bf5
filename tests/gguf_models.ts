/**
 * The golden model folders as GGUF files, written as llama.cpp's converter does: other names, metadata for the config
 * and the tokenizer, and for the architectures that llama.cpp rotates by neighbours the rows of Q and K permuted.
 *
 * @module
 */
import { basename } from "node:path";
import { type GgufTensor, type GgufType, type GgufValue, writeGguf } from "../bench/peers/gguf_writer.ts";
import { type ModelConfig, parseModelConfig } from "../runtime/model/config.ts";
import { readSafetensorsHeader } from "../runtime/model/safetensors.ts";
import { locateTensors, tensorSpecs } from "../runtime/model/weights.ts";

/** Architectures, as GGUF names them. */
const ARCHITECTURES = {
  LlamaForCausalLM: "llama",
  MistralForCausalLM: "llama",
  Qwen2ForCausalLM: "qwen2",
  Qwen3ForCausalLM: "qwen3",
} as const;

/** HF's names of tensors, piece by piece. */
const RENAMED: readonly [RegExp, string][] = [
  [/^model\.embed_tokens/, "token_embd"],
  [/^model\.norm/, "output_norm"],
  [/^lm_head/, "output"],
  [/^model\.layers\.(\d+)\./, "blk.$1."],
  [/self_attn\.([qkv])_proj/, "attn_$1"],
  [/self_attn\.o_proj/, "attn_output"],
  [/self_attn\.([qk])_norm/, "attn_$1_norm"],
  [/input_layernorm/, "attn_norm"],
  [/post_attention_layernorm/, "ffn_norm"],
  [/mlp\.(gate|up|down)_proj/, "ffn_$1"],
];

const readJson = (path: string) => JSON.parse(Deno.readTextFileSync(path));

/**
 * Writes a model folder as a GGUF file, its weights in their own type. Where the folder has no tokenizer, one of
 * bytes is made up.
 */
export async function writeFolderAsGguf(folder: string, path: string): Promise<void> {
  const json = readJson(`${folder}/config.json`);
  const config = parseModelConfig(json, folder);
  const name = ARCHITECTURES[config.architecture];
  const metadata = {
    "general.architecture": name,
    "general.name": basename(folder),
    ...configMetadata(config, name),
    ...tokenizerMetadata(folder, config.vocab),
  };
  const tensors = await folderTensors(folder, config, name === "llama");
  const scaling = config.ropeScaling;
  if (scaling.type === "llama3") {
    const factors = llama3Factors(config.headDim, config.ropeTheta, scaling);
    tensors.unshift(vector("rope_freqs.weight", factors));
  }
  writeGguf(path, metadata, tensors);
}

function configMetadata(config: ModelConfig, name: string): Record<string, GgufValue> {
  const windows = new Set(config.layerWindows);
  if (windows.size !== 1) throw new Error("GGUF has one window for all layers");
  const [window = 0] = windows;
  const scaling = config.ropeScaling;
  return {
    [`${name}.context_length`]: { u32: config.maxPosition },
    [`${name}.embedding_length`]: { u32: config.hidden },
    [`${name}.block_count`]: { u32: config.layers },
    [`${name}.feed_forward_length`]: { u32: config.intermediate },
    [`${name}.attention.head_count`]: { u32: config.heads },
    [`${name}.attention.head_count_kv`]: { u32: config.kvHeads },
    [`${name}.attention.key_length`]: { u32: config.headDim },
    [`${name}.attention.value_length`]: { u32: config.headDim },
    [`${name}.rope.dimension_count`]: { u32: config.headDim },
    [`${name}.attention.layer_norm_rms_epsilon`]: { f32: config.rmsEps },
    [`${name}.rope.freq_base`]: { f32: config.ropeTheta },
    [`${name}.vocab_size`]: { u32: config.vocab },
    ...(window > 0 && { [`${name}.attention.sliding_window`]: { u32: window } }),
    ...(scaling.type === "linear" && {
      [`${name}.rope.scaling.type`]: "linear",
      [`${name}.rope.scaling.factor`]: { f32: scaling.factor },
    }),
  };
}

/** The factors that frequencies are divided by: what `convert_hf_to_gguf.py` writes for Llama 3.1. */
function llama3Factors(
  headDim: number,
  theta: number,
  s: { factor: number; lowFreqFactor: number; highFreqFactor: number; originalMaxPosition: number },
): Float32Array {
  return Float32Array.from({ length: headDim / 2 }, (_, i) => {
    const wavelength = 2 * Math.PI * theta ** (2 * i / headDim);
    if (wavelength < s.originalMaxPosition / s.highFreqFactor) return 1;
    if (wavelength > s.originalMaxPosition / s.lowFreqFactor) return s.factor;
    const smooth = (s.originalMaxPosition / wavelength - s.lowFreqFactor) /
      (s.highFreqFactor - s.lowFreqFactor);
    return 1 / ((1 - smooth) / s.factor + smooth);
  });
}

/** A vector of 32-bit numbers. */
export function vector(name: string, values: Float32Array): GgufTensor {
  const from = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return { name, type: "F32", shape: [values.length], fill: (bytes) => bytes.set(from) };
}

async function folderTensors(folder: string, config: ModelConfig, permuted: boolean): Promise<GgufTensor[]> {
  const located = await locateTensors(folder, config);
  const headers = await Promise.all(located.files.map(readSafetensorsHeader));
  return tensorSpecs(config).map(({ name: from, shape }, i) => {
    const file = located.tensors[i]!.file;
    const { offset, bytes, dtype } = headers[file]!.get(from)!;
    const name = RENAMED.reduce((text, [pattern, to]) => text.replace(pattern, to), from);
    let data: Uint8Array = Deno.readFileSync(located.files[file]!).subarray(offset, offset + bytes);
    const heads = /attn_q\./.test(name) ? config.heads : /attn_k\./.test(name) ? config.kvHeads : 0;
    if (permuted && heads > 0) data = interleaveRows(data, heads, config.headDim);
    if (shape.length === 1 && dtype !== "F32") return vector(name, widened(data, dtype));
    return { name, type: dtype as GgufType, shape, fill: (out, row) => fillRows(out, data, row, shape[0]!) };
  });
}

function fillRows(out: Uint8Array, data: Uint8Array, row: number, rows: number): void {
  const start = row * (data.length / rows);
  out.set(data.subarray(start, start + out.length));
}

/** Row i and row i + headDim / 2 of a head become neighbours: the converter's permutation. */
function interleaveRows(data: Uint8Array, heads: number, headDim: number): Uint8Array {
  const rowBytes = data.length / (heads * headDim);
  const out = new Uint8Array(data.length);
  for (let head = 0; head < heads; head++) {
    for (let i = 0; i < headDim; i++) {
      const to = head * headDim + (i % (headDim / 2)) * 2 + (i < headDim / 2 ? 0 : 1);
      const from = head * headDim + i;
      out.set(data.subarray(from * rowBytes, (from + 1) * rowBytes), to * rowBytes);
    }
  }
  return out;
}

function widened(data: Uint8Array, dtype: string): Float32Array {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const word = new DataView(new ArrayBuffer(4));
  return Float32Array.from({ length: data.length / 2 }, (_, i) => {
    if (dtype === "F16") return view.getFloat16(2 * i, true);
    word.setUint32(0, view.getUint16(2 * i, true) << 16, true);
    return word.getFloat32(0, true);
  });
}

/** GGUF's numbers for what a token is. */
const TOKEN = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 };

interface AddedToken {
  id: number;
  content: string;
  special: boolean;
}

/**
 * A tokenizer.json as metadata. Byte-level BPE keeps its merges; SentencePiece-style BPE gets scores by the order in
 * which its merges come, as the file of SentencePiece itself has them.
 */
export function tokenizerMetadata(folder: string, vocab: number): Record<string, GgufValue> {
  let json, settings;
  try {
    json = readJson(`${folder}/tokenizer.json`);
    settings = readJson(`${folder}/tokenizer_config.json`);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    return madeUpTokenizer(vocab);
  }
  const added: AddedToken[] = json.added_tokens;
  const ids = new Map<string, number>(Object.entries(json.model.vocab as Record<string, number>));
  for (const { id, content } of added) ids.set(content, id);
  const size = [...ids.values()].reduce((least, id) => Math.max(least, id + 1), vocab);
  const tokens = Array.from({ length: size }, (_, i) => `[PAD${i}]`);
  const types = new Array<number>(size).fill(TOKEN.unused);
  for (const [token, id] of ids) {
    tokens[id] = token;
    types[id] = json.model.byte_fallback && /^<0x[0-9A-F]{2}>$/.test(token) ? TOKEN.byte : TOKEN.normal;
  }
  for (const { id, special, content } of added) {
    types[id] = content === "<unk>" ? TOKEN.unknown : special ? TOKEN.control : TOKEN.userDefined;
  }
  const merges: string[] = json.model.merges.map((pair: string | string[]) =>
    typeof pair === "string" ? pair : pair.join(" ")
  );
  const named = (field: string) => {
    const content = settings[field]?.content ?? settings[field];
    return typeof content === "string" ? ids.get(content) : undefined;
  };
  const [bos, eos] = [named("bos_token"), named("eos_token")];
  return {
    "tokenizer.ggml.tokens": { strings: tokens },
    "tokenizer.ggml.token_type": { i32s: types },
    ...(json.model.byte_fallback
      ? {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.scores": { f32s: scoresOf(tokens, merges) },
        "tokenizer.ggml.unknown_token_id": { u32: ids.get("<unk>") ?? 0 },
      }
      : {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": preTokenizerName(json),
        "tokenizer.ggml.merges": { strings: merges },
      }),
    "tokenizer.ggml.add_bos_token": JSON.stringify(json.post_processor ?? {}).includes('"SpecialToken"'),
    ...(bos !== undefined && { "tokenizer.ggml.bos_token_id": { u32: bos } }),
    ...(eos !== undefined && { "tokenizer.ggml.eos_token_id": { u32: eos } }),
    ...(settings.chat_template !== undefined && { "tokenizer.chat_template": settings.chat_template }),
  };
}

/** Of two merges the earlier has the higher score; what no merge makes is joined last. */
function scoresOf(tokens: readonly string[], merges: readonly string[]): Float32Array {
  const rank = new Map<string, number>();
  merges.forEach((pair, i) => {
    const joined = pair.replace(" ", "");
    if (!rank.has(joined)) rank.set(joined, i);
  });
  return Float32Array.from(tokens, (token) => -(rank.get(token) ?? merges.length));
}

function preTokenizerName(json: { pre_tokenizer: unknown; normalizer: unknown }): string {
  if (JSON.stringify(json.normalizer ?? null).includes("NFC")) return "qwen2";
  return JSON.stringify(json.pre_tokenizer).includes("{1,3}") ? "llama-bpe" : "gpt-2";
}

/** Three special tokens, then as many bytes as there is room for, in the order of their characters; no merges. */
export function madeUpTokenizer(vocab: number): Record<string, GgufValue> {
  const special = ["<unk>", "<s>", "</s>"];
  const printable = Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i));
  const others = Array.from({ length: 256 }, (_, i) => String.fromCharCode(0x100 + i));
  const texts = [...special, ...printable, ...others];
  const tokens = Array.from({ length: vocab }, (_, i) => texts[i] ?? `[PAD${i}]`);
  return {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "gpt-2",
    "tokenizer.ggml.tokens": { strings: tokens },
    "tokenizer.ggml.token_type": {
      i32s: tokens.map((_, i) => i < 3 ? TOKEN.control : i < texts.length ? TOKEN.normal : TOKEN.unused),
    },
    "tokenizer.ggml.merges": { strings: [] },
    "tokenizer.ggml.bos_token_id": { u32: 1 },
    "tokenizer.ggml.eos_token_id": { u32: 2 },
  };
}

/** Runs `test` with the path of a file in a folder of its own. */
export async function withFile(name: string, test: (path: string) => Promise<void> | void): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "kvrm-gguf-" });
  try {
    await test(`${folder}/${name}`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
