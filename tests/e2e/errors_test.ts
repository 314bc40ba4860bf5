import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { atRest, CANNOT_RUN, promptOf, type Service, startService } from "./service.ts";

const MAX_BODY = 100_000;

let service: Service;
Deno.test.beforeAll(async () => {
  if (!CANNOT_RUN) service = await startService({ slots: 2, maxQueue: 8 }, { maxBodyBytes: MAX_BODY });
});
Deno.test.afterAll(async () => await service?.[Symbol.asyncDispose]());

/** Asks, and checks that the answer is OpenAI's error body with this status. */
async function refused(path: string, status: number, init: RequestInit) {
  const response = await fetch(service.url + path, init);
  assertMatch(response.headers.get("content-type") ?? "", /^application\/json/);
  assertMatch(response.headers.get("x-request-id") ?? "", /^[\x21-\x7e]+$/);
  const body = await response.json();
  assertEquals(response.status, status, JSON.stringify(body));
  assertEquals(Object.keys(body), ["error"]);
  assertEquals(Object.keys(body.error).sort(), ["code", "message", "param", "type"]);
  return { response, ...body.error };
}

function json(body: unknown, type = "application/json"): RequestInit {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return { method: "POST", headers: { "content-type": type }, body: text };
}

const needed = { ignore: CANNOT_RUN };

for (const stream of [false, true]) {
  Deno.test(
    `createApp() answers 400 with both numbers to a prompt above the context, stream ${stream}`,
    needed,
    async () => {
      const { maxContext } = service.engine.model;
      for (const prompt of [promptOf(service.engine, maxContext), promptOf(service.engine, maxContext + 7)]) {
        const error = await refused("/v1/completions", 400, json({ prompt, stream }));
        assertEquals([error.param, error.code], ["prompt", "context_length_exceeded"]);
        assertStringIncludes(error.message, String(prompt.length));
        assertStringIncludes(error.message, String(maxContext));
      }
      const batch = [promptOf(service.engine, 3), promptOf(service.engine, maxContext)];
      await refused("/v1/completions", 400, json({ prompt: batch, stream }));
      await atRest(service.engine);
    },
  );
}

Deno.test("createApp() answers 400 to a token id outside the vocabulary", needed, async () => {
  const { vocabSize } = service.engine.model;
  const error = await refused("/v1/completions", 400, json({ prompt: [1, vocabSize] }));
  assertStringIncludes(error.message, String(vocabSize));
});

Deno.test("createApp() answers 400 with line and column to a body that is not JSON", needed, async () => {
  const error = await refused("/v1/completions", 400, json('{"prompt": "a",\n "n": }'));
  assertStringIncludes(error.message, "line 2, column 7");
  await refused("/v1/chat/completions", 400, json(""));
  await refused("/v1/chat/completions", 400, json("[]"));
});

Deno.test("createApp() answers 400 that names field, found and wanted", needed, async () => {
  const error = await refused("/v1/completions", 400, json({ prompt: "a", temperature: "hot" }));
  assertEquals(error.param, "temperature");
  assertStringIncludes(error.message, 'temperature is "hot"; it must be a number');
});

Deno.test("createApp() answers 404 to another model, naming both", needed, async () => {
  const error = await refused("/v1/completions", 404, json({ prompt: "a", model: "gpt-4" }));
  assertEquals(error.code, "model_not_found");
  for (const name of ["gpt-4", service.engine.model.id]) assertStringIncludes(error.message, name);
  await refused("/v1/models/gpt-4", 404, {});
});

Deno.test("createApp() answers 404 to an unknown path and 405 to a wrong method", needed, async () => {
  assertStringIncludes((await refused("/v1/nothing", 404, {})).message, "GET /v1/nothing");
  for (
    const [method, path, allow] of [
      ["GET", "/v1/completions", "POST"],
      ["DELETE", "/v1/models", "GET, HEAD"],
      ["OPTIONS", "/v1/chat/completions", "POST"],
      ["PUT", `/v1/models/${service.engine.model.id}`, "GET, HEAD"],
      ["POST", "/health", "GET, HEAD"],
    ] as const
  ) {
    const { response, message } = await refused(path, 405, { method });
    assertEquals(response.headers.get("allow"), allow);
    assertStringIncludes(message, method);
  }
});

Deno.test("createApp() answers 415 to a content type that is not JSON", needed, async () => {
  const error = await refused("/v1/completions", 415, json({ prompt: "a" }, "text/plain"));
  assertStringIncludes(error.message, "text/plain");
});

Deno.test(
  "createApp() answers 413 to a body above the limit, declared or streamed, and goes on serving",
  needed,
  async () => {
    const big = JSON.stringify({ prompt: "x".repeat(MAX_BODY) });
    const error = await refused("/v1/completions", 413, json(big));
    assertStringIncludes(error.message, String(MAX_BODY));
    const body = new Blob([big]).stream();
    const headers = { "content-type": "application/json" };
    await refused("/v1/completions", 413, { method: "POST", headers, body });
    await service.complete({ prompt: "a", max_tokens: 1 });
  },
);

Deno.test("createApp() answers 429 with retry-after when the queue is full", needed, async () => {
  const { response } = await refused("/v1/completions", 429, json({ prompt: Array(9).fill("a") }));
  assertMatch(response.headers.get("retry-after") ?? "", /^\d+$/);
  await atRest(service.engine);
});

Deno.test("createApp() gives a request the id that its client gave it", needed, async () => {
  const { response } = await refused("/nothing", 404, { headers: { "x-request-id": "mine-1" } });
  assertEquals(response.headers.get("x-request-id"), "mine-1");
});

Deno.test("GET /health tells that the engine lives and how busy it is", needed, async () => {
  await atRest(service.engine);
  const response = await fetch(`${service.url}/health`);
  const body = await response.json();
  assertEquals([response.status, body.status, body.model], [200, "ok", service.engine.model.id]);
  assertEquals([body.running, body.waiting, body.slots], [0, 0, 2]);
  const head = await fetch(`${service.url}/health`, { method: "HEAD" });
  assertEquals([head.status, await head.text()], [200, ""]);
});

Deno.test("GET /v1/models gives the served model, as does its own path", needed, async () => {
  const list = await (await fetch(`${service.url}/v1/models`)).json();
  const { id, maxContext } = service.engine.model;
  assertEquals([list.object, list.data.length, list.data[0].id], ["list", 1, id]);
  assertEquals(list.data[0].max_model_len, maxContext);
  const one = await (await fetch(`${service.url}/v1/models/${encodeURIComponent(id)}`)).json();
  assertEquals(one, list.data[0]);
});
