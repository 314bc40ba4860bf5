/**
 * What `ptxas -v` says of each kernel, as a table; an error when a hot kernel spills registers.
 *
 *     deno run --allow-read=build --allow-write=build --allow-run=c++filt scripts/ptxas_summary.ts OUT LOG...
 *
 * `LOG` is what nvcc wrote while it compiled `LOG` less its extension, for one or more architectures. The full
 * table goes to `OUT`; the terminal gets one line for each file and architecture, and one for each spill.
 *
 * @module
 */

/** Files whose kernels must keep everything in registers: the name up to the extension begins with one of these. */
const HOT = ["attention", "gemm"];

/** One kernel for one architecture. */
export interface Kernel {
  /** The source's name without folder and extension. */
  file: string;
  /** As the linker knows it. */
  symbol: string;
  /** Such as `sm_90a`. */
  arch: string;
  registers: number;
  /** Static shared memory, bytes. */
  shared: number;
  /** Bytes of stack per thread, with what is spilled. */
  stack: number;
  /** Bytes stored to and loaded from local memory for want of registers. */
  spillStores: number;
  spillLoads: number;
}

/**
 * Reads one log. What follows a kernel's entry is the kernel's, up to the next entry: functions that it calls
 * and that were not inlined have lines too, and what they spill is on the kernel's account.
 *
 * @throws {Error} when a kernel lacks its lines: a summary that misses kernels must not pass
 */
export function readLog(file: string, log: string): Kernel[] {
  const kernels: Kernel[] = [];
  for (const line of log.split("\n")) {
    const entry = /Compiling entry function '(.+)' for '(.+)'/.exec(line);
    if (entry) {
      const [symbol, arch] = [entry[1]!, entry[2]!];
      kernels.push({ file, symbol, arch, registers: 0, shared: 0, stack: 0, spillStores: 0, spillLoads: 0 });
    }
    const kernel = kernels.at(-1);
    if (kernel === undefined) continue;
    const stack = /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line);
    if (stack) {
      kernel.stack += Number(stack[1]);
      kernel.spillStores += Number(stack[2]);
      kernel.spillLoads += Number(stack[3]);
    }
    const used = /Used (\d+) registers/.exec(line);
    if (used) {
      if (kernel.registers > 0) throw new Error(`${file}: ptxas says two things of ${kernel.symbol}`);
      kernel.registers = Number(used[1]);
      kernel.shared = Number(/(\d+) bytes smem/.exec(line)?.[1] ?? 0);
    }
  }
  const silent = kernels.find((kernel) => kernel.registers === 0);
  if (silent) throw new Error(`${file}: ptxas says nothing of ${silent.symbol} (${silent.arch})`);
  return kernels;
}

/** Whether a kernel of this file may not spill. */
export function isHot(file: string): boolean {
  return HOT.some((name) => file.startsWith(name));
}

/** Kernels that break the rule. */
export function hotSpills(kernels: readonly Kernel[]): Kernel[] {
  return kernels.filter((k) => isHot(k.file) && k.spillStores + k.spillLoads > 0);
}

/** The names that the source has, without their parameters; the symbols where there is no c++filt. */
function demangle(symbols: readonly string[]): string[] {
  try {
    const { success, stdout } = new Deno.Command("c++filt", { args: [...symbols] }).outputSync();
    const names = new TextDecoder().decode(stdout).trimEnd().split("\n");
    if (success && names.length === symbols.length) return names.map(shortName);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return [...symbols];
}

/** `void kvrm::cuda::(anonymous namespace)::F<int, 4>(float*)` as `F<int, 4>`. */
export function shortName(name: string): string {
  const plain = name
    .replaceAll("(anonymous namespace)::", "")
    .replaceAll(/\b(kvrm|cuda)::/g, "")
    .replace(/^void /, "");
  let depth = 0;
  for (let at = 0; at < plain.length; at++) {
    if (plain[at] === "<") depth++;
    else if (plain[at] === ">") depth--;
    else if (plain[at] === "(" && depth === 0) return plain.slice(0, at);
  }
  return plain;
}

function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    row.map((cell, column) =>
      column === row.length - 1
        ? cell
        : /^\d/.test(cell)
        ? cell.padStart(widths[column]!)
        : cell.padEnd(widths[column]!)
    ).join("  ") + "\n"
  ).join("");
}

const TITLES = ["file", "arch", "registers", "spilled", "stack", "shared", "kernel"];

function rowOf(kernel: Kernel, name: string): string[] {
  const { file, arch, registers, stack, shared } = kernel;
  return [file, arch, registers, kernel.spillStores + kernel.spillLoads, stack, shared, name].map(String);
}

/** One line for each file and architecture: how many kernels, and the most of everything. */
function overview(kernels: readonly Kernel[]): string[][] {
  const groups = Map.groupBy(kernels, (k) => `${k.file} ${k.arch}`);
  return [...groups.values()].map((group) => {
    const most = (pick: (k: Kernel) => number) => String(Math.max(...group.map(pick)));
    const { file, arch } = group[0]!;
    return [
      file,
      arch,
      most((k) => k.registers),
      most((k) => k.spillStores + k.spillLoads),
      most((k) => k.stack),
      most((k) => k.shared),
      `${group.length} kernels, the most of each`,
    ];
  });
}

function main([out, ...logs]: readonly string[]): number {
  if (out === undefined || logs.length === 0) throw new Error("wanted OUT and at least one LOG");
  const kernels = logs.flatMap((path) =>
    readLog(path.replace(/^.*\//, "").replace(/\.[^.]*$/, ""), Deno.readTextFileSync(path))
  );
  const names = demangle(kernels.map((k) => k.symbol));
  const rows = kernels.map((kernel, at) => rowOf(kernel, names[at]!));
  const print = (text: string) => Deno.stdout.writeSync(new TextEncoder().encode(text));
  print(table([TITLES, ...overview(kernels)]));
  const bad = hotSpills(kernels);
  for (const kernel of bad) {
    print(
      `${kernel.file} (${kernel.arch}): ${names[kernels.indexOf(kernel)]} spills ` +
        `${kernel.spillStores + kernel.spillLoads} bytes, wanted 0\n`,
    );
  }
  // Left unwritten, so that the next make looks again.
  if (bad.length > 0) return 1;
  Deno.writeTextFileSync(out, table([TITLES, ...rows]));
  return 0;
}

if (import.meta.main) Deno.exitCode = main(Deno.args);
