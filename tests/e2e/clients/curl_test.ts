import { assert, assertEquals, assertMatch } from "@std/assert";
import { type Address, CANNOT_CHAT, startReal } from "./servers.ts";

let real: Address;
Deno.test.beforeAll(async () => {
  if (!CANNOT_CHAT) real = await startReal();
});
Deno.test.afterAll(async () => await real?.[Symbol.asyncDispose]());

/** What curl prints for a path, with the status on a line of its own. */
async function curl(path: string, ...args: string[]): Promise<{ body: string; status: string }> {
  const { stdout, stderr, success } = await new Deno.Command("bash", {
    args: ["-c", 'exec curl "$@"', "curl", "-sS", "-w", "\n%{http_code}", ...args, real.url + path],
    stdin: "null",
  }).output();
  assert(success, new TextDecoder().decode(stderr));
  const lines = new TextDecoder().decode(stdout).split("\n");
  return { status: lines.pop()!, body: lines.join("\n") };
}

function json(body: unknown): string[] {
  return ["-H", "content-type: application/json", "-d", JSON.stringify(body)];
}

const needed = { ignore: CANNOT_CHAT };
const messages = [{ role: "user", content: "Hello" }];
const body = { messages, max_tokens: 8, temperature: 0 };

Deno.test("POST /v1/chat/completions answers curl, whole and streamed", needed, async () => {
  const { body: whole, status } = await curl("/v1/chat/completions", ...json(body));
  assertEquals(status, "200");
  const { content } = JSON.parse(whole).choices[0].message;
  const { body: events } = await curl("/v1/chat/completions", "-N", ...json({ ...body, stream: true }));
  const chunks = events.trim().split("\n\n");
  assertEquals(chunks.pop(), "data: [DONE]");
  const deltas = chunks.map((chunk) => JSON.parse(chunk.slice(6)).choices[0].delta.content ?? "");
  assertEquals(deltas.join(""), content);
});

Deno.test("POST /v1/messages and /v1/responses give curl named events", needed, async () => {
  const message = await curl("/v1/messages", "-N", ...json({ ...body, stream: true }));
  const names = (text: string) => text.split("\n").flatMap((line) => /^event: (.*)/.exec(line)?.[1] ?? []);
  assertEquals(names(message.body).slice(0, 3), ["message_start", "ping", "content_block_start"]);
  assertEquals(names(message.body).slice(-3), ["content_block_stop", "message_delta", "message_stop"]);
  const response = await curl(
    "/v1/responses",
    "-N",
    ...json({ input: "Hi", max_output_tokens: 4, stream: true }),
  );
  assertEquals(names(response.body)[0], "response.created");
  assertMatch(names(response.body).at(-1)!, /^response\.(completed|incomplete)$/);
});

Deno.test("GET /openapi.json and /docs answer curl, as errors do", needed, async () => {
  assertEquals(JSON.parse((await curl("/openapi.json")).body).openapi, "3.1.0");
  assertMatch((await curl("/docs")).body, /^<!doctype html>/);
  const { body: error, status } = await curl("/v1/chat/completions", ...json({ messages: [] }));
  assertEquals([status, JSON.parse(error).error.param], ["400", "messages"]);
});
