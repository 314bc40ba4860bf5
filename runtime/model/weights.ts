/**
 * From the files of a model to the table of tensors that the native library maps.
 *
 * @module
 */
import type { NativeTensor } from "../../ffi/mod.ts";
import { join } from "node:path";
import { ModelError } from "../errors.ts";
import type { ModelConfig } from "./config.ts";
import { readJsonIfPresent } from "./json.ts";
import { readSafetensorsHeader, type TensorEntry } from "./safetensors.ts";

/** `kvrm_role` of csrc/kvrm.h. */
export const Role = {
  EMBED: 0,
  FINAL_NORM: 1,
  LM_HEAD: 2,
  ATTN_NORM: 3,
  Q: 4,
  K: 5,
  V: 6,
  O: 7,
  Q_BIAS: 8,
  K_BIAS: 9,
  V_BIAS: 10,
  O_BIAS: 11,
  Q_NORM: 12,
  K_NORM: 13,
  FFN_NORM: 14,
  GATE: 15,
  UP: 16,
  DOWN: 17,
} as const;

/** `kvrm_dtype` of csrc/kvrm.h. */
export const DTYPE_CODES = { f32: 0, f16: 1, bf16: 2, q8_0: 4, q4_0: 5, q4_k: 6, q5_k: 7, q6_k: 8 } as const;

/** Storage type of a weight. */
export type WeightDtype = keyof typeof DTYPE_CODES;

/** Bytes of one number by the type's code; of a block format, its share of the block. */
const BYTES_PER_WEIGHT: Readonly<Record<number, number>> = {
  [DTYPE_CODES.f32]: 4,
  [DTYPE_CODES.f16]: 2,
  [DTYPE_CODES.bf16]: 2,
  [DTYPE_CODES.q8_0]: 34 / 32,
  [DTYPE_CODES.q4_0]: 18 / 32,
  [DTYPE_CODES.q4_k]: 144 / 256,
  [DTYPE_CODES.q5_k]: 176 / 256,
  [DTYPE_CODES.q6_k]: 210 / 256,
};

/** Bytes of a tensor. */
export function tensorBytes({ dtype, rows, cols }: { dtype: number; rows: number; cols: number }): number {
  return rows * cols * BYTES_PER_WEIGHT[dtype]!;
}

const DTYPES: Readonly<Record<string, "f32" | "f16" | "bf16">> = { F32: "f32", F16: "f16", BF16: "bf16" };

/** A tensor that the architecture needs: its name in the checkpoint and its shape. */
export interface TensorSpec {
  name: string;
  role: number;
  layer: number;
  shape: readonly number[];
}

/** What {@linkcode locateTensors} found. */
export interface LocatedTensors {
  tensors: NativeTensor[];
  /** Absolute paths. */
  files: string[];
  /** The type of most weights. */
  dtype: WeightDtype;
  /** Numbers in the tensors. */
  parameters: number;
  /** Tensors of the files that the architecture does not have. */
  ignored: string[];
}

/** The shape fields of a config that decide which tensors there are. */
export type GraphShape = Pick<
  ModelConfig,
  | "hidden"
  | "intermediate"
  | "layers"
  | "heads"
  | "kvHeads"
  | "headDim"
  | "vocab"
  | "tied"
  | "qkvBias"
  | "outputBias"
  | "qkNorm"
>;

/** Every tensor of the graph, in the order of computation. */
export function tensorSpecs(c: GraphShape): TensorSpec[] {
  const query = c.heads * c.headDim;
  const key = c.kvHeads * c.headDim;
  const specs: TensorSpec[] = [];
  const add = (role: number, layer: number, name: string, ...shape: number[]) =>
    specs.push({ role, layer, name, shape });
  add(Role.EMBED, 0, "model.embed_tokens.weight", c.vocab, c.hidden);
  for (let layer = 0; layer < c.layers; layer++) {
    const prefix = `model.layers.${layer}.`;
    const attention = `${prefix}self_attn.`;
    add(Role.ATTN_NORM, layer, `${prefix}input_layernorm.weight`, c.hidden);
    add(Role.Q, layer, `${attention}q_proj.weight`, query, c.hidden);
    add(Role.K, layer, `${attention}k_proj.weight`, key, c.hidden);
    add(Role.V, layer, `${attention}v_proj.weight`, key, c.hidden);
    if (c.qkvBias) {
      add(Role.Q_BIAS, layer, `${attention}q_proj.bias`, query);
      add(Role.K_BIAS, layer, `${attention}k_proj.bias`, key);
      add(Role.V_BIAS, layer, `${attention}v_proj.bias`, key);
    }
    if (c.qkNorm) {
      add(Role.Q_NORM, layer, `${attention}q_norm.weight`, c.headDim);
      add(Role.K_NORM, layer, `${attention}k_norm.weight`, c.headDim);
    }
    add(Role.O, layer, `${attention}o_proj.weight`, c.hidden, query);
    if (c.outputBias) add(Role.O_BIAS, layer, `${attention}o_proj.bias`, c.hidden);
    add(Role.FFN_NORM, layer, `${prefix}post_attention_layernorm.weight`, c.hidden);
    add(Role.GATE, layer, `${prefix}mlp.gate_proj.weight`, c.intermediate, c.hidden);
    add(Role.UP, layer, `${prefix}mlp.up_proj.weight`, c.intermediate, c.hidden);
    add(Role.DOWN, layer, `${prefix}mlp.down_proj.weight`, c.hidden, c.intermediate);
  }
  add(Role.FINAL_NORM, 0, "model.norm.weight", c.hidden);
  if (!c.tied) add(Role.LM_HEAD, 0, "lm_head.weight", c.vocab, c.hidden);
  return specs;
}

