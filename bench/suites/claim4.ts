/**
 * Claim 4: how many transfers a step needs, how large they are, what staging costs, what fragmentation costs.
 *
 * @module
 */
import { EngineHost } from "../../runtime/host.ts";
import { randomModel } from "../../runtime/model/folder.ts";
import { type EngineOptions, type EngineSizes, engineSizes } from "../../runtime/options.ts";
import { FragmentedEngine, type Histories } from "../evaluation/fragments.ts";
import { pagerWith } from "../evaluation/modes.ts";
import { replay, SwitchedSink } from "../evaluation/replay.ts";
import { casesOf, measured, ratio, round, series, sidesOf, type SuiteResult } from "../evaluation/results.ts";
import { groupPerBlock, MODEL_WORDS } from "../evaluation/sides.ts";
import { type Context, inTurn, type Part, type Section, type Suite } from "../evaluation/suite.ts";
import { thin } from "../evaluation/summary.ts";
import { lineSvg } from "../evaluation/svg.ts";
import { figure, list, percent, times, withSpread } from "../evaluation/words.ts";
import { median, quantile } from "../report.ts";
import { atOnce, makeWorkload, type WorkloadRequest } from "../workloads/workload.ts";

const SLOTS = 64;
const CONTEXT = 16_384;
const BLOCK = 32;
const STEPS = 8_000;
/** Steps at the start that count as fresh, and at the end that count as worn. */
const FRESH = 500, WORN = 2_000;
/** The pool, as a share of what the slots need on average: small enough that free blocks are scarce. */
const POOL_SHARE = 1.15;
/** K of a block in one layer of an 8B Llama: 32 tokens of 8 heads of 128, 2 bytes each. */
const LARGE_BLOCK_KIB = BLOCK * 8 * 128 * 2 / 1024;

interface Placement {
  name: string;
  options: Partial<EngineOptions>;
  adjust: (sizes: EngineSizes) => EngineSizes;
}

const PLACEMENTS: readonly Placement[] = [
  { name: "neither", options: { kvMode: "paged" }, adjust: (sizes) => sizes },
  {
    name: "merge",
    options: { kvMode: "paged" },
    adjust: (sizes) => pagerWith(sizes, { merge: true }),
  },
  {
    name: "extents, merge",
    options: {},
    adjust: (sizes) => pagerWith(sizes, { moveBudgetBlocks: 0 }),
  },
  {
    name: "extents, merge, any number of groups",
    options: {},
    adjust: (sizes) =>
      groupPerBlock(pagerWith(sizes, {
        moveBudgetBlocks: 0,
        maxGroupsPerSlot: sizes.pager.maxBlocksPerSequence,
      })),
  },
  { name: "extents, merge, stage", options: {}, adjust: (sizes) => sizes },
  {
    name: "extents, stage",
    options: {},
    adjust: (sizes) => groupPerBlock(pagerWith(sizes, { merge: false })),
  },
];
const FAMILIES = ["chat", "reasoning"] as const;
const WEAR = FAMILIES.map((family) => `wear, ${family}`);
const CUTS = "attention over cut histories";
const MOVES = "moves beside a step";

/** Blocks that the slots need on average: lengths weighted by the steps that they last. */
function meanNeed(requests: readonly WorkloadRequest[]): number {
  let blocks = 0, steps = 0;
  for (const { promptTokens: { length }, maxTokens } of requests) {
    blocks += maxTokens * (length + maxTokens / 2) / BLOCK;
    steps += maxTokens;
  }
  return SLOTS * blocks / steps;
}

