/**
 * Claim 5: each mechanism taken away alone.
 *
 * @module
 */
import {
  capacity,
  CONTEXT,
  measure,
  modeSide,
  paced,
  pagerWith,
  REPLAY_PARAMETERS,
  scaled,
  SLOTS,
} from "../evaluation/modes.ts";
import { casesOf, measured, ratio, sidesOf, type Spread, type SuiteResult } from "../evaluation/results.ts";
import { groupPerBlock, MODEL_WORDS, type Side } from "../evaluation/sides.ts";
import {
  type Context,
  inTurn,
  type Part,
  type Section,
  type Suite,
  type Table,
} from "../evaluation/suite.ts";
import { barSvg } from "../evaluation/svg.ts";
import { list, times, withSpread } from "../evaluation/words.ts";
import { atOnce, type Family } from "../workloads/workload.ts";

/** About what 16 sequences of the chat family need on average, and some: free blocks are scarce. */
const POOL_TOKENS = 6_656;
const LOAD = 0.7;
const LIMIT_S = 20;
const COUNTS = { chat: 64, reasoning: 20 } as const;
/** A median closer to 1 than this, or repeats on both sides of 1, is no difference. */
const NOISE = 0.03;
/** Fewer repeats say nothing on a machine that others use too. */
const ENOUGH = 3;
const cases = ["chat, at once", "chat, as they come", "reasoning, at once"];
const FULL = "all";

const full = (more: Parameters<typeof modeSide>[3] = {}) => modeSide("kv-rm", SLOTS, POOL_TOKENS, more);
const paged = modeSide("paged", SLOTS, POOL_TOKENS);

/** Without which, and what the mechanism is for. */
const SIDES: readonly (Side & { mechanism?: string })[] = [
  { ...full(), name: FULL },
  {
    ...paged,
    name: "without extents",
    mechanism: "extents (and with them reserve and staging)",
    adjust: (sizes) => pagerWith(sizes, { merge: true }),
  },
  {
    ...full(),
    name: "without reserve",
    mechanism: "reserve ahead",
    adjust: (sizes) => pagerWith(sizes, { reserveBlocks: 0 }),
  },
  {
    ...full(),
    name: "without merge",
    mechanism: "merging",
    adjust: (sizes) => groupPerBlock(pagerWith(sizes, { merge: false })),
  },
  {
    ...full(),
    name: "without stage",
    mechanism: "staging",
    adjust: (sizes) => pagerWith(sizes, { moveBudgetBlocks: 0 }),
  },
  { ...full({ inFlight: 1 }), name: "without one step ahead", mechanism: "one step ahead" },
  {
    ...full({ prefillChunk: CONTEXT, mixedChunk: CONTEXT, mixedStretch: 0 }),
    name: "without chunked prefill",
    mechanism: "chunked prefill",
  },
  {
    ...full({ mixedStretch: 0 }),
    name: "without a limit of stretch",
    mechanism: "a chunk that follows what rows cost",
  },
];
const NAMES = SIDES.map(({ name }) => name);

function run(name: string, context: Context): { parts: Part[]; source: string } {
  const [family, how] = name.split(", ") as [Family & keyof typeof COUNTS, string];
  let workload = scaled({ family, trace: context.trace, count: COUNTS[family] });
  let rate = 0;
  if (how === "at once") workload = atOnce(workload);
  else {
    const known = context.before.runs.find((one) => one.case === name);
    rate = known?.values["offered requests/s"] ?? LOAD * capacity(workload, context);
    workload = paced(workload, rate);
  }
  const parts = inTurn(SIDES, context.repeat).map((side) => {
    const part = measure(side, workload, { limitSeconds: LIMIT_S }, context);
    if (rate > 0) part.values["offered requests/s"] = rate;
    return part;
  });
  return { parts, source: workload.source };
}

/** What is compared, and whether more of it is better. */
const METRICS: readonly { metric: string; label: string; more: boolean; case: RegExp }[] = [
  { metric: "tokens/s", label: "tokens/s", more: true, case: /at once/ },
  { metric: "itl p50", label: "median inter-token latency", more: false, case: /as they come/ },
  { metric: "itl p99", label: "p99 inter-token latency", more: false, case: /./ },
  { metric: "ttft p99", label: "p99 time to first token", more: false, case: /as they come/ },
];

/** Whether repeats agree that a ratio is not 1, and by more than noise. */
function differs({ median, low, high, count }: Spread): boolean {
  return count >= ENOUGH && Math.abs(median - 1) > NOISE && (low > 1) === (high > 1) && low !== 1 &&
    high !== 1;
}

