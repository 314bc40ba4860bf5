import { assertEquals } from "@std/assert";
import { reservesSlots } from "../../runtime/kv/mod.ts";
import { loadModelTables, randomModel } from "../../runtime/model/tables.ts";
import { assertSame, checkDeterminism } from "../determinism.ts";
import { FIXTURES } from "../golden.ts";
import { Bench, ON_GPU } from "../harness.ts";

const VOCAB = 120; // the smallest fixture has 131

for (const name of ["llama3", "mistral", "qwen3", "llama-bf16"]) {
  Deno.test(`EngineLoop gives ${name} the same bits alone and in any company, placement and history`, async () => {
    checkDeterminism(await loadModelTables(`${FIXTURES}/models/${name}`));
  });
}

const inBlocks = () =>
  randomModel({
    hidden: 64,
    intermediate: 96,
    layers: 2,
    heads: 4,
    kvHeads: 2,
    vocab: 131,
    maxPosition: 512,
    dtype: "bf16",
    headDim: 32,
  });

Deno.test({
  name: "EngineLoop gives the same bits with KV in q8, too",
  ignore: ON_GPU,
  fn: () => checkDeterminism({ tables: inBlocks(), dtype: "bf16", kvDtype: "q8", numRuns: 40 }),
});

for (const quantize of ["q8", "q4", "bf16"] as const) {
  Deno.test({
    name: `EngineLoop gives the same bits with weights quantised to ${quantize}, too`,
    ignore: quantize === "bf16" && (ON_GPU || !multipliesBf16()),
    fn: () => checkDeterminism({ tables: inBlocks(), dtype: "bf16", quantize, numRuns: 40 }),
  });
}

/** Whether this processor has the instruction that `quantize: "bf16"` wants. */
function multipliesBf16(): boolean {
  try {
    using _ = new Bench(inBlocks(), "bf16", { quantize: "bf16", slots: 1 });
    return true;
  } catch (error) {
    if (!/AVX512_BF16/.test((error as Error).message)) throw error;
    return false;
  }
}

Deno.test("EngineLoop gives choices that share a prompt the bits they get alone", async () => {
  const model = await loadModelTables(`${FIXTURES}/models/llama3`);
  const prompt = Array.from({ length: 45 }, (_, i) => (i * 11 + 5) % VOCAB);
  for (const kvMode of ["kv-rm", "paged", "static", "static-padded"] as const) {
    using on = new Bench(model.tables, model.dtype, { kvMode, slots: 6, blockTokens: 16, maxContext: 256 });
    const wanted = [0, 1, 2, 3].map((seedLo) => on.run(prompt, 40, { temperature: 1, seedLo }));
    on.host.pager.dropCache();
    const parent = on.sequence(prompt, 40, { temperature: 1, seedLo: 0 });
    const children = [1, 2, 3].map((seedLo) => on.sequence(prompt, 40, { temperature: 1, seedLo, parent }));
    for (const sequence of [parent, ...children]) on.host.loop.submit(sequence);
    on.drain();
    [parent, ...children].forEach((sequence, i) => {
      assertSame(on.sink.of(sequence.id), wanted[i]!, `${kvMode}: choice ${i}`);
    });
    if (!reservesSlots(kvMode)) assertEquals(on.sink.of(children[0]!.id).cachedTokens, prompt.length - 1);
    on.host.pager.checkInvariants();
  }
});

Deno.test("EngineLoop scores a prompt the same at any chunk size, and padded", async () => {
  const model = await loadModelTables(`${FIXTURES}/models/qwen3`);
  const prompt = Array.from({ length: 75 }, (_, i) => (i * 13 + 1) % VOCAB);
  using on = new Bench(model.tables, model.dtype, { slots: 2, blockTokens: 16, maxContext: 256 });
  const wanted = on.run(prompt, 4, { promptLogprobs: 3 }).promptLogprobs;
  assertEquals(wanted.size, prompt.length - 1);
  for (const chunk of [1, 7, 64]) {
    on.host.scheduler.chunkLimit = chunk;
    const found = on.run(prompt, 4, { promptLogprobs: 3 }).promptLogprobs;
    assertEquals(found, wanted, `chunk ${chunk}`);
  }
  on.host.scheduler.chunkLimit = 128;
  assertEquals(on.run(prompt, 0, { promptLogprobs: 1 }).promptLogprobs, wanted, "no tokens wanted");
  using padded = new Bench(model.tables, model.dtype, {
    kvMode: "static-padded",
    slots: 2,
    blockTokens: 16,
    maxContext: 200,
  });
  assertEquals(padded.run(prompt, 4, { promptLogprobs: 3 }).promptLogprobs, wanted, "padded");
});
