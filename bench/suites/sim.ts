/**
 * Beyond this machine: the real scheduler, pager, planner and descriptors in virtual time. First held against the CPU
 * backend, then used for what cannot be run here.
 *
 * @module
 */
import { type EngineOptions, engineSizes } from "../../runtime/options.ts";
import { randomModel } from "../../runtime/model/folder.ts";
import { H200, SHAPES } from "../../runtime/sim/cards.ts";
import { rooflineCost, type StepCost } from "../../runtime/sim/cost.ts";
import { simulatedSizes, simulationOf, SPARE } from "../../runtime/sim/sizes.ts";
import type { KvMode } from "../../runtime/types.ts";
import { calibrate, traffic } from "../sim/calibrate.ts";
import { type Calibration, halfWay, inTraffic, measuredCost, type Traffic } from "../sim/measured_cost.ts";
import {
  leastLoaded,
  Measurements,
  prefixAware,
  Replica,
  roundRobin,
  type Route,
  simulate,
} from "../sim/replica.ts";
import { capacity, CONTEXT, measure, MODES, modeSide, paced, scaled, SLOTS } from "../evaluation/modes.ts";
import {
  casesOf,
  measured,
  ratio,
  round,
  type Run,
  series,
  sidesOf,
  type SuiteResult,
} from "../evaluation/results.ts";
import { model, MODEL_WORDS, OpenSide } from "../evaluation/sides.ts";
import type { Context, Part, Ran, Section, Suite, Table } from "../evaluation/suite.ts";
import { lineSvg } from "../evaluation/svg.ts";
import { figure, list, times, withSpread } from "../evaluation/words.ts";
import { atOnce, makeWorkload, type Workload, type WorkloadRequest } from "../workloads/workload.ts";

const VALIDATED = ["chat", "reasoning", "multi-turn"] as const;
const VALIDATION_LOAD = 0.5;
const VALIDATION_S = 15;
/** Traffic that the cost model may know, none of the validated. */
const OTHER = "uniform";
/** Tries to find the machine as fast after a run as before it, to within so much. */
const ATTEMPTS = 3;
const STEADY = 1.2;
const BIG_CONTEXT = 16_384;
const BIG_SLOTS = 64;
const FLEET = 100;
const FLEET_CONTEXT = 131_072;
const FLEET_SLOTS = 48;
const BLOCK_TOKENS = 32;
/** Sides with another limit of what prompts may add to a step. */
const STRETCHES: Readonly<Record<string, number>> = {
  "kv-rm, stretch 1.2": 1.2,
  "kv-rm, stretch not limited": 0,
};
/** Requests at a time of the day, 0 to 1, to those of the trace: half at three at night, half as many again at 15:00. */
const DAY = (time: number) => 1 - 0.5 * Math.cos(2 * Math.PI * (time - 3 / 24));
/** How many times faster than in the trace requests come. */
const RATE_8B = 1.5;
const RATE_DAY = 1;
const RATE_70B = 1;
const RATE_FLEET = 40;

const cases = [
  ...VALIDATED.map((family) => `held against the CPU: ${family}`),
  "8B on one H200, an hour",
  "8B on one H200, a day",
  "70B on 8 H200, an hour",
  `${FLEET} replicas, multi-turn`,
];

/** A replica with the KV that fits beside the weights. */
function replica(
  simShape: "8b" | "70b",
  simCards: number,
  kvMode: KvMode,
  maxContext: number,
  slots: number,
  into: Measurements,
  more: Partial<EngineOptions> = {},
): Replica {
  const options: EngineOptions = {
    model: "",
    simShape,
    simCards,
    kvMode,
    slots,
    maxContext,
    blockTokens: BLOCK_TOKENS,
    prefillChunk: 2048,
    mixedChunk: 512,
    ...more,
  };
  const config = SHAPES[simShape]!;
  const simulation = simulationOf(options, randomModel({ ...config, dtype: "bf16" }));
  const { shape, card } = simulation;
  const sizes = simulatedSizes(options, simulation, config.maxPosition);
  return new Replica(sizes, shape.vocab, rooflineCost(shape, card, simCards, BLOCK_TOKENS), into);
}