function wear(family: typeof FAMILIES[number], context: Context): { parts: Part[]; source: string } {
  const workload = atOnce(makeWorkload({
    family,
    trace: context.trace,
    count: 2_500,
    maxContext: CONTEXT,
    vocab: 32_000,
  }));
  const tables = randomModel({
    hidden: 16,
    intermediate: 16,
    layers: 1,
    heads: 1,
    kvHeads: 1,
    vocab: 32_000,
    maxPosition: CONTEXT,
    dtype: "bf16",
  });
  const blockBytes = BLOCK * 2 * 16 * 2;
  const blocks = Math.max(CONTEXT / BLOCK, Math.round(POOL_SHARE * meanNeed(workload.requests)));
  const parts = PLACEMENTS.map(({ name, options, adjust }) => {
    const onProgress = context.begin(name);
    const sink = new SwitchedSink();
    const sizes = engineSizes(
      {
        model: "",
        noop: true,
        slots: SLOTS,
        maxContext: CONTEXT,
        kvMemory: blocks * blockBytes,
        // Prompts are there at once: how they are placed is asked, not how they are computed.
        prefillChunk: 4096,
        mixedChunk: 4096,
        mixedStretch: 0,
        prefixCache: false,
        structuredOutput: false,
        ...options,
      },
      tables,
      "bf16",
    );
    using host = new EngineHost(tables, adjust(sizes), sink);
    const done = replay(host, sink, workload.requests, { limitSteps: STEPS, limitSeconds: 60, onProgress });
    const { steps } = done;
    const perSlot = (values: number[]) => values.map((groups, i) => groups / Math.max(1, steps.slots[i]!));
    const groups = perSlot(steps.groupsAfter);
    const unmerged = perSlot(steps.groupsBefore);
    const sum = (values: number[]) => values.reduce((all, one) => all + one, 0);
    const size = (from: number, to?: number) =>
      sum(steps.groupsBefore.slice(from, to)) / sum(steps.groupsAfter.slice(from, to)) * LARGE_BLOCK_KIB;
    const values = {
      "groups/slot unmerged": sum(unmerged) / unmerged.length,
      "groups/slot fresh": median(groups.slice(100, FRESH)),
      "groups/slot worn": median(groups.slice(-WORN)),
      "groups/slot worst": quantile(groups, 1),
      "KiB/transfer fresh": size(100, FRESH),
      "KiB/transfer worn": size(-WORN),
      "moved blocks/step": done.movedBlocks / groups.length,
      "plan p50 us": quantile(steps.planMs.slice(-WORN), 0.5) * 1000,
      preemptions: done.preemptions,
      steps: groups.length,
    };
    return {
      side: name,
      values: Object.fromEntries(Object.entries(values).map(([key, value]) => [key, round(value)])),
      series: { groups: thin(groups, 100) },
    };
  });
  return { parts, source: `${workload.source}; pool of ${blocks} blocks` };
}

const HISTORIES: Histories = { slots: 8, tokens: 1_500, blockTokens: BLOCK, steps: 200 };
const TIMED = 100;
/** The quantile of a side's steps that stands for it: steps that nothing else on the machine disturbed. */
const UNDISTURBED = 0.2;
const CUT_SIDES: readonly { name: string; run: number; merge?: boolean; tokens?: number }[] = [
  { name: "one run", run: Infinity },
  { name: "runs of 16 blocks", run: 16 },
  { name: "runs of 4 blocks", run: 4 },
  { name: "single blocks", run: 1 },
  { name: "one run, a group per block", run: Infinity, merge: false },
  { name: "no history", run: Infinity, tokens: 1 },
];

function cuts(context: Context): { parts: Part[]; source: string } {
  using open = new DisposableStack();
  const engines = inTurn(CUT_SIDES, context.repeat).map(({ name, run, merge, tokens }) => {
    context.begin(name);
    return {
      name,
      engine: open.use(
        new FragmentedEngine({ ...HISTORIES, tokens: tokens ?? HISTORIES.tokens }, run, merge),
      ),
      times: [] as number[],
    };
  });
  for (let i = 0; i < TIMED + 10; i++) {
    for (const { engine, times } of engines) {
      const time = engine.step();
      if (i >= 10) times.push(time);
    }
  }
  const typical = (values: number[]) => quantile(values, UNDISTURBED);
  const empty = typical(engines.find(({ name }) => name === "no history")!.times);
  const parts = engines.map(({ name, engine, times }) => ({
    side: name,
    values: {
      "step ms": round(typical(times)),
      "attention ms": round(typical(times) - empty),
      "groups/slot": round(engine.groupsPerSlot),
    },
  }));
  return { parts, source: `${HISTORIES.slots} slots, histories of ${HISTORIES.tokens} tokens` };
}

const MOVE_SIDES: readonly { name: string; count: number; blocks: number }[] = [
  { name: "none", count: 0, blocks: 0 },
  { name: "8 blocks in 8 moves", count: 8, blocks: 1 },
  { name: "8 blocks in one move", count: 1, blocks: 8 },
  { name: "64 blocks in 64 moves", count: 64, blocks: 1 },
];

