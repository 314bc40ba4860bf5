import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { type GgufTensor, type GgufType, type GgufValue, writeGguf } from "../../bench/peers/gguf_writer.ts";
import { ModelError } from "../../runtime/errors.ts";
import { loadModel, loadModelTables } from "../../runtime/model/folder.ts";
import { readGgufHeader } from "../../runtime/model/gguf/reader.ts";
import { Role } from "../../runtime/model/weights.ts";
import { withFile, writeFolderAsGguf } from "../gguf_models.ts";
import { fixtureNames, FIXTURES, readGolden } from "./support.ts";

const TOKENS = ["<unk>", "<s>", "</s>", "\u2581", "a", "b", "c", "d"];

const METADATA: Record<string, GgufValue> = {
  "general.architecture": "llama",
  "llama.context_length": { u32: 64 },
  "llama.embedding_length": { u32: 32 },
  "llama.block_count": { u32: 1 },
  "llama.feed_forward_length": { u32: 64 },
  "llama.attention.head_count": { u32: 2 },
  "llama.attention.head_count_kv": { u32: 1 },
  "llama.attention.layer_norm_rms_epsilon": { f32: 1e-5 },
  "tokenizer.ggml.model": "llama",
  "tokenizer.ggml.tokens": { strings: TOKENS },
  "tokenizer.ggml.scores": { f32s: TOKENS.map((_, i) => -i) },
  "tokenizer.ggml.token_type": { i32s: [2, 3, 3, 1, 1, 1, 1, 1] },
};

const SHAPES: Record<string, number[]> = {
  "token_embd.weight": [8, 32],
  "blk.0.attn_norm.weight": [32],
  "blk.0.attn_q.weight": [32, 32],
  "blk.0.attn_k.weight": [16, 32],
  "blk.0.attn_v.weight": [16, 32],
  "blk.0.attn_output.weight": [32, 32],
  "blk.0.ffn_norm.weight": [32],
  "blk.0.ffn_gate.weight": [64, 32],
  "blk.0.ffn_up.weight": [64, 32],
  "blk.0.ffn_down.weight": [32, 64],
  "output_norm.weight": [32],
};

interface Changes {
  metadata?: Record<string, GgufValue | null>;
  shapes?: Record<string, number[] | null>;
  types?: Record<string, GgufType>;
}

/** Writes a tiny Llama of zeros; null leaves something out. */
function writeTiny(path: string, { metadata = {}, shapes = {}, types = {} }: Changes = {}): void {
  const present = <T>(all: Record<string, T | null>) =>
    Object.entries(all).filter((entry): entry is [string, T] => entry[1] !== null);
  const tensors = present({ ...SHAPES, ...shapes }).map(([name, shape]): GgufTensor => ({
    name,
    type: types[name] ?? "F32",
    shape,
    fill: (bytes) => void bytes.fill(0),
  }));
  writeGguf(path, Object.fromEntries(present({ ...METADATA, ...metadata })), tensors);
}

/** Loading a file that was written, and then changed, fails with a message that has its path and all parts. */
async function refuses(write: (path: string) => void, ...parts: string[]): Promise<void> {
  await withFile("tiny.gguf", async (path) => {
    write(path);
    const error = await assertRejects(() => loadModel(path), ModelError);
    for (const part of [path.slice(0, -5), ...parts]) assertStringIncludes(error.message, part);
  });
}
const refusesTiny = (changes: Changes, ...parts: string[]) =>
  refuses((path) => writeTiny(path, changes), ...parts);

Deno.test("loadModelTables() of a GGUF file gives the graph of the folder that it was written from", async () => {
  for (const name of fixtureNames("models").filter((name) => name !== "qwen2-swa")) {
    await withFile(`${name}.gguf`, async (path) => {
      const folder = join(FIXTURES, "models", name);
      await writeFolderAsGguf(folder, path);
      const [gguf, hf] = [await loadModelTables(path), await loadModelTables(folder)];
      const { rmsEps, ...config } = hf.tables.config;
      const interleaved = !name.startsWith("qwen");
      assertEquals(gguf.tables.config, {
        ...config,
        rmsEps: Math.fround(rmsEps),
        ropeInterleaved: interleaved,
      });
      assertEquals(gguf.tables.layerWindows, hf.tables.layerWindows);
      hf.tables.invFreq.forEach((wanted, i) => {
        assertEquals(Math.abs(gguf.tables.invFreq[i]! / wanted - 1) < 1e-6, true, `${name}: frequency ${i}`);
      });
      const shape = ({ role, layer, rows, cols }: (typeof hf.tables.tensors)[0]) => [role, layer, rows, cols];
      assertEquals(gguf.tables.tensors.map(shape), hf.tables.tensors.map(shape));
      assertEquals([gguf.dtype, gguf.parameters, gguf.ignoredTensors], [hf.dtype, hf.parameters, []]);
      assertEquals(structuredClone(gguf.tables), gguf.tables); // survives postMessage
      const tied = readGolden("models", name, "config.json").tie_word_embeddings;
      assertEquals(gguf.tables.tensors.some(({ role }) => role === Role.LM_HEAD), !tied);
    });
  }
});

