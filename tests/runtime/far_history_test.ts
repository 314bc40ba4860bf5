import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { InvalidRequestError } from "../../mod.ts";
import { randomModel } from "../../runtime/model/folder.ts";
import { loadModelTables } from "../../runtime/model/tables.ts";
import { type EngineOptions, engineSizes } from "../../runtime/options.ts";
import { checkDeterminism } from "../determinism.ts";
import { FIXTURES } from "../golden.ts";
import { Bench } from "../harness.ts";

const OPTIONS = { slots: 2, blockTokens: 16, maxContext: 512, kvDtype: "f32", prefixCache: false } as const;
const FAR = { farWindow: 64, farSinks: 16, farRows: 4 } as const;
const prompt = Array.from({ length: 300 }, (_, i) => (i * 13 + i % 7) % 120);

for (const farHistory of ["summaries", "window"] as const) {
  Deno.test(`EngineLoop gives the same bits with far history ${farHistory} as it gives alone`, async () => {
    const model = await loadModelTables(`${FIXTURES}/models/llama3`);
    checkDeterminism({ ...model, numRuns: 25, far: { farHistory, farWindow: 48, farSinks: 16, farRows: 3 } });
  });
}

Deno.test("EngineLoop gives the tokens of exact attention as long as nothing is given up", async () => {
  const model = await loadModelTables(`${FIXTURES}/models/llama3`);
  using exact = new Bench(model.tables, model.dtype, OPTIONS);
  using far = new Bench(model.tables, model.dtype, { ...OPTIONS, ...FAR, farHistory: "summaries" });
  // Sinks, window and the stride that begins behind them: 16 + 64 + 16 tokens.
  assertEquals(far.host.pager.far!.farBlocks(95), 0);
  assertEquals(far.host.pager.far!.farBlocks(96), 1);
  const wanted = exact.run(prompt.slice(0, 60), 36);
  assertEquals(far.run(prompt.slice(0, 60), 36), wanted);
  assertEquals(far.host.pager.stats.farBlocks, 0);
  const long = far.run(prompt, 40, { promptLogprobs: 1 });
  assertNotEquals(long.promptLogprobs, exact.run(prompt, 40, { promptLogprobs: 1 }).promptLogprobs);
  assert(far.host.pager.stats.farBlocks > 0);
});

Deno.test("EngineLoop commits the same bytes without the option and with far history off", async () => {
  const model = await loadModelTables(`${FIXTURES}/models/llama3`);
  const committed = ["off", undefined].map((farHistory) => {
    using bench = new Bench(model.tables, model.dtype, {
      ...OPTIONS,
      ...(farHistory === undefined ? {} : { ...FAR, farHistory: "off" }),
    });
    const steps: string[] = [];
    const { engine } = bench.host;
    const commit = engine.commit.bind(engine);
    engine.commit = (bytes) => {
      steps.push(bytes.join());
      commit(bytes);
    };
    const outcome = bench.run(prompt, 20);
    return { steps, tokens: outcome.tokens, bytes: engine.info.descriptor_bytes, sizes: bench.sizes };
  });
  assert(committed[0]!.steps.length > 20);
  assertEquals(committed[0], committed[1]);
});

Deno.test("EngineLoop serves contexts that the pool could never hold exactly", async () => {
  const model = await loadModelTables(`${FIXTURES}/models/llama3`);
  for (const kvMode of ["kv-rm", "paged"] as const) {
    const options = { ...OPTIONS, ...FAR, kvMode, farHistory: "summaries", prefillChunk: 64 } as const;
    const { blockBytes } = engineSizes({ model: "", ...options }, model.tables, model.dtype);
    // 8 blocks of 16 tokens for each of two sequences; 340 tokens are 22 blocks.
    using bench = new Bench(model.tables, model.dtype, { ...options, kvMemory: 16 * blockBytes });
    assertEquals([bench.sizes.maxContext, bench.sizes.native.numBlocks], [512, 16]);
    let most = 0;
    const wanted = bench.run(prompt, 40);
    const sequences = [0, 1, 2].map(() => bench.sequence(prompt, 40));
    for (const sequence of sequences) bench.host.loop.submit(sequence);
    bench.drain(() => {
      for (const map of bench.host.scheduler.maps) most = Math.max(most, map?.mappedBlocks ?? 0);
    });
    for (const sequence of sequences) assertEquals(bench.sink.of(sequence.id).tokens, wanted.tokens);
    assertEquals(most, bench.host.pager.far!.maxBlocks);
    bench.host.pager.checkInvariants();
  }
});

