import { assert, assertEquals, assertThrows } from "@std/assert";
import { type BlockMap, BlockPager, type PagerOptions } from "../../runtime/kv/mod.ts";

const B = 4;

function pagerOf(options: Partial<PagerOptions> = {}): BlockPager {
  return new BlockPager({
    numBlocks: 32,
    blockTokens: B,
    mode: "kv-rm",
    slots: 4,
    maxBlocksPerSequence: 16,
    maxGroupsPerSlot: 8,
    prefixCache: true,
    reserveBlocks: 0,
    moveBudgetBlocks: 0,
    ...options,
  });
}

/** Tokens start, start + 1, … */
function tokensFrom(start: number, count = 64): Int32Array {
  return Int32Array.from({ length: count }, (_, i) => start + i);
}

function open(pager: BlockPager, slot: number, tokens: Int32Array, count: number, reuse = true): BlockMap {
  const map = pager.open(slot, tokens, count, reuse);
  if (map === null) throw new Error(`slot ${slot} cannot be opened`);
  return map;
}

function physicals(map: BlockMap): number[] {
  return Array.from({ length: map.blockCount - map.firstBlock }, (_, i) => map.physical(map.firstBlock + i));
}

function movesOf(pager: BlockPager): number[][] {
  const out = new Uint32Array(400);
  const count = pager.writeMoves(out, 0, 100);
  return Array.from({ length: count }, (_, i) => [...out.subarray(i * 4, i * 4 + 4)]);
}

