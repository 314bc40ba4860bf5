/**
 * What the block pager costs per step, and what each mechanism of placement buys, with a trace's full lengths and
 * without the loop: `deno task bench pager [--trace file]`. Blocks are 32 tokens; Mooncake's lengths are divided by 4.
 *
 * @module
 */
import { type BlockMap, BlockPager, type PagerOptions } from "../../runtime/kv/mod.ts";
import { quantile, type Report, type Rows } from "../report.ts";
import { random } from "../workloads/random.ts";
import { makeWorkload, type WorkloadRequest } from "../workloads/workload.ts";

const BLOCK = 32;
const GROUPS = 16;

interface Running {
  map: BlockMap;
  tokens: Int32Array;
  length: number;
  end: number;
}

/** Slots kept full with requests, one token per step for each; prompts are there at once. */
class Replay {
  readonly pager: BlockPager;
  readonly running: (Running | null)[];
  readonly maps: (BlockMap | null)[];
  readonly groups: Uint32Array;
  readonly moves = new Uint32Array(4096);
  step = 0;
  preemptions = 0;
  finished = 0;
  tokens = 0;
  #next = 0;
  #unique = 0;

  constructor(readonly requests: readonly WorkloadRequest[], readonly options: PagerOptions) {
    this.pager = new BlockPager(options);
    this.running = new Array(options.slots).fill(null);
    this.maps = new Array(options.slots).fill(null);
    this.groups = new Uint32Array(4 * options.maxBlocksPerSequence);
  }

