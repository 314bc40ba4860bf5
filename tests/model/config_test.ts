import { assertEquals, assertThrows } from "@std/assert";
import { ModelError } from "../../runtime/errors.ts";
import { parseModelConfig } from "../../runtime/model/config.ts";
import { fixtureNames, readGolden, TINY_CONFIG } from "./support.ts";

const parse = (fields: object) => parseModelConfig({ ...TINY_CONFIG, ...fields }, "config.json");

function refuses(fields: object, ...parts: string[]) {
  const error = assertThrows(() => parse(fields), ModelError);
  for (const part of parts) {
    assertEquals(error.message.includes(part), true, `${error.message} lacks ${part}`);
  }
}

for (const name of fixtureNames("models")) {
  Deno.test(`parseModelConfig() reads both styles of ${name} alike`, () => {
    const [a, b] = ["config.json", "config.alt.json"].map((file) =>
      parseModelConfig(readGolden("models", name, file), file)
    );
    assertEquals(a, b);
  });
}

Deno.test("parseModelConfig() gives Qwen2 windows from max_window_layers on, only with use_sliding_window", () => {
  const windows = (
    name: string,
  ) => [...parseModelConfig(readGolden("models", name, "config.json"), "").layerWindows];
  assertEquals(windows("qwen2-swa"), [0, 0, 16, 16]);
  assertEquals(windows("qwen2"), [0, 0]);
  assertEquals(windows("mistral"), [24, 24]);
  assertEquals(windows("llama3"), [0, 0]);
});

Deno.test("parseModelConfig() knows which architectures have biases and query norms", () => {
  const flags = (architecture: string, attention_bias: boolean) => {
    const c = parse({ architectures: [architecture], attention_bias, head_dim: 4 });
    return [c.qkvBias, c.outputBias, c.qkNorm];
  };
  assertEquals(flags("LlamaForCausalLM", false), [false, false, false]);
  assertEquals(flags("LlamaForCausalLM", true), [true, true, false]);
  assertEquals(flags("MistralForCausalLM", false), [false, false, false]);
  assertEquals(flags("Qwen2ForCausalLM", false), [true, false, false]);
  assertEquals(flags("Qwen3ForCausalLM", false), [false, false, true]);
  assertEquals(flags("Qwen3ForCausalLM", true), [true, true, true]);
});

Deno.test("parseModelConfig() fills in defaults", () => {
  const c = parse({ num_key_value_heads: null, rms_norm_eps: undefined, rope_theta: undefined });
  assertEquals([c.kvHeads, c.headDim, c.rmsEps, c.ropeTheta], [2, 4, 1e-6, 10000]);
  assertEquals(c.ropeScaling, { type: "default" });
  assertEquals(parse({ eos_token_id: [2, 7] }).eosTokenIds, [2, 7]);
  assertEquals(parse({ eos_token_id: null }).eosTokenIds, []);
});

Deno.test("parseModelConfig() names the architectures it supports when it refuses one", () => {
  refuses(
    { architectures: ["GemmaForCausalLM"] },
    'config.json: architectures is ["GemmaForCausalLM"]',
    "LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM",
  );
  refuses({ architectures: undefined }, "architectures is missing");
});

Deno.test("parseModelConfig() refuses what the graph would compute wrongly", () => {
  refuses(
    { quantization_config: { quant_method: "gptq" } },
    "quantization_config",
    "gptq",
    "F32, F16 or BF16",
  );
  refuses({ hidden_act: "gelu" }, 'hidden_act is "gelu", wanted "silu"');
  refuses({ mlp_bias: true }, "mlp_bias is true");
  refuses({ partial_rotary_factor: 0.5 }, "partial_rotary_factor is 0.5");
  refuses(
    { rope_parameters: { rope_type: "default", partial_rotary_factor: 0.25 } },
    "partial_rotary_factor is 0.25",
  );
  refuses(
    { rope_scaling: { type: "dynamic", factor: 2 } },
    'rope_scaling.rope_type is "dynamic"',
    '"llama3"',
  );
  refuses({ rope_parameters: { rope_type: "yarn", factor: 2 } }, 'rope_parameters.rope_type is "yarn"');
  refuses({ rope_parameters: { full_attention: { rope_theta: 1 } } }, "rope_parameters.full_attention");
  refuses({ rope_scaling: { rope_type: "llama3", factor: 8 } }, "rope_scaling.low_freq_factor is missing");
});

Deno.test("parseModelConfig() refuses numbers that contradict each other", () => {
  refuses({ num_attention_heads: 3 }, "hidden_size is 8, wanted a multiple of 3");
  refuses(
    { num_attention_heads: 4, num_key_value_heads: 3 },
    "num_key_value_heads is 3, wanted a divisor of 4",
  );
  refuses({ head_dim: 5 }, "head_dim is 5, wanted an even number");
  const mistral = { architectures: ["MistralForCausalLM"], sliding_window: 4 };
  refuses({ ...mistral, layer_types: [] }, "layer_types is [], wanted 1 entries");
  refuses({ ...mistral, layer_types: ["linear_attention"] }, 'layer_types[0] is "linear_attention"');
  refuses({ ...mistral, sliding_window: null, layer_types: ["sliding_attention"] }, "sliding_window is null");
});

Deno.test("parseModelConfig() names a field of the wrong type", () => {
  refuses({ hidden_size: "8" }, 'hidden_size is "8"');
  refuses({ num_hidden_layers: 0 }, "num_hidden_layers is 0");
  refuses({ vocab_size: undefined }, "vocab_size is missing");
  refuses({ rope_scaling: { rope_type: "linear", factor: -1 } }, "rope_scaling.factor is -1");
});
