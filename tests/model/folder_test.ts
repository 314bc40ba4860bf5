import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { ModelError } from "../../runtime/errors.ts";
import { loadModelFolder, loadModelTables, randomModel } from "../../runtime/model/folder.ts";
import { readSafetensorsHeader } from "../../runtime/model/safetensors.ts";
import { Role } from "../../runtime/model/weights.ts";
import {
  fixtureNames,
  FIXTURES,
  type FolderFiles,
  readGolden,
  safetensorsBytes,
  sharedTest,
  TINY_CONFIG,
  TINY_TENSORS,
  TINY_TOKENIZER,
  withHeader,
  withModel,
} from "./support.ts";

/** Loading the tiny model with these files replaced fails with a message that has all parts. */
async function refuses(files: FolderFiles, ...parts: string[]): Promise<void> {
  await withModel(files, async (folder) => {
    const error = await assertRejects(() => loadModelFolder(folder), ModelError);
    for (const part of parts) assertStringIncludes(error.message, part);
    assertStringIncludes(error.message, folder);
  });
}

for (const name of fixtureNames("models")) {
  Deno.test(`loadModelTables() finds every tensor of ${name}`, async () => {
    const folder = join(FIXTURES, "models", name);
    const { tables, config, dtype, parameters, ignoredTensors } = await loadModelTables(folder);
    const bytes = [4, 2, 2];
    let total = 0;
    for (const tensor of tables.tensors) {
      const size = tensor.rows * tensor.cols * bytes[tensor.dtype]!;
      total += tensor.rows * tensor.cols;
      assertEquals(tensor.offset + size <= Deno.statSync(tables.files[tensor.file]!).size, true);
    }
    assertEquals(total, parameters);
    assertEquals(ignoredTensors, []);
    assertEquals(dtype, name === "llama-bf16" ? "bf16" : name === "llama-f16" ? "f16" : "f32");
    assertEquals(tables.files.length, name === "mistral" ? 2 : 1);
    const roles = new Set(tables.tensors.map((t) => t.role));
    assertEquals(roles.has(Role.LM_HEAD), !readGolden("models", name, "config.json").tie_word_embeddings);
    assertEquals(roles.has(Role.Q_BIAS), name.startsWith("qwen2"));
    assertEquals(roles.has(Role.O_BIAS), false);
    assertEquals(roles.has(Role.Q_NORM), name === "qwen3");
    assertEquals(tables.invFreq.length, config.headDim / 2);
    assertEquals(tables.config.attentionScale, 1 / Math.sqrt(config.headDim));
    assertEquals(structuredClone(tables), tables); // survives postMessage
  });
}

Deno.test("loadModelFolder() reads everything of a folder", async () => {
  const model = await loadModelFolder(join(FIXTURES, "models", "llama3"), { id: "some/name" });
  assertEquals(model.id, "some/name");
  assertEquals(model.architecture, "LlamaForCausalLM");
  assertEquals(model.eosTokenIds, [257, 258]);
  assertEquals(model.defaults, { temperature: 0.6, topP: 0.9 });
  assertEquals(model.notes, []);
  const { text } = readGolden("models", "llama3", "golden.json");
  assertEquals(model.tokenizer.encode(text.completion.prompt), text.completion.ids);
  assertEquals(model.chatTemplate!.render(text.chat.messages), text.chat.rendered);
  assertEquals(model.tokenizer.encode(text.chat.rendered, { addSpecialTokens: false }), text.chat.ids);
});

sharedTest("loadModelFolder() reads stories260K", "models/stories260K", async (folder) => {
  const model = await loadModelFolder(folder);
  assertEquals(model.id, "stories260K");
  assertEquals(model.parameters, 260032);
  assertEquals(model.eosTokenIds, [2]);
  assertEquals(model.chatTemplate, null);
});

Deno.test("loadModelFolder() takes EOS from generation_config.json, else config.json, else the tokenizer", async () => {
  const eos = async (files: FolderFiles, wanted: number[]) =>
    await withModel(
      files,
      async (folder) => assertEquals((await loadModelFolder(folder)).eosTokenIds, wanted),
    );
  await eos({ "generation_config.json": { eos_token_id: [4, 5] } }, [4, 5]);
  await eos({ "generation_config.json": null, "config.json": { ...TINY_CONFIG, eos_token_id: 5 } }, [5]);
  await eos({ "generation_config.json": null, "config.json": { ...TINY_CONFIG, eos_token_id: null } }, [2]);
});

