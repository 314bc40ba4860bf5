/**
 * Claim 2: KV that sequences hold, beside the KV that they need.
 *
 * @module
 */
import { engineSizes } from "../../runtime/options.ts";
import { EngineHost } from "../../runtime/host.ts";
import { randomModel } from "../../runtime/model/folder.ts";
import { MODES } from "../evaluation/modes.ts";
import { replay, SwitchedSink } from "../evaluation/replay.ts";
import { casesOf, measured, round, series, sidesOf, type SuiteResult } from "../evaluation/results.ts";
import { type Context, inTurn, type Part, type Section, type Suite } from "../evaluation/suite.ts";
import { thin } from "../evaluation/summary.ts";
import { barSvg, lineSvg } from "../evaluation/svg.ts";
import { figure, list, percent, withSpread } from "../evaluation/words.ts";
import { quantile } from "../report.ts";
import { atOnce, FAMILIES, type Family, makeWorkload } from "../workloads/workload.ts";

const SLOTS = 32;
/** Tokens of the longest sequence: documents of the family reach it. */
const CONTEXT = 32_768;
const STEPS = 6_000;
/** Steps until slots are at different points of their sequences. */
const WARM = 1_500;
const AIM = 1.1;
const VOCAB = 32_000;
const families = Object.keys(FAMILIES) as Family[];

/** Its KV is one layer of one head: what is held and needed is counted in tokens. */
const TINY = { hidden: 16, intermediate: 16, layers: 1, heads: 1, kvHeads: 1, vocab: VOCAB } as const;

function run(name: string, context: Context): { parts: Part[]; source: string } {
  const workload = atOnce(makeWorkload({
    family: name as Family,
    trace: context.trace,
    count: 1_200,
    maxContext: CONTEXT,
    vocab: VOCAB,
  }));
  const tables = randomModel({ ...TINY, maxPosition: CONTEXT, dtype: "bf16" });
  const parts = inTurn(MODES, context.repeat).map((mode) => {
    const onProgress = context.begin(mode);
    const sink = new SwitchedSink();
    const sizes = engineSizes(
      { model: "", noop: true, slots: SLOTS, kvMode: mode, maxContext: CONTEXT, kvMemory: 2 ** 40 },
      tables,
      "bf16",
    );
    using host = new EngineHost(tables, sizes, sink);
    const { steps } = replay(host, sink, workload.requests, {
      limitSteps: STEPS,
      limitSeconds: 60,
      onProgress,
    });
    const from = (values: number[]) => values.slice(Math.min(WARM, values.length >> 1));
    const live = from(steps.liveTokens), held = from(steps.heldTokens), soft = from(steps.softTokens);
    const promised = from(steps.promisedTokens);
    const sum = (values: number[]) => values.reduce((all, one) => all + one, 0);
    const shares = held.map((tokens, i) => tokens / Math.max(1, live[i]!));
    const values = {
      "held/live": sum(held) / sum(live),
      "held/live p99": quantile(shares, 0.99),
      "soft/live": sum(soft) / sum(live),
      "promised/live": sum(promised) / sum(live),
      "live tokens": sum(live) / live.length,
      "held tokens": sum(held) / held.length,
      "peak held": quantile(held, 1),
      running: sum(from(steps.slots)) / held.length,
      steps: steps.execMs.length,
    };
    return {
      side: mode,
      values: Object.fromEntries(Object.entries(values).map(([key, value]) => [key, round(value)])),
      series: { live: thin(live, 100), held: thin(held, 100) },
    };
  });
  return { parts, source: workload.source };
}

