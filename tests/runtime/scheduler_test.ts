import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { HEADER, SEGMENT } from "../../ffi/mod.ts";
import { ChunkBudget } from "../../runtime/chunk_budget.ts";
import { randomModel } from "../../runtime/model/folder.ts";
import { State } from "../../runtime/sequence.ts";
import { Bench, type BenchOptions } from "../harness.ts";

/** The real loop and library; steps compute nothing, since who runs when is all that is asked here. */
function bench(options: BenchOptions): Bench {
  const tables = randomModel({
    hidden: 16,
    intermediate: 16,
    layers: 1,
    heads: 1,
    kvHeads: 1,
    vocab: 1000,
    maxPosition: 4096,
    dtype: "f32",
  });
  return new Bench(tables, "f32", { noop: true, blockTokens: 16, prefixCache: false, ...options });
}

/** Bytes of `count` blocks of the model above. */
const blocks = (count: number) => count * 16 * 2 * 16 * 4;
const prompt = (length: number, salt = 0) => Array.from({ length }, (_, i) => (salt * 97 + i * 3) % 1000);

Deno.test("Scheduler lets a decoding sequence go on while a long prompt enters in chunks", () => {
  using on = bench({ slots: 2, prefillChunk: 64, mixedChunk: 16 });
  const { loop } = on.host;
  const first = on.sequence(prompt(10), 200);
  loop.submit(first);
  while (first.generated < 4) loop.turn(1_000_000);
  const before = { generated: first.generated, steps: loop.stats.steps };
  const long = on.sequence(prompt(800, 1), 1);
  loop.submit(long);
  while (long.state !== State.FINISHED) loop.turn(1_000_000);
  const steps = loop.stats.steps - before.steps;
  assert(steps >= 800 / 16, `the prompt took ${steps} steps`);
  // One token per step, up to the steps in flight at both ends.
  assert(
    first.generated - before.generated >= steps - 3,
    `${first.generated - before.generated} of ${steps}`,
  );
});

Deno.test("Scheduler takes as many prompt tokens beside decoding as the budget says, and any while nobody decodes", () => {
  using on = bench({ slots: 2, mixedChunk: 64 });
  const { loop, scheduler } = on.host;
  // Steps that compute nothing take no time, from which nothing can be learnt: the budget is told.
  scheduler.budget = new ChunkBudget(2, 3);
  scheduler.budget.observe(1, 0, 4);
  scheduler.budget.observe(0, 100, 40);
  const first = on.sequence(prompt(200), 400);
  loop.submit(first);
  loop.turn(1_000_000);
  assertEquals(loop.stats.promptTokens, 200, "nobody decodes");
  while (first.generated < 4) loop.turn(1_000_000);
  const long = on.sequence(prompt(800, 1), 4);
  loop.submit(long);
  const before = { tokens: loop.stats.promptTokens, steps: loop.stats.mixedSteps };
  while (long.generated === 0) loop.turn(1_000_000);
  assertEquals(loop.stats.promptTokens - before.tokens, 800);
  assertEquals(loop.stats.mixedSteps - before.steps, 800 / 20);
  on.drain();
});

Deno.test("Scheduler learns what a step without prompts takes before it mixes, however many prompts wait", () => {
  using on = bench({ slots: 2, prefillChunk: 64, mixedChunk: 64 });
  const { loop } = on.host;
  const first = on.sequence(prompt(10), 50), long = on.sequence(prompt(2000, 1), 1);
  loop.submit(first);
  loop.turn(1_000_000);
  loop.submit(long);
  while (long.scheduled === 0) loop.turn(1_000_000);
  assert(loop.stats.steps - loop.stats.mixedSteps >= 1);
  on.drain();
  assertEquals(on.sink.of(long.id).tokens.length, 1);
});

Deno.test("Scheduler packs several prompts into one chunk", () => {
  using on = bench({ slots: 8, prefillChunk: 256 });
  for (let i = 0; i < 8; i++) on.host.loop.submit(on.sequence(prompt(30, i), 1));
  on.host.loop.turn(1_000_000);
  assertEquals(on.host.loop.stats.promptTokens, 240);
  on.drain();
});

