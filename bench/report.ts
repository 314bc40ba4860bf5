/**
 * What the suites share: statistics, a table for people, JSON for machines.
 *
 * @module
 */

/** The q-quantile of `values`, 0 to 1, by nearest rank. */
export function quantile(values: ArrayLike<number>, q: number): number {
  const sorted = Float64Array.from(values).sort();
  if (sorted.length === 0) return NaN;
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(q * sorted.length) - 1))]!;
}

/** The median. */
export function median(values: ArrayLike<number>): number {
  return quantile(values, 0.5);
}

/** Rows of one suite; columns are in the order of the first row's keys. */
export type Rows = Record<string, string | number>[];

/** A suite's name, what it measured, and remarks that belong beside the figures. */
export interface Report {
  suite: string;
  rows: Rows;
  notes: string[];
}

/** Writes text to standard output. */
export function say(text: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(text + "\n"));
}

/** Prints a report as a table. */
export function print(report: Report): void {
  const columns = Object.keys(report.rows[0] ?? {});
  const cell = (value: string | number | undefined) =>
    typeof value === "number" ? format(value) : value ?? "";
  const widths = columns.map((column) =>
    Math.max(column.length, ...report.rows.map((row) => cell(row[column]).length))
  );
  const line = (cells: string[]) =>
    "  " + cells.map((text, i) => i === 0 ? text.padEnd(widths[i]!) : text.padStart(widths[i]!)).join("  ");
  say(`\n${report.suite}`);
  say(line(columns));
  say(line(widths.map((width) => "-".repeat(width))));
  for (const row of report.rows) say(line(columns.map((column) => cell(row[column]))));
  for (const note of report.notes) say(`  ${note}`);
}

function format(value: number): string {
  if (Number.isInteger(value)) return String(value);
  return Math.abs(value) >= 100
    ? value.toFixed(0)
    : Math.abs(value) >= 10
    ? value.toFixed(1)
    : value.toFixed(2);
}

/** Intel's processors of family 6 that are to be met as servers, by their model. */
const INTEL: Readonly<Record<number, string>> = {
  85: "Cascade Lake",
  106: "Ice Lake",
  143: "Sapphire Rapids",
  173: "Granite Rapids",
  207: "Emerald Rapids",
};

/** Virtual machines tell a processor's maker and little more, and its generation decides how fast it is. */
function generation(cpu: string): string {
  const number = (name: string) => Number(new RegExp(`^${name}\\s*:\\s*(\\d+)$`, "m").exec(cpu)?.[1] ?? NaN);
  const family = number("cpu family"), model = number("model");
  if (Number.isNaN(family)) return "";
  if (cpu.includes("GenuineIntel") && family === 6 && INTEL[model] !== undefined) return ` (${INTEL[model]})`;
  if (!cpu.includes("AuthenticAMD")) return ` (family ${family} model ${model})`;
  if (family === 23) return model < 0x30 ? " (Zen)" : " (Zen 2)";
  // Genoa and its kin among those of Milan.
  if (family === 25) return (model >= 0x10 && model < 0x20) || model >= 0x60 ? " (Zen 4)" : " (Zen 3)";
  return family === 26 ? " (Zen 5)" : ` (family ${family})`;
}

/** The machine in words, from /proc where there is one. */
export function machine(): string {
  try {
    const cpu = Deno.readTextFileSync("/proc/cpuinfo");
    const model = /model name\s*:\s*(.*)/.exec(cpu)?.[1] ?? "unknown processor";
    const flags = ["avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile"].filter((flag) =>
      cpu.includes(flag)
    );
    return `${model}${generation(cpu)}, ${navigator.hardwareConcurrency} cores (${flags.join(" ")})`;
  } catch {
    return `${Deno.build.target}, ${navigator.hardwareConcurrency} cores`;
  }
}
