/**
 * What the metadata of a GGUF file says about the graph.
 *
 * Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#llm
 *
 * @module
 */
import { ModelError } from "../../errors.ts";
import type { Architecture, ModelConfig } from "../config.ts";
import type { GgufTensor } from "./reader.ts";
import type { GgufMetadata } from "./metadata.ts";

/** The architectures that the step graph computes, by the names that GGUF has for them. */
const ARCHITECTURES: Readonly<Record<string, Architecture>> = {
  llama: "LlamaForCausalLM",
  mistral: "MistralForCausalLM",
  qwen2: "Qwen2ForCausalLM",
  qwen3: "Qwen3ForCausalLM",
};

/** A GGUF file's graph. */
export interface GgufConfig extends ModelConfig {
  /**
   * The rows of Q and K lie as for a RoPE that turns pairs of neighbours (2i, 2i + 1), where checkpoints turn
   * (i, i + headDim / 2). Converters permute them for the architectures that llama.cpp computes in that way.
   */
  interleavedRope: boolean;
}

/** The architecture's name in a GGUF file; throws a ModelError for one that is not supported. */
export function ggufArchitecture(metadata: GgufMetadata): string {
  const name = metadata.string("general.architecture");
  if (name === undefined || !Object.hasOwn(ARCHITECTURES, name)) {
    throw metadata.error("general.architecture", `one of ${Object.keys(ARCHITECTURES).join(", ")}`);
  }
  return name;
}

/**
 * Checks the metadata and the list of tensors, which tells whether there are biases, norms of heads and a head of
 * its own. Throws a ModelError naming the key, what was found and what is wanted, for anything that this graph
 * would compute wrongly.
 */
export function parseGgufConfig(
  metadata: GgufMetadata,
  tensors: ReadonlyMap<string, GgufTensor>,
): GgufConfig {
  const name = ggufArchitecture(metadata);
  const architecture = ARCHITECTURES[name]!;
  const key = (rest: string) => `${name}.${rest}`;
  const hidden = metadata.count(key("embedding_length"));
  const heads = metadata.count(key("attention.head_count"));
  const kvKey = key("attention.head_count_kv");
  const kvHeads = metadata.has(kvKey) ? metadata.count(kvKey) : heads;
  if (heads % kvHeads !== 0) throw metadata.error(kvKey, `a divisor of ${heads} (attention.head_count)`);
  const headDim = parseHeadDim(metadata, key, hidden, heads);
  if (metadata.has(key("expert_count")) && metadata.number(key("expert_count")) !== 0) {
    throw metadata.error(key("expert_count"), "none: experts are not supported");
  }
  const layers = metadata.count(key("block_count"));
  return {
    architecture,
    hidden,
    intermediate: metadata.count(key("feed_forward_length")),
    layers,
    heads,
    kvHeads,
    headDim,
    vocab: vocabulary(metadata, tensors, name),
    maxPosition: metadata.count(key("context_length")),
    rmsEps: metadata.requiredNumber(key("attention.layer_norm_rms_epsilon")),
    tied: !tensors.has("output.weight"),
    qkvBias: tensors.has("blk.0.attn_q.bias"),
    outputBias: tensors.has("blk.0.attn_output.bias"),
    qkNorm: tensors.has("blk.0.attn_q_norm.weight"),
    ropeTheta: metadata.number(key("rope.freq_base")) ?? 10000,
    ropeScaling: parseRope(metadata, key),
    layerWindows: parseWindows(metadata, key, layers),
    bosTokenId: metadata.number("tokenizer.ggml.bos_token_id") ?? null,
    eosTokenIds: [],
    interleavedRope: name === "llama" || name === "mistral",
  };
}

type Key = (rest: string) => string;

function parseHeadDim(metadata: GgufMetadata, key: Key, hidden: number, heads: number): number {
  const keyLength = key("attention.key_length");
  const headDim = metadata.has(keyLength) ? metadata.count(keyLength) : hidden / heads;
  if (!Number.isInteger(headDim)) {
    throw metadata.error(key("embedding_length"), `a multiple of ${heads} (attention.head_count)`);
  }
  if (headDim % 2 !== 0) throw metadata.error(keyLength, "an even number");
  for (const rest of ["attention.value_length", "rope.dimension_count"]) {
    if (metadata.has(key(rest)) && metadata.number(key(rest)) !== headDim) {
      throw metadata.error(key(rest), `${headDim}, as long as a key`);
    }
  }
  return headDim;
}

/** Rows of the embedding: the metadata's number is optional, and some converters' list of tokens is shorter. */
function vocabulary(
  metadata: GgufMetadata,
  tensors: ReadonlyMap<string, GgufTensor>,
  name: string,
): number {
  const rows = tensors.get("token_embd.weight")?.shape[0];
  return rows ?? metadata.count(`${name}.vocab_size`);
}

/** The scaling of Llama 3.1 is not here: converters write its factors into the tensor `rope_freqs.weight`. */
function parseRope(metadata: GgufMetadata, key: Key): ModelConfig["ropeScaling"] {
  const typeKey = key("rope.scaling.type");
  const type = metadata.string(typeKey) ?? (metadata.has(key("rope.scale_linear")) ? "linear" : "none");
  if (type === "none") return { type: "default" };
  if (type !== "linear") throw metadata.error(typeKey, '"none" or "linear"');
  const factorKey = key(
    metadata.has(key("rope.scaling.factor")) ? "rope.scaling.factor" : "rope.scale_linear",
  );
  const factor = metadata.requiredNumber(factorKey);
  if (!(factor > 0)) throw metadata.error(factorKey, "a number above 0");
  return { type, factor };
}

/** One window for all layers; 0 or absent for none. Layers that differ have a pattern, which is refused. */
function parseWindows(metadata: GgufMetadata, key: Key, layers: number): Uint32Array {
  const windowKey = key("attention.sliding_window");
  const window = metadata.number(windowKey) ?? 0;
  if (!Number.isInteger(window) || window < 0) throw metadata.error(windowKey, "a whole number");
  const patternKey = key("attention.sliding_window_pattern");
  if (window > 0 && metadata.has(patternKey)) {
    throw metadata.error(patternKey, "none: one window for all layers");
  }
  return new Uint32Array(layers).fill(window);
}

/**
 * Inverse frequencies with the factors of `rope_freqs.weight` applied: the frequency of each pair is divided by its
 * factor. Throws a ModelError for a tensor that does not fit.
 */
export function applyRopeFactors(invFreq: Float32Array, factors: Float32Array, path: string): Float32Array {
  if (factors.length !== invFreq.length) {
    throw new ModelError(
      `${path}: tensor rope_freqs.weight has ${factors.length} numbers, wanted ${invFreq.length}`,
    );
  }
  return invFreq.map((frequency, i) => Math.fround(frequency / factors[i]!));
}
