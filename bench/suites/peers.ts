/**
 * Other servers beside this one: the same GGUF file in both, in turns.
 *
 *     deno task bench peers --llama-server path/to/llama-server
 *     deno task bench peers                        the npm package node-llama-cpp, which has no server
 *     deno task bench peers --peer name=http://127.0.0.1:8001 --case trace
 *
 * @module
 */
import { casesOf, measured, ratio, round, sidesOf, type SuiteResult } from "../evaluation/results.ts";
import {
  type Context,
  inTurn,
  type Part,
  type Section,
  type Suite,
  type Table,
} from "../evaluation/suite.ts";
import { figure, times, withSpread } from "../evaluation/words.ts";
import { casesText, type KernelCase, parseRows } from "../peers/kernel_case.ts";
import { batchedBench, findLlamaCpp, type LlamaCpp } from "../peers/llama_cpp.ts";
import { installNodeLlamaCpp, NODE_LLAMA_CPP, nodeLlamaCppRows } from "../peers/node_llama_cpp.ts";
import { outputOf } from "../peers/process.ts";
import { cachedGguf, SHAPES, streamedBytes, type WeightMix } from "../peers/random_gguf.ts";
import { replayOverHttp, type ReplayPlan, summariseReplay } from "../peers/replay.ts";
import { kvrm, llamaServer, modelName, type Recipe, startPeer } from "../peers/servers.ts";
import { machine } from "../report.ts";
import { atOnce, makeWorkload, type Workload } from "../workloads/workload.ts";
import { paced } from "../evaluation/modes.ts";

/** What the peers are. */
export interface PeersOptions {
  /** llama.cpp's server, with llama-batched-bench beside it. */
  llamaServer?: string | undefined;
  /** Flags that it gets besides those that suit it. */
  llamaFlags?: readonly string[] | undefined;
  /** Servers that run already and have the trace's model; they take part in the trace alone. */
  running?: readonly { name: string; address: string }[] | undefined;
  /** Default: one per processor. */
  threads?: number | undefined;
  /** Where the files are kept. Default build/bench. */
  folder?: string | undefined;
}

type Shape = keyof typeof SHAPES;

const OURS = "kvrm";
const BATCHES = [1, 4, 8, 16];
const PREFILLS = [128, 512];
const PREFILLS_OF = { "160m": PREFILLS, "1.1b": [128] } as const;
/** Tokens of history that decoding starts from, and steps: fewer for the larger model, as all sides take seconds a step. */
const DECODE = { "160m": [32, 32], "1.1b": [16, 12] } as const;
const SLOTS = 8;
const CONTEXT = 2048;

/** Shape, weights, seconds, and what ours makes of the weights when it loads them. */
const KERNEL: readonly [Shape, WeightMix, number, "bf16"?][] = [
  ["160m", "F16", 30],
  ["160m", "F16", 30, "bf16"],
  ["160m", "BF16", 30],
  ["160m", "BF16", 30, "bf16"],
  ["160m", "Q8_0", 25],
  ["160m", "Q4_K", 25],
  ["1.1b", "F16", 90],
  ["1.1b", "F16", 90, "bf16"],
  ["1.1b", "Q8_0", 50],
  ["1.1b", "Q4_K", 50],
];

/** Requests of the Azure conversation trace. */
const TRACES: readonly { shape: Shape; mix: WeightMix; count: number; seconds: number }[] = [
  { shape: "160m", mix: "F16", count: 80, seconds: 90 },
  { shape: "160m", mix: "Q8_0", count: 120, seconds: 90 },
  { shape: "1.1b", mix: "Q8_0", count: 30, seconds: 120 },
];
const LENGTH_SCALE = 0.25;
/** Requests a second, to those that ours gets done when all are there at once. */
const TRACE_LOAD = 0.8;
/** Seconds until a replay gives up. */
const TRACE_LIMIT_S = 120;

const OFFERED = "offered requests/s";

const STARTS: readonly [Shape, WeightMix][] = [["160m", "Q8_0"], ["1.1b", "Q8_0"]];
const PHASE = /^ {2}(.+?) +([\d.]+) ms +([\d.]+) ms$/gm;

function kernelCases(shape: Shape): KernelCase[] {
  const [prompt, answer] = DECODE[shape];
  return [
    ...BATCHES.map((batch) => ({ prompt, answer, batch })),
    ...PREFILLS_OF[shape].map((length) => ({ prompt: length, answer: 0, batch: 1 })),
  ];
}

