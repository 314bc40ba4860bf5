/**
 * From the headers of a GGUF model's files to the table of tensors that the native library maps.
 *
 * @module
 */
import { ModelError } from "../../errors.ts";
import { DTYPE_CODES, type LocatedTensors, Role, tensorSpecs, type WeightDtype } from "../weights.ts";
import type { GgufConfig } from "./config.ts";
import { partNumber, partPaths } from "./parts.ts";
import { type GgufHeader, type GgufTensor, readGgufHeader } from "./reader.ts";

/** The tensor of each role; those of a layer stand behind `blk.N.`. */
const NAMES: Readonly<Record<number, string>> = {
  [Role.EMBED]: "token_embd.weight",
  [Role.FINAL_NORM]: "output_norm.weight",
  [Role.LM_HEAD]: "output.weight",
  [Role.ATTN_NORM]: "attn_norm.weight",
  [Role.Q]: "attn_q.weight",
  [Role.K]: "attn_k.weight",
  [Role.V]: "attn_v.weight",
  [Role.O]: "attn_output.weight",
  [Role.Q_BIAS]: "attn_q.bias",
  [Role.K_BIAS]: "attn_k.bias",
  [Role.V_BIAS]: "attn_v.bias",
  [Role.O_BIAS]: "attn_output.bias",
  [Role.Q_NORM]: "attn_q_norm.weight",
  [Role.K_NORM]: "attn_k_norm.weight",
  [Role.FFN_NORM]: "ffn_norm.weight",
  [Role.GATE]: "ffn_gate.weight",
  [Role.UP]: "ffn_up.weight",
  [Role.DOWN]: "ffn_down.weight",
};

/** Types of weights, by GGUF's names. */
const DTYPES: Readonly<Record<string, WeightDtype>> = {
  F32: "f32",
  F16: "f16",
  BF16: "bf16",
  Q8_0: "q8_0",
  Q4_0: "q4_0",
  Q4_K: "q4_k",
  Q5_K: "q5_k",
  Q6_K: "q6_k",
};
/** Of vectors: what the library reads of them. */
const VECTOR_DTYPES = ["f32", "f16", "bf16"];

/** The files of a model, as one. */
export interface GgufParts {
  /** Absolute paths. */
  files: string[];
  /** The first file's header: its metadata are the model's. */
  first: GgufHeader;
  /** All tensors, with the number of the file. */
  tensors: Map<string, GgufTensor & { file: number }>;
}

/**
 * Reads the headers of a model's files: the path is the only one, or the first of those that are named
 * `…-00001-of-0000N.gguf`. Throws a ModelError naming the file at fault.
 */
export function readGgufParts(path: string): GgufParts {
  if (partNumber(path) !== 1) {
    throw new ModelError(`${path} is part ${partNumber(path)} of a model: wanted the path of its first part`);
  }
  const files = partPaths(path);
  const headers = files.map(readGgufHeader);
  const first = headers[0]!;
  const parts = first.metadata.number("split.count") ?? 1;
  if (Math.max(parts, 1) !== files.length) {
    const wanted = files.length === 1
      ? "no parts: its name does not end in -00001-of-0000N.gguf"
      : files.length;
    throw first.metadata.error("split.count", `${wanted}`);
  }
  const tensors: GgufParts["tensors"] = new Map();
  headers.forEach((header, file) => {
    for (const [name, tensor] of header.tensors) {
      const other = tensors.get(name);
      if (other) throw new ModelError(`tensor ${name} is in ${files[other.file]} and in ${files[file]}`);
      tensors.set(name, { ...tensor, file });
    }
  });
  return { files, first, tensors };
}

/**
 * Finds every tensor of the architecture and checks type and shape. Throws a ModelError naming file, tensor, what
 * was found and what is wanted.
 */
export function locateGgufTensors(parts: GgufParts, config: GgufConfig): LocatedTensors {
  const { files, tensors: found } = parts;
  const located: LocatedTensors = { tensors: [], files, dtype: "f32", parameters: 0, ignored: [] };
  const used = new Set(["rope_freqs.weight"]);
  const counts = new Map<WeightDtype, number>();
  for (const { role, layer, shape } of tensorSpecs(config)) {
    const perLayer = role >= Role.ATTN_NORM;
    const name = perLayer ? `blk.${layer}.${NAMES[role]}` : NAMES[role]!;
    const tensor = found.get(name);
    if (tensor === undefined) throw new ModelError(`${files.join(", ")}: tensor ${name} is missing`);
    const path = files[tensor.file]!;
    if (tensor.shape.length !== shape.length || shape.some((n, i) => n !== tensor.shape[i])) {
      throw new ModelError(
        `${path}: tensor ${name} has shape [${tensor.shape.join(", ")}], its metadata want [${
          shape.join(", ")
        }]`,
      );
    }
    const dtype = dtypeOf(tensor, shape.length === 1, `${path}: tensor ${name}`);
    const [rows, cols] = [shape[0]!, shape[1] ?? 1];
    located.tensors.push({
      role,
      layer,
      dtype: DTYPE_CODES[dtype],
      file: tensor.file,
      offset: tensor.offset,
      rows,
      cols,
    });
    used.add(name);
    located.parameters += rows * cols;
    counts.set(dtype, (counts.get(dtype) ?? 0) + rows * cols);
  }
  located.ignored = [...found.keys()].filter((name) => !used.has(name));
  located.dtype = [...counts].reduce((a, b) => b[1] > a[1] ? b : a)[0];
  return located;
}

function dtypeOf({ type, typeId }: GgufTensor, vector: boolean, what: string): WeightDtype {
  const name = type?.name ?? `number ${typeId}`;
  const dtype = Object.hasOwn(DTYPES, name) ? DTYPES[name]! : undefined;
  if (dtype === undefined || (vector && !VECTOR_DTYPES.includes(dtype))) {
    const wanted = Object.keys(DTYPES).slice(0, vector ? VECTOR_DTYPES.length : undefined).join(", ");
    throw new ModelError(`${what} has the type ${name}, wanted one of ${wanted}`);
  }
  return dtype;
}

/** The numbers of a small F32 tensor, read from its file; null where there is none. */
export function readF32Tensor(parts: GgufParts, name: string): Float32Array | null {
  const tensor = parts.tensors.get(name);
  if (tensor === undefined) return null;
  const path = parts.files[tensor.file]!;
  if (tensor.type?.name !== "F32") {
    throw new ModelError(
      `${path}: tensor ${name} has the type ${tensor.type?.name ?? tensor.typeId}, wanted F32`,
    );
  }
  using file = Deno.openSync(path);
  file.seekSync(tensor.offset, Deno.SeekMode.Start);
  const bytes = new Uint8Array(tensor.bytes);
  for (let at = 0; at < bytes.length;) at += file.readSync(bytes.subarray(at)) ?? bytes.length;
  return new Float32Array(bytes.buffer);
}
