/**
 * What the block pager costs per step, and what each mechanism of placement buys.
 *
 *     deno run --allow-read bench/pager.ts [trace.csv | trace.jsonl]
 *
 * A CSV has the columns TIMESTAMP,ContextTokens,GeneratedTokens (Azure). A JSONL has input_length,
 * output_length and hash_ids, one id per 512 tokens of prefix (Mooncake); lengths are divided by 4. Without
 * a trace lengths are drawn from a lognormal distribution. Blocks are 32 tokens.
 *
 * @module
 */

import { type BlockMap, BlockPager, type PagerOptions } from "../runtime/kv/mod.ts";

const BLOCK = 32;
const GROUPS = 16;

interface Request {
  context: number;
  generated: number;
  /** Equal ids stand for equal pieces of ID_TOKENS tokens. */
  ids?: number[];
}

const ID_TOKENS = 128;

function print(line = ""): void {
  Deno.stdout.writeSync(new TextEncoder().encode(line + "\n"));
}

function table(head: string[], rows: (string | number)[][]): void {
  const cells = [
    head,
    ...rows.map((row) => row.map((cell) => typeof cell === "number" ? cell.toFixed(1) : cell)),
  ];
  const widths = head.map((_, i) => Math.max(...cells.map((row) => row[i]!.length)));
  for (const row of cells) {
    print(row.map((cell, i) => i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)).join("  "));
  }
  print();
}

function random(seed: number): () => number {
  let a = seed;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function quantile(sorted: Float64Array, q: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]!;
}

/** Requests like a chat service's: context of median 900 tokens, answer of median 180. */
function lognormal(count: number): Request[] {
  const rnd = random(1);
  const normal = () => Math.sqrt(-2 * Math.log(1 - rnd())) * Math.cos(2 * Math.PI * rnd());
  const draw = (median: number, sigma: number, limit: number) =>
    Math.max(1, Math.min(limit, Math.round(median * Math.exp(sigma * normal()))));
  return Array.from(
    { length: count },
    () => ({ context: draw(900, 0.9, 14_000), generated: draw(180, 0.8, 1_900) }),
  );
}