const kernelName = (shape: Shape, mix: WeightMix, quantize?: string) =>
  `kernel, ${shape}, ${mix}${quantize === undefined ? "" : `, ours with --quantize ${quantize}`}`;
/** Whether this processor has what the case wants. */
const canRun = (quantize?: "bf16") => quantize === undefined || machine().includes("avx512_bf16");
const startName = (shape: Shape, mix: WeightMix) => `start, ${shape}, ${mix}`;
const traceName = ({ shape, mix }: { shape: Shape; mix: WeightMix }) => `trace, ${shape}, ${mix}`;

/** The peers, found and ready. */
class Peers {
  constructor(
    readonly threads: number,
    readonly folder: string,
    readonly build: LlamaCpp | null,
    readonly packageFolder: string | null,
    readonly running: readonly { name: string; address: string }[],
  ) {}

  async kernel(name: string, context: Context): Promise<{ parts: Part[]; source: string }> {
    const [shape, mix, , quantize] = KERNEL.find(([shape, mix, , quantize]) =>
      kernelName(shape, mix, quantize) === name
    )!;
    const model = cachedGguf(this.folder, shape, mix);
    const cases = kernelCases(shape);
    const streamed = streamedBytes(SHAPES[shape], mix);
    const ours = async () => {
      const script = `${import.meta.dirname}/../peers/kvrm_kernel.ts`;
      const args = ["run", "--no-prompt", "--no-check", "--allow-all", "--cached-only", script];
      return parseRows(
        await outputOf(
          Deno.execPath(),
          [...args, model, String(this.threads), casesText(cases), ...(quantize ? [quantize] : [])],
        ),
      );
    };
    const theirs = async () => ({
      rows: this.build?.batchedBench !== undefined
        ? await batchedBench(this.build, model, cases)
        : await nodeLlamaCppRows(this.packageFolder!, model, this.threads, cases),
      bandwidth: NaN,
    });
    const parts: Part[] = [];
    const sides = [[OURS, ours], [this.peer, theirs]] as const;
    for (const [side, measure] of inTurn(sides, context.repeat)) {
      context.begin(side);
      const { rows, bandwidth } = await measure();
      const values: Record<string, number> = {};
      for (const { prompt, answer, batch, prefill, decode } of rows) {
        if (answer > 0) values[`decode ${batch}`] = round(decode);
        else values[`prefill ${prompt}`] = round(prefill);
      }
      values["GB/s at 1"] = round(values["decode 1"]! * streamed / 1e9);
      if (!Number.isNaN(bandwidth)) values["read GB/s"] = round(bandwidth);
      parts.push({ side, values });
    }
    return { parts, source: `${shape}, ${mix}, random weights` };
  }

  /** Our recipe and the peer's; `flags` are the peer's for this purpose. */
  recipes(ours: readonly string[], theirs: (flags: readonly string[]) => readonly string[]): Recipe[] {
    const recipes = [kvrm(ours)];
    if (this.build) {
      recipes.push({ ...llamaServer(this.build.server, theirs(this.build.flags)), name: this.peer });
    }
    return recipes;
  }

  async start(shape: Shape, mix: WeightMix, context: Context): Promise<Part[]> {
    const model = cachedGguf(this.folder, shape, mix);
    const setup = { model, slots: SLOTS, context: CONTEXT, threads: this.threads };
    // Repacking the weights makes products faster and the start slower, as does the run that warms up.
    const quick = (flags: readonly string[]) => [...flags.filter((flag) => flag !== "-rtr"), "--no-warmup"];
    const parts: Part[] = [];
    for (const recipe of inTurn(this.recipes(["--startup-report"], quick), context.repeat)) {
      context.begin(recipe.name);
      const server = await startPeer(recipe, setup);
      await server[Symbol.asyncDispose]();
      const values: Record<string, number> = { "first text ms": round(server.firstTextMs) };
      for (const [, name, own] of (await server.log).matchAll(PHASE)) values[`phase: ${name}`] = Number(own);
      parts.push({ side: recipe.name, values });
    }
    return parts;
  }

