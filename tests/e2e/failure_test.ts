import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { existsSync } from "node:fs";
import { startServer } from "./process.ts";
import { ROOT } from "./service.ts";

/** The one library that breaks on demand: a kernel of the emulated GPU fails, and everything after it. */
const EMULATOR = `${ROOT}/build/libkvrm_emulator.so`;
const needed = { ignore: !existsSync(EMULATOR) };

/** Small enough for an emulator. */
const MODEL = `${ROOT}/tests/fixtures/models/llama3`;
const SMALL = ["--slots", "2", "--max-context", "128", "--prefill-chunk", "16", "--lib", EMULATOR];
/** Kernels that go well: some sixty steps, so that all requests are there, and fewer than an answer needs. */
const FAIL_AFTER = "1500";

function ask(url: string, body: Record<string, unknown>): Promise<Response> {
  return fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ prompt: "Once upon a time", max_tokens: 100, ignore_eos: true, ...body }),
  });
}

Deno.test("server.ts tells every open request that the GPU was lost, and exits with 75", needed, async () => {
  await using server = await startServer(SMALL, { MODEL, KVRM_EMULATOR_FAIL_AFTER: FAIL_AFTER });
  assertStringIncludes(server.line, "; backend cuda/");
  // Two run, one waits for a slot; one of them does not stream.
  const answers = await Promise.all([{ stream: true }, { stream: true }, {}].map(async (body) => {
    const response = await ask(server.url, body);
    return { status: response.status, text: await response.text() };
  }));
  for (const { status, text } of answers.slice(0, 2)) {
    assertEquals(status, 200);
    const last = text.trimEnd().split("\n\n").at(-1)!;
    assert(last.startsWith("data: "), last);
    const { error } = JSON.parse(last.slice("data: ".length));
    assertEquals([error.type, error.code], ["server_error", "failed"]);
    assertMatch(error.message, /^the engine failed: .*CUDA says/);
  }
  assertEquals(answers[2]!.status, 503);
  assertEquals(JSON.parse(answers[2]!.text).error.code, "failed");

  const { code } = await server.child.status;
  const { stderr } = await server.stop("SIGKILL");
  assertEquals(code, 75);
  assertMatch(stderr, /ERROR the engine failed: .*; the process ends with 75$/m);
});