Deno.test("readGgufHeader() gives offsets from the start of the file, and rows before columns", async () => {
  await withFile("tiny.gguf", (path) => {
    writeTiny(path, { types: { "blk.0.ffn_down.weight": "Q8_0" } });
    const { tensors } = readGgufHeader(path);
    assertEquals([...tensors.keys()], Object.keys(SHAPES));
    const down = tensors.get("blk.0.ffn_down.weight")!;
    assertEquals([down.shape, down.type?.name, down.bytes], [[32, 64], "Q8_0", 32 * 2 * 34]);
    const last = tensors.get("output_norm.weight")!;
    assertEquals(last.offset + last.bytes, Deno.statSync(path).size);
    assertEquals([...tensors.values()].every(({ offset }) => offset % 32 === 0), true);
  });
});

Deno.test("loadModel() reads a GGUF file in parts", async () => {
  await withFile("tiny", async (path) => {
    const names = Object.keys(SHAPES);
    const part = (i: number) => `${path}-0000${i}-of-00002.gguf`;
    const without = (left: string[]) => Object.fromEntries(left.map((name) => [name, null]));
    const split = (no: number) => ({ "split.no": { u32: no }, "split.count": { u32: 2 } });
    writeTiny(part(1), { metadata: split(0), shapes: without(names.slice(5)) });
    writeTiny(part(2), { metadata: split(1), shapes: without(names.slice(0, 5)) });
    const { id, tables } = await loadModel(part(1));
    assertEquals([id, tables.files], ["tiny", [part(1), part(2)]]);
    assertEquals(tables.tensors.map(({ file }) => file), names.map((_, i) => i < 5 ? 0 : 1));
    const refused = async (...parts: string[]) => {
      const error = await assertRejects(() => loadModel(part(1)), ModelError);
      for (const text of parts) assertStringIncludes(error.message, text);
    };
    await assertRejects(
      () => loadModel(part(2)),
      ModelError,
      "is part 2 of a model: wanted the path of its first",
    );
    writeTiny(part(2), { metadata: split(1), shapes: without(names.slice(0, 4)) });
    await refused("tensor blk.0.attn_v.weight is in", part(1), part(2));
    Deno.removeSync(part(2));
    await refused(`${part(2)} is missing`);
    Deno.renameSync(part(1), `${path}.gguf`);
    await assertRejects(() => loadModel(`${path}.gguf`), ModelError, "split.count is 2, wanted no parts");
  });
});

Deno.test("loadModel() refuses what is no GGUF file, of another version or order, and what is truncated", async () => {
  const changed = (change: (bytes: Uint8Array) => Uint8Array) => (path: string) => {
    writeTiny(path);
    Deno.writeFileSync(path, change(Deno.readFileSync(path)));
  };
  const put = (at: number, ...values: number[]) =>
    changed((bytes) => {
      bytes.set(values, at);
      return bytes;
    });
  await refuses(changed((bytes) => bytes.subarray(0, 0)), 'begins with "", wanted "GGUF"');
  await refuses(put(0, 0x50, 0x4b), "is no GGUF file", '"PKUF"');
  await refuses(put(4, 1), "version is 1, wanted 2 or 3");
  await refuses(put(4, 0, 0, 0, 3), "big-endian");
  await refuses(put(8, 255, 255, 255), "is truncated or damaged", "number of tensors is 16777215");
  await refuses(put(16, 255, 255, 255), "number of keys is 16777215");
  await refuses(
    changed((bytes) => bytes.subarray(0, 6)),
    "is truncated: 6 bytes, its header goes on to 8",
  );
  await refuses(changed((bytes) => bytes.subarray(0, 300)), "is truncated");
  await refuses(
    changed((bytes) => bytes.subarray(0, -1)),
    "is truncated",
    "tensor output_norm.weight goes on to",
  );
});