function moves(context: Context): { parts: Part[]; source: string } {
  using open = new DisposableStack();
  const engines = inTurn(MOVE_SIDES, context.repeat).map(({ name, count, blocks }) => {
    context.begin(name);
    // Half of its pool is never read: the moves go there.
    const engine = open.use(new FragmentedEngine({ ...HISTORIES, tokens: 300 }, Infinity));
    return { name, count, blocks, engine, times: [] as number[] };
  });
  for (const { engine, count, blocks } of engines) engine.moveBeside(count, blocks);
  for (let i = 0; i < TIMED + 10; i++) {
    for (const { engine, times } of engines) {
      const time = engine.step();
      if (i >= 10) times.push(time);
    }
  }
  const typical = (values: number[]) => quantile(values, UNDISTURBED);
  const still = typical(engines.find(({ count }) => count === 0)!.times);
  const parts = engines.map(({ name, engine, times, count, blocks }) => ({
    side: name,
    values: {
      "step ms": round(typical(times)),
      "us/block": count === 0 ? 0 : round((typical(times) - still) / (count * blocks) * 1000),
      "block KiB": round(engine.blockBytes / 1024),
    },
  }));
  return { parts, source: `${HISTORIES.slots} slots, histories of 300 tokens` };
}

function run(name: string, context: Context): { parts: Part[]; source: string } {
  if (name === CUTS) return cuts(context);
  if (name === MOVES) return moves(context);
  return wear(name.split(", ")[1] as typeof FAMILIES[number], context);
}

function report(result: SuiteResult): Section {
  const there = casesOf(result, WEAR);
  const names = PLACEMENTS.map(({ name }) => name);
  const tables = there.map((name) => ({
    title: `Transfer groups as the pool wears, ${
      name.split(", ")[1]
    }: ${SLOTS} slots, pool ${POOL_SHARE} × the mean need`,
    columns: [
      "mechanisms",
      "groups per slot, fresh",
      "groups, worn",
      "groups, worst step",
      "KiB per transfer, fresh",
      "KiB, worn",
      "blocks moved per step",
      "plan p50 µs",
      "preempted",
    ],
    rows: sidesOf(result, name, names).map((side) => [
      side,
      ...[
        "groups/slot fresh",
        "groups/slot worn",
        "groups/slot worst",
        "KiB/transfer fresh",
        "KiB/transfer worn",
        "moved blocks/step",
        "plan p50 us",
        "preemptions",
      ].map((metric) => withSpread(measured(result, name, side, metric))),
    ]),
  }));
  const cut = CUT_SIDES.filter(({ name }) => measured(result, CUTS, name, "step ms").count > 0);
  const of = (side: string, metric: string) => measured(result, CUTS, side, metric);
  if (cut.length > 0) {
    tables.push({
      title:
        `The same step over histories cut differently: ${HISTORIES.slots} slots, ${HISTORIES.tokens} tokens each`,
      columns: ["histories", "groups per slot", "step ms", "of it attention, ms", "attention, to one run"],
      rows: cut.map(({ name }) => [
        name,
        withSpread(of(name, "groups/slot")),
        withSpread(of(name, "step ms")),
        withSpread(of(name, "attention ms")),
        name === "no history" ? "–" : times(ratio(result, CUTS, name, "one run", "attention ms")),
      ]),
    });
  }
  const moved = MOVE_SIDES.filter(({ name }) => measured(result, MOVES, name, "step ms").count > 0);
  if (moved.length > 0) {
    tables.push({
      title: "The same step with blocks moved beside it",
      columns: ["moved per step", "step ms", "µs per block"],
      rows: moved.map(({ name }) => [
        name,
        withSpread(measured(result, MOVES, name, "step ms")),
        name === "none" ? "–" : withSpread(measured(result, MOVES, name, "us/block")),
      ]),
    });
  }
  const figures = there.map((name) => ({
    name: `claim4-${name.replace(/[ ,]+/g, "-")}`,
    title: `Transfer groups per slot as the pool wears, ${name.split(", ")[1]}`,
    svg: lineSvg({
      title: `Transfer groups per slot over ${STEPS} steps, ${name.split(", ")[1]}`,
      x: { label: "share of the steps, %" },
      y: { label: "groups per slot", log: true },
      lines: sidesOf(result, name, names).map((side) => ({
        name: side,
        points: series(result, name, side, "groups").map((value, i) => [i, Math.max(0.5, value)] as const),
      })),
    }),
  }));
  return { tables, figures, ...answers(result, there, cut.length > 0 && moved.length > 0) };
}