  async trace(one: (typeof TRACES)[number], context: Context): Promise<{ parts: Part[]; source: string }> {
    const workload = makeWorkload({
      family: "chat",
      trace: context.trace,
      lengthScale: LENGTH_SCALE,
      count: one.count,
      maxContext: CONTEXT - 8,
      vocab: SHAPES[one.shape].vocab,
      firstToken: 300,
    });
    const measure = async (address: string, { requests }: Workload) => {
      const plan: ReplayPlan = {
        address,
        model: await modelName(address),
        requests: requests.map(({ arrivalMs, promptTokens, maxTokens }) => ({
          arrivalMs,
          prompt: Array.from(promptTokens),
          maxTokens,
        })),
        limitMs: TRACE_LIMIT_S * 1000,
      };
      return summariseReplay(await replayOverHttp(plan));
    };
    const setup = {
      model: cachedGguf(this.folder, one.shape, one.mix),
      slots: SLOTS,
      context: CONTEXT,
      threads: this.threads,
    };
    const serve = async (recipe: Recipe, requests: Workload) => {
      await using server = await startPeer(recipe, setup);
      return await measure(server.address, requests);
    };
    const recipes = this.recipes([], (flags) => flags);
    const known = context.before.runs.find((run) => run.case === traceName(one))?.values[OFFERED];
    if (known === undefined) context.begin("all at once");
    const all = known === undefined ? await serve(recipes[0]!, atOnce(workload)) : null;
    const offered = known ?? TRACE_LOAD * one.count / all!.seconds!;
    const timed = paced(workload, offered);
    const sides = [
      ...recipes.map((recipe) => ({ name: recipe.name, run: () => serve(recipe, timed) })),
      ...this.running.map(({ name, address }) => ({ name, run: () => measure(address, timed) })),
    ];
    const parts: Part[] = [];
    for (const { name, run } of inTurn(sides, context.repeat)) {
      context.begin(name);
      const values: Record<string, number> = { ...await run(), [OFFERED]: offered };
      for (const key of Object.keys(values)) values[key] = round(values[key]!);
      parts.push({ side: name, values });
    }
    return { parts, source: timed.source };
  }

  /** The name of llama.cpp's side. */
  get peer(): string {
    return this.build ? "llama.cpp" : "node-llama-cpp";
  }

  async run(name: string, context: Context): Promise<{ parts: Part[]; source: string }> {
    const [kind, shape, mix] = name.split(", ") as [string, Shape, WeightMix];
    if (kind === "kernel") return await this.kernel(name, context);
    if (kind === "start") {
      return {
        parts: await this.start(shape, mix, context),
        source: `${shape}, ${mix}, file in the page cache`,
      };
    }
    return await this.trace(TRACES.find((one) => traceName(one) === name)!, context);
  }
}

/** The suite, for the peers that are asked for. @throws {Error} when a program is not there */
export async function peersSuite(options: PeersOptions): Promise<Suite> {
  const root = new URL("../../", import.meta.url).pathname;
  const threads = options.threads ?? navigator.hardwareConcurrency;
  const folder = options.folder ?? `${root}build/bench`;
  const build = options.llamaServer === undefined
    ? null
    : await findLlamaCpp(options.llamaServer, threads, options.llamaFlags);
  const needsPackage = build?.batchedBench === undefined;
  const packageFolder = needsPackage ? await installNodeLlamaCpp(`${root}build/peers`) : null;
  return suiteOf(new Peers(threads, folder, build, packageFolder, options.running ?? []));
}

