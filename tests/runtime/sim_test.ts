import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { libraryPath, NativeLibrary } from "../../ffi/mod.ts";
import { createEngine } from "../../runtime/engine.ts";
import { InvalidRequestError } from "../../runtime/errors.ts";
import { randomModel } from "../../runtime/model/folder.ts";
import { type EngineOptions, engineSizes } from "../../runtime/options.ts";
import { H200, readCard, SHAPES } from "../../runtime/sim/cards.ts";
import { kvBytes, rooflineCost, weightBytes } from "../../runtime/sim/cost.ts";
import { recordLayout } from "../../runtime/sim/engine.ts";
import { simulatedSizes, simulationOf } from "../../runtime/sim/sizes.ts";
import { noWork } from "../../runtime/sim/work.ts";
import type { KvMode } from "../../runtime/types.ts";
import { MODEL } from "../e2e/service.ts";

const SHAPE = { hidden: 64, intermediate: 128, layers: 2, heads: 4, kvHeads: 2, vocab: 1000 } as const;
const TABLES = randomModel({ ...SHAPE, maxPosition: 2048, dtype: "f16" });
const IDLE = noWork();

function sizes(kvMode: KvMode = "kv-rm", slots = 4) {
  return engineSizes({ model: "", slots, kvMode, maxContext: 1024, structuredOutput: false }, TABLES, "f16");
}

Deno.test("recordLayout() lays records out as the native library does", () => {
  using library = new NativeLibrary(libraryPath("cpu"));
  using model = library.loadModel(TABLES);
  for (const kvMode of ["kv-rm", "static", "static-padded", "paged"] as const) {
    const { native } = sizes(kvMode, 7);
    using engine = model.createEngine(native);
    const { block_bytes, arena_kib, threads, far_row_bytes, ...info } = engine.info;
    const { block_bytes: _b, arena_kib: _a, threads: _t, far_row_bytes: _f, ...ours } = recordLayout(
      native,
      SHAPE.vocab,
    );
    assertEquals(ours, info);
    assert(block_bytes > 0 && arena_kib > 0 && threads > 0 && far_row_bytes >= 0);
  }
});

Deno.test("rooflineCost() is the reading of the weights for one row, and the products for many", () => {
  const card = { ...H200, stepMicros: 0, kernelMicros: 0, weightShare: 1, kvShare: 1, flopShare: 1 };
  const big = { hidden: 4096, intermediate: 14_336, layers: 32, heads: 32, kvHeads: 8, vocab: 128_256 };
  const cost = rooflineCost(big, card, 1, 32);
  const weights = weightBytes(big);
  assertAlmostEquals(weights / 1e9, 15, 0.2);
  assertEquals(kvBytes(big), 128 * 1024);
  assertAlmostEquals(cost({ ...IDLE, rows: 1, samples: 1 }), weights / card.bandwidth * 1e6, 1);
  const read = { ...IDLE, rows: 1, samples: 1, decodeKv: 10_000 };
  assertAlmostEquals(
    cost(read) - cost({ ...read, decodeKv: 0 }),
    10_000 * kvBytes(big) / card.bandwidth * 1e6,
    1,
  );
  const body = weights - 2 * big.vocab * big.hidden;
  assertAlmostEquals(cost({ ...IDLE, rows: 4096 }), 4096 * body / card.flops * 1e6, 1);
  assert(rooflineCost(big, card, 8, 32)({ ...IDLE, rows: 1 }) < cost({ ...IDLE, rows: 1 }));
});

Deno.test("readCard() takes names and files, and says what is wrong with others", async () => {
  assertEquals(readCard("h200"), H200);
  const path = await Deno.makeTempFile({ suffix: ".json" });
  try {
    const read = (card: unknown) => {
      Deno.writeTextFileSync(path, JSON.stringify(card));
      return readCard(path);
    };
    assertEquals(read({ bandwidth: 1e12, name: "half" }), { ...H200, bandwidth: 1e12, name: "half" });
    assertEquals(read({ kernelMicros: 0 }).kernelMicros, 0);
    for (
      const [card, words] of [
        [{ bandwith: 1 }, "a field bandwith"],
        [{ bandwidth: 0 }, "bandwidth is 0, wanted a number above 0"],
        [{ flops: "fast" }, 'flops is "fast"'],
        [[1], "no object"],
      ] as const
    ) {
      assertThrows(() => read(card), InvalidRequestError, words);
    }
    assertThrows(() => readCard("h900"), InvalidRequestError, "simCard is h900, wanted one of h200");
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("simulatedSizes() gives KV what weights leave of the cards, and reserving modes the slots that fit", () => {
  const of = (options: Partial<EngineOptions>) => {
    const all = { model: "", simShape: "8b", ...options };
    return simulatedSizes(all, simulationOf(all, TABLES), SHAPES["8b"]!.maxPosition);
  };
  const free = 0.9 * H200.memory - weightBytes(SHAPES["8b"]!);
  const tokens = (kvMode: KvMode, slots: number) => {
    const { native } = of({ kvMode, slots, maxContext: 32_768 });
    return { slots: native.slots, kv: native.numBlocks * native.blockTokens * kvBytes(SHAPES["8b"]!) };
  };
  const open = tokens("kv-rm", 64), reserved = tokens("static", 64);
  assert(open.kv <= free && open.kv > 0.99 * free, `${open.kv} of ${free}`);
  assertEquals(open.slots, 64);
  assertEquals(reserved.slots, Math.floor(free / kvBytes(SHAPES["8b"]!) / 32_768));
  assertThrows(() => of({ simShape: "70b" }), InvalidRequestError, "wanted more cards");
  assertThrows(() => of({ simShape: "9b" }), InvalidRequestError, "wanted one of own, 8b, 70b");
  assertThrows(() => of({ simCards: 1.5 }), InvalidRequestError, "simCards is 1.5");
});

Deno.test("createEngine() with backend sim answers without a library, no faster than the card would", async () => {
  const options = {
    model: MODEL,
    backend: "sim",
    simShape: "8b",
    slots: 4,
    libraryPath: "/nowhere",
  } as const;
  await using engine = await createEngine(options);
  assertEquals(engine.backend, "sim/8b on 1 H200");
  assertEquals(engine.model.maxContext, SHAPES["8b"]!.maxPosition);
  const count = 12, start = performance.now();
  const answers = [1, 2].map(() =>
    engine.generate({ prompt: [5, 6, 7], maxTokens: count, ignoreEos: true, promptLogprobs: 1 })
  );
  for (const answer of answers) {
    let tokens = 0;
    for await (const { tokenIds } of answer) tokens += tokenIds.length;
    assertEquals(tokens, count);
    assertEquals((await answer.promptLogprobs)?.length, 3);
  }
  // Both decode together: a step reads the weights once, whoever is in it.
  const step = rooflineCost(SHAPES["8b"]!, H200, 1, 32)({ ...IDLE, rows: 1, samples: 1 });
  const took = 1000 * (performance.now() - start);
  assert(took >= count * step, `${took} µs for ${count} steps of ${step}`);
});

Deno.test("createEngine() refuses options that backend sim has no use for, and its own with others", async () => {
  for (
    const [options, words] of [
      [{ backend: "sim", quantize: "q8" }, "quantize is q8 and backend is sim"],
      [{ backend: "sim", simShape: "70b" }, "wanted more cards"],
      [{ backend: "cpu", simCards: 2 }, "simCards is 2 and backend is cpu, wanted sim"],
    ] as const
  ) {
    await assertRejects(() => createEngine({ model: MODEL, ...options }), InvalidRequestError, words);
  }
});
