import { assert, assertEquals, assertThrows } from "@std/assert";
import { KVRM, SUMMARY } from "../../ffi/mod.ts";
import {
  BlockMap,
  BlockPager,
  FarHistory,
  type FarHistoryOptions,
  type PagerOptions,
  PagerStats,
  SUMMARY_WORDS,
  SummaryKind,
} from "../../runtime/kv/mod.ts";

const B = 4;
const FAR: FarHistoryOptions = { sinkBlocks: 1, windowBlocks: 4, rows: 3, maxSummaries: 20 };

function pagerOf(options: Partial<PagerOptions> = {}): BlockPager {
  return new BlockPager({
    numBlocks: 32,
    blockTokens: B,
    mode: "kv-rm",
    slots: 3,
    maxBlocksPerSequence: 40,
    maxGroupsPerSlot: 4,
    prefixCache: true,
    reserveBlocks: 0,
    moveBudgetBlocks: 0,
    far: FAR,
    ...options,
  });
}

function tokensFrom(start: number, count = 160): Int32Array {
  return Int32Array.from({ length: count }, (_, i) => start + i);
}

function summariesOf(pager: BlockPager): number[][] {
  const out = new Uint32Array(400);
  const count = pager.writeSummaries(out, 0, 100);
  return Array.from({ length: count }, (_, i) => [...out.subarray(i * 4, i * 4 + 4)]);
}

/** Computes tokens [from, end) of a sequence step by step, as the scheduler would; returns the operations. */
function compute(pager: BlockPager, slot: number, tokens: Int32Array, end: number, step: { n: number }) {
  const map = pager.open(slot, tokens, end, true)!;
  const operations: number[][] = [];
  for (let position = pager.matchedTokens(map); position < end;) {
    step.n++;
    const done = pager.giveUp(map, position, step.n);
    const next = done ? Math.min(end, pager.far!.nextStride(position)) : position;
    assert(pager.ensure(map, next, position));
    pager.planMoves([map], step.n);
    operations.push(...summariesOf(pager));
    pager.publish(map, tokens, next);
    pager.completed(step.n);
    pager.checkInvariants();
    position = next;
  }
  return { map, operations };
}

Deno.test("SummaryKind and its words are those of the library", () => {
  assertEquals({ ...SummaryKind }, {
    CLEAR: KVRM.SUMMARY_CLEAR,
    BLOCK: KVRM.SUMMARY_BLOCK,
    MERGE: KVRM.SUMMARY_MERGE,
  });
  assertEquals(SUMMARY_WORDS, SUMMARY.words);
});

Deno.test("FarHistory.farBlocks() leaves the window and less than a stride more, and changes at strides", () => {
  for (const windowBlocks of [1, 2, 3, 4, 7, 8, 30]) {
    for (const sinkBlocks of [0, 1, 3]) {
      const far = new FarHistory({ ...FAR, windowBlocks, sinkBlocks }, B);
      assert(far.window >= windowBlocks && far.window % far.stride === 0);
      let changed = 0;
      for (let position = 1; position < 400; position++) {
        const blocks = far.farBlocks(position);
        // Whole blocks between what was given up and the one that the token lies in.
        const exact = Math.floor(position / B) - (blocks > 0 ? far.sinks + blocks : 0);
        if (blocks > 0) assert(exact >= far.window && exact < far.window + far.stride);
        assert(blocks > 0 || exact < far.sinks + far.window + far.stride);
        if (blocks !== far.farBlocks(position - 1)) {
          for (let p = changed; p < position; p++) assertEquals(far.nextStride(p) <= position, true);
          assertEquals(far.nextStride(position - 1), position);
          changed = position;
        }
        assert(Math.ceil(far.nextStride(position) / B) - far.sinks - blocks <= far.window + far.stride);
      }
      assert(changed > 0);
    }
  }
});

Deno.test("FarHistory.rowOf() gives each row its turn but for the first", () => {
  const far = new FarHistory(FAR, B);
  assertEquals([0, 1, 2, 3, 4, 5, 6].map((k) => far.rowOf(k)), [0, 1, 2, 1, 2, 1, 2]);
  assertEquals([0, 2, 3, 9].map((k) => far.rowsInUse(k)), [0, 2, 3, 3]);
});

