import { assert } from "@std/assert";
import type { KvMode } from "../../runtime/types.ts";
import { type ModelOptions, PagerModel, random } from "./model.ts";

/** More than a million operations in all. */
const OPERATIONS_PER_RUN = 1_000;
const RUNS = 400;

function optionsFor(mode: KvMode, seed: number): ModelOptions {
  const rnd = random(seed * 7919);
  const pick = <T>(...values: T[]): T => values[Math.floor(rnd() * values.length)]!;
  const slots = pick(1, 2, 4, 8, 13);
  const maxBlocksPerSequence = pick(6, 16, 40);
  // Small pools, so that there is always somebody in the way.
  const numBlocks = mode === "static"
    ? slots * maxBlocksPerSequence
    : Math.max(maxBlocksPerSequence, Math.ceil(slots * maxBlocksPerSequence * pick(0.2, 0.4, 0.8)));
  return {
    seed,
    mode,
    slots,
    numBlocks,
    maxBlocksPerSequence,
    blockTokens: pick(1, 2, 4),
    maxGroupsPerSlot: pick(2, 3, 4, 8, 16),
    prefixCache: rnd() < 0.8,
    reserveBlocks: pick(0, 1, 4, 8),
    moveBudgetBlocks: pick(0, 2, 8, 32),
    minRunBlocks: pick(1, 4, 8),
    windowBlocks: pick(0, 0, 3),
  };
}

/** The same with a far history, of which `rows` rows are kept; a prompt needs no more than its window. */
function withFar(mode: KvMode, seed: number): ModelOptions {
  const rnd = random(seed * 104729);
  const pick = (...values: number[]): number => values[Math.floor(rnd() * values.length)]!;
  const far = {
    sinkBlocks: pick(0, 1, 2),
    windowBlocks: pick(1, 2, 4, 8),
    rows: pick(0, 2, 3, 5),
    maxSummaries: pick(3, 5, 40),
  };
  return {
    ...optionsFor(mode, seed),
    windowBlocks: 0,
    maxBlocksPerSequence: 40,
    numBlocks: pick(40, 60, 120),
    far,
  };
}

let operations = 0;

for (const mode of ["kv-rm", "paged", "static"] as const) {
  Deno.test(`BlockPager in ${mode} mode does what the plain model does, whatever happens`, () => {
    const seen: Record<string, number> = {};
    for (let seed = 1; seed <= RUNS; seed++) {
      const options = optionsFor(mode, seed);
      const model = new PagerModel(options);
      try {
        while (model.operations < OPERATIONS_PER_RUN) model.turn();
        model.finish();
      } catch (cause) {
        throw new Error(`after ${model.operations} operations with ${JSON.stringify(options)}`, { cause });
      }
      operations += model.operations;
      for (const [key, count] of Object.entries(model.seen)) seen[key] = (seen[key] ?? 0) + count;
    }
    if (mode === "static") return;
    for (const [key, count] of Object.entries(seen)) {
      if (key !== "givenUp") assert(count > 50, `${key} happened only ${count} times`);
    }
  });
}

for (const mode of ["kv-rm", "paged"] as const) {
  Deno.test(`BlockPager in ${mode} mode with far history does what the plain model does, whatever happens`, () => {
    const seen: Record<string, number> = {};
    for (let seed = 1; seed <= RUNS / 2; seed++) {
      const options = withFar(mode, seed);
      const model = new PagerModel(options);
      try {
        while (model.operations < OPERATIONS_PER_RUN) model.turn();
        model.finish();
      } catch (cause) {
        throw new Error(`after ${model.operations} operations with ${JSON.stringify(options)}`, { cause });
      }
      for (const [key, count] of Object.entries(model.seen)) seen[key] = (seen[key] ?? 0) + count;
    }
    for (const [key, count] of Object.entries(seen)) {
      // With far history all that a prompt needs is mapped at once.
      if (key === "promises" || key === "forgone") continue;
      assert(count > 20, `${key} happened only ${count} times`);
    }
  });
}

Deno.test("BlockPager stood at least a million operations in the tests above", () => {
  assert(operations >= 1_000_000, `${operations} operations`);
});
