import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { withFile, writeFolderAsGguf } from "../gguf_models.ts";
import { runServer, startServer } from "./process.ts";
import { CANNOT_RUN, LIBRARY, MODEL, ROOT, until } from "./service.ts";

const needed = { ignore: CANNOT_RUN };

function ask(url: string, body: Record<string, unknown>): Promise<Response> {
  return fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
}

const LONG = { prompt: "Once upon a time", max_tokens: 200, ignore_eos: true, stream: true };

Deno.test("server.ts says in one line where it listens, and with what", needed, async () => {
  await using server = await startServer([
    "--slots",
    "3",
    "--kv-memory=8MiB",
    "--served-model-name",
    "story",
  ]);
  const port = new URL(server.url).port;
  assertMatch(
    server.line,
    /^kvrm [\d.]+ listens on http:\/\/127\.0\.0\.1:\d+; model story \(.+, .+ parameters, \w+, context \d+\); /,
  );
  for (
    const part of ["; backend cpu/", "; 3 slots; ", " KV (kv-rm, blocks of 32); ", "; permissions net=127."]
  ) {
    assertStringIncludes(server.line, part);
  }
  assertStringIncludes(server.line, "ffi=build/libkvrm_cpu.so");
  assert(Number(port) > 0);
  const models = await (await fetch(`${server.url}/v1/models`)).json();
  assertEquals(models.data[0].id, "story");
  const answer = await ask(server.url, { prompt: "Once upon a time", model: "story" });
  assertEquals(answer.status, 200);
  await answer.body?.cancel();
  assertEquals((await server.stop("SIGTERM")).code, 0);
});

Deno.test("server.ts takes its options from the environment too", needed, async () => {
  await using server = await startServer([], {
    KVRM_SLOTS: "5",
    KVRM_KV_MODE: "paged",
    KVRM_LOG_LEVEL: "off",
  });
  assertStringIncludes(server.line, "; 5 slots; ");
  assertStringIncludes(server.line, "(paged, ");
  assertEquals(await server.stop("SIGTERM"), { code: 0, stderr: "" });
});

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  Deno.test(`server.ts finishes what runs and exits with 0 on ${signal}`, needed, async () => {
    await using server = await startServer();
    const response = await ask(server.url, LONG);
    const [text, { code }] = await Promise.all([response.text(), server.stop(signal)]);
    assert(text.endsWith("data: [DONE]\n\n"), text.slice(-300));
    assertEquals(code, 0);
  });
}

Deno.test(
  "server.ts cancels what still runs after --drain-timeout, and tells its client",
  needed,
  async () => {
    await using server = await startServer(["--drain-timeout", "0", "--slots", "1"]);
    const response = await ask(server.url, { ...LONG, n: 128 });
    const [text, { code }] = await Promise.all([response.text(), server.stop("SIGTERM")]);
    const last = text.trimEnd().split("\n\n").at(-1)!;
    assertEquals(JSON.parse(last.slice("data: ".length)).error.code, "closed");
    assertEquals(code, 0);
  },
);

Deno.test("server.ts cancels what still runs on a second signal", needed, async () => {
  await using server = await startServer(["--drain-timeout", "600", "--slots", "1"]);
  const response = await ask(server.url, { ...LONG, max_tokens: 1900, n: 128 });
  server.child.kill("SIGINT");
  // A second one while the first is still pending would be none.
  await until(async () => {
    const ready = await fetch(`${server.url}/ready`);
    await ready.body?.cancel();
    return ready.status === 503;
  }, "the first signal has come");
  const [text, { code }] = await Promise.all([response.text(), server.stop("SIGINT")]);
  assertStringIncludes(text, '"error"');
  assertEquals(code, 0);
});

Deno.test(
  "server.ts serves a model that is named org/name from the cache, without a network",
  needed,
  async () => {
    const home = await Deno.makeTempDir();
    const commit = "0123456789abcdef0123456789abcdef01234567";
    const snapshot = `${home}/hub/models--some-one--stories/snapshots/${commit}`;
    await Deno.mkdir(snapshot, { recursive: true });
    await Deno.mkdir(`${snapshot}/../../refs`);
    await Deno.writeTextFile(`${snapshot}/../../refs/main`, commit);
    for (const { name, isFile } of Deno.readDirSync(MODEL)) {
      if (isFile) await Deno.copyFile(`${MODEL}/${name}`, `${snapshot}/${name}`);
    }
    const environment = { MODEL: "some-one/stories", HF_HOME: home, HF_HUB_OFFLINE: "1", HF_HUB_CACHE: "" };
    {
      await using server = await startServer([], environment);
      assertStringIncludes(server.line, "; model some-one/stories (");
      for (const part of [",huggingface.co ", ` write=${home}/hub `, " env=KVRM_*,HF_* "]) {
        assertStringIncludes(server.line, part);
      }
      assertStringIncludes(await (await ask(server.url, { prompt: "One day" })).text(), "choices");
      assertEquals((await server.stop("SIGTERM")).code, 0);
    }
    const missing = await runServer([], { ...environment, MODEL: "some-one/else" });
    assertEquals([missing.code, missing.stderr.split("\n").length], [1, 2], missing.stderr);
    assertStringIncludes(missing.stderr, "some-one/else");
    await Deno.remove(home, { recursive: true });
  },
);

Deno.test("server.ts serves a GGUF file as it does the folder that it was written from", needed, async () => {
  await withFile("stories-in-one.gguf", async (path) => {
    await writeFolderAsGguf(MODEL, path);
    const request = { prompt: "One day", temperature: 0, max_tokens: 12, logprobs: 1 };
    const answers = [];
    for (const model of [MODEL, path]) {
      await using server = await startServer([], { MODEL: model });
      assertStringIncludes(server.line, model === path ? "; model stories-in-one (" : "; model tiny (");
      const { choices } = await (await ask(server.url, request)).json();
      answers.push(choices[0].text);
      assertEquals((await server.stop("SIGTERM")).code, 0);
    }
    assertEquals(answers[1], answers[0]);
  });
});