Deno.test("loadModel() of every beginning of a GGUF file says that it is truncated", async () => {
  await withFile("tiny.gguf", async (path) => {
    writeTiny(path);
    const bytes = Deno.readFileSync(path);
    for (let length = 4; length < bytes.length; length += length < 2000 ? 7 : 997) {
      Deno.writeFileSync(path, bytes.subarray(0, length));
      await assertRejects(() => loadModel(path), ModelError, "is truncated");
    }
  });
});

Deno.test("loadModel() names the key of a GGUF file, what it is and what is wanted", async () => {
  const meta = (metadata: Record<string, GgufValue | null>, ...parts: string[]) =>
    refusesTiny({ metadata }, ...parts);
  await meta(
    { "general.architecture": "mamba" },
    'general.architecture is "mamba", wanted one of llama, mistral',
  );
  await meta({ "llama.block_count": null }, "llama.block_count is missing, wanted a number");
  await meta({ "llama.block_count": "2" }, 'llama.block_count is "2", wanted a number');
  await meta({ "llama.embedding_length": { u32: 0 } }, "llama.embedding_length is 0, wanted a whole number");
  await meta({ "llama.attention.head_count_kv": { u32: 3 } }, "head_count_kv is 3, wanted a divisor of 2");
  await meta({ "llama.rope.dimension_count": { u32: 8 } }, "rope.dimension_count is 8, wanted 16");
  await meta({ "llama.attention.value_length": { u32: 8 } }, "attention.value_length is 8, wanted 16");
  await meta({ "llama.rope.scaling.type": "yarn" }, 'rope.scaling.type is "yarn", wanted "none" or "linear"');
  await meta({ "llama.expert_count": { u32: 8 } }, "expert_count is 8, wanted none");
  await meta({ "general.alignment": { u32: 0 } }, "general.alignment is 0");
  const long = { strings: [...TOKENS, "e"] };
  const scores = { f32s: new Float32Array(9) };
  await meta(
    { "tokenizer.ggml.tokens": long, "tokenizer.ggml.scores": scores, "tokenizer.ggml.token_type": null },
    "has 9 tokens, more than the 8 rows of token_embd.weight",
  );
});

Deno.test("loadModel() names the tensor of a GGUF file that is missing, mis-shaped or of an unsupported type", async () => {
  const k = "blk.0.attn_k.weight";
  await refusesTiny({ shapes: { [k]: null } }, `tensor ${k} is missing`);
  await refusesTiny({ shapes: { [k]: [32, 32] } }, k, "has shape [32, 32], its metadata want [16, 32]");
  await refusesTiny({ shapes: { "rope_freqs.weight": [4] } }, "rope_freqs.weight has 4 numbers, wanted 8");
  await refusesTiny(
    { types: { "blk.0.ffn_norm.weight": "Q8_0" } },
    "blk.0.ffn_norm.weight has the type Q8_0, wanted one of F32, F16, BF16",
  );
  // The writer knows no other types: their numbers are put into the file.
  const withType = (id: number) => (path: string) => {
    writeTiny(path, { shapes: { [k]: [16, 32] } });
    const bytes = Deno.readFileSync(path);
    const at = new TextDecoder("latin1").decode(bytes).indexOf(k) + k.length + 4 + 16;
    assertEquals(bytes[at], 0);
    bytes[at] = id;
    Deno.writeFileSync(path, bytes);
  };
  await refuses(withType(20), `tensor ${k} has the type IQ4_NL, wanted one of F32, F16, BF16, Q8_0`);
  await refuses(withType(99), `tensor ${k} has the type number 99, wanted one of`);
  await refuses(withType(10), `tensor ${k} has rows of 32, Q2_K wants a multiple of 256`);
});

Deno.test("loadModel() notes tensors of a GGUF file that it does not read", async () => {
  await withFile("tiny.gguf", async (path) => {
    writeTiny(path, { shapes: { "v.patch.weight": [3], "rope_freqs.weight": null } });
    const { notes } = await loadModel(path);
    assertEquals(notes.length, 1);
    assertStringIncludes(notes[0]!, "v.patch.weight");
  });
});

Deno.test("loadModel() says what a path without anything was wanted for", async () => {
  await assertRejects(
    () => loadModel("/nonexistent/x.gguf"),
    ModelError,
    "wanted a model's folder or a GGUF file",
  );
});
