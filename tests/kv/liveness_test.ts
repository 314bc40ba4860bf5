import { assert } from "@std/assert";
import fc from "fast-check";
import { type BlockMap, BlockPager } from "../../runtime/kv/mod.ts";

const B = 2;

interface Sequence {
  tokens: Int32Array;
  length: number;
  written: number;
  slot: number;
  map: BlockMap | null;
}

/**
 * First come, first served: who came last is preempted when somebody cannot go on, and starts again. Runs
 * all sequences to their end; returns the number of turns.
 */
function serve(
  pager: BlockPager,
  slots: number,
  requests: { prompt: number; end: number; kind: number }[],
): number {
  const waiting: Sequence[] = requests.map(({ prompt, end, kind }) => ({
    tokens: Int32Array.from({ length: end }, (_, i) => i < end / 2 ? kind : i),
    length: prompt,
    written: 0,
    slot: -1,
    map: null,
  }));
  const running: Sequence[] = [];
  const maps: (BlockMap | null)[] = new Array(slots).fill(null);
  const out = new Uint32Array(4096);
  let step = 0;
  let completed = 0;
  const leave = (sequence: Sequence, lastStep: number) => {
    pager.close(sequence.map!, lastStep);
    maps[sequence.slot] = sequence.map = null;
    running.splice(running.indexOf(sequence), 1);
  };
  for (let turn = 1; turn < 20_000; turn++) {
    if (step > completed) pager.completed(++completed);
    const rows: Sequence[] = [];
    for (let i = 0; i < running.length; i++) {
      const sequence = running[i]!;
      while (!pager.ensure(sequence.map!, sequence.written + 1, sequence.written)) {
        if (pager.stats.inFlight > 0) break; // comes back by itself
        const victim = running[running.length - 1]!;
        leave(victim, step);
        victim.written = 0;
        waiting.unshift(victim);
        if (victim === sequence) break;
      }
      if (sequence.map?.blockCount! * B > sequence.written) rows.push(sequence);
    }
    while (waiting.length > 0 && running.length < slots) {
      const sequence = waiting[0]!;
      const slot = maps.indexOf(null);
      if (!pager.canAdmit(sequence.tokens, sequence.length, true)) break;
      sequence.map = pager.open(slot, sequence.tokens, sequence.length, true);
      if (sequence.map === null) break;
      waiting.shift();
      sequence.slot = slot;
      maps[slot] = sequence.map;
      sequence.written = sequence.length - 1;
      running.push(sequence);
      if (pager.ensure(sequence.map, sequence.length, sequence.written)) rows.push(sequence);
    }
    if (rows.length === 0 && step === completed) {
      assert(running.length > 0 || waiting.length > 0);
      continue; // nothing to commit: the next turn has to find a way
    }
    pager.planMoves(maps, ++step);
    pager.writeMoves(out, 0, 1024);
    for (const sequence of rows) {
      if (sequence.map === null) continue;
      sequence.written++;
      sequence.length = Math.max(sequence.length, sequence.written + 1);
      pager.publish(sequence.map, sequence.tokens, Math.min(sequence.written, sequence.tokens.length));
      if (sequence.written >= sequence.tokens.length - 1) leave(sequence, step);
    }
    pager.checkInvariants();
    if (running.length === 0 && waiting.length === 0) return turn;
  }
  throw new Error(`${running.length} sequences run and ${waiting.length} wait for ever`);
}

for (const mode of ["kv-rm", "paged"] as const) {
  Deno.test(`BlockPager lets every sequence come to its end in a pool for one, in ${mode} mode`, () => {
    const request = fc.record({
      prompt: fc.integer({ min: 1, max: 20 }),
      more: fc.integer({ min: 2, max: 20 }),
      kind: fc.nat(2),
    });
    fc.assert(
      fc.property(
        fc.array(request, { minLength: 1, maxLength: 8 }),
        fc.record({
          slots: fc.integer({ min: 1, max: 4 }),
          extra: fc.nat(12),
          maxGroupsPerSlot: fc.integer({ min: 2, max: 4 }),
          reserveBlocks: fc.nat(4),
          moveBudgetBlocks: fc.constantFrom(0, 1, 8),
          prefixCache: fc.boolean(),
        }),
        (requests, { slots, extra, ...options }) => {
          const maxBlocksPerSequence = 20;
          const pager = new BlockPager({
            ...options,
            mode,
            slots,
            numBlocks: maxBlocksPerSequence + extra,
            blockTokens: B,
            maxBlocksPerSequence,
          });
          serve(
            pager,
            slots,
            requests.map(({ prompt, more, kind }) => ({ prompt, end: prompt + more, kind })),
          );
        },
      ),
      { numRuns: 300 },
    );
  });
}
