/**
 * `deno task bench report`: docs/evaluation.md and the README's table of claims, made of bench/results. No figure in
 * them is typed by hand.
 *
 * @module
 */
import { say } from "../report.ts";
import { readResult, RESULTS, type SuiteResult } from "./results.ts";
import type { Suite } from "./suite.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
const BEGIN = "<!-- claims: made by `deno task bench report` -->";
const END = "<!-- /claims -->";
const PEERS_BEGIN = "<!-- peers: made by `deno task bench report` -->";
const PEERS_END = "<!-- /peers -->";

/** A suite with what it found on one machine. */
export interface Found {
  suite: Suite;
  result: SuiteResult;
  /** The folder of the results, relative to docs/. */
  folder: string;
}

/** What the document says beside the suites. */
const THREATS = [
  "**The machine.** Two cores of a shared virtual machine whose other tenants come and go. Sides run in turns and a ratio is taken within a repeat, so that what is slow for all cancels out; what changes within a repeat does not. Spreads are the least and the most of the repeats.",
  "**The model.** Small, with random weights: the loop, the pager and the transfers are the real ones, the proportions of a step are not those of a large model. A CPU computes a step's rows one after the other, so a step with a prompt's rows takes as much longer as it has more rows; a GPU with a large model reads its weights in that time and has rows to spare.",
  "**The lengths.** Replays that compute scale lengths down with the context, and the block stays 32 tokens: waste within a block weighs more than at full length. Counts of blocks (claims 2 and 4) are at full length.",
  "**The traces.** Two services, an hour of each at most; the families `code`, `documents` and `reasoning` have drawn lengths at a real trace's times. Thinning a trace and compressing its time keeps bursts in place but makes each of fewer requests.",
  "**The baselines** are ours. They share the kernels, the loop and the prefix cache where the mode has one, which isolates what is asked here, and says nothing about other servers.",
  "**In this process.** Latencies are as the loop hears of a token, without HTTP.",
];

/** The document's text. */
export function documentOf(found: readonly Found[]): string {
  const parts = [
    "# Evaluation",
    "The paper behind this design is withdrawn; its claims are questions here. This page is made by `deno task bench report` from the JSON files in [bench/results](../bench/results): change those, not this.",
  ];
  parts.push(
    table(
      ["claim", "answer"],
      found.map((one) => [titleOf(one, found), one.suite.report(one.result).headline]),
    ),
  );
  for (const one of found) parts.push(sectionOf(one, titleOf(one, found)));
  parts.push("## Threats to validity", ...THREATS.map((text) => `- ${text}`));
  parts.push(
    "## Reproducing",
    "`make bench ARGS=\"claim1 --trace folder\"` runs a suite, says beforehand how long it will take, and adds to its results; `--case` picks cases by the beginning of their names, `--repeat` says how often each runs, `--fresh` forgets earlier results. The traces are Azure's 2023 conversation trace and Mooncake's conversation trace, by their published names in one folder; without them a synthetic trace takes their place. A machine has a folder of its own. `deno task bench report` then makes this page.",
  );
  return parts.join("\n\n").replace(/\n\n(- )/g, "\n$1").replace(/(:|validity)\n- /g, "$1\n\n- ") + "\n";
}

/** How often cases were repeated, fewest first. */
function repeatsOf({ runs }: SuiteResult): number[] {
  const repeats = new Map<string, number>();
  for (const run of runs) repeats.set(run.case, Math.max(repeats.get(run.case) ?? 0, run.repeat + 1));
  return [...new Set(repeats.values())].sort((a, b) => a - b);
}

function sectionOf({ suite, result, folder }: Found, title: string): string {
  const section = suite.report(result);
  const counts = repeatsOf(result);
  const dates = result.runs.map(({ date }) => date.slice(0, 10)).sort();
  const parts = [
    `## ${suite.name[0]!.toUpperCase()}${suite.name.slice(1).replace(/(\d)/, " $1")}: ${title}`,
    `**Question.** ${suite.question}`,
    `**Method.** ${suite.method.join("\n\n")}`,
    `Machine: ${result.machine}. Repeats: ${counts.join(" to ")}. Date: ${
      [...new Set([dates[0], dates[dates.length - 1]])].join(" to ")
    }. Command: \`deno task bench ${suite.name}\`. ` +
    `Parameters: ${Object.entries(result.parameters).map(([key, value]) => `${key} ${value}`).join(", ")}.`,
    ...(counts[0]! < 3 && suite.timed !== false
      ? [
        "Where there are fewer than three repeats, a time or a rate may come out a tenth or more different the next time.",
      ]
      : []),
    ...section.tables.flatMap(({ title, columns, rows }) => [`**${title}**`, table(columns, rows)]),
    ...section.figures.map(({ name, title }) => `![${title}](${folder}/${name}.svg)`),
    "**Answer.** " + section.answer.join("\n\n"),
  ];
  return parts.join("\n\n");
}

