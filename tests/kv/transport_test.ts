import { assert, assertEquals, assertThrows } from "@std/assert";
import { type BlockMap, BlockPager, type PagerOptions } from "../../runtime/kv/mod.ts";

const B = 4;

function pagerOf(options: Partial<PagerOptions> = {}): BlockPager {
  return new BlockPager({
    numBlocks: 64,
    blockTokens: B,
    mode: "kv-rm",
    slots: 4,
    maxBlocksPerSequence: 32,
    maxGroupsPerSlot: 8,
    prefixCache: true,
    reserveBlocks: 0,
    ...options,
  });
}

function tokensFrom(start: number, count = 128): Int32Array {
  return Int32Array.from({ length: count }, (_, i) => start + i);
}

function physicals(map: BlockMap): number[] {
  return Array.from({ length: map.blockCount }, (_, i) => map.physical(i));
}

/** Two sequences that grew by turns: extents of one block each. */
function interleaved(pager: BlockPager, blocks: number): [BlockMap, BlockMap] {
  const maps = [pager.open(0, tokensFrom(0), B, true)!, pager.open(1, tokensFrom(1000), B, true)!] as const;
  for (let n = 2; n <= blocks; n++) {
    for (const map of maps) assert(pager.ensure(map, n * B, (n - 1) * B));
  }
  return [...maps];
}

/** Plans step after step until nothing moves any more; returns the moves of each step. */
function settle(pager: BlockPager, maps: BlockMap[]): { from: number; to: number; count: number }[][] {
  const out = new Uint32Array(1024);
  const steps = [];
  for (let step = 1; step < 100; step++) {
    pager.planMoves(maps, step);
    const count = pager.writeMoves(out, 0, 256);
    if (count === 0) return steps;
    steps.push(Array.from({ length: count }, (_, i) => {
      return { from: out[i * 4 + 1]!, to: out[i * 4 + 2]!, count: out[i * 4 + 3]! };
    }));
    pager.completed(step);
    pager.checkInvariants();
  }
  throw new Error("staging goes on for ever");
}

Deno.test("BlockPager.planMoves() joins short runs, within the budget of each step, and comes to an end", () => {
  const pager = pagerOf({ moveBudgetBlocks: 5 });
  const maps = interleaved(pager, 7);
  assertEquals(maps.map((map) => map.extentCount), [7, 7]);
  const steps = settle(pager, maps);
  for (const moves of steps) {
    const blocks = moves.reduce((sum, { count }) => sum + count, 0);
    assert(blocks <= 5, `${blocks} blocks in a step`);
  }
  // The last run is left to grow; all others are long enough.
  for (const map of maps) {
    for (let i = 0; i < map.extentCount - 1; i++) assert(map.count[i]! >= 4, `a run of ${map.count[i]}`);
  }
  assertEquals(pager.stats.stagedBlocks, steps.flat().reduce((sum, { count }) => sum + count, 0));
});

Deno.test("BlockPager.planMoves() reads the old place in the step that moves, and frees it afterwards", () => {
  const pager = pagerOf({ moveBudgetBlocks: 8 });
  const [map] = interleaved(pager, 3);
  const before = physicals(map);
  const free = pager.stats.free;
  pager.planMoves([map], 5);
  const out = new Uint32Array(64);
  const count = pager.writeMoves(out, 0, 16);
  assert(count > 0);
  const after = physicals(map);
  for (let i = 0; i < count; i++) {
    const [, from, to, length] = out.subarray(i * 4, i * 4 + 4);
    for (let k = 0; k < length!; k++) assertEquals(before.indexOf(from! + k), after.indexOf(to! + k));
  }
  assertEquals([pager.stats.free, pager.stats.inFlight], [free - 3, 3]);
  pager.completed(4);
  assertEquals(pager.stats.inFlight, 3);
  pager.completed(5);
  assertEquals([pager.stats.free, pager.stats.inFlight], [free, 0]);
});

Deno.test("BlockPager.planMoves() leaves shared blocks where they are", () => {
  const pager = pagerOf();
  const [map, other] = interleaved(pager, 5);
  const child = pager.fork(map, 2, 5 * B)!;
  const before = physicals(map);
  settle(pager, [map, child]);
  assertEquals([physicals(map), physicals(child)], [before, before]);
  pager.close(child, 0);
  settle(pager, [map, other]);
  assert(map.extentCount < 3);
});