function report(result: SuiteResult): Section {
  const there = casesOf(result, cases);
  const tables: Table[] = there.map((name) => ({
    title: `${name}: ${SLOTS} slots, ${POOL_TOKENS.toLocaleString("en-US")} tokens of KV`,
    columns: [
      "side",
      "tokens/s",
      "ITL p50 ms",
      "ITL p99 ms",
      "TTFT p99 ms",
      "step p50 ms",
      "groups per slot",
      "plan p50 µs",
      "blocks moved per step",
      "preempted",
      "KV held / live",
    ],
    rows: sidesOf(result, name, NAMES).map((side) => [
      side,
      ...[
        "tokens/s",
        "itl p50",
        "itl p99",
        "ttft p99",
        "step p50",
        "groups/slot",
        "plan p50 us",
        "moved blocks/step",
        "preemptions",
        "held/live",
      ].map((metric) => withSpread(measured(result, name, side, metric))),
    ]),
  }));
  const answer: string[] = [];
  const nothing: string[] = [];
  const few = there.filter((name) => measured(result, name, FULL, "tokens/s").count < ENOUGH);
  if (few.length > 0) {
    answer.push(`Of ${list(few)} there are fewer than ${ENOUGH} repeats: no time of theirs counts below.`);
  }
  for (const { name, mechanism } of SIDES) {
    if (mechanism === undefined) continue;
    const gains: string[] = [], costs: string[] = [];
    for (const { metric, label, more, case: wanted } of METRICS) {
      for (const one of there.filter((other) => wanted.test(other))) {
        const change = ratio(result, one, FULL, name, metric);
        if (!differs(change)) continue;
        const text = `${label} ${times(change)} (${one})`;
        ((change.median > 1) === more ? gains : costs).push(text);
      }
    }
    // A count, not a time: one repeat will do.
    const groups = there.map((one) => ({ one, change: ratio(result, one, FULL, name, "groups/slot") }))
      .filter(({ change }) => Math.abs(change.median - 1) > 0.2);
    const counted = groups.length === 0
      ? ""
      : ` Groups per slot: ${list(groups.map(({ one, change }) => `${times(change)} (${one})`))}.`;
    const saved = there.map((one) => ({
      one,
      before: measured(result, one, name, "preemptions").median,
      after: measured(result, one, FULL, "preemptions").median,
    })).filter(({ before, after }) => Math.abs(before - after) > 2);
    const preempted = saved.length === 0
      ? ""
      : ` Preemptions: ${
        list(saved.map(({ one, before, after }) => `${after} instead of ${before} (${one})`))
      }.`;
    if (gains.length + costs.length === 0) nothing.push(mechanism);
    answer.push(
      `**${mechanism}**: ` +
        (gains.length === 0
          ? "adds nothing to speed or latency that can be measured here"
          : `adds ${list(gains)}`) +
        (costs.length === 0 ? "." : `, and costs ${list(costs)}.`) + counted + preempted,
    );
  }
  const closed = there.filter((name) => /at once/.test(name));
  const figures = closed.length === 0 ? [] : [{
    name: "claim5-throughput",
    title: "Tokens per second, each mechanism taken away",
    svg: barSvg({
      title: "Tokens per second without the mechanism, to all of them",
      unit: "times all",
      series: closed,
      groups: SIDES.filter(({ name }) => name !== FULL).map(({ name }) => ({
        label: name.replace("without ", "– "),
        bars: closed.map((one) => {
          const { median, low, high, count } = ratio(result, one, name, FULL, "tokens/s");
          return count === 0 ? null : { value: median, low, high };
        }),
      })),
      mark: { at: 1, label: "all" },
    }),
  }];
  return {
    tables,
    figures,
    answer,
    headline: there.length === 0
      ? ""
      : nothing.length === 0
      ? "each mechanism changes something"
      : nothing.length === SIDES.length - 1
      ? "too few repeats yet to tell what any mechanism adds to speed"
      : `${list(nothing)}: nothing that can be measured is added to speed or latency here`,
  };
}

/** The suite. */
export const suite: Suite = {
  name: "claim5",
  title: "ablations",
  question: "What does each mechanism add, and what does it cost?",
  method: [
    `The same requests with everything, and with one mechanism taken away: ${MODEL_WORDS}; ${SLOTS} slots, a pool in which free blocks are scarce. A ratio is that of everything to the side without, repeat by repeat; it counts as a difference when all repeats agree and the median is off by more than ${
      100 * NOISE
    } %.`,
  ],
  parameters: { ...REPLAY_PARAMETERS, slots: SLOTS, "pool tokens": POOL_TOKENS, load: LOAD },
  cases: cases.map((name) => ({ name, seconds: 6 * SIDES.length, parts: SIDES.length })),
  repeats: 3,
  run,
  report,
};
