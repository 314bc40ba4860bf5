/**
 * `make compile`: the program, its packages, the CPU library, the CUDA library when it is built, and the tiny model in
 * one file, build/kvrm. Prints what is within, its version and its size.
 *
 *     deno run --allow-run --allow-read --allow-env scripts/compile.ts [build/kvrm]
 *
 * `deno compile` puts all of it behind `denort`, a Deno without tools, which it gets from dl.deno.land. DENORT_BIN names
 * one that is here. Exit codes: 0; 1 when nothing was made; 3 when what was made does not run.
 *
 * @module
 */

import config from "../deno.json" with { type: "json" };

const ROOT = new URL("../", import.meta.url).pathname.replace(/\/$/, "");
const OUTPUT = "build/kvrm";

/** Threads of their own, which no import leads to. */
const WORKERS = ["runtime/worker.ts", "runtime/grammar/worker.ts", "runtime/grammar/check_worker.ts"];
const LIBRARIES = ["build/libkvrm_cpu.so", "build/libkvrm_cuda.so"];
const MODEL = "models/tiny";

/** What the program may do: what `--model org/name`, a library of one's own and any address need. */
const PERMISSIONS = [
  "--no-prompt",
  "--allow-net",
  "--allow-read",
  "--allow-write",
  "--allow-env",
  "--allow-ffi",
  "--allow-sys=homedir",
];

/** A reason why there is no program, for the user. */
class CompileError extends Error {}

/** Files to embed that are no modules of the program. */
function included(): string[] {
  const model = [...Deno.readDirSync(`${ROOT}/${MODEL}`)]
    .filter(({ isFile, name }) => isFile && name !== "README.md")
    .map(({ name }) => `${MODEL}/${name}`);
  const libraries = LIBRARIES.filter(exists);
  if (!libraries.includes("build/libkvrm_cpu.so")) {
    throw new CompileError("there is no build/libkvrm_cpu.so: run `make native`");
  }
  return [...libraries, ...WORKERS, ...model.sort()];
}

function exists(path: string): boolean {
  try {
    Deno.statSync(`${ROOT}/${path}`);
    return true;
  } catch {
    return false;
  }
}

/**
 * Folders of packages that are left out. bintrees (prom-client's) has 10,000 numbers in a test's file without an
 * extension, which `deno compile` takes for a program and overflows its stack over.
 */
async function excluded(): Promise<string[]> {
  const info = await deno(["info", "--json"]);
  const { npmCache } = JSON.parse(info.stdout) as { npmCache: string };
  const found: string[] = [];
  for (const registry of folders(npmCache)) {
    for (const version of folders(`${registry}/bintrees`)) found.push(`${version}/test`);
  }
  return found;
}

function folders(path: string): string[] {
  try {
    return [...Deno.readDirSync(path)].filter((entry) => entry.isDirectory).map(({ name }) =>
      `${path}/${name}`
    );
  } catch {
    return [];
  }
}

interface Result {
  code: number;
  stdout: string;
  stderr: string;
}

async function deno(args: string[]): Promise<Result> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args,
    cwd: ROOT,
    env: { NO_COLOR: "1" },
  })
    .output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

const HELP =
  "deno compile needs denort, which it gets from dl.deno.land. Where that cannot be reached, download\n" +
  `  https://dl.deno.land/release/v${Deno.version.deno}/denort-${Deno.build.target}.zip\n` +
  "elsewhere, unpack it, and name it: DENORT_BIN=path/to/denort make compile";

async function compile(output: string): Promise<string> {
  const denort = Deno.env.get("DENORT_BIN");
  if (denort !== undefined && denort !== "" && !isFile(denort)) {
    throw new CompileError(`DENORT_BIN names ${denort}, where there is no file. ${HELP}`);
  }
  const { code, stdout, stderr } = await deno([
    "compile",
    "--frozen",
    "--no-check",
    "--exclude-unused-npm",
    ...PERMISSIONS,
    ...included().flatMap((path) => ["--include", path]),
    ...(await excluded()).flatMap((path) => ["--exclude", path]),
    "--output",
    output,
    "server.ts",
  ]);
  const text = stdout + stderr;
  if (code === 0) return text;
  const offline = denort === undefined && /denort|dl\.deno\.land/.test(text);
  throw new CompileError(offline ? HELP : `deno compile failed:\n${text.trim()}`);
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

/** What kind of program came out: with Deno itself for denort it is one that does not run what it holds. */
async function firstWords(path: string): Promise<string> {
  try {
    const { stdout } = await new Deno.Command(path, { args: ["--version"], stdin: "null", stderr: "null" })
      .output();
    return new TextDecoder().decode(stdout).trim();
  } catch (error) {
    return (error as Error).message;
  }
}

async function main(): Promise<number> {
  const output = `${ROOT}/${Deno.args[0] ?? OUTPUT}`;
  const say = (text: string) => Deno.stdout.writeSync(new TextEncoder().encode(`${text}\n`));
  try {
    const listing = await compile(output);
    say(listing.slice(listing.indexOf("Embedded Files")).trim());
    const size = (Deno.statSync(output).size / 2 ** 20).toFixed(1);
    const version = await firstWords(output);
    say(`\n${output}: ${size} MiB, kvrm ${config.version}, Deno ${Deno.version.deno}`);
    if (version !== `kvrm ${config.version}`) {
      say(
        `but it does not run: DENORT_BIN names ${Deno.env.get("DENORT_BIN")}, which is no denort.\n${HELP}`,
      );
      return 3;
    }
    return 0;
  } catch (error) {
    if (!(error instanceof CompileError)) throw error;
    Deno.stderr.writeSync(new TextEncoder().encode(`kvrm: ${error.message}\n`));
    return 1;
  }
}

if (import.meta.main) Deno.exit(await main());