for (const mode of ["kv-rm", "paged"] as const) {
  Deno.test(`BlockPager.open() finds full blocks only and leaves a token to compute, in ${mode} mode`, () => {
    const pager = pagerOf({ mode });
    const tokens = tokensFrom(100);
    const first = open(pager, 0, tokens, 3 * B);
    assertEquals(pager.matchedTokens(first), 0);
    pager.publish(first, tokens, 3 * B);
    assertEquals(pager.matchedTokens(open(pager, 1, tokens, 3 * B)), 2 * B);
    assertEquals(pager.matchedTokens(open(pager, 2, tokens, 3 * B + 1)), 3 * B);
    assertEquals(pager.matchedTokens(open(pager, 3, tokens, 3 * B + 1, false)), 0);
    assertEquals(pager.stats.shared, 3);
    assertEquals([pager.stats.prefixQueries, pager.stats.prefixHits], [3 * B + 3 * B + 3 * B + 1, 5 * B]);
    pager.checkInvariants();
  });

  Deno.test(`BlockPager.close() keeps a shared block until its last reader, in ${mode} mode`, () => {
    const pager = pagerOf({ mode });
    const tokens = tokensFrom(0);
    const parent = open(pager, 0, tokens, 2 * B + 1);
    const child = pager.fork(parent, 1, 2 * B + 1)!;
    pager.close(parent, 0);
    assertEquals([pager.stats.active, pager.stats.free, pager.stats.shared], [3, 29, 0]);
    pager.close(child, 0);
    assertEquals([pager.stats.active, pager.stats.free], [0, 32]);
    pager.checkInvariants();
  });

  Deno.test(`BlockPager.close() gives blocks back when the last step has completed, in ${mode} mode`, () => {
    const pager = pagerOf({ mode, numBlocks: 4, maxBlocksPerSequence: 4 });
    const tokens = tokensFrom(0);
    pager.close(open(pager, 0, tokens, 4 * B), 7);
    assertEquals([pager.stats.inFlight, pager.stats.free], [4, 0]);
    pager.completed(6);
    assertEquals(pager.canAdmit(tokens, B, true), false);
    assertEquals(pager.open(0, tokens, B, true), null);
    pager.completed(7);
    assertEquals(pager.canAdmit(tokens, 4 * B, true), true);
    open(pager, 0, tokens, 4 * B);
  });

  Deno.test(`BlockPager.close() waits for the latest of a shared block's last steps, in ${mode} mode`, () => {
    const pager = pagerOf({ mode });
    const parent = open(pager, 0, tokensFrom(0), B);
    const child = pager.fork(parent, 1, B)!;
    pager.close(parent, 9);
    pager.close(child, 3);
    pager.completed(3);
    assertEquals(pager.stats.inFlight, 1);
    pager.completed(9);
    assertEquals(pager.stats.inFlight, 0);
  });

  Deno.test(`BlockPager.ensure() copies a shared block for the first writer only, in ${mode} mode`, () => {
    const pager = pagerOf({ mode });
    const parent = open(pager, 0, tokensFrom(0), B + 2);
    const child = pager.fork(parent, 1, B + 2)!;
    const before = physicals(parent);
    assert(pager.ensure(child, B + 3, B + 2));
    assert(pager.ensure(parent, B + 3, B + 2));
    assertEquals(physicals(parent), before);
    assertEquals(child.physical(0), before[0]);
    assert(child.physical(1) !== before[1]);
    pager.planMoves([parent, child], 1);
    assertEquals(movesOf(pager), [[0, before[1]!, child.physical(1), 1]]);
    assertEquals(pager.stats.cowBlocks, 1);
    assertEquals(movesOf(pager), []);
    pager.checkInvariants();
  });

  Deno.test(`BlockPager.ensure() copies a published block before it is written, in ${mode} mode`, () => {
    const pager = pagerOf({ mode });
    const tokens = tokensFrom(0);
    const parent = open(pager, 0, tokens, 2 * B);
    pager.publish(parent, tokens, 2 * B);
    const child = pager.fork(parent, 1, B + 1)!;
    pager.close(parent, 0);
    const published = child.physical(1);
    assert(pager.ensure(child, B + 2, B + 1)); // the only reader, but a look-up would find B + 1 old tokens
    assert(child.physical(1) !== published);
    assertEquals(open(pager, 2, tokens, 3 * B).physical(1), published);
    pager.checkInvariants();
  });

  Deno.test(`BlockPager.ensure() takes the content from where a copy of this step will take it, in ${mode} mode`, () => {
    const pager = pagerOf({ mode });
    const parent = open(pager, 0, tokensFrom(0), 2);
    const child = pager.fork(parent, 1, 2)!;
    const source = parent.physical(0);
    assert(pager.ensure(child, 3, 2));
    const grandchild = pager.fork(child, 2, 2)!; // shares a block that is itself not copied yet
    assert(pager.ensure(grandchild, 3, 2));
    pager.planMoves([parent, child, grandchild], 1);
    assertEquals(movesOf(pager), [[0, source, child.physical(0), 1], [0, source, grandchild.physical(0), 1]]);
  });

  Deno.test(`BlockPager.ensure() changes nothing when blocks run out, in ${mode} mode`, () => {
    const pager = pagerOf({ mode, numBlocks: 8, maxBlocksPerSequence: 8 });
    const a = open(pager, 0, tokensFrom(0), 5 * B);
    const b = open(pager, 1, tokensFrom(50), 2 * B);
    const before = [physicals(a), physicals(b)];
    assertEquals(pager.ensure(b, 4 * B, 2 * B), false);
    assertEquals([physicals(a), physicals(b)], before);
    assert(pager.ensure(b, 3 * B, 2 * B));
    pager.checkInvariants();
  });

  Deno.test(`BlockPager.ensure() evicts cached blocks, the last of a sequence first, in ${mode} mode`, () => {
    const pager = pagerOf({ mode, numBlocks: 8, maxBlocksPerSequence: 8 });
    const tokens = tokensFrom(0);
    const old = open(pager, 0, tokens, 4 * B);
    pager.publish(old, tokens, 4 * B);
    pager.close(old, 0);
    const map = open(pager, 1, tokensFrom(500), 4 * B);
    assert(pager.ensure(map, 6 * B, 4 * B));
    assertEquals([pager.stats.evictions, pager.stats.cached], [2, 2]);
    pager.close(map, 0);
    assertEquals(pager.matchedTokens(open(pager, 2, tokens, 4 * B)), 2 * B);
  });

  Deno.test(`BlockPager.publish() keeps the first of two equal blocks, in ${mode} mode`, () => {
    const pager = pagerOf({ mode });
    const tokens = tokensFrom(0);
    const a = open(pager, 0, tokens, 2 * B);
    const b = open(pager, 1, tokens, 3 * B); // started before a was published
    pager.publish(a, tokens, 2 * B);
    pager.publish(b, tokens, 3 * B);
    const c = open(pager, 2, tokens, 4 * B);
    assertEquals(physicals(c).slice(0, 3), [a.physical(0), a.physical(1), b.physical(2)]);
    pager.close(b, 0);
    assertEquals(pager.stats.free, 32 - 4);
    pager.checkInvariants();
  });

  Deno.test(`BlockPager.publish() makes a chain findable again whose beginning was evicted, in ${mode} mode`, () => {
    const pager = pagerOf({ mode });
    const tokens = tokensFrom(0);
    const a = open(pager, 0, tokens, 2 * B);
    const b = open(pager, 1, tokens, 3 * B);
    pager.publish(a, tokens, 2 * B);
    pager.publish(b, tokens, 3 * B); // hangs below a's blocks
    pager.close(a, 0);
    pager.dropCache();
    const c = open(pager, 2, tokens, 4 * B);
    assertEquals(pager.matchedTokens(c), 0);
    assert(pager.ensure(b, 4 * B, 3 * B));
    pager.publish(b, tokens, 4 * B);
    assertEquals(physicals(open(pager, 3, tokens, 5 * B)).slice(0, 4), physicals(b));
    pager.checkInvariants();
  });

  Deno.test(`BlockPager.releaseBefore() frees blocks wholly before a token, once read, in ${mode} mode`, () => {
    const pager = pagerOf({ mode });
    const map = open(pager, 0, tokensFrom(0), 5 * B);
    const before = physicals(map);
    pager.planMoves([map], 3);
    pager.releaseBefore(map, 2 * B + 3);
    assertEquals([map.firstBlock, physicals(map)], [2, before.slice(2)]);
    assertEquals([pager.stats.inFlight, pager.stats.active], [2, 3]);
    pager.completed(3);
    assertEquals([pager.stats.inFlight, pager.stats.free], [0, 29]);
    pager.releaseBefore(map, 99 * B);
    assertEquals(map.blockCount - map.firstBlock, 1);
    pager.close(map, 3);
    pager.checkInvariants();
  });

  Deno.test(`BlockPager.close() evicts what a window has passed after what came later, in ${mode} mode`, () => {
    const pager = pagerOf({ mode, numBlocks: 9, maxBlocksPerSequence: 8 });
    const tokens = tokensFrom(0);
    const map = open(pager, 0, tokens, 4 * B);
    pager.publish(map, tokens, 4 * B);
    pager.releaseBefore(map, 2 * B);
    pager.close(map, 0);
    pager.close(open(pager, 1, tokensFrom(500), 7 * B), 0); // two of the four had to go
    assertEquals(pager.matchedTokens(open(pager, 2, tokens, 4 * B)), 2 * B);
  });

  Deno.test(`BlockPager.close() evicts a long history from its end, windowed or not, in ${mode} mode`, () => {
    const pager = pagerOf({ mode, numBlocks: 17 });
    const tokens = tokensFrom(0);
    const map = open(pager, 0, tokens, 16 * B);
    pager.publish(map, tokens, 16 * B);
    for (let blocks = 1; blocks <= 14; blocks++) pager.releaseBefore(map, blocks * B);
    pager.close(map, 0);
    pager.close(open(pager, 1, tokensFrom(500), 3 * B), 0);
    const left = pager.stats.cached;
    assert(left < 16);
    assertEquals(pager.matchedTokens(open(pager, 2, tokens, 16 * B)), left * B);
  });

  Deno.test(`BlockPager.close() frees what hangs below an evicted block, in ${mode} mode`, () => {
    const pager = pagerOf({ mode });
    const tokens = tokensFrom(0);
    const a = open(pager, 0, tokens, 2 * B);
    const b = open(pager, 1, tokens, 4 * B);
    pager.publish(a, tokens, 2 * B);
    pager.publish(b, tokens, 4 * B);
    pager.close(a, 0);
    pager.dropCache();
    pager.close(b, 0);
    assertEquals([pager.stats.cached, pager.stats.free], [0, 32]);
    pager.checkInvariants();
  });

  Deno.test(`BlockPager.ensure() evicts what nothing hangs below before what is older, in ${mode} mode`, () => {
    const pager = pagerOf({ mode, numBlocks: 8, maxBlocksPerSequence: 8 });
    const tokens = tokensFrom(0);
    const a = open(pager, 0, tokens, 2 * B);
    const b = open(pager, 1, tokens, 3 * B);
    pager.publish(a, tokens, 2 * B);
    pager.publish(b, tokens, 3 * B); // b's third block hangs below a's second
    pager.close(a, 0);
    const other = open(pager, 2, tokensFrom(500), 3 * B);
    pager.publish(other, tokensFrom(500), 3 * B);
    pager.close(other, 0);
    assert(pager.ensure(b, 4 * B, 3 * B));
    assertEquals(pager.matchedTokens(open(pager, 3, tokens, 3 * B + 1)), 3 * B);
  });

  Deno.test(`BlockPager.publish() hangs nothing below an entry that stands for something else now, in ${mode} mode`, () => {
    const pager = pagerOf({ mode });
    const tokens = tokensFrom(0);
    const windowed = open(pager, 0, tokens, 3 * B);
    pager.publish(windowed, tokens, 2 * B);
    pager.releaseBefore(windowed, 2 * B);
    pager.dropCache();
    const others = tokensFrom(500);
    pager.publish(open(pager, 1, others, 2 * B), others, 2 * B); // uses the withdrawn entries again
    pager.publish(windowed, tokens, 3 * B);
    const mixed = Int32Array.from([...others.subarray(0, 2 * B), ...tokens.subarray(2 * B, 4 * B)]);
    assertEquals(pager.matchedTokens(open(pager, 2, mixed, 4 * B)), 2 * B);
    const swapped = Int32Array.from([...others.subarray(0, B), ...tokens.subarray(2 * B, 5 * B)]);
    assertEquals(pager.matchedTokens(open(pager, 3, swapped, 4 * B)), B);
  });

  Deno.test(`BlockPager.canAdmit() wants one block for each running sequence on top, in ${mode} mode`, () => {
    const pager = pagerOf({ mode, numBlocks: 8, maxBlocksPerSequence: 8 });
    const tokens = tokensFrom(0);
    assert(pager.canAdmit(tokens, 8 * B, true));
    const running = open(pager, 0, tokensFrom(50), 3 * B);
    assertEquals([4 * B, 4 * B + 1].map((count) => pager.canAdmit(tokens, count, true)), [true, false]);
    pager.publish(running, tokensFrom(50), 3 * B);
    // What running sequences hold is no further need.
    assert(pager.canAdmit(tokensFrom(50), 7 * B, true));
    assertEquals(pager.canAdmit(tokensFrom(50), 7 * B, false), false);
  });
}

