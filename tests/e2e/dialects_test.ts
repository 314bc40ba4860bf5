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

Deno.test(
  "POST /v1/responses and /v1/messages take the samplers of chats, to the same answer",
  needed,
  async () => {
    const all = [
      {},
      { typical_p: 0.3, dynatemp_range: 0.5 },
      { mirostat: 2, mirostat_tau: 1 },
      { dry_multiplier: 5, dry_allowed_length: 1 },
      { min_p: 0.3, top_k: 7 },
      { frequency_penalty: 2, presence_penalty: 1 },
      { repeat_penalty: 1.8 },
      { logit_bias: [["a", -100], [" the", -100]] },
      { min_tokens: 20, bad_words: ["fox", "little"] },
      { allowed_token_ids: [300, 301, 302, 303] },
    ];
    const texts = new Set<string>();
    for (const fields of all) {
      const answers = [];
      for (const { path, body, read } of dialects) {
        const response = await service.post(path, { ...body(24), temperature: 1, seed: 11, ...fields });
        const answer = await response.json();
        assertEquals(response.status, 200, JSON.stringify(answer));
        answers.push(read(answer));
      }
      assertEquals(answers, [answers[0], answers[0], answers[0]], JSON.stringify(fields));
      texts.add(answers[0]![0]);
    }
    assertEquals(texts.size, all.length);
  },
);

Deno.test(
  "POST /v1/responses and /v1/messages refuse a beam search and contradictions by name",
  needed,
  async () => {
    const wrong = [
      [{ use_beam_search: true }, "use_beam_search"],
      [{ repeat_penalty: 1.2, repetition_penalty: 1.3 }, "repeat_penalty"],
      [{ mirostat: 3 }, "mirostat"],
    ] as const;
    for (const { path, body } of dialects.slice(1)) {
      for (const [fields, name] of wrong) {
        const response = await service.post(path, { ...body(8), ...fields });
        const { error } = await response.json();
        assertEquals(response.status, 400);
        assert(error.message.includes(name), error.message);
      }
    }
  },
);

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