for (const mode of ["kv-rm", "paged"] as const) {
  Deno.test(`BlockPager.giveUp() merges the two oldest rows and frees the blocks, in ${mode} mode`, () => {
    const pager = pagerOf({ mode, prefixCache: false });
    const { map, operations } = compute(pager, 0, tokensFrom(0), 40 * B, { n: 0 });
    // Position 159 lies in block 39: exact are block 0 and blocks 35 on.
    assertEquals([map.gapStart, map.gapEnd, map.farRows], [1, 35, 3]);
    assertEquals(map.mappedBlocks, 6);
    const kinds = operations.map(([word, row, source]) => [word! >>> 16, row!, source!]);
    assertEquals(kinds.slice(0, 1), [[SummaryKind.CLEAR, 0, 0]]);
    assertEquals(kinds.filter(([kind]) => kind === SummaryKind.BLOCK).map(([, row]) => row).slice(0, 6), [
      0,
      1,
      2,
      1,
      2,
      1,
    ]);
    assertEquals(kinds[4], [SummaryKind.MERGE, 0, 1]);
    assertEquals(kinds[6], [SummaryKind.MERGE, 0, 2]);
    assertEquals(operations.length, 1 + 34 + 31);
    pager.completed(1000);
    assertEquals(pager.stats.active, 6);
    assertEquals(pager.stats.free + pager.stats.reserved, 26);
    assertEquals(pager.stats.farBlocks, 34);
    pager.close(map, 1000);
    pager.checkInvariants();
  });

  Deno.test(`BlockPager keeps a sequence of any length within its bound, in ${mode} mode`, () => {
    // 40 blocks of history in a pool of 12: sinks, window, and a stride, twice over while a step is in flight.
    const pager = pagerOf({ mode, numBlocks: 12, prefixCache: false });
    assertEquals(pager.far!.maxBlocks, 6);
    let most = 0;
    const step = { n: 0 };
    const map = pager.open(0, tokensFrom(0), 40 * B, false)!;
    for (let position = 0; position < 40 * B; position++) {
      step.n++;
      assert(pager.giveUp(map, position, step.n));
      assert(pager.ensure(map, position + 1, position), `position ${position}`);
      pager.planMoves([map], step.n);
      summariesOf(pager);
      pager.completed(step.n - 1);
      most = Math.max(most, pager.stats.active);
    }
    assertEquals(most, 6);
    pager.close(map, step.n);
  });

  Deno.test(`BlockPager.open() finds a prefix that was given up, and gives it up again, in ${mode} mode`, () => {
    const pager = pagerOf({ mode, numBlocks: 64 });
    const step = { n: 0 };
    const tokens = tokensFrom(0);
    const first = compute(pager, 0, tokens, 30 * B, step);
    // The far blocks are nobody's, but can be found; what reads them has its own slot and rows.
    const second = compute(pager, 1, tokens, 30 * B, step);
    assertEquals(pager.matchedTokens(second.map), 29 * B);
    const sources = (operations: number[][]) =>
      operations.filter(([word]) => word! >>> 16 === SummaryKind.BLOCK).map((
        [, row, source],
      ) => [row, source]);
    assertEquals(sources(second.operations), sources(first.operations));
    assert(second.operations.every(([word]) => (word! & 0xffff) === 1));
    assertEquals([second.map.gapStart, second.map.gapEnd], [first.map.gapStart, first.map.gapEnd]);
    pager.close(first.map, step.n);
    pager.close(second.map, step.n);
    pager.completed(step.n);
    assertEquals(pager.matchedTokens(pager.open(2, tokens, 30 * B, true)!), 29 * B);
    pager.checkInvariants();
  });
}

Deno.test("BlockPager.giveUp() goes on in the next step where the operations have no room", () => {
  const pager = pagerOf({ far: { ...FAR, maxSummaries: 4 } });
  const step = { n: 0 };
  const tokens = tokensFrom(0);
  const { map } = compute(pager, 0, tokens, 20 * B, step);
  const found = pager.open(1, tokens, 20 * B, true)!;
  const turns: number[] = [];
  for (let done = false; !done;) {
    done = pager.giveUp(found, 19 * B, ++step.n);
    pager.planMoves([map, found], step.n);
    turns.push(summariesOf(pager).length);
    pager.completed(step.n);
  }
  assert(turns.every((count) => count <= 4));
  assertEquals(turns.reduce((sum, count) => sum + count), 1 + 14 + 11);
  assertEquals([found.gapStart, found.gapEnd], [1, 15]);
});

Deno.test("BlockPager.fork() leaves a sequence with summary rows alone", () => {
  const pager = pagerOf();
  const { map } = compute(pager, 0, tokensFrom(0), 5 * B, { n: 0 });
  const child = pager.fork(map, 1, 5 * B - 1);
  assert(child !== null);
  pager.close(child!, 9);
  pager.giveUp(map, 8 * B, 10);
  assertEquals(pager.fork(map, 1, 5 * B - 1), null);
});

Deno.test("BlockPager without rows forgets what it gives up", () => {
  const pager = pagerOf({ far: { ...FAR, rows: 0, maxSummaries: 1 } });
  const { map, operations } = compute(pager, 0, tokensFrom(0), 40 * B, { n: 0 });
  assertEquals([operations, map.farRows, map.gapEnd], [[], 0, 35]);
});

Deno.test("BlockMap.widenGap() cuts an extent in two, and writeGroups() puts the far history between", () => {
  const map = new BlockMap(2, 6, true, new PagerStats());
  map.append(10, 6);
  map.append(3, 4);
  map.widenGap(1, 3);
  map.farRows = 2;
  assertEquals([map.extentCount, map.mappedBlocks], [3, 8]);
  assertEquals([0, 1, 2, 3].map((b) => map.has(b)), [true, false, false, true]);
  assertEquals([map.physical(0), map.physical(3), map.physical(9)], [10, 13, 6]);
  assertThrows(
    () => map.physical(2),
    RangeError,
    "Cannot find block 2 of slot 2: mapped are 0 to 10 but for 1 to 3",
  );
  const out = new Uint32Array(16);
  assertEquals(map.writeGroups(out, 0, 2, 10, 4), 4);
  const far = 2 | KVRM.GROUP_FAR << 16;
  assertEquals([...out], [2, 0, 10, 1, far, 1, 0, 2, 2, 3, 13, 3, 2, 6, 3, 4]);
  assertEquals(map.writeGroups(out, 0, 2, 10, 3), -1);
  map.widenGap(1, 7);
  assertEquals([map.extentCount, map.physical(7)], [2, 4]);
  // What comes to lie side by side stays apart: there is a gap between.
  map.remap(7, 3, 11);
  assertEquals([map.extentCount, map.physical(7), map.physical(0)], [2, 11, 10]);
  map.reset();
  assertEquals([map.gapEnd, map.farRows], [0, 0]);
});