  /** Fills empty slots, first come, first served. */
  admit(): void {
    const { pager, running, maps } = this;
    for (let slot = 0; slot < running.length; slot++) {
      if (running[slot] !== null) continue;
      const { promptTokens, maxTokens } = this.requests[this.#next % this.requests.length]!;
      const context = promptTokens.length;
      const tokens = new Int32Array(context + maxTokens);
      tokens.set(promptTokens);
      // Answers are different from each other, and so is each time that a request comes round again.
      const isFirst = this.#next < this.requests.length;
      for (let i = isFirst ? context : 0; i < tokens.length; i++) tokens[i] = --this.#unique | 0;
      if (!pager.canAdmit(tokens, context, true)) return;
      const map = pager.open(slot, tokens, context, true);
      if (map === null) return;
      running[slot] = { map, tokens, length: context, end: tokens.length };
      maps[slot] = map;
      this.#next++;
    }
  }

  /** What is timed: a step's planning for all running sequences. */
  plan(): void {
    const { pager, running, maps, groups } = this;
    const t = ++this.step;
    pager.completed(t - 2);
    for (let slot = 0; slot < running.length; slot++) {
      const sequence = running[slot];
      if (sequence === null || sequence === undefined) continue;
      pager.publish(sequence.map, sequence.tokens, sequence.length);
      if (!pager.ensure(sequence.map, sequence.length + 1, sequence.length)) {
        this.preemptions++;
        this.end(slot);
      }
    }
    pager.planMoves(maps, t);
    for (let slot = 0; slot < running.length; slot++) {
      const sequence = running[slot];
      if (sequence === null || sequence === undefined) continue;
      const blocks = Math.ceil((sequence.length + 1) / BLOCK);
      sequence.map.writeGroups(groups, 0, slot, blocks, groups.length >>> 2);
      sequence.length++;
      this.tokens++;
    }
    pager.writeMoves(this.moves, 0, 1024);
  }

  /** Ends sequences that are complete. */
  retire(): void {
    for (let slot = 0; slot < this.running.length; slot++) {
      const sequence = this.running[slot];
      if (!sequence || sequence.length < sequence.end) continue;
      this.finished++;
      this.end(slot);
    }
  }

  end(slot: number): void {
    this.pager.close(this.running[slot]!.map, this.step);
    this.running[slot] = this.maps[slot] = null;
  }
}

/** Blocks that `slots` sequences need on average: lengths weighted by the steps that they last. */
function meanNeed(requests: readonly WorkloadRequest[], slots: number): number {
  let blocks = 0, steps = 0;
  for (const { promptTokens: { length }, maxTokens } of requests) {
    blocks += maxTokens * (length + maxTokens / 2) / BLOCK;
    steps += maxTokens;
  }
  return slots * blocks / steps;
}

function poolFor(
  requests: readonly WorkloadRequest[],
  slots: number,
  share: number,
): { numBlocks: number; maxBlocks: number } {
  const maxBlocks = Math.ceil(
    Math.max(...requests.map((r) => r.promptTokens.length + r.maxTokens + 1)) / BLOCK,
  );
  return { numBlocks: Math.max(maxBlocks, Math.round(share * meanNeed(requests, slots))), maxBlocks };
}

/** A replay in kv-rm mode, in a pool of `share` times what `slots` sequences need on average. */
function replayOf(requests: readonly WorkloadRequest[], slots: number, share: number): Replay {
  const { numBlocks, maxBlocks } = poolFor(requests, slots, share);
  return new Replay(requests, {
    mode: "kv-rm",
    numBlocks,
    blockTokens: BLOCK,
    slots,
    maxBlocksPerSequence: maxBlocks,
    maxGroupsPerSlot: GROUPS,
    prefixCache: true,
  });
}

const VARIANTS: [string, Partial<PagerOptions>][] = [
  ["LIFO free list", { mode: "paged" }],
  ["extents", { reserveBlocks: 0, moveBudgetBlocks: 0 }],
  ["extents, reserve 4", { reserveBlocks: 4, moveBudgetBlocks: 0 }],
  ["extents, reserve 16", { reserveBlocks: 16, moveBudgetBlocks: 0 }],
  ["extents, staging 8", { reserveBlocks: 0, moveBudgetBlocks: 8 }],
  ["extents, reserve 4, staging 8 (default)", {}],
  ["extents, reserve 16, staging 8", { reserveBlocks: 16, moveBudgetBlocks: 8 }],
];

function fragmentation(
  name: string,
  requests: readonly WorkloadRequest[],
  slots: number,
  share: number,
  prefixCache: boolean,
): Report {
  const { numBlocks, maxBlocks } = poolFor(requests, slots, share);
  const steps = 8_000;
  const rows: Rows = VARIANTS.map(([variant, options]) => {
    const replay = new Replay(requests, {
      mode: "kv-rm",
      numBlocks,
      blockTokens: BLOCK,
      slots,
      maxBlocksPerSequence: maxBlocks,
      maxGroupsPerSlot: GROUPS,
      prefixCache,
      ...options,
    });
    let runs = 0, blocks = 0, samples = 0, most = 0, shorts = 0;
    for (let i = 0; i < steps; i++) {
      replay.retire();
      replay.admit();
      replay.plan();
      if (i < steps / 4 || i % 16 !== 0) continue;
      for (const sequence of replay.running) {
        if (sequence === null) continue;
        samples++;
        runs += sequence.map.extentCount;
        blocks += sequence.map.blockCount;
        most = Math.max(most, sequence.map.extentCount);
        for (let e = 0; e < sequence.map.extentCount - 1; e++) if (sequence.map.count[e]! < 4) shorts++;
      }
    }
    const { stats } = replay.pager;
    return {
      placement: variant,
      "tokens/run": Math.round(blocks / runs * BLOCK),
      "runs/request": runs / samples,
      most,
      "short runs/request": shorts / samples,
      running: samples / (steps * 0.75 / 16),
      preempted: replay.preemptions,
      "staged blocks/1k tokens": 1000 * stats.stagedBlocks / replay.tokens,
      "prefix hits %": 100 * stats.prefixHits / Math.max(1, stats.prefixQueries),
    };
  });
  return {
    suite: `${name}, ${slots} slots, pool ${share} x mean need (${numBlocks} blocks), G = ${GROUPS}, ` +
      `prefix cache ${prefixCache ? "on" : "off"}, ${steps} steps`,
    rows,
    notes: [],
  };
}

/** Microseconds of each of 4,000 steps with histories of about 4,000 tokens in a worn pool. */
function timeSteps(slots: number): { times: Float64Array; groups: number } {
  const rnd = random(2);
  const requests = Array.from({ length: 4096 }, () => ({
    arrivalMs: 0,
    promptTokens: unlike(3_700 + Math.floor(rnd() * 300)),
    maxTokens: 300 + Math.floor(rnd() * 300),
  }));
  const replay = replayOf(requests, slots, 1.2);
  const times = new Float64Array(4_000);
  for (let i = 0; i < 6_000; i++) {
    replay.retire();
    replay.admit();
    const start = performance.now();
    replay.plan();
    if (i >= 2_000) times[i - 2_000] = (performance.now() - start) * 1000;
  }
  return { times, groups: replay.pager.stats.groupsAfterMerge / replay.tokens };
}

function cost(slots: number): Rows {
  // Every run does the same, step by step: the fastest of the runs is what the step costs undisturbed.
  const runs = Array.from({ length: 5 }, () => timeSteps(slots));
  const fastest = runs[0]!.times.map((_, i) => Math.min(...runs.slice(1).map((run) => run.times[i]!)));
  const row = (name: string, times: Float64Array) => ({
    " ": name,
    "p50 us/step": quantile(times, 0.5),
    "p99 us/step": quantile(times, 0.99),
    "max us/step": quantile(times, 1),
    "groups/slot": runs[0]!.groups,
  });
  return [
    row(`${slots} slots, as measured`, runs[runs.length - 1]!.times),
    row(`${slots} slots, fastest of 4 equal runs`, fastest),
  ];
}

/** Bytes that the heap grows by in 10,000 steps of decoding without arrivals, once all code is compiled. */
function heapGrowth(slots: number): number {
  const requests = [{ arrivalMs: 0, promptTokens: unlike(3_000), maxTokens: 21_000 }];
  const replay = replayOf(requests, slots, 2);
  replay.admit();
  for (let i = 0; i < 10_000; i++) replay.plan();
  const before = Deno.memoryUsage().heapUsed;
  for (let i = 0; i < 10_000; i++) replay.plan();
  return Deno.memoryUsage().heapUsed - before;
}

let made = 0;

/** A prompt whose tokens no other prompt has. */
function unlike(length: number): Int32Array {
  return Int32Array.from({ length }, () => ++made);
}

/** Runs the suite. */
export function run({ trace }: { trace?: string }): Report[] {
  const isMooncake = trace?.endsWith(".jsonl") ?? false;
  const { requests, source } = makeWorkload({
    family: isMooncake ? "multi-turn" : "chat",
    trace,
    lengthScale: isMooncake ? 0.25 : 1,
    maxContext: 32_768,
    vocab: 2 ** 30,
  });
  const reports: Report[] = [{
    suite:
      "publish + ensure + planMoves + writeGroups + writeMoves, all slots decoding, histories of 4,000 tokens",
    rows: [...cost(64), ...cost(256)],
    notes: [`heap growth over 10,000 of these steps, 64 slots: ${heapGrowth(64)} bytes`],
  }];
  for (const [share, prefixCache] of [[1.15, false], [1.15, true], [2, true]] as const) {
    reports.push(fragmentation(source, requests, 64, share, prefixCache));
  }
  if (isMooncake) reports.push(fragmentation(source, requests, 64, 4, true));
  return reports;
}
