/**
 * Everything that the native library needs of a model, as plain data.
 *
 * @module
 */
import { join, resolve } from "node:path";
import type { NativeModelTables } from "../../ffi/mod.ts";
import { ModelError } from "../errors.ts";
import { type ModelConfig, parseModelConfig } from "./config.ts";
import { readJson } from "./json.ts";
import { ropeInvFreq } from "./rope.ts";
import { DTYPE_CODES, locateTensors, tensorSpecs, type WeightDtype } from "./weights.ts";

/** Everything the native library needs. */
export type ModelTables = NativeModelTables;

/** The graph and weights of a folder, without its tokenizer. */
export interface LoadedTables {
  /** Absolute path; of a GGUF model its first file's. */
  folder: string;
  config: ModelConfig;
  tables: ModelTables;
  /** The type of most weights. */
  dtype: WeightDtype;
  parameters: number;
  /** Names of tensors that the architecture does not have and that are not read. */
  ignoredTensors: string[];
}

/**
 * Reads `config.json` and the headers of the safetensors files, or the header of a GGUF file. Throws a ModelError naming file, tensor or
 * field, what was found and what is wanted.
 */
export async function loadModelTables(path: string): Promise<LoadedTables> {
  const folder = resolve(path);
  if (await isFile(folder)) {
    // Loaded only here: a start from a folder should not pay for it.
    const { loadGgufTables } = await import("./gguf/model.ts");
    return loadGgufTables(folder);
  }
  const configPath = join(folder, "config.json");
  const config = parseModelConfig(await readJson(configPath, "it describes the model"), configPath);
  const located = await locateTensors(folder, config);
  return {
    folder,
    config,
    tables: {
      config: nativeConfig(config),
      tensors: located.tensors,
      files: located.files,
      invFreq: ropeInvFreq(config.headDim, config.ropeTheta, config.ropeScaling),
      layerWindows: config.layerWindows,
    },
    dtype: located.dtype,
    parameters: located.parameters,
    ignoredTensors: located.ignored,
  };
}

/** The shape of a made-up model. */
export interface RandomModelShape {
  hidden: number;
  intermediate: number;
  layers: number;
  heads: number;
  kvHeads: number;
  /** Default: hidden / heads. */
  headDim?: number;
  vocab: number;
  /** Default 4096. */
  maxPosition?: number;
  /** Default "bf16". */
  dtype?: WeightDtype;
  /** The head is the embedding. Default false. */
  tied?: boolean;
}

/** Tables of a Llama whose weights the library makes up (`KVRM_NO_FILE`): for benchmarks. */
export function randomModel(shape: RandomModelShape): ModelTables {
  const headDim = shape.headDim ?? shape.hidden / shape.heads;
  const { hidden, intermediate, layers, heads, kvHeads, vocab } = shape;
  const graph = { hidden, intermediate, layers, heads, kvHeads, headDim, vocab };
  const dtype = DTYPE_CODES[shape.dtype ?? "bf16"];
  return {
    config: nativeConfig({ ...graph, maxPosition: shape.maxPosition ?? 4096, rmsEps: 1e-5 }),
    tensors: tensorSpecs({
      ...graph,
      tied: shape.tied ?? false,
      qkvBias: false,
      outputBias: false,
      qkNorm: false,
    }).map(({ role, layer, shape: [rows, cols] }) => ({
      role,
      layer,
      dtype,
      file: 0xffffffff,
      offset: 0,
      rows: rows!,
      cols: cols ?? 1,
    })),
    files: [],
    invFreq: ropeInvFreq(headDim, 10000, { type: "default" }),
    layerWindows: new Uint32Array(layers),
  };
}

type NativeFields = Omit<ModelTables["config"], "attentionScale" | "ropeInterleaved">;

/** The fields that the native library wants, of a config that may have more. */
export function nativeConfig(c: NativeFields): ModelTables["config"] {
  return {
    hidden: c.hidden,
    intermediate: c.intermediate,
    layers: c.layers,
    heads: c.heads,
    kvHeads: c.kvHeads,
    headDim: c.headDim,
    vocab: c.vocab,
    maxPosition: c.maxPosition,
    rmsEps: c.rmsEps,
    attentionScale: 1 / Math.sqrt(c.headDim),
  };
}

/**
 * Whether a model's path is that of a file. Throws a ModelError where there is nothing.
 */
export async function isFile(path: string): Promise<boolean> {
  try {
    return !(await Deno.stat(path)).isDirectory;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new ModelError(`${path} does not exist: wanted a model's folder or a GGUF file`, { cause: error });
  }
}