Deno.test("Scheduler takes padded prompts one by one, whole, while those who decode wait", () => {
  using on = bench({ slots: 4, kvMode: "static-padded", maxContext: 300 });
  const { loop, descriptor } = on.host;
  const steps: number[][] = [];
  const { engine } = on.host;
  const commit = engine.commit.bind(engine);
  engine.commit = (bytes) => {
    const { words } = descriptor;
    const segment = engine.info.segments_offset / 4;
    steps.push([
      words[HEADER.num_decode]!,
      words[HEADER.padded_window]!,
      words[segment + SEGMENT.count]!,
      words[segment + SEGMENT.padding]!,
    ]);
    commit(bytes);
  };
  const sequences = [prompt(40), prompt(130, 1), prompt(1), prompt(290, 2)].map((tokens, i) =>
    on.sequence(tokens, i === 1 ? 3 : 2)
  );
  for (const sequence of sequences) loop.submit(sequence);
  on.drain();
  assertEquals(steps, [
    [0, 0, 64, 24],
    [0, 0, 256, 126],
    [0, 0, 300, 10],
    [4, 300, 0, 0], // the third prompt is one token, and decodes at once
    [2, 256, 0, 0],
  ]);
  assertEquals(loop.stats.promptTokens, 40 + 130 + 290);
  for (const sequence of sequences) {
    assertEquals(on.sink.of(sequence.id).tokens.length, sequence.maxTokens);
  }
  assertEquals(on.host.scheduler.preemptions, 0);
});

Deno.test("Scheduler admits by priority, then by arrival", () => {
  using on = bench({ slots: 1 });
  const order: number[] = [];
  const make = (priority: number) => on.sequence(prompt(5), 3, { priority });
  const sequences = [make(0), make(5), make(5), make(-1)];
  for (const sequence of sequences) on.host.loop.submit(sequence);
  on.drain(() => {
    const running = on.host.scheduler.running[0];
    if (running && order.at(-1) !== running.id) order.push(running.id);
  });
  assertEquals(order, [3, 0, 1, 2].map((i) => sequences[i]!.id));
});

Deno.test("Scheduler admits on the need of the whole prompt, not of its first chunk", () => {
  using on = bench({ slots: 4, kvMemory: blocks(64), maxContext: 1024, prefillChunk: 16 });
  const first = on.sequence(prompt(700), 4);
  const second = on.sequence(prompt(700, 1), 4);
  on.host.loop.submit(first);
  on.host.loop.submit(second);
  let together = 0;
  on.drain(() => together = Math.max(together, on.host.scheduler.running.length));
  assertEquals(together, 1);
  assertEquals(on.host.scheduler.preemptions, 0);
});

