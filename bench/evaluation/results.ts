/**
 * What the suites of the evaluation measured, as JSON that later runs add to. Everything that docs/evaluation.md says
 * in figures is worked out from it.
 *
 * @module
 */
import { machine, median } from "../report.ts";

/** One side of a comparison, once. */
export interface Run {
  /** What was run: a workload and how it came. */
  case: string;
  /** What it was run on. */
  side: string;
  /** Sides with the same number ran in turns, close to each other in time. */
  repeat: number;
  date: string;
  values: Record<string, number>;
  /** For figures; of the first repeat only. */
  series?: Record<string, number[]>;
}

/** A suite's results on one machine. */
export interface SuiteResult {
  suite: string;
  machine: string;
  /** Whatever the runs have in common; runs with others are not comparable and replace them. */
  parameters: Record<string, string | number>;
  /** What each case ran, in words. */
  sources: Record<string, string>;
  runs: Run[];
}

/** Median, least and most of some values. */
export interface Spread {
  median: number;
  low: number;
  high: number;
  count: number;
}

/** Where results are. */
export const RESULTS = new URL("../results/", import.meta.url).pathname;

/** A short name of this machine for a folder: processor, cores, vector instructions. */
export function machineSlug(words = machine()): string {
  const isa = ["amx", "avx512", "avx2"].find((name) => words.includes(name)) ?? "";
  const cores = /(\d+) cores/.exec(words)?.[1] ?? "0";
  const name = words.split(",")[0]!.replace(/\((r|tm)\)|cpu|processor|@.*/gi, " ");
  return `${name} ${cores}c ${isa}`.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");
}

/** The folder of this machine's results. */
export function resultsFolder(): string {
  return RESULTS + machineSlug();
}

/** Reads a suite's results; null when there are none. */
export function readResult(folder: string, suite: string): SuiteResult | null {
  try {
    return JSON.parse(Deno.readTextFileSync(`${folder}/${suite}.json`)) as SuiteResult;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}

/** Writes a suite's results: one line a run, so that a later run's additions are additions in version control. */
export function writeResult(folder: string, result: SuiteResult): void {
  Deno.mkdirSync(folder, { recursive: true });
  const { runs, ...rest } = result;
  const head = JSON.stringify(rest, null, 2).replace(/\n}$/, "");
  const lines = runs.map((run) => `    ${JSON.stringify(run)}`).join(",\n");
  Deno.writeTextFileSync(`${folder}/${result.suite}.json`, `${head},\n  "runs": [\n${lines}\n  ]\n}\n`);
}

/** Four digits are more than a measurement has. */
export function round(value: number): number {
  return Number.isFinite(value) ? Number(value.toPrecision(4)) : 0;
}

/** The spread of values. NaN for none. */
export function spread(values: readonly number[]): Spread {
  return {
    median: median(values),
    low: values.length > 0 ? Math.min(...values) : NaN,
    high: values.length > 0 ? Math.max(...values) : NaN,
    count: values.length,
  };
}

/** The spread of `metric` over the repeats of a case and side. */
export function measured(result: SuiteResult, name: string, side: string, metric: string): Spread {
  return spread(
    result.runs.filter((run) => run.case === name && run.side === side).map((run) =>
      run.values[metric] ?? NaN
    )
      .filter((value) => !Number.isNaN(value)),
  );
}

/** The spread over repeats of `metric` of one side divided by that of another in the same repeat. */
export function ratio(result: SuiteResult, name: string, side: string, to: string, metric: string): Spread {
  const quotients: number[] = [];
  for (const run of result.runs) {
    if (run.case !== name || run.side !== side) continue;
    const other = result.runs.find((one) =>
      one.case === name && one.side === to && one.repeat === run.repeat
    );
    const a = run.values[metric], b = other?.values[metric];
    if (a !== undefined && b !== undefined && b !== 0) quotients.push(a / b);
  }
  return spread(quotients);
}

/** The series of a case and side. */
export function series(result: SuiteResult, name: string, side: string, of: string): number[] {
  return result.runs.find((run) => run.case === name && run.side === side && run.series?.[of])?.series
    ?.[of] ??
    [];
}

/** Cases that were run, in the order of `known`. */
export function casesOf(result: SuiteResult, known: readonly string[]): string[] {
  return known.filter((name) => result.runs.some((run) => run.case === name));
}

/** Sides of a case that were run, in the order of `known`. */
export function sidesOf(result: SuiteResult, name: string, known: readonly string[]): string[] {
  return known.filter((side) => result.runs.some((run) => run.case === name && run.side === side));
}
