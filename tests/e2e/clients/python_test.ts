import { assert, assertEquals } from "@std/assert";
import { type Address, CANNOT_CHAT, NAME, ROOT, startReal, startScripted, weatherScript } from "./servers.ts";

/** Runs a script of this folder; gives its exit code and what it wrote. */
async function run(command: string, ...args: string[]): Promise<{ code: number; out: string }> {
  const script = `exec 2>&1; cd "${ROOT}/tests/e2e/clients" && exec ${command} "$@"`;
  const { code, stdout } = await new Deno.Command("bash", {
    args: ["-c", script, command, ...args],
    stdin: "null",
    stderr: "null",
  }).output();
  return { code, out: new TextDecoder().decode(stdout) };
}

/** Where the clients' packages are, or why they are not: a machine may have no Python, or no network. */
async function findPackages(): Promise<{ venv: string | null; why: string }> {
  if (CANNOT_CHAT) return { venv: null, why: "" };
  const { code, out } = await run("./venv.sh");
  return code === 0 ? { venv: out.trim(), why: "" } : { venv: null, why: ` (skipped: ${out.trim()})` };
}

const { venv, why } = await findPackages();
const needed = { ignore: venv === null };

let real: Address, scripted: Address;
Deno.test.beforeAll(async () => {
  if (venv === null) return;
  [real, scripted] = [await startReal(), await startScripted(weatherScript)];
});
Deno.test.afterAll(async () => {
  await real?.[Symbol.asyncDispose]();
  await scripted?.[Symbol.asyncDispose]();
});

Deno.test(`openai_client.py passes: PyPI's openai${why}`, needed, async () => {
  const { code, out } = await run(`${venv}/bin/python`, "openai_client.py", real.url, NAME, scripted.url);
  assertEquals([code, out.trim().split("\n").at(-1)], [0, "all passed"], out);
});

Deno.test(`schemathesis.sh finds nothing that /openapi.json does not say${why}`, needed, async () => {
  const { code, out } = await run("./schemathesis.sh", real.url, "5");
  assertEquals(code, 0, out);
  assert(Number(/(\d+) generated/.exec(out)?.[1]) >= 1000, out);
});