Deno.test("BlockPager.planMoves() keeps a published block findable where it moves to", () => {
  const pager = pagerOf();
  const [map] = interleaved(pager, 5);
  pager.publish(map, tokensFrom(0), 5 * B);
  const before = physicals(map);
  settle(pager, [map]);
  assert(physicals(map).some((block, i) => block !== before[i]));
  const reader = pager.open(2, tokensFrom(0), 6 * B, true)!;
  assertEquals(physicals(reader).slice(0, 5), physicals(map));
  assertEquals([pager.stats.cached, pager.stats.shared], [0, 5]);
});

Deno.test("BlockPager.planMoves() moves nothing without a budget", () => {
  const pager = pagerOf({ moveBudgetBlocks: 0 });
  assertEquals(settle(pager, interleaved(pager, 8)), []);
});

Deno.test("BlockPager.ensure() stays within G groups by relocation, and says false where that is off", () => {
  const fits = [8, 0].map((moveBudgetBlocks) => {
    const pager = pagerOf({ maxGroupsPerSlot: 3, moveBudgetBlocks });
    const maps = [pager.open(0, tokensFrom(0), B, true)!, pager.open(1, tokensFrom(1000), B, true)!];
    let all = true;
    for (let n = 2; n <= 12; n++) {
      for (const map of maps) {
        all &&= pager.ensure(map, n * B, (n - 1) * B);
        assert(map.extentCount <= 3);
      }
      pager.planMoves([], n); // nothing is staged here: ensure() has to
      pager.writeMoves(new Uint32Array(400), 0, 100);
      pager.completed(n);
    }
    pager.checkInvariants();
    return all;
  });
  assertEquals(fits, [true, false]);
});

Deno.test("BlockPager.ensure() evicts cached blocks to make room for a relocation", () => {
  const pager = pagerOf({ numBlocks: 32, maxGroupsPerSlot: 2, moveBudgetBlocks: 8 });
  const old = pager.open(2, tokensFrom(5000), 20 * B, true)!;
  pager.publish(old, tokensFrom(5000), 20 * B);
  pager.close(old, 0);
  const maps = [pager.open(0, tokensFrom(0), 6 * B, true)!, pager.open(1, tokensFrom(1000), 6 * B, true)!];
  for (let n = 7; n <= 12; n++) {
    for (const map of maps) assert(pager.ensure(map, n * B, (n - 1) * B), `${n} blocks`);
    pager.planMoves(maps, n);
    pager.writeMoves(new Uint32Array(400), 0, 100);
    pager.completed(n);
    pager.checkInvariants();
  }
  assert(pager.stats.evictions > 0);
});

Deno.test("BlockPager.writeMoves() merges adjacent moves", () => {
  const pager = pagerOf({ moveBudgetBlocks: 0 });
  const parent = pager.open(0, tokensFrom(0), 3 * B, true)!;
  const child = pager.fork(parent, 1, 3 * B)!;
  assert(pager.ensure(child, 3 * B, 0)); // writes into three shared blocks
  pager.planMoves([parent, child], 1);
  const out = new Uint32Array(64);
  assertEquals(pager.writeMoves(out, 4, 8), 1);
  assertEquals([...out.subarray(4, 8)], [0, parent.physical(0), child.physical(0), 3]);
});

Deno.test("BlockPager.writeMoves() throws a RangeError when the descriptor is too small", () => {
  const pager = pagerOf();
  interleaved(pager, 5);
  const [map] = [pager.fork(pager.open(2, tokensFrom(0), 2, false)!, 3, 2)!];
  assert(pager.ensure(map, 3, 2));
  pager.planMoves([map], 1);
  assertThrows(() => pager.writeMoves(new Uint32Array(8), 0, 0), RangeError, "room for 0");
});

Deno.test("BlockPager.ensure() says false when the step has no moves left", () => {
  const pager = pagerOf({ maxMoves: 1 });
  const parent = pager.open(0, tokensFrom(0), 2, true)!;
  const children = [1, 2].map((slot) => pager.fork(parent, slot, 2)!);
  assertEquals(children.map((child) => pager.ensure(child, 3, 2)), [true, false]);
  pager.planMoves(children, 1);
  pager.writeMoves(new Uint32Array(8), 0, 1);
  assert(pager.ensure(children[1]!, 3, 2));
});