function readTrace(path: string): Request[] {
  if (path.endsWith(".jsonl")) {
    return Deno.readTextFileSync(path).trim().split("\n").map((row) => {
      const { input_length, output_length, hash_ids } = JSON.parse(row);
      const shrink = (length: number) => Math.max(1, Math.round(length / 4));
      return { context: shrink(input_length), generated: shrink(output_length), ids: hash_ids };
    });
  }
  const rows = Deno.readTextFileSync(path).trim().split("\n").slice(1).map((row) => row.split(","));
  return rows.map(([, context, generated]) => ({
    context: Math.max(1, Number(context)),
    generated: Math.max(1, Number(generated)),
  }));
}

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

  constructor(readonly requests: Request[], readonly options: PagerOptions) {
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
      const { context, generated, ids } = this.requests[this.#next % this.requests.length]!;
      const tokens = new Int32Array(context + generated);
      for (let i = 0; i < tokens.length; i++) {
        const id = i < context ? ids?.[Math.floor(i / ID_TOKENS)] : undefined;
        tokens[i] = id === undefined ? --this.#unique | 0 : id * ID_TOKENS + i % ID_TOKENS;
      }
      if (!pager.canAdmit(tokens, context, true)) return;
      const map = pager.open(slot, tokens, context, true);
      if (map === null) return;
      running[slot] = { map, tokens, length: context, end: context + generated };
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
function meanNeed(requests: Request[], slots: number): number {
  let blocks = 0, steps = 0;
  for (const { context, generated } of requests) {
    blocks += generated * (context + generated / 2) / BLOCK;
    steps += generated;
  }
  return slots * blocks / steps;
}

function poolFor(
  requests: Request[],
  slots: number,
  share: number,
): { numBlocks: number; maxBlocks: number } {
  const maxBlocks = Math.ceil(Math.max(...requests.map((r) => r.context + r.generated + 1)) / BLOCK);
  return { numBlocks: Math.max(maxBlocks, Math.round(share * meanNeed(requests, slots))), maxBlocks };
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
  requests: Request[],
  slots: number,
  share: number,
  prefixCache: boolean,
): void {
  const { numBlocks, maxBlocks } = poolFor(requests, slots, share);
  const steps = 8_000;
  print(
    `${name}, ${slots} slots, pool ${share} x mean need (${numBlocks} blocks), G = ${GROUPS}, ` +
      `prefix cache ${prefixCache ? "on" : "off"}, ${steps} steps`,
  );
  const rows = VARIANTS.map(([variant, options]) => {
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
    return [
      variant,
      (blocks / runs * BLOCK).toFixed(0),
      (runs / samples).toFixed(2),
      String(most),
      (shorts / samples).toFixed(2),
      (samples / (steps * 0.75 / 16)).toFixed(1),
      String(replay.preemptions),
      (1000 * stats.stagedBlocks / replay.tokens).toFixed(2),
      (100 * stats.prefixHits / Math.max(1, stats.prefixQueries)).toFixed(1),
    ];
  });
  table(
    [
      "placement",
      "tokens/run",
      "runs/request",
      "most",
      "short runs/request",
      "running",
      "preempted",
      "staged blocks/1k tokens",
      "prefix hits %",
    ],
    rows,
  );
}

/** Microseconds of each of 4,000 steps with histories of about 4,000 tokens in a worn pool. */
function timeSteps(slots: number): { times: Float64Array; groups: number } {
  const rnd = random(2);
  const requests = Array.from({ length: 4096 }, () => ({
    context: 3_700 + Math.floor(rnd() * 300),
    generated: 300 + Math.floor(rnd() * 300),
  }));
  const { numBlocks, maxBlocks } = poolFor(requests, slots, 1.2);
  const replay = new Replay(requests, {
    mode: "kv-rm",
    numBlocks,
    blockTokens: BLOCK,
    slots,
    maxBlocksPerSequence: maxBlocks,
    maxGroupsPerSlot: GROUPS,
    prefixCache: true,
  });
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

function cost(slots: number): (string | number)[][] {
  // Every run does the same, step by step: the fastest of the runs is what the step costs undisturbed.
  const runs = Array.from({ length: 5 }, () => timeSteps(slots));
  const fastest = runs[0]!.times.map((_, i) => Math.min(...runs.slice(1).map((run) => run.times[i]!)));
  const row = (name: string, times: Float64Array) => {
    const sorted = times.slice().sort();
    return [name, quantile(sorted, 0.5), quantile(sorted, 0.99), sorted[sorted.length - 1]!, runs[0]!.groups];
  };
  return [
    row(`${slots} slots, as measured`, runs[runs.length - 1]!.times),
    row(`${slots} slots, fastest of 4 equal runs`, fastest),
  ];
}

/** Bytes that the heap grows by in 10,000 steps of decoding without arrivals, once all code is compiled. */
function heapGrowth(slots: number): number {
  const requests = [{ context: 3_000, generated: 21_000 }];
  const { numBlocks, maxBlocks } = poolFor(requests, slots, 2);
  const replay = new Replay(requests, {
    mode: "kv-rm",
    numBlocks,
    blockTokens: BLOCK,
    slots,
    maxBlocksPerSequence: maxBlocks,
    maxGroupsPerSlot: GROUPS,
    prefixCache: true,
  });
  replay.admit();
  for (let i = 0; i < 10_000; i++) replay.plan();
  const before = Deno.memoryUsage().heapUsed;
  for (let i = 0; i < 10_000; i++) replay.plan();
  return Deno.memoryUsage().heapUsed - before;
}

const path = Deno.args[0];
print(
  "publish + ensure + planMoves + writeGroups + writeMoves, all slots decoding, histories of 4,000 tokens",
);
table(["", "p50 us/step", "p99 us/step", "max us/step", "groups/slot"], [...cost(64), ...cost(256)]);
print(`heap growth over 10,000 of these steps, 64 slots: ${heapGrowth(64)} bytes`);
print();

const requests = path === undefined ? lognormal(20_000) : readTrace(path);
const name = path === undefined ? "lognormal lengths" : path.split("/").pop()!;
fragmentation(name, requests, 64, 1.15, false);
fragmentation(name, requests, 64, 1.15, true);
fragmentation(name, requests, 64, 2, true);
if (requests[0]!.ids !== undefined) fragmentation(name, requests, 64, 4, true);
