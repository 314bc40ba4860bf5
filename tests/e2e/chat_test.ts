import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { CANNOT_CHAT, CANNOT_RUN, readEvents, type Service, startService } from "./service.ts";

const messages = [{ role: "user", content: "Tell me a story about a fox" }];

let service: Service;
Deno.test.beforeAll(async () => {
  if (!CANNOT_RUN) service = await startService({ slots: 4 });
});
Deno.test.afterAll(async () => await service?.[Symbol.asyncDispose]());

// deno-lint-ignore no-explicit-any
async function chat(body: Record<string, unknown>): Promise<any> {
  const response = await service.post("/v1/chat/completions", { messages, max_tokens: 24, ...body });
  const answer = await response.json();
  assertEquals(response.status, 200, JSON.stringify(answer));
  return answer;
}

const needed = { ignore: CANNOT_CHAT };

Deno.test("POST /v1/chat/completions answers 400 where the model has no chat template", {
  ignore: CANNOT_RUN || !CANNOT_CHAT,
}, async () => {
  const response = await service.post("/v1/chat/completions", { messages });
  const { error } = await response.json();
  assertEquals([response.status, error.code], [400, "no_chat_template"]);
  assertStringIncludes(error.message, "has no chat template");
});

Deno.test("POST /v1/chat/completions answers in OpenAI's shape", needed, async () => {
  const answer = await chat({ temperature: 0 });
  assertMatch(answer.id, /^chatcmpl-[0-9a-f]{32}$/);
  assertEquals([answer.object, answer.model], ["chat.completion", service.engine.model.id]);
  const [choice] = answer.choices;
  assertEquals([choice.index, choice.message.role, choice.logprobs], [0, "assistant", null]);
  assert(choice.message.content.length > 0);
  const rendered = service.engine.renderChat(messages);
  const prompt = service.engine.encode(rendered, { addSpecialTokens: false });
  assertEquals(answer.usage.prompt_tokens, prompt.length);
});

Deno.test(
  "POST /v1/chat/completions answers as a completion of the rendered conversation does",
  needed,
  async () => {
    const rendered = service.engine.renderChat(messages);
    const prompt = service.engine.encode(rendered, { addSpecialTokens: false });
    const plain = await service.complete({ prompt, temperature: 0, max_tokens: 24 });
    assertEquals((await chat({ temperature: 0 })).choices[0].message.content, plain.choices[0].text);
  },
);

Deno.test(
  "POST /v1/chat/completions streams the role, then the content that it gives at once",
  needed,
  async () => {
    const whole = await chat({ seed: 3, n: 2 });
    const response = await service.post("/v1/chat/completions", {
      messages,
      max_tokens: 24,
      seed: 3,
      n: 2,
      stream: true,
      stream_options: { include_usage: true },
    });
    const events = await readEvents(response);
    const last = events.pop();
    assertEquals([last.choices, last.usage.completion_tokens], [[], whole.usage.completion_tokens]);
    for (const index of [0, 1]) {
      const choices = events.map((event) => event.choices[0]).filter((choice) => choice.index === index);
      assertEquals(choices[0].delta, { role: "assistant", content: "" });
      const content = choices.map((choice) => choice.delta.content ?? "").join("");
      assertEquals(content, whole.choices[index].message.content);
      assertEquals(choices.at(-1).finish_reason, whole.choices[index].finish_reason);
      assert(choices.slice(0, -1).every((choice) => choice.finish_reason === null));
    }
    assert(events.every((event) => event.object === "chat.completion.chunk" && event.usage === null));
  },
);

Deno.test(
  "POST /v1/chat/completions reads content in parts, a developer as system, and several turns",
  needed,
  async () => {
    const turns = (system: string, content: unknown) => [
      { role: system, content: "Be kind." },
      { role: "user", content: "Hi" },
      { role: "assistant", content: "Hello!" },
      { role: "user", content },
    ];
    const texts = [];
    for (
      const messages of [
        turns("system", "a\nb"),
        turns("developer", [{ type: "text", text: "a" }, { type: "text", text: "b" }]),
      ]
    ) texts.push((await chat({ messages, temperature: 0 })).choices[0].message.content);
    assertEquals(texts[0], texts[1]);
  },
);