function part(
  side: string,
  into: Measurements,
  replicas: readonly Replica[],
  ms: number,
  wall: number,
): Part {
  const sum = (of: (one: Replica) => number) => replicas.reduce((total, one) => total + of(one), 0);
  const values: Record<string, number> = {
    "tokens/s": into.tokens / ms * 1000,
    finished: into.finished,
    "ttft p50": into.ttft.quantile(0.5),
    "ttft p99": into.ttft.quantile(0.99),
    "itl p50": into.itl.quantile(0.5),
    "itl p99": into.itl.quantile(0.99),
    "itl max": into.itl.max,
    "itl p99/p50": into.itl.quantile(0.99) / into.itl.quantile(0.5),
    "prefix hits": into.cachedTokens / Math.max(1, into.promptTokens),
    "held/live": sum((one) => one.heldTokens) / sum((one) => one.liveTokens),
    preemptions: sum((one) => one.scheduler.preemptions),
    "busy share": sum((one) => one.engine.busy) / (ms * 1000 * replicas.length),
    slots: replicas[0]!.sizes.native.slots,
    "simulated s": ms / 1000,
    "wall s": wall,
  };
  for (const key of Object.keys(values)) values[key] = round(values[key]!);
  const stretch = into.perStretch.map((tokens) => round(tokens / into.stretchMs * 1000));
  return { side, values, series: { "tokens/s": stretch } };
}

function timed(run: () => number): { ms: number; wall: number } {
  const start = performance.now();
  const ms = run();
  return { ms, wall: (performance.now() - start) / 1000 };
}

const SIDE = { ...modeSide("kv-rm", SLOTS, SLOTS * CONTEXT), name: "measured" };

/** Calibrations of the CPU backend: a few seconds. */
function calibrated(): Calibration {
  // Any number of rows may be asked for.
  const options = { ...SIDE.options, mixedChunk: 256, mixedStretch: 0 };
  using open = new OpenSide({ ...SIDE, options }, CONTEXT);
  open.warmUp();
  return calibrate(open);
}

/** The model of the replays on the CPU, in virtual time. */
function simulated(cost: StepCost, gap: number, requests: readonly WorkloadRequest[]) {
  const into = new Measurements();
  const sizes = engineSizes({ model: "", structuredOutput: false, ...SIDE.options }, model(CONTEXT), "f16");
  const one = new Replica(sizes, model(CONTEXT).config.vocab, cost, into, 0, gap);
  const { ms, wall } = timed(() => simulate([one], requests));
  return { into, one, ms, wall };
}

/** Requests of a workload that comes at `rate` a second, for {@link VALIDATION_S}. */
function beginning(workload: Workload, rate: number): Workload {
  const timed = paced(workload, rate);
  return {
    ...timed,
    requests: timed.requests.filter(({ arrivalMs }) => arrivalMs < VALIDATION_S * 1000),
  };
}

/** What steps of other traffic than the validated took beside what `calibration` promises, at the same load. */
function trafficBeside(calibration: Calibration, context: Context): Traffic {
  const cost = measuredCost(calibration);
  const base = scaled({ family: OTHER, trace: context.trace, count: 60 });
  const { ms } = simulated(cost, calibration.gap, atOnce(base).requests);
  const { requests } = beginning(base, VALIDATION_LOAD * base.requests.length / ms * 1000);
  using open = new OpenSide(SIDE, CONTEXT);
  open.warmUp();
  return traffic(open, requests, cost);
}

