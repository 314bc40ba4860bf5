/**
 * What README.md shows, run as a reader would:
 *
 * - A fenced `ts` block right below `<!-- test: example.ts -->` runs from the repository's root. It may import
 *   `./mod.ts` and the packages of deno.json.
 * - One that names `http://127.0.0.1:8000` runs against a server started by scripts/serve.sh on a free port, and so
 *   does each shell block that calls `curl` there, marked or not.
 *
 * Each has to exit with 0, print something, and print no error body.
 */
import { assert, assertEquals } from "@std/assert";
import { existsSync } from "node:fs";

const root = new URL("../", import.meta.url);
const path = (relative: string) => new URL(relative, root).pathname;
const library = path("build/libkvrm_cpu.so");
const ADDRESS = "127.0.0.1:8000";
const DEADLINE_MS = 120_000;

interface Block {
  language: string;
  /** The file name of the comment `<!-- test: name -->` above it. */
  name: string | undefined;
  text: string;
}

function blocksOf(markdown: string): Block[] {
  const fence = /(?:^<!-- *test: *(\S+) *-->\n+)?^```(\w*)[^\n]*\n(.*?)^```$/gms;
  return [...markdown.matchAll(fence)].map(([, name, language = "", text = ""]) => ({
    language,
    name,
    text,
  }));
}

const present =
  ["README.md", "mod.ts", "server.ts", "scripts/serve.sh", "models/tiny/config.json"].every((file) =>
    existsSync(path(file))
  ) &&
  existsSync(library);
const blocks = present ? blocksOf(Deno.readTextFileSync(path("README.md"))) : [];
const programs = blocks.filter((block) => block.language === "ts" && block.name !== undefined);
const libraryPrograms = programs.filter((block) => !block.text.includes(ADDRESS));
const clientPrograms = programs.filter((block) => block.text.includes(ADDRESS));
const requests = blocks.filter((block) =>
  /^(sh|bash|shell|console)$/.test(block.language) && block.text.includes("curl ") &&
  block.text.includes(ADDRESS)
);
const curl = (await run("bash", ["-c", "command -v curl"])).success;

interface Result {
  success: boolean;
  stdout: string;
  stderr: string;
}

async function run(command: string, args: string[]): Promise<Result> {
  const child = new Deno.Command(command, {
    args,
    cwd: root,
    stdin: "null",
    env: { OPENAI_API_KEY: "none", NO_COLOR: "1" },
    signal: AbortSignal.timeout(DEADLINE_MS),
  });
  const { success, stdout, stderr } = await child.output();
  const decoder = new TextDecoder();
  return { success, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

async function runProgram(block: Block, address: string): Promise<Result> {
  const folder = path("build/readme");
  await Deno.mkdir(folder, { recursive: true });
  const file = `${folder}/${block.name}`;
  const text = block.text.replaceAll(ADDRESS, address)
    .replaceAll(/(["'])(?:\.\/mod\.ts|@kvrm\/kvrm)\1/g, JSON.stringify(path("mod.ts")));
  await Deno.writeTextFile(file, text);
  const permissions = ["--allow-read", "--allow-env", `--allow-net=${address}`, `--allow-ffi=${library}`];
  return await run(Deno.execPath(), ["run", "--no-prompt", "--frozen", "--check", ...permissions, file]);
}

function assertAnswered({ success, stdout, stderr }: Result, text: string) {
  assert(success, `failed:\n${text}\n${stdout}${stderr}`);
  assert(stdout.trim().length > 0, `printed nothing:\n${text}\n${stderr}`);
  assert(!stdout.includes('"error":'), `was answered with an error:\n${text}\n${stdout}`);
}

/** Serves the embedded model on a free port for as long as `body` runs. */
async function withServer(body: (address: string) => Promise<void>) {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const address = `127.0.0.1:${listener.addr.port}`;
  listener.close();
  const server = new Deno.Command("bash", {
    args: ["scripts/serve.sh"],
    cwd: root,
    stdin: "null",
    stdout: "null",
    stderr: "inherit",
    env: { HOST: "127.0.0.1", PORT: String(listener.addr.port), MODEL: "", ARGS: "--log-level error" },
  }).spawn();
  try {
    await untilHealthy(address, server);
    await body(address);
  } finally {
    try {
      server.kill("SIGTERM");
    } catch {
      // It has ended by itself; the test says so.
    }
    await server.status;
  }
}

async function untilHealthy(address: string, server: Deno.ChildProcess) {
  const deadline = performance.now() + DEADLINE_MS;
  const ended = server.status.then((status) => {
    throw new Error(`the server ended with ${status.code} before it listened`);
  });
  ended.catch(() => {});
  while (performance.now() < deadline) {
    const response = await Promise.race([fetch(`http://${address}/ready`).catch(() => undefined), ended]);
    await response?.body?.cancel();
    if (response?.ok) return;
    await Promise.race([new Promise((resolve) => setTimeout(resolve, 50)), ended]);
  }
  throw new Error(`the server at ${address} was not ready within ${DEADLINE_MS} ms`);
}

Deno.test("blocksOf() finds fenced blocks and the names above them", () => {
  const markdown =
    "a\n<!-- test: x.ts -->\n```ts\nconst a = 1;\n\nb;\n```\ntext\n```sh\ncurl x\n```\n<!-- test: y.ts -->\n\n" +
    "```ts ignore\nc\n```\n";
  assertEquals(blocksOf(markdown), [
    { language: "ts", name: "x.ts", text: "const a = 1;\n\nb;\n" },
    { language: "sh", name: undefined, text: "curl x\n" },
    { language: "ts", name: "y.ts", text: "c\n" },
  ]);
});

Deno.test({
  name: "README.md shows a library example, a client example and a curl request that are tested",
  ignore: !present,
  fn() {
    assert(libraryPrograms.length > 0, "no ts block below a <!-- test: name.ts --> comment uses the library");
    assert(clientPrograms.length > 0, `no ts block below a <!-- test: name.ts --> comment uses ${ADDRESS}`);
    assert(requests.length > 0, `no shell block calls curl with ${ADDRESS}`);
  },
});

for (const block of libraryPrograms) {
  Deno.test(`README.md ${block.name} runs as it stands`, async () => {
    assertAnswered(await runProgram(block, ADDRESS), block.text);
  });
}

Deno.test({
  name: "README.md clients are answered by the server that it starts",
  ignore: clientPrograms.length === 0,
  async fn() {
    await withServer(async (address) => {
      for (const block of clientPrograms) assertAnswered(await runProgram(block, address), block.text);
    });
  },
});

Deno.test({
  name: "README.md curl requests are answered by the server that it starts",
  ignore: requests.length === 0 || !curl,
  async fn() {
    await withServer(async (address) => {
      for (const { text } of requests) {
        assertAnswered(
          await run("bash", ["-euo", "pipefail", "-c", text.replaceAll(ADDRESS, address)]),
          text,
        );
      }
    });
  },
});