Deno.test(
  "POST /v1/chat/completions runs to the end of the answer or of the context when no length is given",
  needed,
  async () => {
    const answer = await chat({ max_tokens: undefined, seed: 1 });
    const { finish_reason } = answer.choices[0];
    if (finish_reason === "length") assertEquals(answer.usage.total_tokens, service.engine.model.maxContext);
    else assertEquals(finish_reason, "stop");
  },
);

Deno.test("POST /v1/chat/completions prefers max_completion_tokens", needed, async () => {
  const { usage } = await chat({ max_completion_tokens: 3, max_tokens: 9, ignore_eos: true });
  assertEquals(usage.completion_tokens, 3);
});

Deno.test("POST /v1/chat/completions gives logprobs with bytes and rivals", needed, async () => {
  const { choices: [{ message, logprobs }] } = await chat({
    temperature: 0,
    logprobs: true,
    top_logprobs: 4,
  });
  const bytes = logprobs.content.flatMap((entry: { bytes: number[] }) => entry.bytes);
  assertStringIncludes(new TextDecoder().decode(new Uint8Array(bytes)), message.content);
  for (const { token, logprob, top_logprobs } of logprobs.content) {
    assertEquals(top_logprobs.length, 4);
    assertEquals([top_logprobs[0].token, top_logprobs[0].logprob], [token, logprob]);
    const sorted = top_logprobs.map((rival: { logprob: number }) => rival.logprob);
    assertEquals(sorted, sorted.toSorted((a: number, b: number) => b - a));
  }
  const events = await readEvents(
    await service.post("/v1/chat/completions", {
      messages,
      max_tokens: 24,
      temperature: 0,
      logprobs: true,
      top_logprobs: 4,
      stream: true,
    }),
  );
  assertEquals(events.flatMap((event) => event.choices[0].logprobs?.content ?? []), logprobs.content);
});

Deno.test("POST /v1/chat/completions refuses what it cannot do, by name", needed, async () => {
  for (
    const [fields, param] of [
      [{ tools: [{ type: "web_search" }] }, "tools[0].type"],
      [{ response_format: { type: "xml" } }, "response_format.type"],
      [{ messages: [{ role: "user", content: [{ type: "image_url" }] }] }, "messages[0].content[0].type"],
      [{ top_logprobs: 2 }, "top_logprobs"],
    ] as const
  ) {
    const response = await service.post("/v1/chat/completions", { messages, ...fields });
    const { error } = await response.json();
    assertEquals([response.status, error.param], [400, param]);
  }
});

Deno.test("POST /v1/chat/completions gives token ids where they are asked for", needed, async () => {
  const messages = [{ role: "user", content: "Tell me a story" }];
  const body = { messages, max_tokens: 24, seed: 3, ignore_eos: true, return_token_ids: true };
  const whole = await (await service.post("/v1/chat/completions", body)).json();
  const [{ token_ids: ids }] = whole.choices;
  assertEquals(ids.length, 24);
  assertEquals(whole.prompt_token_ids.length, whole.usage.prompt_tokens);
  const events = await readEvents(await service.post("/v1/chat/completions", { ...body, stream: true }));
  assertEquals(events.flatMap(({ choices }) => choices[0].token_ids ?? []), ids);
  assertEquals(
    events.map(({ prompt_token_ids }) => prompt_token_ids),
    events.map((_, i) => i === 0 ? whole.prompt_token_ids : undefined),
  );
});

Deno.test("POST /v1/chat/completions searches with beams, without tools", needed, async () => {
  const body = { use_beam_search: true, n: 2, length_penalty: 0.5, logprobs: true, top_logprobs: 1 };
  const { choices, usage } = await chat(body);
  assertEquals(choices.length, 2);
  for (const { message, logprobs } of choices) {
    assert(message.content.length > 0);
    assertEquals(logprobs.content[0].top_logprobs.length, 1);
  }
  const counted = choices.reduce(
    (sum: number, { logprobs }: { logprobs: { content: unknown[] } }) => sum + logprobs.content.length,
    0,
  );
  assertEquals(usage.completion_tokens, counted);
  const tools = [{ type: "function", function: { name: "weather" } }];
  for (
    const [fields, param] of [
      [{ tools }, "tools"],
      [{ response_format: { type: "json_object" } }, "response_format"],
      [{ stream: true }, "stream"],
    ] as const
  ) {
    const response = await service.post("/v1/chat/completions", { messages, ...body, ...fields });
    const { error } = await response.json();
    assertEquals([response.status, error.param], [400, param], JSON.stringify(error));
  }
});