/** With nobody to measure, it only reports. */
function suiteOf(peers: Peers | null): Suite {
  const build = peers?.build;
  const traces = build || peers?.running.length ? TRACES : [];
  return {
    name: "peers",
    title: "beside llama.cpp",
    question:
      "How fast is it beside llama.cpp, with the same file, on the same machine, in the same minutes?",
    method: [
      "The model is a GGUF file of random weights in a Llama's shape, which both engines read (`bench/peers/random_gguf.ts`); both get the same number of threads, and llama.cpp the flags that suit it best. Sides take turns; a ratio is the median of the ratios of neighbouring runs.",
      `_Kernel_: a process that decodes ${DECODE["160m"][1]} tokens (1.1B: ${
        DECODE["1.1b"][1]
      }) at each batch size from ${DECODE["160m"][0]} (${
        DECODE["1.1b"][0]
      }) tokens of history on, and prefills one prompt. Ours plans and samples in that time; \`llama-batched-bench\`, the other side, does not sample. Beside 16-bit weights ours multiplies with activations as they are, in F32; with \`--quantize bf16\` it rounds them to BF16, as the peer does on processors that have such products. _Start_: milliseconds from starting the server's process to the first text of an answer, the file in the page cache; the peer neither warms up nor repacks then. _Trace_: Azure's conversation trace over HTTP, lengths × ${LENGTH_SCALE}, ${SLOTS} slots, requests at ${TRACE_LOAD} of the rate at which ours gets them done when all are there at once, an open loop whose clients are a process of their own on the same cores.`,
    ],
    parameters: {
      peer: build
        ? `${build.name} ${build.version} ${build.flags.join(" ")}`
        : `node-llama-cpp ${NODE_LLAMA_CPP}`,
      threads: peers?.threads ?? 0,
      slots: SLOTS,
      context: CONTEXT,
    },
    cases: [
      ...KERNEL.filter(([, , , quantize]) => canRun(quantize)).map(([shape, mix, seconds, quantize]) => ({
        name: kernelName(shape, mix, quantize),
        seconds,
        parts: 2,
      })),
      ...(build ? STARTS : []).map(([shape, mix]) => ({ name: startName(shape, mix), seconds: 5, parts: 2 })),
      ...traces.map((one) => ({
        name: traceName(one),
        seconds: one.seconds,
        parts: 1 + (build ? 1 : 0) + peers!.running.length,
      })),
    ],
    repeats: 3,
    run(name, context) {
      if (peers === null) throw new Error(`running ${name}: peersSuite() has not looked for peers`);
      return peers.run(name, context);
    },
    report,
  };
}

/** For the document. */
export const suite: Suite = suiteOf(null);

const KERNEL_TITLE = "Tokens per second, by batch size: ours / llama.cpp's, and the ratio";
const START_TITLE = "From starting the process to the first text, ms";
const TRACE_TITLE = "Azure's conversation trace over HTTP; times in ms";
const README_TABLES = [KERNEL_TITLE, START_TITLE, TRACE_TITLE];

function report(result: SuiteResult): Section {
  const tables: Table[] = [];
  const names = [...new Set(result.runs.map((run) => run.case))];
  const peersOf = (name: string) =>
    sidesOf(result, name, [...new Set(result.runs.map((run) => run.side))]).filter((side) => side !== OURS);
  const kernel = casesOf(result, KERNEL.map(([shape, mix, , quantize]) => kernelName(shape, mix, quantize)));
  const columns = [
    ...BATCHES.map((batch) => `decode ${batch}`),
    ...PREFILLS.map((prompt) => `prefill ${prompt}`),
  ];
  if (kernel.length > 0) {
    tables.push({
      title: KERNEL_TITLE,
      columns: ["file", ...columns],
      rows: kernel.map((name) => {
        const peer = peersOf(name)[0]!;
        return [
          name.replace("kernel, ", ""),
          ...columns.map((metric) => {
            if (measured(result, name, OURS, metric).count === 0) return "–";
            const [a, b] = [OURS, peer].map((side) => figure(measured(result, name, side, metric).median));
            return `${a} / ${b} = ${times({ ...ratio(result, name, OURS, peer, metric), count: 1 })}`;
          }),
        ];
      }),
    });
    tables.push({
      title: "Batch 1 beside the memory: GB/s of weights, and what a plain read gets",
      columns: ["file", "ours", "theirs", "plain read", "ours, of the read"],
      rows: kernel.map((name) => {
        const read = measured(result, name, OURS, "read GB/s"),
          ours = measured(result, name, OURS, "GB/s at 1");
        return [
          name.replace("kernel, ", ""),
          withSpread(ours),
          withSpread(measured(result, name, peersOf(name)[0]!, "GB/s at 1")),
          withSpread(read),
          `${figure(100 * ours.median / read.median)} %`,
        ];
      }),
    });
  }
  const starts = names.filter((name) => name.startsWith("start, "));
  if (starts.length > 0) {
    tables.push({
      title: START_TITLE,
      columns: ["file", "ours", "theirs", "theirs / ours"],
      rows: starts.map((name) => {
        const peer = peersOf(name)[0]!;
        return [
          name.replace("start, ", ""),
          withSpread(measured(result, name, OURS, "first text ms")),
          withSpread(measured(result, name, peer, "first text ms")),
          times(ratio(result, name, peer, OURS, "first text ms")),
        ];
      }),
    });
    const name = starts[starts.length - 1]!;
    const run = result.runs.find((one) => one.case === name && one.side === OURS);
    const phases = Object.keys(run?.values ?? {}).filter((key) => key.startsWith("phase: "));
    tables.push({
      title: `Our phases, ms: ${name.replace("start, ", "")}`,
      columns: ["phase", "ms"],
      rows: phases.map((key) => [key.replace("phase: ", ""), withSpread(measured(result, name, OURS, key))]),
    });
  }
  const traces = names.filter((name) => name.startsWith("trace, "));
  if (traces.length > 0) {
    const metrics = ["tokens/s", "ttft p50", "ttft p99", "itl p50", "itl p99", "itl max"];
    tables.push({
      title: TRACE_TITLE,
      columns: ["file", "server", ...metrics, "failed"],
      rows: traces.flatMap((name) => [
        ...[OURS, ...peersOf(name)].map((side) => [
          name.replace("trace, ", ""),
          side,
          ...metrics.map((metric) => withSpread(measured(result, name, side, metric))),
          figure(measured(result, name, side, "failed").high),
        ]),
        ...peersOf(name).map((peer) => [
          name.replace("trace, ", ""),
          `ours to ${peer}`,
          ...metrics.map((metric) => times(ratio(result, name, OURS, peer, metric))),
          "",
        ]),
      ]),
    });
  }
  const readme = tables.filter(({ title }) => README_TABLES.includes(title));
  return { tables, figures: [], readme, ...answers(result, kernel, starts, traces, peersOf) };
}