Deno.test("loadModelFolder() reads sampling defaults and checks them", async () => {
  const generation = { temperature: 0.5, top_k: -1, top_p: 0.9, min_p: 0.05, do_sample: true };
  await withModel({ "generation_config.json": generation }, async (folder) => {
    const { defaults } = await loadModelFolder(folder);
    assertEquals(defaults, { temperature: 0.5, topK: 0, topP: 0.9, minP: 0.05 });
  });
  await refuses({ "generation_config.json": { temperature: "hot" } }, "generation_config.json: temperature");
});

Deno.test("loadModelFolder() notes tensors that it does not read, but not the known ones", async () => {
  const tensors = {
    ...TINY_TENSORS,
    "lm_head.weight": { shape: [10, 8] },
    "model.layers.0.self_attn.rotary_emb.inv_freq": { shape: [2] },
    "model.vision.weight": { dtype: "I8", shape: [3] },
  };
  await withModel({ "model.safetensors": safetensorsBytes(tensors) }, async (folder) => {
    const { notes } = await loadModelFolder(folder);
    assertEquals(notes.length, 1);
    assertStringIncludes(notes[0]!, "model.vision.weight");
  });
});

Deno.test("loadModelFolder() names the tensor that is missing, mis-shaped or of an unsupported type", async () => {
  const replace = (name: string, tensor: object | null) => {
    const { [name]: _, ...rest } = TINY_TENSORS;
    return { "model.safetensors": safetensorsBytes({ ...rest, ...(tensor && { [name]: tensor }) } as never) };
  };
  const k = "model.layers.0.self_attn.k_proj.weight";
  await refuses(replace(k, null), "model.safetensors: tensor " + k + " is missing");
  await refuses(replace(k, { shape: [8, 8] }), k, "has shape [8, 8]", "wants [4, 8]");
  await refuses(replace(k, { shape: [32] }), k, "has shape [32]", "wants [4, 8]");
  await refuses(replace(k, { dtype: "F64", shape: [4, 8] }), k, "has dtype F64", "F32, F16 or BF16");
  await refuses({ "config.json": { ...TINY_CONFIG, vocab_size: 11 } }, "embed_tokens", "[10, 8]", "[11, 8]");
  await refuses(
    { "config.json": { ...TINY_CONFIG, tie_word_embeddings: false } },
    "lm_head.weight is missing",
    "tie_word_embeddings",
  );
});

Deno.test("loadModelFolder() refuses a safetensors file that is truncated or damaged", async () => {
  const whole = safetensorsBytes(TINY_TENSORS);
  const file = (bytes: Uint8Array) => ({ "model.safetensors": bytes });
  await refuses(
    file(whole.slice(0, -1)),
    "is truncated",
    `${whole.length - 1} bytes`,
    `need ${whole.length}`,
  );
  await refuses(file(whole.slice(0, 100)), "is truncated", "its header alone needs");
  await refuses(file(whole.slice(0, 5)), "is truncated: 5 bytes");
  await refuses(file(new Uint8Array([...whole, 0])), "is damaged");
  await refuses(file(new Uint8Array(16).fill(255)), "is no safetensors file");
  await refuses(
    file(withHeader('{"a": {"dtype": "F32"', 0)),
    "header of",
    "line 1, column 25",
    "end of the file",
  );
  await refuses(file(withHeader("[]", 0)), "is no JSON object");
  const entry = (fields: object) =>
    withHeader(JSON.stringify({ t: { dtype: "F32", shape: [2], data_offsets: [0, 8], ...fields } }), 8);
  await refuses(file(entry({ dtype: "Q4" })), "tensor t: unknown dtype", "Q4");
  await refuses(file(entry({ shape: [3] })), "tensor t", "hold 8 bytes", "needs 12");
  await refuses(file(entry({ shape: [-2] })), "tensor t", "[-2]");
  await refuses(file(entry({ data_offsets: [8, 0] })), "tensor t", "[8, 0]");
  await refuses(file(entry({ data_offsets: null })), "tensor t", "data_offsets is null");
  await refuses(file(entry({ data_offsets: [8, 16] })), "is truncated");
});