function answers(
  result: SuiteResult,
  there: string[],
  timed: boolean,
): { answer: string[]; headline: string } {
  const answer = there.map((name) => {
    const at = (side: string, metric: string) => figure(measured(result, name, side, metric).median);
    return `**${name.split(", ")[1]}**: worn, a slot's history is ${
      at("neither", "groups/slot worn")
    } transfers of ` +
      `${at("neither", "KiB/transfer worn")} KiB with neither merging nor staging, ` +
      `${at("merge", "groups/slot worn")} with merging alone, ${
        at("extents, merge, any number of groups", "groups/slot worn")
      } with extents, and ` +
      `${at("extents, merge, stage", "groups/slot worn")} of ${
        at("extents, merge, stage", "KiB/transfer worn")
      } KiB with all, for ` +
      `${
        at("extents, merge, stage", "moved blocks/step")
      } blocks moved per step (sizes: K of one layer of an 8B Llama in 16 bits).`;
  });
  const without = there.map((name) => measured(result, name, "extents, merge", "preemptions").median);
  if (there.length > 0) {
    const limit = there.map((name) => measured(result, name, "extents, merge, stage", "preemptions").median);
    answer.push(
      `Without staging, extents cannot keep to 8 groups a slot in such a pool: sequences are preempted ${
        list(without.map((count, i) => `${figure(count)} times (${there[i]!.split(", ")[1]})`))
      } in ${STEPS.toLocaleString("en-US")} steps, with it ${list(limit.map(figure))} times.`,
    );
  }
  if (timed) {
    const still = measured(result, MOVES, "none", "step ms").median;
    // The most blocks: what one takes is far below what a step's time varies by.
    const block = measured(result, MOVES, "64 blocks in 64 moves", "us/block").median;
    const perStep = Math.max(
      ...there.map((name) => measured(result, name, "extents, merge, stage", "moved blocks/step").median),
    );
    const cost = perStep * block / 1000 / still;
    answer.push(
      `On this CPU attention over single blocks takes ${
        attention(result, "single blocks")
      } the time of attention over one run, over runs of 4 blocks ${
        attention(result, "runs of 4 blocks")
      }. Moving a block takes ${figure(block)} µs of a step of ${
        figure(still)
      } ms, so that staging as much as above takes ${percent(Math.max(0, cost))} of it.`,
    );
  }
  const chat = there[0];
  const at = (side: string, metric: string) => figure(measured(result, chat!, side, metric).median);
  return {
    answer,
    headline: chat === undefined
      ? ""
      : `${at("neither", "groups/slot worn")} transfers per slot become ${
        at("extents, merge, stage", "groups/slot worn")
      } in a worn pool, ${at("neither", "KiB/transfer worn")} KiB each become ${
        at("extents, merge, stage", "KiB/transfer worn")
      }` +
        (timed
          ? `; attention over single blocks instead of one run takes ${
            attention(result, "single blocks")
          } the time on this CPU`
          : ""),
  };
}

/** Attention over such histories, to that over one run; with a word where repeats are too few to tell it from 1. */
function attention(result: SuiteResult, side: string): string {
  const to = ratio(result, CUTS, side, "one run", "attention ms");
  return to.count < 3 ? `${times(to)} (too few repeats to tell from × 1)` : times(to);
}

/** The suite. */
export const suite: Suite = {
  name: "claim4",
  title: "few large transfers",
  question:
    "Do extents, merging and staging turn many small transfers into few large ones, what does staging cost, and what does a step gain?",
  method: [
    `_Wear_: ${SLOTS} slots kept busy with the full lengths of a family for ${
      STEPS.toLocaleString("en-US")
    } steps, in a pool of ${POOL_SHARE} × what they need on average, so that free blocks are scarce and scattered; real scheduler, pager and descriptor, native steps that compute nothing. Fresh are the first ${FRESH} steps, worn the last ${
      WORN.toLocaleString("en-US")
    }.`,
    `_Cut histories_: ${MODEL_WORDS}; ${HISTORIES.slots} slots decode over histories of ${HISTORIES.tokens} tokens that lie in one run or in pieces. Engines of all kinds take one step each in turn; attention is the step's time less that of a step without history. _Moves_: the same with blocks moved that nobody reads.`,
  ],
  parameters: {
    slots: SLOTS,
    context: CONTEXT,
    steps: STEPS,
    pool: POOL_SHARE,
    "cut slots": HISTORIES.slots,
    "cut tokens": HISTORIES.tokens,
    "quantile of steps": UNDISTURBED,
  },
  cases: [
    ...WEAR.map((name) => ({ name, seconds: 15, parts: PLACEMENTS.length })),
    { name: CUTS, seconds: 45, parts: CUT_SIDES.length },
    { name: MOVES, seconds: 15, parts: MOVE_SIDES.length },
  ],
  repeats: 3,
  run,
  report,
};