function answers(
  result: SuiteResult,
  kernel: readonly string[],
  starts: readonly string[],
  traces: readonly string[],
  peersOf: (name: string) => string[],
): { answer: string[]; headline: string } {
  const answer: string[] = [], parts: string[] = [];
  const of = (name: string, metric: string) => ratio(result, name, OURS, peersOf(name)[0]!, metric);
  for (const name of kernel) {
    const metrics = [
      ...BATCHES.map((batch) => `decode ${batch}`),
      ...PREFILLS.map((prompt) => `prefill ${prompt}`),
    ];
    const said = metrics.map((metric) => ({ metric, ratio: of(name, metric) })).filter(
      (one) => one.ratio.count > 0,
    );
    const slower = said.filter((one) => one.ratio.median < 1).map((one) => one.metric);
    const words = said.map((one) => `${one.metric} ${times({ ...one.ratio, count: 1 })}`).join(", ");
    answer.push(
      `**${name.replace("kernel, ", "")}** to llama.cpp: ${words}. ` +
        (slower.length > 0 ? `Slower than it at ${slower.join(", ")}.` : "Nowhere slower."),
    );
  }
  const largest = kernel.filter((name) => name.includes("1.1b"));
  for (const name of largest.length > 0 ? largest : kernel) {
    parts.push(
      `${name.replace("kernel, ", "")}: decode ` +
        BATCHES.map((batch) => times({ ...of(name, `decode ${batch}`), count: 1 })).join(", ") +
        ` at batch ${BATCHES.join(", ")}`,
    );
  }
  for (const name of starts) {
    const slower = of(name, "first text ms");
    const phases = Object.entries(
      result.runs.find((one) => one.case === name && one.side === OURS)?.values ?? {},
    )
      .filter(([key]) => key.startsWith("phase: ")).sort((x, y) => y[1] - x[1]);
    answer.push(
      `**Start, ${name.replace("start, ", "")}**: the first text comes after ${
        times(slower)
      } the time of llama.cpp's ` +
        `server${
          slower.median > 1 && phases[0] ? `; most of ours is "${phases[0][0].replace("phase: ", "")}"` : ""
        }.`,
    );
  }
  for (const name of traces) {
    if (peersOf(name).length === 0) continue;
    const said = ["tokens/s", "ttft p99", "itl p99"].map((metric) =>
      `${metric} ${times({ ...of(name, metric), count: 1 })}`
    ).join(", ");
    answer.push(`**Served, ${name.replace("trace, ", "")}** to ${peersOf(name)[0]}: ${said}.`);
    parts.push(`served ${name.replace("trace, ", "")}: ${said}`);
  }
  return { answer, headline: parts.join("; ") };
}
