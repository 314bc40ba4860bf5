import { assert, assertEquals } from "@std/assert";
import { atRest, CANNOT_CHAT, CANNOT_RUN, type Service, startService, until } from "./service.ts";

let service: Service;
Deno.test.beforeAll(async () => {
  if (!CANNOT_RUN) service = await startService({ slots: 2 });
});
Deno.test.afterAll(async () => await service?.[Symbol.asyncDispose]());

const needed = { ignore: CANNOT_CHAT };
const user = { role: "user", content: "Tell me a story about a fox" };
const system = "You tell stories.";

/** The same question in each dialect: path, body, and where the answer and the counts stand. */
const dialects = [
  {
    path: "/v1/chat/completions",
    body: (length: number) => ({ messages: [{ role: "system", content: system }, user], max_tokens: length }),
    // deno-lint-ignore no-explicit-any
    read: (answer: any) => [
      answer.choices[0].message.content,
      answer.usage.prompt_tokens,
      answer.usage.completion_tokens,
    ],
  },
  {
    path: "/v1/responses",
    body: (length: number) => ({
      instructions: system,
      input: [user],
      max_output_tokens: length,
      store: false,
    }),
    // deno-lint-ignore no-explicit-any
    read: (answer: any) => [
      answer.output[0].content[0].text,
      answer.usage.input_tokens,
      answer.usage.output_tokens,
    ],
  },
  {
    path: "/v1/messages",
    body: (length: number) => ({ system, messages: [user], max_tokens: length }),
    // deno-lint-ignore no-explicit-any
    read: (answer: any) => [
      answer.content[0].text,
      answer.usage.input_tokens + answer.usage.cache_read_input_tokens,
      answer.usage.output_tokens,
    ],
  },
];

Deno.test("POST /v1/chat/completions, /v1/responses and /v1/messages answer the same", needed, async () => {
  const answers = [];
  for (const { path, body, read } of dialects) {
    const response = await service.post(path, { ...body(32), temperature: 0 });
    assertEquals(response.status, 200);
    answers.push(read(await response.json()));
  }
  assert(answers[0]![0].length > 20);
  assertEquals(answers, [answers[0], answers[0], answers[0]]);
});

for (const { path, body } of dialects) {
  Deno.test(`POST ${path} ends the request when its reader goes, streamed or not`, needed, async () => {
    for (const stream of [true, false]) {
      const abort = new AbortController();
      const asked = service.post(path, { ...body(1900), stream, temperature: 0 }, { signal: abort.signal });
      if (stream) await (await asked).body!.getReader().read();
      else {
        asked.catch(() => {});
        await until(() => service.engine.stats().running > 0, "the request runs");
      }
      abort.abort();
      await atRest(service.engine);
    }
  });

  Deno.test(`POST ${path} refuses a prompt above the context, streamed or not`, needed, async () => {
    const long = { role: "user", content: "once upon a time ".repeat(1000) };
    const field = path === "/v1/responses" ? { input: [long] } : { messages: [long] };
    for (const stream of [true, false]) {
      const response = await service.post(path, { ...body(8), ...field, stream });
      const { error } = await response.json();
      assertEquals(response.status, 400);
      assert(error.message.includes(String(service.engine.model.maxContext)), error.message);
    }
  });
}