Deno.test("EngineLoop gives choices of a prompt that is given up the bits they get alone", async () => {
  const model = await loadModelTables(`${FIXTURES}/models/llama3`);
  using on = new Bench(model.tables, model.dtype, {
    ...OPTIONS,
    ...FAR,
    slots: 4,
    farHistory: "summaries",
    prefixCache: true,
  });
  const wanted = [0, 1, 2].map((seedLo) => on.run(prompt, 30, { temperature: 1, seedLo }).tokens);
  const parent = on.sequence(prompt, 30, { temperature: 1, seedLo: 0 });
  const children = [1, 2].map((seedLo) => on.sequence(prompt, 30, { temperature: 1, seedLo, parent }));
  for (const sequence of [parent, ...children]) on.host.loop.submit(sequence);
  on.drain();
  assertEquals([parent, ...children].map((sequence) => on.sink.of(sequence.id).tokens), wanted);
  assert(on.sink.of(children[0]!.id).cachedTokens > 200, "the prefix cache has the given up blocks");
  on.host.pager.checkInvariants();
});

Deno.test("engineSizes() bounds what a sequence needs by its far history", () => {
  const tables = randomModel({
    hidden: 64,
    intermediate: 64,
    layers: 4,
    heads: 4,
    kvHeads: 4,
    vocab: 100,
    maxPosition: 65536,
    dtype: "bf16",
  });
  const sizesOf = (options: Omit<EngineOptions, "model">) =>
    engineSizes({ model: "", ...options }, tables, "bf16");
  const sizes = sizesOf({ slots: 4, farHistory: "summaries" });
  // One block of sinks, 32 of window, three strides of 8.
  assertEquals(sizes.native.numBlocks, 4 * (1 + 32 + 3 * 8));
  assertEquals([sizes.native.farRows, sizes.native.maxSummaries, sizes.native.maxGroups], [32, 72, 40]);
  assertEquals(sizes.pager.far, { sinkBlocks: 1, windowBlocks: 32, rows: 32, maxSummaries: 72 });
  assertEquals(sizesOf({ slots: 4 }).pager.far, undefined);
  assertEquals(sizesOf({ farHistory: "window" }).native.farRows, 0);
  const refused: [Omit<EngineOptions, "model">, string][] = [
    [{ farHistory: "summaries", kvMode: "static" }, "wanted kvMode kv-rm or paged, or farHistory off"],
    [{ farHistory: "on" as "off" }, "farHistory is on, wanted one of off, summaries, window"],
    [{ farHistory: "summaries", farRows: 1 }, "farRows is 1, wanted an integer from 2 to 256"],
    [{ farHistory: "summaries", farWindow: 0 }, "farWindow is 0, wanted an integer from 1"],
  ];
  for (const [options, text] of refused) assertThrows(() => sizesOf(options), InvalidRequestError, text);
  const windowed = { ...tables, layerWindows: Uint32Array.of(0, 0, 128, 0) };
  assertThrows(
    () => engineSizes({ model: "", farHistory: "summaries" }, windowed, "bf16"),
    InvalidRequestError,
    "a model whose layer 2 has a sliding window of 128 tokens",
  );
  assertThrows(
    () => engineSizes({ model: "", farHistory: "summaries" }, tables, "bf16", true),
    InvalidRequestError,
    "farHistory is summaries with a GPU, wanted backend cpu",
  );
});
