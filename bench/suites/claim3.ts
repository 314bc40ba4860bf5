/**
 * Claim 3: what bursts do to inter-token latency.
 *
 * @module
 */
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
} from "../evaluation/modes.ts";
import { casesOf, measured, series, sidesOf, type SuiteResult } from "../evaluation/results.ts";
import { MODEL_WORDS, type Side } from "../evaluation/sides.ts";
import {
  type Context,
  inTurn,
  type Part,
  type Section,
  type Suite,
  type Table,
} from "../evaluation/suite.ts";
import { QUANTILES } from "../evaluation/summary.ts";
import { lineSvg } from "../evaluation/svg.ts";
import { figure, list, withSpread } from "../evaluation/words.ts";
import type { Family } from "../workloads/workload.ts";

const SPAN_MS = 300_000;
const LOADS = [0.5, 0.8] as const;
const AIM = 1.5;
const LIMIT_S = 25;
/** Requests that a replay has at most; of the five minutes every so many-th is taken. */
const REQUESTS = 80;

const FAMILIES = ["chat", "multi-turn"] as const;
const cases = FAMILIES.flatMap((family) => LOADS.map((load) => `${family}, load ${load}`));

const SIDES: readonly Side[] = [
  ...MODES.map((mode) => modeSide(mode, SLOTS, SLOTS * CONTEXT)),
  ...[1.5, 0].map((mixedStretch) => ({
    ...modeSide("kv-rm", SLOTS, SLOTS * CONTEXT, { mixedStretch }),
    name: mixedStretch > 0 ? `kv-rm, stretch ${mixedStretch}` : "kv-rm, stretch not limited",
  })),
];
const ORDER = SIDES.map(({ name }) => name);

function run(name: string, context: Context): { parts: Part[]; source: string } {
  const [family, load] = name.split(", load ") as [Family, string];
  const worst = { family, trace: context.trace, part: "worst", spanMs: SPAN_MS } as const;
  const all = scaled(worst).requests.length;
  const known = context.before.runs.find((one) => one.case.startsWith(family))?.values["capacity requests/s"];
  const oneOf = Math.max(1, Math.ceil(all / REQUESTS));
  const workload = scaled({ ...worst, oneOf });
  const most = known ?? capacity(workload, context, LIMIT_S);
  const timed = paced(workload, Number(load) * most);
  const parts = inTurn(SIDES, context.repeat).map((side) => {
    const part = measure(side, timed, { limitSeconds: LIMIT_S }, context);
    part.values["capacity requests/s"] = most;
    return part;
  });
  return { parts, source: timed.source };
}

function report(result: SuiteResult): Section {
  const there = casesOf(result, cases);
  const tables: Table[] = [{
    title: "Inter-token latency while the worst five minutes are replayed",
    columns: [
      "trace and load",
      "side",
      "p50 ms",
      "p99 ms",
      "max ms",
      "p99 / p50",
      "max / p50",
      "TTFT p50 ms",
      "TTFT p99 ms",
      "goodput share",
      "preempted",
    ],
    rows: there.flatMap((name) =>
      sidesOf(result, name, ORDER).map((side) => [
        name,
        side,
        ...[
          "itl p50",
          "itl p99",
          "itl max",
          "itl p99/p50",
          "itl max/p50",
          "ttft p50",
          "ttft p99",
          "goodput share",
          "preemptions",
        ].map((metric) => withSpread(measured(result, name, side, metric))),
      ])
    ),
  }];
  const figures = there.map((name) => ({
    name: `claim3-${name.replace(/[ ,.]+/g, "-")}`,
    title: `Inter-token latency, ${name}`,
    svg: lineSvg({
      title: `Inter-token latency over the share of tokens that had at most that, ${name}`,
      x: {
        label: "share of tokens (the right half is the last per cent)",
        ticks: [0, 3, 5, 8, 12].map((at) => ({ at, label: `${100 * QUANTILES[at]!} %` })),
      },
      y: { label: "ms", log: true },
      lines: sidesOf(result, name, ORDER).map((side) => ({
        name: side,
        points: series(result, name, side, "itl").map((value, i) => [i, Math.max(value, 0.1)] as const),
      })),
    }),
  }));
  const said = there.map((name) => {
    const { median, low, high } = measured(result, name, "kv-rm", "itl p99/p50");
    return { name, median, low, high, max: measured(result, name, "kv-rm", "itl max/p50").median };
  });
  const met = said.filter(({ median }) => median <= AIM);
  const ratios = (side: string) =>
    list(there.map((name) => `${figure(measured(result, name, side, "itl p99/p50").median)} (${name})`));
  const answer = said.length === 0 ? [] : [
    `p99 / p50 of \`kv-rm\` is ${ratios("kv-rm")}; max / p50 is ` +
    list(said.map(({ name, max }) => `${figure(max)} (${name})`)) + ". " +
    (met.length === said.length
      ? `The aim, ${AIM}, is met in all of them.`
      : met.length === 0
      ? `The aim, ${AIM}, is missed in all of them.`
      : `The aim, ${AIM}, is met in ${list(met.map(({ name }) => name))} and missed in the others.`),
    ...ORDER.filter((side) => side !== "kv-rm" && sidesOf(result, there[0]!, [side]).length > 0).map((side) =>
      `\`${side}\`: p99 / p50 is ${ratios(side)}.`
    ),
  ];
  const worst = said.toSorted((a, b) => b.median - a.median)[0];
  return {
    tables,
    figures,
    answer,
    headline: worst === undefined
      ? ""
      : `p99 / p50 of inter-token latency ${
        list(said.map(({ name, median }) => `${figure(median)} (${name})`))
      }; the aim, ${AIM}, is ${
        met.length === said.length ? "met" : met.length === 0 ? "missed" : "met in some, missed in others"
      }`,
  };
}

/** The suite. */
export const suite: Suite = {
  name: "claim3",
  title: "bursts",
  question: "Do bursts of arrivals show as spikes of inter-token latency?",
  method: [
    `The five minutes in which each trace brings the most tokens, replayed on ${SLOTS} slots: ${MODEL_WORDS}. Every so many-th request is taken, and the times are compressed so that the mean rate is the given share of what \`kv-rm\` gets done when all requests are there at once. Bursts stay where they are, relative to each other.`,
    `An inter-token latency is the time between two tokens of a request as the loop hears of them. Aim: p99 at most ${AIM} × p50.`,
  ],
  parameters: {
    ...REPLAY_PARAMETERS,
    slots: SLOTS,
    "span ms": SPAN_MS,
    "stretch by default": 3,
    requests: REQUESTS,
  },
  cases: cases.map((name) => ({ name, seconds: 17 * SIDES.length, parts: SIDES.length })),
  repeats: 3,
  run,
  report,
};