/** Sequence 0 in two extents of `blocks` and one more, the last block before the gap taken by sequence 1. */
function inTwo(pager: BlockPager, blocks: number): BlockMap {
  const map = pager.open(0, tokensFrom(0), blocks * B, true)!;
  pager.open(1, tokensFrom(1000), B, true);
  assert(pager.ensure(map, (blocks + 1) * B, blocks * B));
  assertEquals(map.extentCount, 2);
  return map;
}

Deno.test("BlockPager.close() forgets a copy that nobody will read", () => {
  const pager = pagerOf();
  const parent = pager.open(0, tokensFrom(0), 2, true)!;
  const children = [1, 2].map((slot) => pager.fork(parent, slot, 2)!);
  for (const child of children) assert(pager.ensure(child, 3, 2));
  pager.close(parent, 0);
  pager.close(children[0]!, 0);
  // The source is still needed for the other child, and nothing else is on its way.
  assertEquals([pager.stats.moving, pager.stats.inFlight, pager.stats.active], [1, 0, 1]);
  pager.checkInvariants();
  pager.close(children[1]!, 0);
  assertEquals([pager.stats.moving, pager.stats.free], [0, 64]);
  assertEquals(pager.writeMoves(new Uint32Array(64), 0, 16), 0);
});

Deno.test("BlockPager.close() forgets the content of a published block that will not arrive", () => {
  const pager = pagerOf({ numBlocks: 16, maxBlocksPerSequence: 16, maxGroupsPerSlot: 2, minRunBlocks: 1 });
  const map = inTwo(pager, 3);
  pager.publish(map, tokensFrom(0), 4 * B);
  pager.open(2, tokensFrom(2000), B, true); // in the way again
  assert(pager.ensure(map, 5 * B, 4 * B)); // moves one of the extents
  assert(pager.stats.stagedBlocks > 0 && pager.stats.moving > 0 && pager.stats.inFlight === 0);
  const moved = Array.from({ length: 4 }, (_, i) => map.physical(i)).filter((block) => block > 5);
  assert(moved.length > 0);
  pager.close(map, 0);
  assertEquals(pager.stats.moving, 0);
  const reader = pager.open(3, tokensFrom(0), 5 * B, true)!;
  for (let b = 0; b < pager.matchedTokens(reader) / B; b++) assert(!moved.includes(reader.physical(b)));
  pager.checkInvariants();
});

Deno.test("BlockPager.ensure() relocates nothing when that would leave too few blocks to grow", () => {
  const pager = pagerOf({ numBlocks: 9, maxBlocksPerSequence: 9, maxGroupsPerSlot: 2, minRunBlocks: 1 });
  const map = inTwo(pager, 2);
  pager.open(2, tokensFrom(2000), B, true); // blocks 0 to 4 are taken
  assertEquals(pager.stats.free, 4);
  assertEquals(pager.ensure(map, 7 * B, 3 * B), false);
  assertEquals([pager.stats.moving, pager.stats.free], [0, 4]);
  assert(pager.ensure(map, 4 * B, 3 * B));
});

Deno.test("BlockPager.open() does without a cached prefix that lies in the way", () => {
  const pager = pagerOf({ numBlocks: 16, maxBlocksPerSequence: 16, maxGroupsPerSlot: 2 });
  const [before, middle, after] = [[1000, 6], [0, 3], [2000, 3]].map(([start, blocks], slot) => {
    return pager.open(slot, tokensFrom(start!), blocks! * B, true)!;
  });
  pager.open(3, tokensFrom(3000), B, true);
  pager.publish(middle!, tokensFrom(0), 3 * B);
  for (const map of [middle, before, after]) pager.close(map!, 0);
  // Blocks 6 to 8 are cached, 12 is taken. With the match, 6 to 11 and one more extent, 0 to 5, are too few.
  const map = pager.open(2, tokensFrom(0), 14 * B, true)!;
  assertEquals([pager.matchedTokens(map), map.extentCount], [0, 2]);
  pager.checkInvariants();
});