Deno.test("BlockPager.open() places a prompt in one extent where a run is long enough", () => {
  const pager = pagerOf();
  const a = open(pager, 0, tokensFrom(0), 4 * B);
  open(pager, 1, tokensFrom(50), 4 * B);
  pager.close(a, 0);
  assertEquals(physicals(open(pager, 2, tokensFrom(90), 4 * B)), [0, 1, 2, 3]);
  assertEquals(open(pager, 3, tokensFrom(20), 5 * B).extentCount, 1);
});

Deno.test("BlockPager.ensure() grows an extent in place, into the reserve that others leave alone", () => {
  const pager = pagerOf({ reserveBlocks: 3 });
  const a = open(pager, 0, tokensFrom(0), 2 * B);
  const b = open(pager, 1, tokensFrom(50), 2 * B);
  assertEquals([physicals(a), physicals(b)], [[0, 1], [5, 6]]);
  assertEquals(pager.stats.reserved, 6);
  assert(pager.ensure(a, 5 * B, 2 * B));
  assertEquals([a.extentCount, a.physical(4)], [1, 4]);
  pager.checkInvariants();
});

Deno.test("BlockPager.ensure() takes others' reserves when nothing else is left", () => {
  const pager = pagerOf({ numBlocks: 24, reserveBlocks: 4 });
  const a = open(pager, 0, tokensFrom(0), 8 * B);
  const b = open(pager, 1, tokensFrom(50), 8 * B);
  assert(pager.stats.reserved > 0);
  assert(pager.canAdmit(tokensFrom(90), 6 * B, true));
  const c = open(pager, 2, tokensFrom(90), 8 * B);
  assertEquals([pager.stats.reserved, pager.stats.free], [0, 0]);
  assertEquals(new Set([a, b, c].flatMap(physicals)).size, 24);
  pager.checkInvariants();
});