/** The same requests through the CPU backend, in real time, and through its cost model. */
function validate(family: typeof VALIDATED[number], context: Context): Ran {
  const base = scaled({ family, trace: context.trace, count: 60 });
  const known = context.before.runs.find((one) => one.case === `held against the CPU: ${family}`);
  const rate = known?.values["offered requests/s"] ?? VALIDATION_LOAD * capacity(base, context, 6);
  const workload = beginning(base, rate);
  let best: { parts: Part[]; apart: number } | null = null;
  for (let attempt = 1; attempt <= ATTEMPTS && (best === null || best.apart > STEADY); attempt++) {
    const label = attempt === 1 ? "" : `, again, for the machine changed by ${figure(best!.apart)} times`;
    context.begin(`calibration${label}`);
    const before = calibrated();
    context.begin("other traffic");
    const beside = trafficBeside(before, context);
    const real = measure(SIDE, workload, { limitSeconds: 4 * VALIDATION_S }, context);
    context.begin("calibration");
    const { calibration, apart } = halfWay(before, calibrated());
    if (best !== null && best.apart < apart) continue;
    context.begin("simulated");
    const cost = inTraffic(measuredCost(calibration), beside, context.repeat + 1);
    const { into, one, ms, wall } = simulated(cost, calibration.gap, workload.requests);
    const virtual = part("simulated", into, [one], ms, wall);
    for (const one of [real, virtual]) {
      one.values["offered requests/s"] = rate;
      one.values["machine changed by"] = round(apart);
      delete one.series;
    }
    best = { parts: [real, virtual], apart };
  }
  return { parts: best!.parts, source: workload.source };
}

/** The trace `count` times, over a day if more than once; prompts are new each time. */
function* again(requests: readonly WorkloadRequest[], count: number): Iterable<WorkloadRequest> {
  const span = requests[requests.length - 1]!.arrivalMs;
  let begin = 0;
  for (let time = 0; time < count; time++) {
    const pace = count === 1 ? 1 : DAY(time / count);
    for (let i = 0; i < requests.length; i++) {
      // At a busy time some requests come twice, at a quiet one some do not.
      const copies = Math.floor(pace * (i + 1)) - Math.floor(pace * i);
      const { arrivalMs, promptTokens, maxTokens } = requests[i]!;
      for (let copy = 0; copy < copies; copy++) {
        yield {
          arrivalMs: begin + arrivalMs,
          // Nothing but the first tokens has to differ for a prompt to be another.
          promptTokens: time === 0 && copy === 0 ? promptTokens : other(promptTokens, time * 2 + copy),
          maxTokens,
        };
      }
    }
    begin += span;
  }
}

function other(tokens: Int32Array, seed: number): Int32Array {
  const copy = tokens.slice();
  copy[0] = seed;
  return copy;
}

function oneModel(
  shape: "8b" | "70b",
  cards: number,
  count: number,
  rate: number,
  sides: readonly string[],
  context: Context,
): Ran {
  const workload = makeWorkload({
    family: "chat",
    trace: context.trace,
    rate,
    maxContext: BIG_CONTEXT,
    vocab: SHAPES[shape]!.vocab,
  });
  const parts = sides.map((side) => {
    const progress = context.begin(side);
    const into = new Measurements(count > 1 ? 600_000 : 60_000);
    const mixedStretch = STRETCHES[side];
    const mode = (mixedStretch === undefined ? side : "kv-rm") as KvMode;
    const more = mixedStretch === undefined ? {} : { mixedStretch };
    const one = replica(shape, cards, mode, BIG_CONTEXT, BIG_SLOTS, into, more);
    const last = workload.requests[workload.requests.length - 1]!.arrivalMs * count;
    const { ms, wall } = timed(() =>
      simulate([one], again(workload.requests, count), () => 0, ({ arrivalMs }) => progress(arrivalMs / last))
    );
    return part(side, into, [one], ms, wall);
  });
  return { parts, source: workload.source };
}

const ROUTES: Readonly<Record<string, () => Route>> = {
  "round robin": roundRobin,
  "least loaded": leastLoaded,
  "prefix-aware": () => prefixAware(512, 4),
};

