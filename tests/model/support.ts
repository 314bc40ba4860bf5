/** What the tests of runtime/model share: fixtures, made-up model folders, safetensors files. */
import { join } from "node:path";
import { fileURLToPath as fromFileUrl } from "node:url";

/** The committed golden files. */
export const FIXTURES = fromFileUrl(new URL("../fixtures/", import.meta.url));

/** Files that lie beside the repository and are absent from a user's clone; KVRM_SHARED overrides. */
export const SHARED = Deno.env.get("KVRM_SHARED") ??
  fromFileUrl(new URL("../../../shared/", import.meta.url));

/** Registers a test that needs `SHARED`, or one that says plainly that it is skipped. */
export function sharedTest(name: string, path: string, run: (path: string) => void | Promise<void>): void {
  const full = join(SHARED, path);
  const ignore = !exists(full);
  Deno.test({
    name: ignore ? `${name} (skipped: ../shared/${path} is absent)` : name,
    ignore,
    fn: () => run(full),
  });
}

/** Names of the folders in a fixture folder. */
export function fixtureNames(folder: string): string[] {
  return [...Deno.readDirSync(join(FIXTURES, folder))].filter((e) => e.isDirectory).map((e) => e.name).sort();
}

// deno-lint-ignore no-explicit-any -- golden files, whose shape their generators document
export function readGolden(...path: string[]): any {
  return JSON.parse(Deno.readTextFileSync(join(FIXTURES, ...path)));
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

/** A tensor to write: its values do not matter, so they are zero. */
export interface TensorShape {
  dtype?: string;
  shape: number[];
}

const BYTES: Record<string, number> = { F32: 4, F16: 2, BF16: 2, F64: 8, I8: 1 };

/** The bytes of a safetensors file of zeros. */
export function safetensorsBytes(tensors: Record<string, TensorShape>): Uint8Array<ArrayBuffer> {
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
  let end = 0;
  for (const [name, { dtype = "F32", shape }] of Object.entries(tensors)) {
    const begin = end;
    end += shape.reduce((a, b) => a * b, BYTES[dtype] ?? 1);
    header[name] = { dtype, shape, data_offsets: [begin, end] };
  }
  return withHeader(JSON.stringify(header), end);
}

/** A safetensors file with this header text, and `dataBytes` of zeros after it. */
export function withHeader(header: string, dataBytes: number): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(header.padEnd(Math.ceil(header.length / 8) * 8));
  const bytes = new Uint8Array(8 + text.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  return bytes;
}

/** A tiny Llama's config.json. */
export const TINY_CONFIG = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  vocab_size: 10,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-5,
  rope_theta: 10000.0,
  hidden_act: "silu",
  tie_word_embeddings: true,
  torch_dtype: "float32",
  bos_token_id: 1,
  eos_token_id: 2,
};

/** Its tensors. */
export const TINY_TENSORS: Record<string, TensorShape> = {
  "model.embed_tokens.weight": { shape: [10, 8] },
  "model.layers.0.input_layernorm.weight": { shape: [8] },
  "model.layers.0.self_attn.q_proj.weight": { shape: [8, 8] },
  "model.layers.0.self_attn.k_proj.weight": { shape: [4, 8] },
  "model.layers.0.self_attn.v_proj.weight": { shape: [4, 8] },
  "model.layers.0.self_attn.o_proj.weight": { shape: [8, 8] },
  "model.layers.0.post_attention_layernorm.weight": { shape: [8] },
  "model.layers.0.mlp.gate_proj.weight": { shape: [12, 8] },
  "model.layers.0.mlp.up_proj.weight": { shape: [12, 8] },
  "model.layers.0.mlp.down_proj.weight": { shape: [8, 12] },
  "model.norm.weight": { shape: [8] },
};

/** Its tokenizer.json. */
export const TINY_TOKENIZER = {
  version: "1.0",
  added_tokens: [
    { id: 0, content: "<unk>", special: true },
    { id: 1, content: "<s>", special: true },
    { id: 2, content: "</s>", special: true },
  ],
  normalizer: null,
  pre_tokenizer: null,
  post_processor: null,
  decoder: { type: "ByteLevel" },
  model: {
    type: "BPE",
    unk_token: "<unk>",
    vocab: { "<unk>": 0, "<s>": 1, "</s>": 2, a: 3, b: 4, c: 5, ab: 6, abc: 7 },
    merges: ["a b", "ab c"],
  },
};

/** Files of a model folder: objects are written as JSON, null leaves a file out. */
export type FolderFiles = Record<string, object | string | Uint8Array | null>;

/** Runs `test` in a temporary folder that holds a tiny Llama, with `files` replaced or added. */
export async function withModel(files: FolderFiles, test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "kvrm-model-" });
  try {
    const all: FolderFiles = {
      "config.json": TINY_CONFIG,
      "tokenizer.json": TINY_TOKENIZER,
      "tokenizer_config.json": { bos_token: "<s>", eos_token: "</s>" },
      "generation_config.json": { eos_token_id: 2 },
      "model.safetensors": safetensorsBytes(TINY_TENSORS),
      ...files,
    };
    for (const [name, content] of Object.entries(all)) {
      if (content === null) continue;
      const bytes = content instanceof Uint8Array
        ? content
        : new TextEncoder().encode(typeof content === "string" ? content : JSON.stringify(content));
      await Deno.writeFile(join(folder, name), bytes);
    }
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