/**
 * Finds every tensor of the architecture in `folder`'s safetensors files and checks type and shape. Throws a
 * ModelError naming file, tensor, what was found and what is wanted.
 */
export async function locateTensors(folder: string, config: GraphShape): Promise<LocatedTensors> {
  const { files, headers, index } = await readHeaders(folder);
  const tensors: NativeTensor[] = [];
  const used = new Set<string>();
  const counts = { f32: 0, f16: 0, bf16: 0 };
  for (const spec of tensorSpecs(config)) {
    const file = findFile(spec.name, files, headers, index, folder);
    const path = files[file]!;
    const entry = headers[file]!.get(spec.name)!;
    const dtype = DTYPES[entry.dtype];
    if (dtype === undefined) {
      throw new ModelError(`${path}: tensor ${spec.name} has dtype ${entry.dtype}, wanted F32, F16 or BF16`);
    }
    if (entry.shape.length !== spec.shape.length || spec.shape.some((n, i) => n !== entry.shape[i])) {
      throw new ModelError(
        `${path}: tensor ${spec.name} has shape [${entry.shape.join(", ")}], ` +
          `config.json wants [${spec.shape.join(", ")}]`,
      );
    }
    const [rows, cols] = [spec.shape[0]!, spec.shape[1] ?? 1];
    tensors.push({
      role: spec.role,
      layer: spec.layer,
      dtype: DTYPE_CODES[dtype],
      file,
      offset: entry.offset,
      rows,
      cols,
    });
    used.add(spec.name);
    counts[dtype] += rows * cols;
  }
  const ignored = headers.flatMap((header) => [...header.keys()])
    .filter((name) => !used.has(name) && !isExpectedExtra(name, config.tied));
  const dtype = (Object.keys(counts) as (keyof typeof counts)[]).reduce((a, b) =>
    counts[b] > counts[a] ? b : a
  );
  return { tensors, files, dtype, parameters: counts.f32 + counts.f16 + counts.bf16, ignored };
}

/** Saved by older versions of transformers, or a second copy of tied embeddings. */
function isExpectedExtra(name: string, tied: boolean): boolean {
  return name.endsWith(".rotary_emb.inv_freq") || (tied && name === "lm_head.weight");
}

interface Headers {
  /** Absolute paths. */
  files: string[];
  headers: Map<string, TensorEntry>[];
  /** The index's map from tensor to file number; null for a single file. */
  index: Map<string, number> | null;
}

async function readHeaders(folder: string): Promise<Headers> {
  const single = join(folder, "model.safetensors");
  const indexPath = join(folder, "model.safetensors.index.json");
  if (await isFile(single)) {
    return { files: [single], headers: [await readSafetensorsHeader(single)], index: null };
  }
  const json = await readJsonIfPresent(indexPath) as { weight_map?: unknown } | null;
  if (json === null) {
    const others = await isFile(join(folder, "pytorch_model.bin")) ||
      await isFile(join(folder, "pytorch_model.bin.index.json"));
    throw new ModelError(
      `${folder} has neither model.safetensors nor model.safetensors.index.json` +
        (others ? "; pytorch_model.bin is not read, convert it to safetensors" : ""),
    );
  }
  const map = json.weight_map;
  if (map === null || typeof map !== "object" || Array.isArray(map)) {
    throw new ModelError(`${indexPath}: weight_map is ${JSON.stringify(map) ?? "missing"}, wanted an object`);
  }
  const names: string[] = [];
  const index = new Map<string, number>();
  for (const [tensor, name] of Object.entries(map as Record<string, unknown>)) {
    if (typeof name !== "string" || name.startsWith("/") || name.split(/[/\\]/).includes("..")) {
      throw new ModelError(
        `${indexPath}: weight_map.${tensor} is ${JSON.stringify(name)}, wanted a file of the folder`,
      );
    }
    let file = names.indexOf(name);
    if (file < 0) file = names.push(name) - 1;
    index.set(tensor, file);
  }
  const files = names.map((name) => join(folder, name));
  return { files, headers: await Promise.all(files.map(readSafetensorsHeader)), index };
}

/** The number of the file that holds a tensor. */
function findFile(
  name: string,
  files: readonly string[],
  headers: readonly Map<string, TensorEntry>[],
  index: Map<string, number> | null,
  folder: string,
): number {
  const file = index === null ? 0 : index.get(name);
  if (file !== undefined && headers[file]!.has(name)) return file;
  const where = index === null ? files[0] : join(folder, "model.safetensors.index.json");
  const hint = name === "lm_head.weight" ? " (config.json says tie_word_embeddings: false)" : "";
  if (file === undefined || index === null) {
    throw new ModelError(`${where}: tensor ${name} is missing${hint}`);
  }
  const actual = headers.findIndex((header) => header.has(name));
  throw new ModelError(
    `${where} says that tensor ${name} is in ${files[file]}, but it is in ` +
      (actual < 0 ? "none of the files" : files[actual]),
  );
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return false;
    throw error;
  }
}