function fleet(context: Context): Ran {
  const workload = makeWorkload({
    family: "multi-turn",
    trace: context.trace,
    rate: RATE_FLEET,
    maxContext: FLEET_CONTEXT,
    vocab: SHAPES["8b"]!.vocab,
  });
  const parts = Object.entries(ROUTES).map(([name, route]) => {
    const progress = context.begin(name);
    const into = new Measurements(10_000);
    const replicas = Array.from(
      { length: FLEET },
      () => replica("8b", 1, "kv-rm", FLEET_CONTEXT, FLEET_SLOTS, into),
    );
    const last = workload.requests[workload.requests.length - 1]!.arrivalMs;
    const { ms, wall } = timed(() =>
      simulate(replicas, workload.requests, route(), ({ arrivalMs }) => progress(arrivalMs / last))
    );
    return part(name, into, replicas, ms, wall);
  });
  return { parts, source: workload.source };
}

function run(name: string, context: Context): Ran {
  const family = VALIDATED.find((one) => name.endsWith(`: ${one}`));
  if (family !== undefined) return validate(family, context);
  if (name.endsWith("a day")) {
    return oneModel("8b", 1, 24 * RATE_DAY, RATE_DAY, ["kv-rm"], context);
  }
  if (name.startsWith("8B")) {
    return oneModel("8b", 1, 1, RATE_8B, [...MODES, ...Object.keys(STRETCHES)], context);
  }
  if (name.startsWith("70B")) {
    return oneModel("70b", 8, 1, RATE_70B, [...MODES, ...Object.keys(STRETCHES)], context);
  }
  return fleet(context);
}

const SIDES = [...MODES, ...Object.keys(STRETCHES), ...Object.keys(ROUTES)];
const COMPARED = ["tokens/s", "itl p50", "itl p99", "ttft p50", "ttft p99"] as const;
const SHOWN = [
  "tokens/s",
  "ttft p50",
  "ttft p99",
  "itl p50",
  "itl p99",
  "itl p99/p50",
  "held/live",
  "prefix hits",
  "busy share",
  "slots",
  "simulated s",
  "wall s",
] as const;

/** Without the runs in which the machine changed, where a case has others. */
function steady(result: SuiteResult): SuiteResult {
  const isSteady = (run: Run) => (run.values["machine changed by"] ?? 1) <= STEADY;
  const known = new Set(result.runs.filter(isSteady).map((run) => run.case));
  return { ...result, runs: result.runs.filter((run) => isSteady(run) || !known.has(run.case)) };
}

function report(all: SuiteResult): Section {
  const result = steady(all);
  const there = casesOf(result, cases);
  const validated = there.filter((name) => name.startsWith("held"));
  const others = there.filter((name) => !name.startsWith("held"));
  const tables: Table[] = [];
  if (validated.length > 0) {
    tables.push({
      title: "The simulation beside the CPU backend: simulated (measured), and the ratio",
      columns: ["workload", ...COMPARED],
      rows: validated.map((name) => [
        name.split(": ")[1]!,
        ...COMPARED.map((metric) => {
          const both = ["simulated", "measured"].map((side) =>
            figure(measured(result, name, side, metric).median)
          );
          return `${both[0]} (${both[1]}), ${times(ratio(result, name, "simulated", "measured", metric))}`;
        }),
      ]),
    });
  }
  for (const name of others) {
    const sides = sidesOf(result, name, SIDES);
    tables.push({
      title: `Simulated: ${name} (${result.sources[name]}). Times in ms`,
      columns: ["", ...SHOWN],
      rows: sides.map((side) => [
        side,
        ...SHOWN.map((metric) => withSpread(measured(result, name, side, metric))),
      ]),
    });
  }
  const figures = others.map((name) => ({
    name: `sim-${name.toLowerCase().replace(/[^a-z0-9]+/g, "-")}`,
    title: `Tokens per second over time, ${name}`,
    svg: lineSvg({
      title: `Simulated: ${name}, tokens per second`,
      x: { label: "share of the time" },
      y: { label: "tokens/s" },
      lines: sidesOf(result, name, SIDES).map((side) => {
        const values = series(result, name, side, "tokens/s");
        return { name: side, points: values.map((value, i) => [i / values.length, value] as const) };
      }),
    }),
  }));
  return { tables, figures, ...answers(result, validated, others) };
}

