/**
 * Claim 1: throughput and inter-token latency of mixed lengths, by the way KV is kept.
 *
 * @module
 */
import type { KvMode } from "../../runtime/types.ts";
import { barSvg } from "../evaluation/svg.ts";
import {
  capacity,
  CONTEXT,
  measure,
  MODES,
  modeSide,
  paced,
  REPLAY_PARAMETERS,
  scaled,
  SLOTS,
  SMALL_POOL_TOKENS,
} from "../evaluation/modes.ts";
import { casesOf, measured, ratio, sidesOf, type Spread, type SuiteResult } from "../evaluation/results.ts";
import { MODEL_WORDS } from "../evaluation/sides.ts";
import {
  type Context,
  inTurn,
  type Part,
  type Section,
  type Suite,
  type Table,
} from "../evaluation/suite.ts";
import { list, times, withSpread } from "../evaluation/words.ts";
import { atOnce, FAMILIES, type Family, type Workload } from "../workloads/workload.ts";

/** Requests of a run at once: a few seconds of work. */
const COUNTS: Readonly<Record<Family, number>> = {
  chat: 48,
  code: 32,
  "multi-turn": 24,
  documents: 20,
  reasoning: 16,
  uniform: 40,
};
const OPEN: readonly Family[] = ["chat", "reasoning"];
const LOAD = 0.7;
const LIMIT_S = 20;
const SIZES = ["equal memory", "equal slots"] as const;

const families = Object.keys(FAMILIES) as Family[];
const cases = [
  ...families.flatMap((family) => SIZES.map((size) => `${family}, at once, ${size}`)),
  ...OPEN.flatMap((family) => SIZES.map((size) => `${family}, as they come, ${size}`)),
];

function sides(size: string): { mode: KvMode; slots: number; tokens: number }[] {
  return MODES.map((mode) =>
    size === "equal slots" ? { mode, slots: SLOTS, tokens: SLOTS * CONTEXT } : {
      mode,
      slots: mode.startsWith("static") ? SMALL_POOL_TOKENS / CONTEXT : SLOTS,
      tokens: SMALL_POOL_TOKENS,
    }
  );
}

function run(name: string, context: Context): { parts: Part[]; source: string } {
  const [family, how, size] = name.split(", ") as [Family, string, string];
  const count = COUNTS[family];
  let workload: Workload = scaled({ family, trace: context.trace, count });
  let rate = 0;
  if (how === "at once") workload = atOnce(workload);
  else {
    // The same rate for all sides and repeats: a share of what kv-rm can take.
    const known = context.before.runs.find((one) => one.case.startsWith(`${family}, as they come`));
    rate = known?.values["offered requests/s"] ?? LOAD * capacity(workload, context);
    workload = paced(workload, rate);
  }
  const parts = inTurn(sides(size), context.repeat).map(({ mode, slots, tokens }) => {
    const part = measure(modeSide(mode, slots, tokens), workload, { limitSeconds: LIMIT_S }, context);
    if (rate > 0) part.values["offered requests/s"] = rate;
    return part;
  });
  return { parts, source: workload.source };
}

const BASELINES = ["static", "static-padded", "paged"] as const;

function report(result: SuiteResult): Section {
  const there = casesOf(result, cases);
  const of = (how: string, size: string) => there.filter((name) => name.endsWith(`${how}, ${size}`));
  const tables: Table[] = [];
  for (const size of SIZES) {
    const closed = of("at once", size);
    if (closed.length > 0) {
      tables.push({
        title: `Throughput at ${size}: tokens generated per second, all requests there at once`,
        columns: ["workload", ...MODES, ...BASELINES.map((side) => `kv-rm to ${side}`)],
        rows: closed.map((name) => [
          name.split(",")[0]!,
          ...MODES.map((side) => withSpread(measured(result, name, side, "tokens/s"))),
          ...BASELINES.map((side) => times(ratio(result, name, "kv-rm", side, "tokens/s"))),
        ]),
      });
    }
    const open = of("as they come", size);
    if (open.length > 0) {
      tables.push({
        title: `Latency at ${size}: requests as they come, at ${LOAD} of what kv-rm can take`,
        columns: [
          "workload",
          "side",
          "ITL p50 ms",
          "ITL p99 ms",
          "TTFT p50 ms",
          "TTFT p99 ms",
          "goodput share",
          "KV held / live",
        ],
        rows: open.flatMap((name) =>
          sidesOf(result, name, MODES).map((side) => [
            name.split(",")[0]!,
            side,
            ...["itl p50", "itl p99", "ttft p50", "ttft p99", "goodput share", "held/live"].map((metric) =>
              withSpread(measured(result, name, side, metric))
            ),
          ])
        ),
      });
    }
  }
  const figures = SIZES.filter((size) => of("at once", size).length > 0).map((size) => ({
    name: `claim1-${size.replace(" ", "-")}`,
    title: `Tokens per second at ${size}`,
    svg: barSvg({
      title: `Tokens generated per second at ${size}, all requests at once`,
      unit: "tokens/s",
      series: MODES,
      groups: of("at once", size).map((name) => ({
        label: name.split(",")[0]!,
        bars: MODES.map((side) => {
          const { median, low, high, count } = measured(result, name, side, "tokens/s");
          return count === 0 ? null : { value: median, low, high };
        }),
      })),
    }),
  }));
  return { tables, figures, ...answers(result, of) };
}

