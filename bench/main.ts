/**
 * The benchmarks: `deno task bench [suite ...] [flags]`. Needs `make native`.
 *
 *     deno task bench                              all but gpu, which is scripts/gpu_bench.sh's, and the claims
 *     deno task bench plan --json file             one, its tables also as JSON
 *     deno task bench claim1 [--case name] [--repeat n] [--trace path] [--fresh]
 *     deno task bench peers [--llama-server path] [--peer name=url]   beside other servers: suites/peers.ts
 *     deno task bench report                       docs/evaluation.md and the README's table, from bench/results
 *
 * @module
 */
import { runSuite, type Suite } from "./evaluation/suite.ts";
import { machine, print, type Report, say } from "./report.ts";

interface Known {
  about: string;
  load: () => Promise<{ run(args: Arguments): Promise<Report[]> | Report[] }>;
}

const SUITES: Readonly<Record<string, Known>> = {
  plan: { about: "planning and descriptor, 20 s", load: () => import("./suites/plan.ts") },
  pager: {
    about: "placement mechanisms over a trace's lengths, 60 s",
    load: () => import("./suites/pager.ts"),
  },
  decode: { about: "decode and prefill of a 160M model, 60 s", load: () => import("./suites/decode.ts") },
  gpu: {
    about: "an 8B Llama shape on a GPU, 2 min; KVRM_LIB names the library",
    load: () => import("./suites/gpu.ts"),
  },
  start: {
    about: "cold start to the first token, phase by phase, 15 s",
    load: () => import("./suites/start.ts"),
  },
  http: {
    about: "streaming over 64 connections, native step a no-op, 15 s",
    load: () => import("./suites/http.ts"),
  },
  grammar: {
    about: "grammars: compiling them, and the masks, 10 s",
    load: () => import("./suites/grammar.ts"),
  },
  telemetry: {
    about: "what OpenTelemetry costs per request, 20 s",
    load: () => import("./suites/telemetry.ts"),
  },
};

/** The claims of the paper: their results are kept, and docs/evaluation.md is made of them. */
const CLAIMS: Readonly<Record<string, (flags: Arguments) => Promise<{ suite: Suite }>>> = {
  claim1: () => import("./suites/claim1.ts"),
  claim2: () => import("./suites/claim2.ts"),
  claim3: () => import("./suites/claim3.ts"),
  claim4: () => import("./suites/claim4.ts"),
  claim5: () => import("./suites/claim5.ts"),
  far: () => import("./suites/far.ts"),
  sim: () => import("./suites/sim.ts"),
  peers: async (flags) => ({ suite: await (await import("./suites/peers.ts")).peersSuite(flags) }),
};

/** What follows the names of suites. */
export interface Arguments {
  json?: string;
  trace?: string;
  repeat?: number;
  cases: string[];
  fresh: boolean;
  /** llama.cpp's server, with its other programs beside it. */
  llamaServer?: string;
  /** Servers that run already. */
  running: { name: string; address: string }[];
}

/** Flags that want a value. */
const VALUED = ["--json", "--trace", "--repeat", "--case", "--llama-server", "--peer"];

function peer(value: string): { name: string; address: string } {
  const [, name, address] = /^([\w.-]+)=(https?:\/\/[^/]+)\/?$/.exec(value) ?? [];
  if (!name || !address) throw new Error(`--peer is ${value}, wanted name=http://host:port`);
  return { name, address };
}

/** Names of suites and flags. Throws an Error that names a flag which is not known or lacks its value. */
export function parse(args: readonly string[]): { names: string[]; flags: Arguments } {
  const flags: Arguments = { cases: [], fresh: false, running: [] };
  const names: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const flag = args[i]!;
    if (!flag.startsWith("--")) {
      names.push(flag);
      continue;
    }
    if (flag === "--fresh") {
      flags.fresh = true;
      continue;
    }
    if (!VALUED.includes(flag)) {
      throw new Error(`there is no flag ${flag}; there are ${VALUED.join(", ")} and --fresh`);
    }
    const value = args[++i];
    if (value === undefined) throw new Error(`${flag} wants a value`);
    if (flag === "--json") flags.json = value;
    else if (flag === "--trace") flags.trace = value;
    else if (flag === "--case") flags.cases.push(value);
    else if (flag === "--llama-server") flags.llamaServer = value;
    else if (flag === "--peer") flags.running.push(peer(value));
    else {
      flags.repeat = Number(value);
      if (!Number.isInteger(flags.repeat) || flags.repeat < 1) {
        throw new Error(`--repeat is ${value}, wanted a whole number of 1 or more`);
      }
    }
  }
  return { names, flags };
}

function listSuites(): void {
  for (const [known, suite] of Object.entries(SUITES)) say(`  ${known.padEnd(9)} ${suite.about}`);
  for (const known of Object.keys(CLAIMS)) say(`  ${known.padEnd(9)} the evaluation: docs/evaluation.md`);
  say(`  ${"report".padEnd(9)} makes docs/evaluation.md of bench/results`);
}

const HELP = `Usage: deno task bench [suite ...] [flags]; without a suite all that keep no results but gpu.

  --json FILE           the tables of suites that keep no results, also as JSON
  of the evaluation:
  --case NAME           cases whose names begin so; may come again
  --repeat N            how often each runs
  --trace PATH          a folder with the traces, or one
  --fresh               forget earlier results
  of peers:
  --llama-server PATH   llama.cpp's server, with its other programs beside it
  --peer NAME=URL       a server that runs already

Suites:`;

async function main(args: string[]): Promise<number> {
  if (args.includes("--help") || args.includes("-h")) {
    say(HELP);
    listSuites();
    return 0;
  }
  let names: string[], flags: Arguments;
  try {
    ({ names, flags } = parse(args));
  } catch (error) {
    say((error as Error).message);
    return 2;
  }
  if (names[0] === "report") return await (await import("./evaluation/document.ts")).writeReport();
  if (names.length === 0) names = Object.keys(SUITES).filter((name) => name !== "gpu");
  for (const name of names) {
    if (SUITES[name] || CLAIMS[name]) continue;
    say(`there is no suite ${name}; there are:`);
    listSuites();
    return 2;
  }
  const reports: Report[] = [];
  say(machine());
  for (const name of names) {
    if (CLAIMS[name]) {
      const { suite } = await CLAIMS[name](flags);
      await runSuite(suite, {
        cases: flags.cases,
        repeats: flags.repeat,
        trace: flags.trace,
        fresh: flags.fresh,
      });
      continue;
    }
    const suite = SUITES[name]!;
    say(`\nrunning ${name}: ${suite.about}`);
    for (const report of await (await suite.load()).run(flags)) {
      print(report);
      reports.push(report);
    }
  }
  if (flags.json) {
    const record = { date: new Date().toISOString(), machine: machine(), reports };
    Deno.writeTextFileSync(flags.json, JSON.stringify(record, null, 2) + "\n");
  }
  return 0;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
