import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { CANNOT_RUN, MODEL, ROOT } from "./service.ts";

const needed = { ignore: CANNOT_RUN };

interface Result {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs scripts/kvrm.sh with a text on standard input. */
async function kvrm(args: string[], input = "", environment: Record<string, string> = {}): Promise<Result> {
  const child = new Deno.Command("bash", {
    args: [`${ROOT}/scripts/kvrm.sh`, ...args],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
    env: { KVRM_MODEL: MODEL, KVRM_BACKEND: "cpu", NO_COLOR: "1", ...environment },
  }).spawn();
  const writer = child.stdin.getWriter();
  try {
    await writer.write(new TextEncoder().encode(input));
    await writer.close();
  } catch {
    // It has ended already, and wants no input.
  }
  const { code, stdout, stderr } = await child.output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

const GREEDY = ["--temperature", "0", "--max-tokens", "12"];

Deno.test("kvrm.sh run answers the prompt, or standard input, with the same text", needed, async () => {
  const [named, piped] = await Promise.all([
    kvrm(["run", "Once upon a time", ...GREEDY]),
    kvrm(["run", ...GREEDY], "Once upon a time\n"),
  ]);
  assertEquals([named.code, named.stderr], [0, ""]);
  assertMatch(named.stdout, /\w.*\n$/s);
  assertEquals(piped, named);
});

Deno.test(
  "kvrm.sh run goes on from a raw prompt, ends at a text, and tells how fast it was",
  needed,
  async () => {
    const raw = await kvrm(["run", "Once upon a time", "--raw", "--stats", ...GREEDY]);
    assertEquals(raw.code, 0);
    assertMatch(raw.stderr, /^kvrm: \d+ tokens of prompt, first token after [\d.]+ ms; \d+ tokens of answer/);
    const stop = raw.stdout.trim().split(" ")[2]!;
    const short = await kvrm(["run", "Once upon a time", "--raw", "--stop", stop, ...GREEDY]);
    assertEquals(short.stdout.trimEnd(), raw.stdout.slice(0, raw.stdout.indexOf(stop)).trimEnd());
  },
);

Deno.test(
  "kvrm.sh run ends with 2 for what was asked for, and with 1 for what went wrong",
  needed,
  async () => {
    const empty = await kvrm(["run"]);
    assertEquals([empty.code, empty.stdout], [2, ""]);
    assertStringIncludes(empty.stderr, "run needs a prompt");
    const system = await kvrm(["run", "x", "--raw", "--system", "y"]);
    assertEquals(system.code, 2);
    assertStringIncludes(system.stderr, "--system and --raw contradict each other");
    const missing = await kvrm(["run", "x", "--model", "/nowhere"]);
    assertEquals([missing.code, missing.stdout], [1, ""]);
    assertStringIncludes(missing.stderr, "/nowhere does not exist");
  },
);

Deno.test("kvrm.sh pull prints the folder of a model that is there, and says what keeps it from others", async () => {
  const cache = await Deno.makeTempDir({ prefix: "kvrm-pull-" });
  try {
    const storage = `${cache}/models--org--name`;
    const snapshot = `${storage}/snapshots/${"ab".repeat(20)}`;
    await Deno.mkdir(`${storage}/refs`, { recursive: true });
    await Deno.mkdir(snapshot, { recursive: true });
    await Deno.writeTextFile(`${storage}/refs/main`, "ab".repeat(20));
    for (const file of ["config.json", "tokenizer.json", "model.safetensors"]) {
      await Deno.writeTextFile(`${snapshot}/${file}`, "{}");
    }
    const environment = { HF_HUB_CACHE: cache, HF_HUB_OFFLINE: "1" };
    assertEquals(await kvrm(["pull", "org/name"], "", environment), {
      code: 0,
      stdout: `${snapshot}\n`,
      stderr: "",
    });
    const other = await kvrm(["pull", "org/other"], "", environment);
    assertEquals([other.code, other.stdout], [1, ""]);
    assertStringIncludes(other.stderr, "HF_HUB_OFFLINE forbids");
    const folder = await kvrm(["pull", cache], "", environment);
    assertEquals(folder.code, 2);
    assertStringIncludes(folder.stderr, "wanted org/name or org/name@revision");
  } finally {
    await Deno.remove(cache, { recursive: true });
  }
});

Deno.test("kvrm.sh bench measures decode, prefill and bandwidth", needed, async () => {
  const { code, stdout, stderr } = await kvrm(["bench", "--json", "--max-context", "128"]);
  assertEquals([code, stderr], [0, ""]);
  const { decode, prefill, bandwidth, weightBytes, backend } = JSON.parse(stdout);
  assertEquals(Object.keys(decode), ["1", "4", "16"]);
  for (const rate of [...Object.values<number>(decode), prefill.rate, bandwidth, weightBytes]) {
    assert(rate > 0);
  }
  assertEquals(prefill.tokens, 127);
  assertMatch(backend, /^cpu\//);
});
