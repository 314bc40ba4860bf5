/**
 * The whole gate as one command: runs the steps that are named (or their groups `checks`, `tests`), shows what
 * they print, and closes with one line `N passed, N failed, N skipped`. Exits with 1 when anything failed.
 *
 *     deno run -A scripts/gate.ts checks tests
 *     deno run -A scripts/gate.ts deno -- --filter BlockPager runtime/
 *
 * What follows `--` goes to `deno test`.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { type Count, countDeno, countNative, emptyCount, type Skipped } from "./gate_count.ts";

interface Step {
  group: "checks" | "tests";
  command: readonly string[];
  /**
   * Runs beside it at the lowest priority, and is waited for: what steps after it would have to do first. What comes
   * of it is theirs to say.
   */
  meanwhile?: readonly string[];
  /** A sentence when the step cannot run here, or what finds out just before the step. */
  skip?: string | undefined | (() => string | undefined);
  count(output: string, exitCode: number): Count;
}

/** A step that is a hang by now, also where others use the machine: on 2 idle cores the whole gate takes a quarter of an hour. */
const STEP_TIMEOUT_S = 1500;

const root = new URL("../", import.meta.url).pathname.replace(/\/$/, "");
Deno.chdir(root);

/** Programs that tests start; the page's are skipped where the machine has no browser. */
const TEST_PROGRAMS = ["deno", "bash", "chromium-headless-shell", "chromium"];

/** What the tests may touch, and no more. The servers that they start have flags of their own. */
function testPermissions(): string[] {
  return [
    "--no-prompt",
    // Deno makes symbolic links, as the cache of downloaded models has them, only with all of both.
    "--allow-read",
    "--allow-write",
    "--allow-net=127.0.0.1,localhost",
    "--allow-env",
    "--allow-sys",
    `--allow-run=${[Deno.execPath(), ...TEST_PROGRAMS.filter(tool)]}`,
    `--allow-ffi=${["cpu", "emulator", "cuda"].map((name) => `${root}/build/libkvrm_${name}.so`).join()}`,
  ];
}

function steps(testArgs: readonly string[]): Record<string, Step> {
  const sources = filesBelow("csrc").filter((path) => /\.(h|cc|cu|cuh)$/.test(path));
  const scripts = [".ci/run", ...filesBelow("scripts").filter((path) => path.endsWith(".sh"))];
  return {
    format: check(["deno", "fmt", "--check"]),
    lint: check(["deno", "lint"]),
    types: check(["deno", "check", "--doc"]),
    lock: check(["deno", "install", "--frozen", "--quiet"]),
    docs: check(["deno", "doc", "--lint", "mod.ts"], missing("mod.ts")),
    "clang-format": check(
      ["clang-format", "--dry-run", "-Werror", "--ferror-limit=12", ...sources],
      clangFormatSkip(),
    ),
    shellcheck: check(
      ["shellcheck", ...scripts],
      tool("shellcheck") ? undefined : "shellcheck is not installed",
    ),
    build: check(make("build/libkvrm_cpu.so", "build/libkvrm_emulator.so")),
    // Without a GPU this is all that can be checked of it: that it compiles, links, and spills no registers.
    cuda: check(make("cuda-library"), cudaSkip),
    deno: {
      group: "tests",
      command: ["deno", "test", "--frozen", ...testPermissions(), ...testArgs],
      // The tests leave most of a second core idle.
      meanwhile: ["nice", "-n", "19", ...make("-k", "test-binaries")],
      count: countDeno,
    },
    native: native("native-test"),
    sanitized: native("native-test-sanitized"),
    emulator: native("cuda-test"),
    "emulator-sanitized": native("cuda-test-sanitized"),
  };
}

function make(...targets: string[]): string[] {
  return ["make", "--no-print-directory", `-j${navigator.hardwareConcurrency}`, ...targets];
}

/** Binaries of csrc/common/test.h. */
function native(target: string): Step {
  return { group: "tests", command: make(target), count: countNative };
}

/** A step that passes or fails as a whole. */
function check(command: readonly string[], skip?: Step["skip"]): Step {
  return {
    group: "checks",
    command,
    skip,
    count: (_output, exitCode) => ({
      ...emptyCount(),
      passed: exitCode === 0 ? 1 : 0,
      failed: exitCode === 0 ? 0 : 1,
    }),
  };
}

function missing(path: string): string | undefined {
  return existsSync(path) ? undefined : `there is no ${path}`;
}

function tool(name: string): boolean {
  return (Deno.env.get("PATH") ?? "").split(":").some((folder) => existsSync(`${folder}/${name}`));
}

/** Each major version of clang-format formats a little differently: only the one of Debian 12 counts. */
function clangFormatSkip(): string | undefined {
  if (!tool("clang-format")) return "clang-format is not installed";
  const { stdout } = new Deno.Command("clang-format", { args: ["--version"] }).outputSync();
  const version = /version (\d+)/.exec(new TextDecoder().decode(stdout))?.[1];
  return version === "14" ? undefined : `clang-format is version ${version}, wanted 14`;
}

