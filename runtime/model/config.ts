/**
 * `config.json` of the supported architectures, in the published styles of `transformers` 4 (rope_theta,
 * rope_scaling, torch_dtype) and 5 (rope_parameters, layer_types, dtype), as one checked record.
 *
 * @module
 */
import * as z from "zod/mini";
import { ModelError } from "../errors.ts";
import type { RopeScaling } from "./rope.ts";

/** The architectures that the step graph computes. */
export const SUPPORTED_ARCHITECTURES = [
  "LlamaForCausalLM",
  "MistralForCausalLM",
  "Qwen2ForCausalLM",
  "Qwen3ForCausalLM",
] as const;

/** One of {@linkcode SUPPORTED_ARCHITECTURES}. */
export type Architecture = typeof SUPPORTED_ARCHITECTURES[number];

/** What the config says about the graph, defaults filled in. */
export interface ModelConfig {
  architecture: Architecture;
  hidden: number;
  intermediate: number;
  layers: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  vocab: number;
  maxPosition: number;
  rmsEps: number;
  /** The output head is the embedding. */
  tied: boolean;
  qkvBias: boolean;
  outputBias: boolean;
  /** RMS norms of each query and key head. */
  qkNorm: boolean;
  ropeTheta: number;
  ropeScaling: RopeScaling;
  /** [layers]: sliding window in tokens, 0 for full attention. */
  layerWindows: Uint32Array;
  bosTokenId: number | null;
  eosTokenIds: number[];
}

const count = z.int().check(z.positive());
const positive = z.number().check(z.positive());
const flag = z.nullish(z.boolean());
const tokenIds = z.nullish(
  z.union([z.int().check(z.nonnegative()), z.array(z.int().check(z.nonnegative()))]),
);

const ropeFields = z.looseObject({
  rope_type: z.nullish(z.string()),
  type: z.nullish(z.string()),
  rope_theta: z.nullish(positive),
  factor: z.nullish(positive),
  low_freq_factor: z.nullish(positive),
  high_freq_factor: z.nullish(positive),
  original_max_position_embeddings: z.nullish(positive),
  partial_rotary_factor: z.nullish(positive),
});

const configFields = z.looseObject({
  hidden_size: count,
  intermediate_size: count,
  num_hidden_layers: count,
  num_attention_heads: count,
  num_key_value_heads: z.nullish(count),
  head_dim: z.nullish(count),
  vocab_size: count,
  max_position_embeddings: count,
  rms_norm_eps: z.nullish(positive),
  tie_word_embeddings: flag,
  attention_bias: flag,
  mlp_bias: flag,
  hidden_act: z.nullish(z.string()),
  rope_theta: z.nullish(positive),
  rope_scaling: z.nullish(ropeFields),
  rope_parameters: z.nullish(ropeFields),
  partial_rotary_factor: z.nullish(positive),
  sliding_window: z.nullish(count),
  use_sliding_window: flag,
  max_window_layers: z.nullish(z.int().check(z.nonnegative())),
  layer_types: z.nullish(z.array(z.string())),
  bos_token_id: tokenIds,
  eos_token_id: tokenIds,
});
type Fields = z.infer<typeof configFields>;

/**
 * Checks the content of a `config.json`. Throws a ModelError naming `source`, the field, what was found and
 * what is wanted, for anything that this graph would compute wrongly.
 */
export function parseModelConfig(json: unknown, source: string): ModelConfig {
  const fail = (field: string, found: unknown, wanted: string) =>
    new ModelError(`${source}: ${field} is ${JSON.stringify(found) ?? "missing"}, wanted ${wanted}`);
  const architecture = parseArchitecture(json, fail);
  const parsed = z.safeParse(configFields, json);
  if (!parsed.success) throw fieldError(parsed.error.issues[0], json, source);
  const c = parsed.data;

  if (c["quantization_config"] !== undefined && c["quantization_config"] !== null) {
    throw fail("quantization_config", c["quantization_config"], "none: weights in F32, F16 or BF16");
  }
  if ((c.hidden_act ?? "silu") !== "silu") throw fail("hidden_act", c.hidden_act, '"silu"');
  if (c.mlp_bias) throw fail("mlp_bias", true, "false");
  const partial = c.partial_rotary_factor ?? c.rope_parameters?.partial_rotary_factor ??
    c.rope_scaling?.partial_rotary_factor ?? 1;
  if (partial !== 1) throw fail("partial_rotary_factor", partial, "1");

  const heads = c.num_attention_heads;
  const kvHeads = c.num_key_value_heads ?? heads;
  if (heads % kvHeads !== 0) {
    throw fail("num_key_value_heads", kvHeads, `a divisor of ${heads} (num_attention_heads)`);
  }
  const headDim = c.head_dim ?? (architecture === "Qwen3ForCausalLM" ? 128 : c.hidden_size / heads);
  if (!Number.isInteger(headDim)) {
    throw fail("hidden_size", c.hidden_size, `a multiple of ${heads} (num_attention_heads)`);
  }
  if (headDim % 2 !== 0) throw fail("head_dim", headDim, "an even number");

  const attentionBias = c.attention_bias ?? false;
  const biasField = architecture === "LlamaForCausalLM" || architecture === "Qwen3ForCausalLM";
  const theta = c.rope_parameters?.rope_theta ?? c.rope_theta ?? c.rope_scaling?.rope_theta ?? 10000;
  return {
    architecture,
    hidden: c.hidden_size,
    intermediate: c.intermediate_size,
    layers: c.num_hidden_layers,
    heads,
    kvHeads,
    headDim,
    vocab: c.vocab_size,
    maxPosition: c.max_position_embeddings,
    rmsEps: c.rms_norm_eps ?? 1e-6,
    tied: c.tie_word_embeddings ?? false,
    qkvBias: architecture === "Qwen2ForCausalLM" || (biasField && attentionBias),
    outputBias: biasField && attentionBias,
    qkNorm: architecture === "Qwen3ForCausalLM",
    ropeTheta: theta,
    ropeScaling: parseRope(c, fail),
    layerWindows: parseWindows(architecture, c, fail),
    bosTokenId: asIds(c.bos_token_id)[0] ?? null,
    eosTokenIds: asIds(c.eos_token_id),
  };
}