Deno.test("BlockPager.open() shortens a match that would take more than half of the groups", () => {
  const tokens = tokensFrom(0);
  const matched = [4, 16].map((maxGroupsPerSlot) => {
    const pager = pagerOf({ maxGroupsPerSlot });
    // Two sequences grow by turns, so that neither has two adjacent blocks.
    const map = open(pager, 0, tokens, B);
    const other = open(pager, 1, tokensFrom(50), B);
    for (let blocks = 2; blocks <= 4; blocks++) {
      assert(pager.ensure(map, blocks * B, (blocks - 1) * B));
      assert(pager.ensure(other, blocks * B, (blocks - 1) * B));
    }
    assertEquals(map.extentCount, 4);
    pager.publish(map, tokens, 4 * B);
    return pager.matchedTokens(open(pager, 2, tokens, 5 * B));
  });
  assertEquals(matched, [2 * B, 4 * B]);
});

Deno.test("BlockPager.fork() gives null when no group is left for the copy", () => {
  const pager = pagerOf({ maxGroupsPerSlot: 2 });
  const map = open(pager, 0, tokensFrom(0), B);
  open(pager, 1, tokensFrom(50), B);
  assert(pager.ensure(map, B + 2, B));
  assertEquals(map.extentCount, 2);
  assertEquals(pager.fork(map, 2, B + 2), null);
  assert(pager.fork(map, 2, B) !== null);
});