const badFlags: [flags: string[], parts: string[]][] = [
  [["--slot", "3"], ["unknown flag --slot", "did you mean --slots?"]],
  [["--slots", "many"], ['--slots is "many"', "an integer from 1 to 256"]],
  [["--kv-mode", "static", "--prefix-cache"], ["--prefix-cache", "--kv-mode static"]],
  [["--max-context", "100000000"], ["--max-context", "100000000"]],
  [["--kv-memory", "1KiB"], ["--kv-memory", "KV memory"]],
];

for (const [flags, parts] of badFlags) {
  Deno.test(`server.ts exits with 2 and one line for ${flags.join(" ")}`, needed, async () => {
    const { code, stdout, stderr } = await runServer(flags);
    assertEquals([code, stdout, stderr.split("\n").length], [2, "", 2], stderr);
    for (const part of ["kvrm: ", ...parts]) assertStringIncludes(stderr, part);
  });
}

Deno.test(
  "server.ts exits with 1 and one line when the model, the library or the port cannot be had",
  needed,
  async () => {
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const port = String(listener.addr.port);
    const failures: [flags: string[], part: string][] = [
      [["--model", "/nowhere/model"], "/nowhere/model"],
      [["--lib", "/nowhere/lib.so"], "/nowhere/lib.so"],
      [["--port", port], `127.0.0.1:${port}: the port is in use`],
    ];
    for (const [flags, part] of failures) {
      const { code, stdout, stderr } = await runServer(flags);
      assertEquals([code, stdout, stderr.split("\n").length], [1, "", 2], stderr);
      assertStringIncludes(stderr, part);
    }
    listener.close();
  },
);

Deno.test("server.ts explains itself with --help, without a model", needed, async () => {
  const { code, stdout, stderr } = await runServer(["--help"], { MODEL: "/nowhere" });
  assertEquals([code, stderr], [0, ""]);
  for (const part of ["Usage:", "Batching and KV cache:", "--kv-memory BYTES", "[KVRM_KV_MEMORY]"]) {
    assertStringIncludes(stdout, part);
  }
});

/** Tries what a server has no business with; prints what it could do all the same. */
const PROBE = `
const tries = {
  "read the system": () => Deno.readTextFileSync("/etc/hostname"),
  "read the repository": () => Deno.readTextFileSync(${JSON.stringify(ROOT)} + "/README.md"),
  "list the repository": () => [...Deno.readDirSync(${JSON.stringify(ROOT)})],
  "write a file": () => Deno.writeTextFileSync("/tmp/kvrm-probe", ""),
  "write beside the model": () => Deno.writeTextFileSync(${JSON.stringify(MODEL)} + "/probe", ""),
  "listen elsewhere": () => Deno.listen({ hostname: "0.0.0.0", port: 0 }).close(),
  "connect": () => Deno.connect({ hostname: "127.0.0.1", port: 9 }),
  "run a program": () => new Deno.Command("true").outputSync(),
  "load another library": () => Deno.dlopen("libc.so.6", {}),
  "read the environment": () => Deno.env.get("HOME"),
  "list the environment": () => Deno.env.toObject(),
  "learn the host's name": () => Deno.hostname(),
};
const done = [];
for (const [name, attempt] of Object.entries(tries)) {
  try {
    await attempt();
    done.push(name);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotCapable)) done.push(name + ": " + error);
  }
}
console.log(JSON.stringify(done));
`;

Deno.test("server.ts has permissions from scripts/serve.sh for nothing but its work", needed, async () => {
  const { stdout } = await runServer([], { PRINT: "1" });
  const flags = [...stdout.matchAll(/'([^']*)'/g)].map(([, word]) => word!).filter((word) =>
    word.startsWith("--")
  );
  const permissions = flags.filter((flag) => flag.startsWith("--allow-"));
  const names = permissions.map((flag) => flag.slice("--allow-".length).split("=")[0]!);
  assertEquals(names.sort(), ["env", "ffi", "net", "read"]);
  assert(permissions.every((flag) => flag.includes("=")) && flags.includes("--no-prompt"));
  const cuda = LIBRARY.replace("_cpu", "_cuda");
  assert(permissions.includes(`--allow-ffi=${LIBRARY},${cuda}`), permissions.join(" "));

  const probe = await Deno.makeTempFile({ suffix: ".ts" });
  await Deno.writeTextFile(probe, PROBE);
  const { stdout: done, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", "--no-config", ...permissions, probe],
    stdout: "piped",
    stderr: "piped",
  }).output();
  await Deno.remove(probe);
  assertEquals(new TextDecoder().decode(done).trim(), "[]", new TextDecoder().decode(stderr));
});

Deno.test("server.ts names the missing permission instead of asking for it", needed, async () => {
  const { stdout } = await runServer([], { PRINT: "1" });
  const words = [...stdout.matchAll(/'([^']*)'/g)].map(([, word]) => word!);
  for (const name of ["net", "read", "ffi"]) {
    const { code, stderr } = await new Deno.Command(Deno.execPath(), {
      args: words.slice(1).filter((word) => !word.startsWith(`--allow-${name}`)),
      stdout: "piped",
      stderr: "piped",
      env: { NO_COLOR: "1" },
    }).output();
    const text = new TextDecoder().decode(stderr);
    assertEquals([code, text.split("\n").length], [1, 2], text);
    assertStringIncludes(text, `--allow-${name}`);
  }
});