/** A token id field: absent, one id, or several. */
export function asIds(field: number | number[] | null | undefined): number[] {
  return field === null || field === undefined ? [] : typeof field === "number" ? [field] : field;
}

type Fail = (field: string, found: unknown, wanted: string) => ModelError;

function parseArchitecture(json: unknown, fail: Fail): Architecture {
  const found = (json as { architectures?: unknown } | null)?.architectures;
  const name = Array.isArray(found) ? found[0] : undefined;
  const architecture = SUPPORTED_ARCHITECTURES.find((known) => known === name);
  if (architecture === undefined) {
    throw fail("architectures", found, `one of ${SUPPORTED_ARCHITECTURES.join(", ")}`);
  }
  return architecture;
}

function parseRope(c: Fields, fail: Fail): RopeScaling {
  const [field, rope] = c.rope_parameters ? ["rope_parameters", c.rope_parameters] as const : [
    "rope_scaling",
    c.rope_scaling,
  ] as const;
  if (!rope) return { type: "default" };
  const nested = Object.entries(rope).find(([key, value]) => key.endsWith("_attention") && value !== null);
  if (nested) throw fail(`${field}.${nested[0]}`, nested[1], "one set of RoPE parameters for all layers");
  const need = (
    name: "factor" | "low_freq_factor" | "high_freq_factor" | "original_max_position_embeddings",
  ) => {
    const value = rope[name];
    if (value === null || value === undefined) throw fail(`${field}.${name}`, value, "a positive number");
    return value;
  };
  const type = rope.rope_type ?? rope.type ?? "default";
  if (type === "default") return { type };
  if (type === "linear") return { type, factor: need("factor") };
  if (type !== "llama3") throw fail(`${field}.rope_type`, type, '"default", "linear" or "llama3"');
  return {
    type,
    factor: need("factor"),
    lowFreqFactor: need("low_freq_factor"),
    highFreqFactor: need("high_freq_factor"),
    originalMaxPosition: need("original_max_position_embeddings"),
  };
}

/** Window per layer: `layer_types` where it is given, else the rule of the architecture. */
function parseWindows(architecture: Architecture, c: Fields, fail: Fail): Uint32Array {
  const windows = new Uint32Array(c.num_hidden_layers);
  const qwen = architecture === "Qwen2ForCausalLM" || architecture === "Qwen3ForCausalLM";
  const window = qwen && !c.use_sliding_window ? 0 : c.sliding_window ?? 0;
  if (c.layer_types && architecture !== "LlamaForCausalLM") {
    if (c.layer_types.length !== c.num_hidden_layers) {
      throw fail("layer_types", c.layer_types, `${c.num_hidden_layers} entries (num_hidden_layers)`);
    }
    c.layer_types.forEach((type, layer) => {
      if (type !== "full_attention" && type !== "sliding_attention") {
        throw fail(`layer_types[${layer}]`, type, '"full_attention" or "sliding_attention"');
      }
      if (type === "full_attention") return;
      if (window === 0) {
        throw fail("sliding_window", c.sliding_window, `a window, as layer_types[${layer}] slides`);
      }
      windows[layer] = window;
    });
  } else if (architecture === "MistralForCausalLM") {
    windows.fill(window);
  } else if (qwen) {
    windows.fill(window, Math.min(c.max_window_layers ?? 28, windows.length));
  }
  return windows;
}

/** Turns a zod issue into a sentence with the field, what was found and what was wanted. */
function fieldError(issue: z.core.$ZodIssue | undefined, json: unknown, source: string): ModelError {
  let found: unknown = json;
  for (const key of issue?.path ?? []) found = (found as Record<PropertyKey, unknown> | null)?.[key];
  const wanted = issue?.code === "invalid_type" ? `a value of type ${issue.expected}` : issue?.message ?? "?";
  const field = issue?.path.join(".") || "the file";
  return new ModelError(`${source}: ${field} is ${JSON.stringify(found) ?? "missing"}, wanted ${wanted}`);
}