function answers(
  result: SuiteResult,
  of: (how: string, size: string) => string[],
): { answer: string[]; headline: string } {
  const answer: string[] = [];
  const range = (names: string[], side: string, metric: string, invert = false) => {
    const all = names.map((name) => ({
      family: name.split(",")[0]!,
      ...(invert ? ratio(result, name, side, "kv-rm", metric) : ratio(result, name, "kv-rm", side, metric)),
    })).filter(({ count }) => count > 0).sort((a, b) => a.median - b.median);
    return all;
  };
  const span = (all: ({ family: string } & Spread)[]) =>
    all.length === 0
      ? "–"
      : all.length === 1
      ? `${times({ ...all[0]!, count: 1 })} (${all[0]!.family})`
      : `${times({ ...all[0]!, count: 1 })} (${all[0]!.family}) to ` +
        `${times({ ...all[all.length - 1]!, count: 1 })} (${all[all.length - 1]!.family})`;
  for (const size of SIZES) {
    const closed = of("at once", size);
    if (closed.length === 0) continue;
    const said = BASELINES.map((side) => ({ side, all: range(closed, side, "tokens/s") })).filter(({ all }) =>
      all.length > 0
    );
    answer.push(
      `**At ${size}**, tokens per second of \`kv-rm\` are ` +
        list(said.map(({ side, all }) => `${span(all)} those of \`${side}\``)) + ".",
    );
    const open = of("as they come", size);
    const latency = BASELINES.map((side) => ({ side, all: range(open, side, "itl p99") })).filter(({ all }) =>
      all.length > 0
    );
    if (latency.length > 0) {
      answer.push(
        `Its p99 inter-token latency is ` +
          list(latency.map(({ side, all }) => `${span(all)} that of \`${side}\``)) + ".",
      );
    }
  }
  const memory = range(of("at once", "equal memory"), "static", "tokens/s");
  const slots = range(of("at once", "equal slots"), "static", "tokens/s");
  const padded = range(of("at once", "equal memory"), "static-padded", "tokens/s");
  const parts: string[] = [];
  if (memory.length > 0) parts.push(`${span(memory)} the tokens/s of \`static\` at equal memory`);
  if (padded.length > 0) parts.push(`${span(padded)} those of \`static-padded\``);
  if (slots.length > 0) parts.push(`${span(slots)} at equal slots`);
  return { answer, headline: parts.join("; ") };
}

/** The suite. */
export const suite: Suite = {
  name: "claim1",
  title: "mixed-length decoding",
  question:
    "Does placing KV in extents below a static graph give more throughput, and a lower p99 inter-token latency, than a static-graph baseline when lengths are mixed?",
  method: [
    `The same requests go through the same loop, model and library with KV kept in each way: ${MODEL_WORDS}. _Equal memory_: ${
      SMALL_POOL_TOKENS.toLocaleString("en-US")
    } tokens of KV, which are ${
      SMALL_POOL_TOKENS / CONTEXT
    } slots for the static modes, and ${SLOTS} for the others. _Equal slots_: ${SLOTS} slots and ${
      (SLOTS * CONTEXT).toLocaleString("en-US")
    } tokens for all; this isolates placement, for nothing else differs between \`static\`, \`paged\` and \`kv-rm\`.`,
    "_At once_: all requests are there at the start, tokens generated until the last ends are counted. _As they come_: the trace's own times, stretched so that the mean rate is the same share of what `kv-rm` can take for all sides.",
  ],
  parameters: {
    ...REPLAY_PARAMETERS,
    slots: SLOTS,
    "small pool tokens": SMALL_POOL_TOKENS,
    load: LOAD,
    counts: Object.values(COUNTS).join(" "),
  },
  cases: cases.map((name) => ({ name, seconds: 20, parts: MODES.length })),
  repeats: 3,
  run,
  report,
};