Deno.test("BlockPager in static mode gives each slot its own contiguous blocks, shared with nobody", () => {
  const pager = pagerOf({ mode: "static", numBlocks: 64 });
  const tokens = tokensFrom(0);
  const map = open(pager, 2, tokens, 3 * B);
  assertEquals(physicals(map), [32, 33, 34]);
  assertEquals([pager.stats.active, pager.stats.reserved, pager.stats.free], [3, 13, 48]);
  assert(pager.ensure(map, 16 * B, 3 * B));
  assertEquals([map.extentCount, map.physical(15)], [1, 47]);
  pager.publish(map, tokens, 16 * B);
  assertEquals(pager.fork(map, 1, B), null);
  pager.close(map, 1);
  assertEquals(pager.matchedTokens(open(pager, 2, tokens, 4 * B)), 0);
});

Deno.test("BlockPager in static mode refuses a pool that is smaller than its reservations", () => {
  assertThrows(() => pagerOf({ mode: "static", numBlocks: 63 }), RangeError, "the pool has 63, wanted 64");
});

Deno.test("BlockPager.open() throws a RangeError for a slot in use, an unknown one or too long a prompt", () => {
  const pager = pagerOf();
  open(pager, 0, tokensFrom(0), B);
  assertThrows(() => pager.open(0, tokensFrom(0), B, true), RangeError, "slot 0: it is in use");
  assertThrows(() => pager.open(4, tokensFrom(0), B, true), RangeError, "slot 4: there are 4");
  assertThrows(() => pager.open(1, tokensFrom(0, 99), 16 * B + 1, true), RangeError, "the limit is 16");
});