function answers(
  result: SuiteResult,
  validated: readonly string[],
  others: readonly string[],
): { answer: string[]; headline: string } {
  const answer: string[] = [];
  let worst = 0, of = "";
  for (const name of validated) {
    for (const metric of ["tokens/s", "itl p50", "itl p99"]) {
      const off = Math.abs(ratio(result, name, "simulated", "measured", metric).median - 1);
      if (off > worst) [worst, of] = [off, `${metric} of ${name.split(": ")[1]}`];
    }
  }
  if (validated.length > 0) {
    answer.push(
      `Throughput and p50 and p99 inter-token latency of the simulation are within ${
        figure(100 * worst)
      } % of what the CPU backend measured (${of} is the farthest); the aim was 15 %.`,
    );
  }
  for (const name of others) {
    const sides = sidesOf(result, name, SIDES);
    const said = sides.map((side) => {
      const at = (metric: string) => figure(measured(result, name, side, metric).median);
      return `\`${side}\` ${at("tokens/s")} tokens/s with TTFT p99 ${at("ttft p99")} ms and ITL p99 ${
        at("itl p99")
      } ms`;
    });
    answer.push(`**${name}**: ${list(said)}.`);
  }
  return {
    answer,
    headline: validated.length > 0
      ? `the simulator is within ${figure(100 * worst)} % of the CPU backend`
      : "",
  };
}

/** The suite. */
export const suite: Suite = {
  name: "sim",
  title: "beyond this machine, simulated",
  question:
    "What would the same scheduler, pager and descriptors do with models and machines that are not here?",
  method: [
    `The loop is the real one; the native step is replaced by a cost model and a clock of its own. _Held against the CPU_: the model of the replays (${MODEL_WORDS}). What a step costs comes from measurements of single steps, before and after the run (rows, rows that sample, tokens of history, pairs of a prompt, moved blocks), and from how far off those are for the steps of other traffic (the ${OTHER} family), with its spread. A run counts when the machine was as fast after it as before, to within ${STEADY} times, or else as the steadiest of ${ATTEMPTS}, and that only where a workload has no other; both sides answer the same requests to the last, which come for ${VALIDATION_S} s, requests at ${VALIDATION_LOAD} of what it can take.`,
    `_On cards_: a roofline. Assumed of an H200: ${
      H200.bandwidth / 1e12
    } TB/s by copy (measured), weights read at ${H200.weightShare} and KV at ${H200.kvShare} of it, ${
      H200.flops / 1e12
    } Tflop/s of dense BF16 at ${H200.flopShare}, ${H200.stepMicros} µs a step and ${H200.kernelMicros} µs for each of ${H200.kernelsPerLayer} kernels a layer, ${
      H200.linkBandwidth / 1e9
    } GB/s between cards and ${H200.linkMicros} µs an all-reduce, ${
      100 * SPARE
    } % of the memory spare, nothing overlapping. Weights and KV in BF16. The shares are aims, not measurements of our kernels: read these figures as what follows if they are reached. Context ${
      BIG_CONTEXT.toLocaleString("en-US")
    } and ${BIG_SLOTS} slots (${
      FLEET_CONTEXT.toLocaleString("en-US")
    } and ${FLEET_SLOTS} in the fleet); a static mode has as many slots as its memory holds sequences of the full context.`,
    "_A day_ is the trace's hour again and again, with half as many requests at three at night and half as many again at three in the afternoon. The fleet's router knows how many requests each replica has, and where it last sent each beginning of a prompt.",
  ],
  parameters: {
    "validation load": VALIDATION_LOAD,
    "8B rate": RATE_8B,
    "day rate": RATE_DAY,
    "70B rate": RATE_70B,
    "fleet rate": RATE_FLEET,
    "block tokens": BLOCK_TOKENS,
  },
  cases: cases.map((name) => ({ name, seconds: name.endsWith("a day") ? 240 : 45, parts: 6 })),
  repeats: 1,
  run,
  report,
};