for (const kvMode of ["kv-rm", "paged"] as const) {
  Deno.test(`Scheduler maps a prompt's blocks as it comes to them, in ${kvMode} mode`, () => {
    using on = bench({ slots: 2, kvMode, kvMemory: blocks(64), maxContext: 1024, prefillChunk: 64 });
    const { loop, pager } = on.host;
    loop.submit(on.sequence(prompt(800), 1));
    for (let step = 1; step <= 12; step++) {
      loop.turn(1_000_000);
      assertEquals([pager.stats.active, pager.stats.promised], [4 * step, 50 - 4 * step]);
    }
    on.drain();
    assertEquals(pager.stats.promised, 0);
  });

  Deno.test(`Scheduler gives those who decode what a prompt has not come to yet, in ${kvMode} mode`, () => {
    using on = bench({ slots: 3, kvMode, kvMemory: blocks(40), maxContext: 640, mixedChunk: 16 });
    const { loop, pager, scheduler } = on.host;
    const first = on.sequence(prompt(10), 54);
    loop.submit(first);
    while (first.generated < 2) loop.turn(1_000_000);
    const long = on.sequence(prompt(600, 1), 2); // 38 blocks, and the first comes to need 4
    const late = on.sequence(prompt(5, 2), 2);
    loop.submit(long);
    loop.submit(late);
    let waited = 0;
    while (first.state !== State.FINISHED) {
      loop.turn(1_000_000);
      if (long.map !== null && long.map.blockCount + long.map.promised < 38) {
        waited++;
        assertEquals(late.state, State.WAITING, "nobody is let in before a prompt that waits for blocks");
      }
    }
    assert(waited > 0);
    assertEquals(scheduler.preemptions, 0);
    on.drain();
    for (const sequence of [first, long, late]) {
      assertEquals(on.sink.of(sequence.id).tokens.length, sequence.maxTokens);
    }
    pager.checkInvariants();
  });

  Deno.test(`Scheduler brings every sequence to its end in a pool for hardly one, in ${kvMode} mode`, () => {
    const request = fc.record({
      length: fc.integer({ min: 1, max: 200 }),
      tokens: fc.integer({ min: 1, max: 120 }),
      priority: fc.nat(2),
    });
    fc.assert(
      fc.property(
        fc.array(request, { minLength: 1, maxLength: 8 }),
        fc.record({
          slots: fc.integer({ min: 1, max: 4 }),
          extra: fc.nat(10),
          mixedChunk: fc.constantFrom(16, 48),
          prefixCache: fc.boolean(),
          pager: fc.record({
            maxGroupsPerSlot: fc.integer({ min: 2, max: 4 }),
            moveBudgetBlocks: fc.constantFrom(0, 1, 8),
            reserveBlocks: fc.nat(4),
          }),
        }),
        (requests, { extra, ...options }) => {
          using on = bench({
            ...options,
            kvMode,
            kvMemory: blocks(20 + extra),
            maxContext: 320,
            prefillChunk: 64,
          });
          const sequences = requests.map(({ length, tokens, priority }, i) =>
            on.sequence(prompt(length, i & 1), tokens, { priority })
          );
          for (const sequence of sequences) on.host.loop.submit(sequence);
          on.drain();
          for (const sequence of sequences) {
            assertEquals(on.sink.of(sequence.id).tokens.length, sequence.maxTokens);
          }
          on.host.pager.checkInvariants();
        },
      ),
      { numRuns: 60 },
    );
  });
}

Deno.test("Scheduler preempts the last in the order when blocks run out, and all finish", () => {
  for (const kvMode of ["kv-rm", "paged"] as const) {
    using on = bench({ slots: 6, kvMode, kvMemory: blocks(40), maxContext: 640 });
    const sequences = Array.from({ length: 6 }, (_, i) => on.sequence(prompt(60, i), 200));
    for (const sequence of sequences) on.host.loop.submit(sequence);
    on.drain();
    for (const sequence of sequences) assertEquals(on.sink.of(sequence.id).tokens.length, 200);
    assert(on.host.scheduler.preemptions > 0);
    on.host.pager.checkInvariants();
  }
});

Deno.test("Scheduler.finish() frees slot and blocks of a cancelled sequence within a step", () => {
  using on = bench({ slots: 1 });
  const { loop, pager, scheduler } = on.host;
  const sequence = on.sequence(prompt(100), 1000);
  loop.submit(sequence);
  while (sequence.generated < 3) loop.turn(1_000_000);
  assert(pager.stats.active > 0);
  loop.cancel(sequence);
  assertEquals(scheduler.running.length, 0);
  const next = on.sequence(prompt(5), 1);
  loop.submit(next);
  loop.turn(1_000_000);
  assertEquals(next.slot, 0);
  on.drain();
  assertEquals(pager.stats.free, pager.stats.total);
});

Deno.test("EngineLoop throws away what a sequence samples after its end", () => {
  using on = bench({ slots: 2 });
  // The no-op step samples 3 + (slot * 7 + counter) % (vocab - 3): slot 0 gives 3, 4, 5, ...
  const outcome = on.run(prompt(5), 50, { stopTokens: Int32Array.of(8) });
  assertEquals(outcome.tokens, [3, 4, 5, 6, 7, 8]);
  assertEquals(outcome.finish, 1);
});

Deno.test("EngineLoop ends a request for no tokens once its prompt is computed", () => {
  using on = bench({ slots: 2 });
  const outcome = on.run(prompt(300), 0);
  assertEquals([outcome.tokens, outcome.finish], [[], 2]);
});