function report(result: SuiteResult): Section {
  const there = casesOf(result, families);
  const of = (family: string, side: string, metric: string) => measured(result, family, side, metric);
  const tables = [{
    title: `KV held by running sequences, over the KV of their tokens; mean over ${STEPS - WARM} steps`,
    columns: [
      "family",
      ...MODES,
      "kv-rm, 99th percentile of steps",
      "kv-rm, promised to prompts besides",
      "kv-rm, set aside softly besides",
      "live tokens",
      "within 10 %",
    ],
    rows: there.map((family) => [
      family,
      ...MODES.map((side) => withSpread(of(family, side, "held/live"))),
      withSpread(of(family, "kv-rm", "held/live p99")),
      withSpread(of(family, "kv-rm", "promised/live")),
      withSpread(of(family, "kv-rm", "soft/live")),
      withSpread(of(family, "kv-rm", "live tokens")),
      of(family, "kv-rm", "held/live").median <= AIM ? "yes" : "no",
    ]),
  }];
  const figures = there.length === 0 ? [] : [
    {
      name: "claim2-families",
      title: "KV held over KV needed, by family",
      svg: barSvg({
        title: "KV held over KV needed, without the static modes",
        unit: "times live",
        series: ["paged", "kv-rm"],
        groups: there.map((family) => ({
          label: family,
          bars: ["paged", "kv-rm"].map((side) => {
            const { median, low, high, count } = of(family, side, "held/live");
            return count === 0 ? null : { value: median, low, high };
          }),
        })),
        mark: { at: AIM, label: "aim: 1.1" },
      }),
    },
    {
      name: "claim2-chat",
      title: "KV over time, chat",
      svg: lineSvg({
        title: `KV of ${SLOTS} slots over ${STEPS - WARM} steps, chat`,
        x: { label: "share of the steps, %" },
        y: { label: "tokens", log: true },
        lines: [
          { name: "live", points: points(series(result, "chat", "kv-rm", "live")) },
          ...sidesOf(result, "chat", MODES).map((side) => ({
            name: `held, ${side}`,
            points: points(series(result, "chat", side, "held")),
          })),
        ].filter(({ points }) => points.length > 0),
      }),
    },
  ];
  const met = there.filter((family) => of(family, "kv-rm", "held/live").median <= AIM);
  const missed = there.filter((family) => !met.includes(family));
  const over = (side: string) =>
    there.map((family) => of(family, side, "held/live").median).filter(Number.isFinite);
  const ratios = (metric: string) => {
    const values = there.map((family) => of(family, "kv-rm", metric).median);
    return `${figure(Math.min(...values))} to ${figure(Math.max(...values))}`;
  };
  const span = (side: string) => {
    const values = over(side);
    return `${figure(Math.min(...values))} to ${figure(Math.max(...values))}`;
  };
  const answer = there.length === 0 ? [] : [
    `\`kv-rm\` holds ${span("kv-rm")} times the KV that its sequences need, \`paged\` ${
      span("paged")
    } times, ` +
    `\`static\` ${span("static")} times` +
    (over("static-padded").length > 0 ? `, \`static-padded\` ${span("static-padded")} times` : "") + ".",
    missed.length === 0
      ? "The aim, 10 %, is met in every family."
      : `The aim, 10 %, is met in ${met.length === 0 ? "no family" : list(met)} and missed in ${
        list(missed.map((family) => `${family} (${percent(of(family, "kv-rm", "held/live").median - 1)})`))
      }.`,
    `Not counted is what is promised to the rests of prompts that are on their way in (${
      ratios("promised/live")
    } times the live KV): it is not mapped yet, and sequences before them that need it get it, but nobody new is let ` +
    `in on it. Nor is what is set aside softly ahead of sequences (${
      ratios("soft/live")
    } times, promises among it): but for the promises any sequence that needs it gets it.`,
  ];
  return {
    tables,
    figures,
    answer,
    headline: there.length === 0
      ? ""
      : `held KV is ${span("kv-rm")} × live KV, in \`static\` ${
        span("static")
      } ×; within 10 % in ${met.length} of ${there.length} families`,
  };
}

function points(values: number[]): [number, number][] {
  return values.map((value, i) => [100 * i / Math.max(1, values.length - 1), Math.max(1, value)]);
}

/** The suite. */
export const suite: Suite = {
  name: "claim2",
  title: "reserved KV",
  question: "How much KV memory do running sequences hold, beside what their tokens need?",
  method: [
    `The real scheduler, pager and descriptor at the full lengths of each family, ${SLOTS} slots kept busy, context ${
      CONTEXT.toLocaleString("en-US")
    }; the native step computes nothing, for only counts are asked. _Live_ are the tokens whose KV running sequences have, tokens of shared blocks once. _Held_ is what no other sequence could be given at that time: mapped blocks and those that a step in flight still reads; in the static modes the reservation of each slot in use.`,
    "Cached prefixes that no running sequence uses, and the soft reserve ahead of sequences, can be given to others and are not held. Aim: at most 1.1 times live in every family.",
  ],
  parameters: { slots: SLOTS, context: CONTEXT, steps: STEPS, "steps left out": WARM, "block tokens": 32 },
  cases: families.map((name) => ({ name, seconds: 16, parts: MODES.length })),
  timed: false,
  repeats: 1,
  run,
  report,
};
