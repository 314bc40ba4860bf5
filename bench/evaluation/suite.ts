/**
 * What a suite of the evaluation is, and how it is run: its sides in turns, several times, into a file that grows.
 *
 * @module
 */
import { machine, print, say } from "../report.ts";
import { Progress } from "./progress.ts";
import { readResult, resultsFolder, type Run, type SuiteResult, writeResult } from "./results.ts";

/** A table of the report: the first column is words. */
export interface Table {
  title: string;
  columns: readonly string[];
  rows: readonly (readonly string[])[];
}

/** What a suite's results come to. */
export interface Section {
  tables: Table[];
  figures: { name: string; svg: string; title: string }[];
  /** Paragraphs, every figure in them worked out from the results. */
  answer: string[];
  /** One line for the README. */
  headline: string;
  /** Tables for the README's comparison with other servers, in place of a row among the claims. */
  readme?: Table[];
}

/** What a case gets to run with. */
export interface Context {
  /** Where the traces are; undefined: the usual place. */
  trace: string | undefined;
  /** 0 for the first. */
  repeat: number;
  /** What was measured before. */
  before: SuiteResult;
  /** Tells what runs now, and returns whom to tell how far it is. */
  begin(label: string): (share: number) => void;
}

/** One side of one repeat of a case. */
export type Part = Pick<Run, "side" | "values" | "series">;

/** All sides of a case, once, and in words what was run. */
export interface Ran {
  parts: Part[];
  source: string;
}

/** A suite: a question of the evaluation. */
export interface Suite {
  name: string;
  title: string;
  question: string;
  method: readonly string[];
  /** What all runs have in common. */
  parameters: Readonly<Record<string, string | number>>;
  /** In the order of the report; seconds of one repeat, all sides. */
  cases: readonly { name: string; seconds: number; parts: number }[];
  /** Whether times are what it measures, and not counts alone, which are the same each time. Default true. */
  timed?: boolean;
  /** Repeats of a run without --repeat. */
  repeats: number;
  /** Runs all sides of a case once; also says, in words, what was run. */
  run(name: string, context: Context): Ran | Promise<Ran>;
  report(result: SuiteResult): Section;
}

/** How a suite is to be run. */
export interface SuiteOptions {
  /** Names of cases, or beginnings of names. Default: all. */
  cases: string[];
  repeats?: number | undefined;
  trace?: string | undefined;
  /** Forget what was measured before. */
  fresh?: boolean;
  folder?: string;
}

/** The items, beginning with another one each time, so that no side is always the first. */
export function inTurn<T>(items: readonly T[], repeat: number): T[] {
  const at = items.length === 0 ? 0 : repeat % items.length;
  return [...items.slice(at), ...items.slice(0, at)];
}

/** Runs a suite and adds to its results. Throws an Error when a case is not there. */
export async function runSuite(suite: Suite, options: SuiteOptions): Promise<SuiteResult> {
  const folder = options.folder ?? resultsFolder();
  const cases = suite.cases.filter(({ name }) =>
    options.cases.length === 0 || options.cases.some((wanted) => name.startsWith(wanted))
  );
  if (cases.length === 0) {
    throw new Error(
      `${suite.name} has no case ${options.cases.join(", ")}; there are: ` +
        suite.cases.map(({ name }) => name).join(", "),
    );
  }
  const result = startingPoint(suite, folder, options.fresh ?? false);
  const repeats = options.repeats ?? suite.repeats;
  const seconds = repeats * cases.reduce((sum, one) => sum + one.seconds, 0);
  say(`\n${suite.name}: ${suite.title}`);
  say(`${cases.length} cases, ${repeats} repeats: about ${duration(seconds)}`);
  using progress = new Progress(repeats * cases.reduce((sum, one) => sum + one.parts, 0));
  for (let repeat = 0; repeat < repeats; repeat++) {
    for (const { name } of cases) {
      const number = 1 + Math.max(
        -1,
        ...result.runs.filter((run) => run.case === name).map((run) => run.repeat),
      );
      let begun = false;
      const { parts, source } = await suite.run(name, {
        trace: options.trace,
        repeat: number,
        before: result,
        begin(label) {
          if (begun) progress.end();
          begun = true;
          progress.begin(`${name}: ${label}`);
          return (share) => progress.at(share);
        },
      });
      if (begun) progress.end();
      const date = new Date().toISOString();
      result.sources[name] = source;
      for (const { side, values, series } of parts) {
        const run: Run = { case: name, side, repeat: number, date, values };
        if (series && number === 0) run.series = series;
        result.runs.push(run);
      }
      writeResult(folder, result);
    }
  }
  show(suite, result);
  say(`\nresults: ${folder}/${suite.name}.json; \`deno task bench report\` makes docs/evaluation.md of them`);
  return result;
}

/** Prints a suite's tables and answer, and writes its figures. */
export function show(suite: Suite, result: SuiteResult): void {
  const { tables, answer } = suite.report(result);
  for (const { title, columns, rows } of tables) {
    print({
      suite: title,
      rows: rows.map((row) =>
        Object.fromEntries(columns.map((column, i) => [column === "" ? " " : column, row[i] ?? ""]))
      ),
      notes: [],
    });
  }
  for (const paragraph of answer) say(`\n${paragraph}`);
}

function startingPoint(suite: Suite, folder: string, fresh: boolean): SuiteResult {
  const known = fresh ? null : readResult(folder, suite.name);
  const same = known !== null && JSON.stringify(known.parameters) === JSON.stringify(suite.parameters) &&
    known.machine === machine();
  if (known !== null && !same) {
    say(`${suite.name}: the earlier results had other parameters and are replaced`);
  }
  return same
    ? known
    : { suite: suite.name, machine: machine(), parameters: { ...suite.parameters }, sources: {}, runs: [] };
}

function duration(seconds: number): string {
  return seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.ceil(seconds / 60)} min`;
}
