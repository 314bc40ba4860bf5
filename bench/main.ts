/**
 * The benchmarks: `deno task bench [suite ...] [--json file]`. Needs `make native`. Without names it runs all but
 * `gpu`, which is scripts/gpu_bench.sh's.
 *
 * @module
 */
import { machine, print, type Report, say } from "./report.ts";

const SUITES: Readonly<Record<string, { about: string; load: () => Promise<{ run(): Promise<Report[]> }> }>> =
  {
    plan: { about: "planning and descriptor, 20 s", load: () => import("./suites/plan.ts") },
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

async function main(args: string[]): Promise<number> {
  const json = args.indexOf("--json");
  const file = json >= 0 ? args.splice(json, 2)[1] : undefined;
  const names = args.length > 0 ? args : Object.keys(SUITES).filter((name) => name !== "gpu");
  for (const name of names) {
    if (!SUITES[name]) {
      say(`there is no suite ${name}; there are:`);
      for (const [known, suite] of Object.entries(SUITES)) say(`  ${known.padEnd(8)} ${suite.about}`);
      return 2;
    }
  }
  const reports: Report[] = [];
  say(machine());
  for (const name of names) {
    const suite = SUITES[name]!;
    say(`\nrunning ${name}: ${suite.about}`);
    for (const report of await (await suite.load()).run()) {
      print(report);
      reports.push(report);
    }
  }
  if (file) {
    const record = { date: new Date().toISOString(), machine: machine(), reports };
    Deno.writeTextFileSync(file, JSON.stringify(record, null, 2) + "\n");
  }
  return 0;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