/** A Markdown table with padded cells, as the formatter has it. */
export function table(columns: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = [columns, ...rows].map((row) => row.map((cell) => cell.replace(/\|/g, "\\|")));
  const widths = columns.map((_, i) => Math.max(3, ...cells.map((row) => (row[i] ?? "").length)));
  const line = (row: readonly string[]) =>
    `| ${widths.map((width, i) => (row[i] ?? "").padEnd(width)).join(" | ")} |`;
  return [
    line(cells[0]!),
    `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`,
    ...cells.slice(1).map(line),
  ]
    .join("\n");
}

/** The README with its table of claims replaced. Throws an Error when the marks are missing. */
export function withClaims(
  readme: string,
  found: readonly Found[],
  more: readonly (readonly string[])[],
): string {
  const rows = found.map((one) => ({ one, section: one.suite.report(one.result) })).filter(
    ({ section }) => section.readme === undefined,
  ).map((
    { one, section },
  ) => [titleOf(one, found), section.headline, `\`deno task bench ${one.suite.name}\``]);
  return between(readme, BEGIN, END, table(["claim", "here", "command"], [...rows, ...more]));
}

/**
 * The README with its comparison with other servers replaced: that of the machine measured last; docs/evaluation.md has
 * all of them. Throws an Error when the marks are missing.
 */
export function withPeers(readme: string, found: readonly Found[]): string {
  const compared = found.map(({ suite, result }) => ({ suite, result, tables: suite.report(result).readme }))
    .filter(({ tables }) => tables !== undefined)
    .toSorted((a, b) => lastDate(b.result).localeCompare(lastDate(a.result)));
  const others = compared.slice(1).map(({ result }) => result.machine);
  const parts = compared.slice(0, 1).flatMap(({ suite, result, tables = [] }) => {
    const { peer } = result.parameters;
    return [
      `On ${result.machine}, beside ${peer}; \`deno task bench ${suite.name}\`, repeats: ${
        repeatsOf(result).join(" to ")
      }.`,
      ...tables.flatMap(({ title, columns, rows }) => [`${title}:`, table(columns, rows)]),
      ...(others.length > 0
        ? [`The same on ${others.join(" and ")}: [evaluation](docs/evaluation.md).`]
        : []),
    ];
  });
  return between(readme, PEERS_BEGIN, PEERS_END, parts.length > 0 ? parts.join("\n\n") : "Not measured yet.");
}

function lastDate({ runs }: SuiteResult): string {
  return runs.map(({ date }) => date).toSorted().at(-1) ?? "";
}

function between(text: string, begin: string, end: string, middle: string): string {
  const from = text.indexOf(begin), to = text.indexOf(end);
  if (from < 0 || to < from) throw new Error(`README.md has no ${begin} before ${end}`);
  return `${text.slice(0, from + begin.length)}\n\n${middle}\n\n${text.slice(to)}`;
}

/** The suite's title, and the machine where it was run on several. */
function titleOf({ suite, result }: Found, all: readonly Found[]): string {
  const several = all.filter((one) => one.suite === suite).length > 1;
  return several ? `${suite.title} (${result.machine})` : suite.title;
}

/** Results of all suites, and of all machines where there are several. */
export async function findResults(results = RESULTS): Promise<Found[]> {
  const found: Found[] = [];
  let folders: string[] = [];
  try {
    folders = [...Deno.readDirSync(results)].filter(({ isDirectory }) => isDirectory).map(({ name }) => name)
      .sort();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  const suites = [
    (await import("../suites/claim1.ts")).suite,
    (await import("../suites/claim2.ts")).suite,
    (await import("../suites/claim3.ts")).suite,
    (await import("../suites/claim4.ts")).suite,
    (await import("../suites/claim5.ts")).suite,
    (await import("../suites/far.ts")).suite,
    (await import("../suites/sim.ts")).suite,
    (await import("../suites/peers.ts")).suite,
  ];
  for (const suite of suites) {
    for (const name of folders) {
      const result = readResult(`${results}/${name}`, suite.name);
      if (result !== null) found.push({ suite, result, folder: `../bench/results/${name}` });
    }
  }
  return found;
}

/** Writes figures, docs/evaluation.md and the README's table; returns an exit code. */
export async function writeReport(): Promise<number> {
  const found = await findResults();
  if (found.length === 0) {
    say("there are no results yet: run `deno task bench claim1` first, for example");
    return 1;
  }
  for (const { suite, result, folder } of found) {
    for (const { name, svg } of suite.report(result).figures) {
      Deno.writeTextFileSync(`${ROOT}docs/${folder}/${name}.svg`, svg);
    }
  }
  const documents = [`${ROOT}docs/evaluation.md`, `${ROOT}README.md`];
  Deno.writeTextFileSync(documents[0]!, documentOf(found));
  const readme = withClaims(Deno.readTextFileSync(documents[1]!), found, []);
  Deno.writeTextFileSync(documents[1]!, withPeers(readme, found));
  const { success } = await new Deno.Command(Deno.execPath(), { args: ["fmt", "--quiet", ...documents] })
    .output();
  if (!success) throw new Error("deno fmt failed on docs/evaluation.md or README.md");
  say(`wrote docs/evaluation.md, the README's table and the figures of ${found.length} suites`);
  return 0;
}
