import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { createEngine, EngineError, InvalidRequestError } from "../../mod.ts";
import { randomModel } from "../../runtime/model/folder.ts";
import { type EngineOptions, engineSizes, fitToMemory } from "../../runtime/options.ts";
import { FIXTURES } from "../golden.ts";

const tables = randomModel({
  hidden: 64,
  intermediate: 64,
  layers: 4,
  heads: 4,
  kvHeads: 4,
  vocab: 100,
  maxPosition: 4096,
  dtype: "bf16",
});
const sizesOf = (options: Omit<EngineOptions, "model"> = {}) =>
  engineSizes({ model: "", ...options }, tables, "bf16");

/** Bytes of 32 tokens in all four layers. */
const BLOCK = 32 * 4 * 2 * 64 * 2;

Deno.test("engineSizes() counts blocks of each type of KV", () => {
  assertEquals(sizesOf().blockBytes, BLOCK);
  assertEquals(sizesOf({ kvDtype: "f32" }).blockBytes, 2 * BLOCK);
  assertEquals(sizesOf({ kvDtype: "fp8" }).blockBytes, BLOCK / 2);
  assertEquals(
    ["f32", "f16", "bf16", "fp8"].map((kvDtype) => sizesOf({ kvDtype } as EngineOptions).native.kvDtype),
    [
      0,
      1,
      2,
      3,
    ],
  );
});

Deno.test("engineSizes() counts 34 bytes for 32 numbers of KV in q8, and wants heads of such numbers", () => {
  const wide = randomModel({
    hidden: 64,
    intermediate: 64,
    layers: 4,
    heads: 2,
    kvHeads: 2,
    vocab: 100,
    maxPosition: 4096,
    dtype: "bf16",
  });
  const sizes = engineSizes({ model: "", kvDtype: "q8" }, wide, "bf16");
  assertEquals(sizes.blockBytes, BLOCK * 17 / 32);
  assertEquals(sizes.native.kvDtype, 4);
  const error = assertThrows(() => sizesOf({ kvDtype: "q8" }), InvalidRequestError, "heads have 16 numbers");
  assertEquals(error.param, "kvDtype");
});

Deno.test("engineSizes() hands quantize on as the library's number", () => {
  assertEquals(sizesOf().model.quantize, 0);
  const numbers = (["fp8", "int8", "int4", "q8", "q4", "bf16"] as const).map((quantize) =>
    sizesOf({ quantize }).model.quantize
  );
  assertEquals(numbers, [1, 2, 3, 2, 3, 4]);
  assertThrows(
    () => sizesOf({ quantize: "int3" } as unknown as EngineOptions),
    InvalidRequestError,
    "quantize is int3, wanted one of q8, q4, fp8, int8, int4, bf16",
  );
});

Deno.test("engineSizes() gives all slots their full context on a GPU, and at most 1 GiB on the CPU", () => {
  const long = { ...tables, config: { ...tables.config, maxPosition: 2 ** 20 } };
  const blocks = (gpu: boolean) => engineSizes({ model: "", slots: 4 }, long, "bf16", gpu).native.numBlocks;
  assertEquals(blocks(false), 2 ** 30 / BLOCK);
  assertEquals(blocks(true), 4 * 2 ** 20 / 32);
});

Deno.test("fitToMemory() leaves a pool alone that fits, or whose size was asked for", () => {
  const sizes = sizesOf({ slots: 2 });
  assertEquals(sizes.native.numBlocks, 256);
  assertEquals(fitToMemory(sizes, 2 ** 40), sizes);
  assertEquals(fitToMemory(sizes, Math.ceil(256 * BLOCK / 0.85)), sizes);
  const asked = sizesOf({ slots: 2, kvMemory: 256 * BLOCK });
  assertEquals(fitToMemory(asked, 1), asked);
});

Deno.test("fitToMemory() takes at most 85 % of what is free, first from the pool, then from the context", () => {
  for (const kvMode of ["kv-rm", "paged", "static", "static-padded"] as const) {
    const sizes = sizesOf({ slots: 2, kvMode });
    for (const blocks of [1, 10, 127, 128, 200, 255]) {
      const isStatic = kvMode.startsWith("static");
      if (isStatic && blocks < 2) continue;
      const free = Math.ceil(blocks * BLOCK / 0.85);
      const { native, pager, maxContext } = fitToMemory(sizes, free);
      const context = isStatic ? Math.floor(blocks / 2) * 32 : Math.min(4096, blocks * 32);
      assertEquals([native.maxContext, maxContext], [context, context]);
      assert(native.numBlocks * BLOCK <= free * 0.85);
      assertEquals(native.numBlocks, blocks);
      assertEquals([pager.numBlocks, pager.maxBlocksPerSequence], [blocks, context / 32]);
      assertEquals(native.maxGroups, kvMode === "paged" ? 2 * context / 32 : 16);
    }
  }
});

Deno.test("engineSizes() gives mode static-padded a shape for the longest length buckets", () => {
  const { native, scheduler } = sizesOf({ kvMode: "static-padded", slots: 2, maxContext: 3000 });
  assertEquals(native.chunks, [64, 128, 256, 512, 1024, 2048, 3000]);
  assertEquals([scheduler.chunks, scheduler.padded], [native.chunks, 3000]);
  assertEquals(sizesOf({ kvMode: "static", slots: 2 }).scheduler.padded, 0);
  const long = { ...tables, config: { ...tables.config, maxPosition: 2 ** 20 } };
  const { maxContext } = engineSizes({ model: "", kvMode: "static-padded", slots: 2 }, long, "bf16", true);
  assertEquals(maxContext, 65536);
});

Deno.test("fitToMemory() says when the asked context cannot be had", () => {
  const sizes = sizesOf({ slots: 2, maxContext: 2048 });
  assertEquals(fitToMemory(sizes, 100 * BLOCK).native.numBlocks, 85);
  const error = assertThrows(() => fitToMemory(sizes, 50 * BLOCK), InvalidRequestError);
  assertEquals(error.param, "kvMemory");
});

Deno.test("createEngine() says that the CPU has no FP8", async () => {
  const model = `${FIXTURES}/models/llama3`;
  await assertRejects(
    () => createEngine({ model, backend: "cpu", quantize: "fp8" }),
    EngineError,
    "quantize is FP8, wanted NONE, INT8, INT4 or BF16 on the CPU",
  );
  await assertRejects(
    () => createEngine({ model, backend: "cpu", kvDtype: "fp8" }),
    EngineError,
    "kv_dtype is F8_E4M3, wanted F32, F16, BF16 or Q8_0 on the CPU",
  );
});

Deno.test("Engine reports the sizes that it started with", async () => {
  await using engine = await createEngine({
    model: `${FIXTURES}/models/llama3`,
    backend: "cpu",
    slots: 2,
    maxContext: 100,
    blockTokens: 16,
  });
  assertEquals(engine.model.maxContext, 100);
  assertEquals(engine.kvBytes % engine.stats().blocks.total, 0);
  assertEquals(engine.stats().blocks.total, 14);
});