Deno.test("loadModelFolder() checks the index of a sharded model against the shards", async () => {
  const names = Object.keys(TINY_TENSORS);
  const shard = (part: string[]) =>
    safetensorsBytes(Object.fromEntries(part.map((n) => [n, TINY_TENSORS[n]!])));
  const map = Object.fromEntries(names.map((name, i) => [name, i < 4 ? "a.safetensors" : "b.safetensors"]));
  const sharded = (weight_map: unknown): FolderFiles => ({
    "model.safetensors": null,
    "model.safetensors.index.json": { weight_map },
    "a.safetensors": shard(names.slice(0, 4)),
    "b.safetensors": shard(names.slice(4)),
  });
  await withModel(sharded(map), async (folder) => {
    assertEquals((await loadModelFolder(folder)).tables.files.length, 2);
  });
  const norm = "model.norm.weight";
  await refuses(
    sharded({ ...map, [norm]: "a.safetensors" }),
    norm,
    "a.safetensors, but it is in",
    "b.safetensors",
  );
  await refuses(sharded({ ...map, [norm]: "c.safetensors" }), "c.safetensors is missing");
  await refuses(
    sharded({ ...map, [norm]: "../b.safetensors" }),
    "weight_map.model.norm.weight",
    "../b.safetensors",
  );
  await refuses(sharded({ ...map, [norm]: undefined }), "index.json: tensor model.norm.weight is missing");
  await refuses(sharded(undefined), "weight_map is missing");
});

Deno.test("loadModelFolder() says which file is missing", async () => {
  await refuses({ "config.json": null }, "config.json is missing");
  await refuses({ "tokenizer.json": null }, "tokenizer.json is missing");
  await refuses({ "model.safetensors": null }, "neither model.safetensors nor model.safetensors.index.json");
  await refuses({ "model.safetensors": null, "pytorch_model.bin": "x" }, "convert it to safetensors");
  const nowhere = await assertRejects(() => loadModelFolder("/nonexistent/model"), ModelError);
  assertStringIncludes(nowhere.message, "/nonexistent/model does not exist");
});

Deno.test("loadModelFolder() says where JSON is malformed", async () => {
  const config = '{\n  "a": 1,\n  "b": tru\n}';
  await refuses({ "config.json": config }, "config.json is not valid JSON: line 3, column 8", '"tru');
  await refuses({ "config.json": '{"a": [1, 2,]}' }, "line 1, column 13", '"]}"');
  await refuses({ "config.json": '{"a": "x\ny"}' }, "line 1, column 7");
  await refuses({ "config.json": "" }, "line 1, column 1", "end of the file");
  await refuses({ "config.json": "{} x" }, "line 1, column 4");
  await refuses({ "tokenizer.json": '{"model": {"type": "BPE"' }, "tokenizer.json", "line 1, column 25");
  await refuses({ "config.json": "[]" }, "architectures is missing");
});

Deno.test("loadModelFolder() refuses a tokenizer that does not fit", async () => {
  await refuses({ "tokenizer.json": { version: "1.0" } }, "tokenizer.json: model.vocab is missing");
  const vocab = { ...TINY_TOKENIZER.model.vocab, z: 10 };
  await refuses(
    { "tokenizer.json": { ...TINY_TOKENIZER, model: { ...TINY_TOKENIZER.model, vocab } } },
    "has 11 tokens, more than the 10",
  );
  await refuses(
    { "tokenizer.json": { ...TINY_TOKENIZER, decoder: { type: "CTC" } } },
    "decoder CTC is not supported",
  );
  await refuses(
    { "tokenizer.json": { ...TINY_TOKENIZER, pre_tokenizer: { type: "Magic" } } },
    "cannot build the tokenizer",
    "Magic",
  );
});

Deno.test("readSafetensorsHeader() gives offsets from the start of the file", async () => {
  await withModel({}, async (folder) => {
    const header = await readSafetensorsHeader(join(folder, "model.safetensors"));
    const size = Deno.statSync(join(folder, "model.safetensors")).size;
    const last = header.get("model.norm.weight")!;
    assertEquals(last.offset + last.bytes, size);
    assertEquals(header.size, Object.keys(TINY_TENSORS).length);
  });
});

Deno.test("randomModel() lists the tensors of a Llama without files", () => {
  const shape = { hidden: 768, intermediate: 3072, layers: 12, heads: 12, kvHeads: 4, vocab: 32000 };
  const tables = randomModel(shape);
  assertEquals(tables.config.headDim, 64);
  assertEquals(tables.tensors.length, 3 + 12 * 9);
  assertEquals(tables.tensors.every((t) => t.file === 0xffffffff && t.dtype === 2), true);
  assertEquals(randomModel({ ...shape, tied: true, dtype: "f16" }).tensors.length, 2 + 12 * 9);
  assertEquals(tables.layerWindows.length, 12);
});
