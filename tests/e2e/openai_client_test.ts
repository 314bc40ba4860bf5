import { assert, assertEquals, assertRejects } from "@std/assert";
import OpenAI from "openai";
import { atRest, CANNOT_CHAT, CANNOT_RUN, type Service, startService } from "./service.ts";

let service: Service;
let client: OpenAI;
let model: string;
Deno.test.beforeAll(async () => {
  if (CANNOT_RUN) return;
  service = await startService({ slots: 4 });
  client = new OpenAI({ baseURL: `${service.url}/v1`, apiKey: "none", maxRetries: 0 });
  model = service.engine.model.id;
});
Deno.test.afterAll(async () => await service?.[Symbol.asyncDispose]());

const PROMPT = "Once upon a time";
const messages = [{ role: "user" as const, content: "Tell me a story about a fox" }];

const needed = { ignore: CANNOT_RUN };
const chatNeeded = { ignore: CANNOT_CHAT };

Deno.test("OpenAI.models.list() and models.retrieve() give the served model", needed, async () => {
  const list = await client.models.list();
  assertEquals(list.data.map(({ id }) => id), [model]);
  assertEquals((await client.models.retrieve(model)).id, model);
});

Deno.test("OpenAI.completions.create() gives n choices that its seed decides", needed, async () => {
  const ask = () =>
    client.completions.create({ model, prompt: PROMPT, max_tokens: 12, n: 3, seed: 9, temperature: 1 });
  const [first, second] = [await ask(), await ask()];
  assertEquals(first.choices.map(({ text }) => text), second.choices.map(({ text }) => text));
  assertEquals(first.choices.map(({ index }) => index), [0, 1, 2]);
  assertEquals(first.usage?.completion_tokens, 36);
});

Deno.test("OpenAI.completions.create() streams the same text, then usage", needed, async () => {
  const body = { model, prompt: PROMPT, max_tokens: 30, seed: 2, temperature: 1 };
  const whole = await client.completions.create(body);
  const stream = await client.completions.create({
    ...body,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  let usage;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.text ?? "";
    usage = chunk.usage ?? usage;
  }
  assertEquals(text, whole.choices[0]!.text);
  assertEquals(usage?.total_tokens, whole.usage?.total_tokens);
});

Deno.test(
  "OpenAI.completions.create() takes a batch of prompts, with echo and logprobs",
  needed,
  async () => {
    const prompt = [PROMPT, "One day"];
    const answer = await client.completions.create({
      model,
      prompt,
      max_tokens: 5,
      temperature: 0,
      echo: true,
      logprobs: 2,
    });
    for (const [i, choice] of answer.choices.entries()) {
      assert(choice.text.startsWith(prompt[i]!));
      assertEquals(choice.logprobs?.token_logprobs?.[0], null);
      assertEquals(choice.logprobs?.tokens?.length, service.engine.encode(prompt[i]!).length + 5);
    }
  },
);

Deno.test("OpenAI.completions.create() stops at a stop text", needed, async () => {
  const body = { model, prompt: PROMPT, max_tokens: 30, temperature: 0 };
  const whole = (await client.completions.create(body)).choices[0]!.text;
  const stop = whole.slice(8, 14);
  const stopped = (await client.completions.create({ ...body, stop })).choices[0]!;
  assertEquals([stopped.text, stopped.finish_reason], [whole.slice(0, whole.indexOf(stop)), "stop"]);
});

Deno.test(
  "OpenAI.completions.create() rejects with the class that the status stands for",
  needed,
  async () => {
    await assertRejects(
      () => client.completions.create({ model: "gpt-4", prompt: "a" }),
      OpenAI.NotFoundError,
    );
    const error = await assertRejects(
      () => client.completions.create({ model, prompt: "a", n: 1000 }),
      OpenAI.BadRequestError,
    );
    assertEquals([error.param, error.code], ["n", "invalid_value"]);
    assert(error.requestID);
  },
);

Deno.test("OpenAI.completions.create() ends the request when the stream is aborted", needed, async () => {
  const stream = await client.completions.create({
    model,
    prompt: PROMPT,
    max_tokens: 400,
    n: 100,
    ignore_eos: true,
    stream: true,
  } as OpenAI.CompletionCreateParamsStreaming);
  for await (const _ of stream) break;
  await atRest(service.engine);
});

Deno.test("OpenAI.chat.completions.create() answers, streamed or not", chatNeeded, async () => {
  const body = { model, messages, max_completion_tokens: 24, seed: 4 };
  const whole = await client.chat.completions.create(body);
  const stream = await client.chat.completions.create({ ...body, stream: true });
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
  assertEquals(text, whole.choices[0]!.message.content);
});

Deno.test("OpenAI.chat.completions.stream() puts a whole answer together", chatNeeded, async () => {
  const stream = client.chat.completions.stream({
    model,
    messages,
    max_completion_tokens: 24,
    seed: 4,
    logprobs: true,
    top_logprobs: 2,
    stream_options: { include_usage: true },
  });
  const final = await stream.finalChatCompletion();
  const whole = await client.chat.completions.create({ model, messages, max_completion_tokens: 24, seed: 4 });
  assertEquals(final.choices[0]!.message.content, whole.choices[0]!.message.content);
  assertEquals(final.usage?.total_tokens, whole.usage?.total_tokens);
  assertEquals(final.choices[0]!.logprobs?.content?.length, final.usage?.completion_tokens);
});