/** Gets the compiler of the CUDA backend. Where nobody can (offline, say) only CI, which owes it, fails. */
function cudaSkip(): string | undefined {
  const { success } = new Deno.Command("scripts/cuda_toolkit.sh", {
    stdin: "null",
    stdout: "null",
    stderr: "inherit",
  })
    .outputSync();
  if (success || Deno.env.get("CI")) return undefined;
  return "no CUDA 13 compiler is installed, and its wheels could not be fetched";
}

function filesBelow(folder: string): string[] {
  return [...Deno.readDirSync(folder)]
    .flatMap((entry) =>
      entry.isDirectory ? filesBelow(`${folder}/${entry.name}`) : [`${folder}/${entry.name}`]
    )
    .sort();
}

function print(line: string) {
  Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
}

/** Runs a step's command, passes on what it prints, and counts. */
async function run(step: Step): Promise<Count> {
  // With a terminal, Ctrl-C has to reach the command: it must stay in the foreground.
  const timeout = ["-k", "10", ...(Deno.stdin.isTerminal() ? ["--foreground"] : []), String(STEP_TIMEOUT_S)];
  const child = new Deno.Command("timeout", {
    args: [...timeout, ...step.command],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let output = "";
  async function pass(stream: ReadableStream<Uint8Array>, keep: boolean) {
    const decoder = new TextDecoder();
    for await (const bytes of stream) {
      if (keep) output += decoder.decode(bytes, { stream: true });
      for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
    }
  }
  await Promise.all([pass(child.stdout, true), pass(child.stderr, false)]);
  const { code } = await child.status;
  const count = step.count(output, code);
  if (code === 124 || code === 137) count.notes.push(`stopped after ${STEP_TIMEOUT_S} s`);
  return count;
}

/** Starts what is to be done beside a step; what it prints is dropped, as the step that needs it does it again. */
function beside(command: readonly string[]): Promise<Deno.CommandStatus> {
  const [program, ...args] = command;
  return new Deno.Command(program!, { args, stdin: "null", stdout: "null", stderr: "null" }).spawn().status;
}

/** Why a test was skipped, as far as its name and file tell. */
function reason({ name, file }: Skipped): string {
  const source = existsSync(file) ? Deno.readTextFileSync(file) : "";
  const shared = /\bshared\b|stories260K/i.test(name + source) && !existsSync(`${root}/../shared`);
  return shared ? `needs ../shared, which is not here (${file})` : `marked \`ignore\` in ${file}`;
}

async function main(args: readonly string[]): Promise<number> {
  const end = args.includes("--") ? args.indexOf("--") : args.length;
  const all = steps(args.slice(end + 1));
  const names = Object.keys(all).filter((name) =>
    args.slice(0, end).some((arg) => arg === name || arg === all[name]!.group)
  );
  const unknown = args.slice(0, end).find((arg) => !(arg in all) && arg !== "checks" && arg !== "tests");
  if (unknown !== undefined || names.length === 0) {
    throw new Error(
      `no step "${unknown ?? ""}", wanted checks, tests or some of ${Object.keys(all).join(", ")}`,
    );
  }

  const total = emptyCount();
  const table: string[] = [];
  const add = (name: string, count: Count, seconds: number) => {
    total.passed += count.passed;
    total.failed += count.failed;
    total.skipped += count.skipped;
    table.push(
      `${name.padEnd(19)}${String(count.passed).padStart(7)} passed ${
        String(count.failed).padStart(4)
      } failed ` +
        `${String(count.skipped).padStart(4)} skipped ${seconds.toFixed(1).padStart(7)} s`,
      ...count.notes.map((note) => `  failed: ${note}`),
      ...count.skippedTests.map((test) => `  skipped: ${test.name}: ${reason(test)}`),
    );
  };
  for (const name of names) {
    const step = all[name]!;
    const skip = typeof step.skip === "function" ? step.skip() : step.skip;
    if (skip !== undefined) {
      add(name, { ...emptyCount(), skipped: 1 }, 0);
      table.push(`  skipped: ${skip}`);
      continue;
    }
    print(`\n== ${name}: ${step.command.slice(0, 4).join(" ")}${step.command.length > 4 ? " …" : ""}`);
    const start = performance.now();
    const isLast = name === names.at(-1);
    const other = step.meanwhile && !isLast ? beside(step.meanwhile) : undefined;
    add(name, await run(step), (performance.now() - start) / 1000);
    await other;
  }
  print(`\n${table.join("\n")}\n`);
  print(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
  return total.failed === 0 ? 0 : 1;
}

try {
  Deno.exitCode = await main(Deno.args);
} catch (error) {
  print(`the gate itself failed: ${error instanceof Error ? error.stack : error}`);
  print("0 passed, 1 failed, 0 skipped");
  Deno.exitCode = 1;
}
