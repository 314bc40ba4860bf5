/**
 * llama.cpp and its forks: their programs found beside each other, run with the flags that suit them best, and what
 * they print.
 *
 * @module
 */
import { dirname, join } from "node:path";
import type { BatchedRow, KernelCase } from "./kernel_case.ts";

/** The programs of one build. */
export interface LlamaCpp {
  server: string;
  /** Undefined where the build lacks it. */
  batchedBench: string | undefined;
  /** The fork, by the flags that it knows. */
  name: string;
  /** As the server tells it. */
  version: string;
  /** Flags for all programs of this build: the best of those that it knows. */
  flags: string[];
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Standard output and error of a program that ends. @throws {Error} when it fails, with the end of what it said */
export async function output(program: string, args: readonly string[], allowed = [0]): Promise<string> {
  const child = await new Deno.Command(program, { args: [...args], stdout: "piped", stderr: "piped" })
    .output();
  const text = new TextDecoder().decode(child.stdout) + new TextDecoder().decode(child.stderr);
  if (!allowed.includes(child.code)) {
    throw new Error(
      `running ${program} ${args.join(" ")}: it ended with ${child.code}\n${text.slice(-2000)}`,
    );
  }
  return text;
}

/** Flags for `threads` threads by what a program's `--help` says; forks differ. */
export function bestFlags(help: string, threads: number): string[] {
  const knows = (flag: string) => new RegExp(`(^|[\\s,|])${flag}(?=[\\s,|])`, "m").test(help);
  const flags = ["-t", String(threads)];
  // Newer builds want a word after it, older ones and forks have it as a switch, or on already.
  if (/--flash-attn \[?<?on\|/.test(help)) flags.push("-fa", "on");
  // ik_llama.cpp: weights in the layout of its fastest products, made while loading.
  if (knows("-rtr")) flags.push("-rtr");
  return flags;
}

/** Finds the programs of the build that `server` is of. @throws {Error} when it is no file or does not run */
export async function findLlamaCpp(
  server: string,
  threads: number,
  extra: readonly string[] = [],
): Promise<LlamaCpp> {
  if (!await isFile(server)) throw new Error(`looking for llama.cpp's server: ${server} is no file`);
  const beside = join(dirname(server), "llama-batched-bench");
  // ik_llama.cpp's programs end with 1 after they have said what they know.
  const help = await output(server, ["--help"], [0, 1]);
  const version = await output(server, ["--version"], [0, 1]);
  const flags = bestFlags(help, threads);
  return {
    server,
    name: flags.includes("-rtr") ? "ik_llama.cpp" : "llama.cpp",
    batchedBench: await isFile(beside) ? beside : undefined,
    version: /version: *(.*)/.exec(version)?.[1] ?? "unknown version",
    flags: [...flags, ...extra],
  };
}

/** The rows of the table that llama-batched-bench prints. @throws {Error} when there is none */
export function parseBatched(text: string): BatchedRow[] {
  const rows: BatchedRow[] = [];
  for (const line of text.split("\n")) {
    const cells = line.split("|").slice(1, -1).map((cell) => cell.trim());
    if (cells.length !== 10 || !/^\d+$/.test(cells[0]!)) continue;
    const [prompt, answer, batch, , , prefill, , decode] = cells.map(Number) as number[];
    rows.push({ prompt: prompt!, answer: answer!, batch: batch!, prefill: prefill!, decode: decode! });
  }
  if (rows.length === 0) {
    throw new Error(`reading llama-batched-bench: found no table in\n${text.slice(-2000)}`);
  }
  return rows;
}

/** Runs llama-batched-bench: a process for each prompt and answer length, with all its batch sizes. */
export async function batchedBench(
  { batchedBench: program, flags }: LlamaCpp,
  model: string,
  cases: readonly KernelCase[],
): Promise<BatchedRow[]> {
  if (program === undefined) throw new Error("measuring llama.cpp: its build has no llama-batched-bench");
  const rows: BatchedRow[] = [];
  for (const [lengths, group] of Map.groupBy(cases, ({ prompt, answer }) => `${prompt}:${answer}`)) {
    const [prompt, answer] = lengths.split(":").map(Number) as [number, number];
    const batches = group.map(({ batch }) => batch);
    // An answer of nothing divides by zero there: one token, which is not looked at.
    const tokens = Math.max(1, answer);
    const args = [
      "-m",
      model,
      "-c",
      String(Math.max(...batches) * (prompt + tokens)),
      "-b",
      "2048",
      "-ub",
      "512",
    ];
    args.push("-npp", String(prompt), "-ntg", String(tokens), "-npl", batches.join());
    for (const row of parseBatched(await output(program, [...args, ...flags]))) {
      rows.push({ ...row, answer, decode: answer > 0 ? row.decode : NaN });
    }
  }
  return rows;
}
