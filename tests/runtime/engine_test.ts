import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { createEngine, type Engine, EngineError, InvalidRequestError, ModelError } from "../../mod.ts";
import type { GenerateRequest } from "../../mod.ts";
import { FIXTURES } from "../golden.ts";

const MODEL = `${FIXTURES}/models/llama3`;

interface GoldenText {
  text: {
    completion: { prompt: string; ids: number[]; greedy_ids: number[]; greedy_text: string };
    chat: {
      messages: { role: string; content: string }[];
      ids: number[];
      greedy_ids: number[];
      greedy_text: string;
    };
  };
}

const golden = (JSON.parse(Deno.readTextFileSync(`${MODEL}/golden.json`)) as GoldenText).text;

async function collect(engine: Engine, request: GenerateRequest) {
  const generation = engine.generate(request);
  const choices = Array.from({ length: request.n ?? 1 }, () => ({
    text: "",
    ids: [] as number[],
    finish: null as string | null,
    stop: undefined as string | number | undefined,
    logprobs: [] as number[],
  }));
  for await (const chunk of generation) {
    const choice = choices[chunk.index]!;
    choice.text += chunk.text;
    choice.ids.push(...chunk.tokenIds);
    choice.finish = chunk.finishReason;
    choice.stop = chunk.stopReason;
    choice.logprobs.push(...(chunk.logprobs ?? []).map((entry) => entry.logprob));
  }
  return { choices, generation, ...choices[0]! };
}

/** Waits until the engine has nothing running and no block in use. */
async function settled(engine: Engine): Promise<void> {
  for (let i = 0; i < 12_000; i++) {
    const { running, waiting, blocks } = engine.stats();
    if (running === 0 && waiting === 0 && blocks.active === 0) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`the engine does not come to rest: ${JSON.stringify(engine.stats())}`);
}

Deno.test("Engine.generate() answers a prompt and a chat as the reference does, text and ids", async () => {
  await using engine = await createEngine({ model: MODEL });
  const { completion, chat } = golden;
  const greedy = { temperature: 0 };
  const answer = await collect(engine, { prompt: completion.prompt, maxTokens: 32, sampling: greedy });
  assertEquals([...answer.generation.promptTokenIds], completion.ids);
  assertEquals(answer.ids, completion.greedy_ids);
  assertEquals(answer.text, completion.greedy_text);
  const reply = await collect(engine, { messages: chat.messages, maxTokens: 32, sampling: greedy });
  assertEquals([...reply.generation.promptTokenIds], chat.ids);
  assertEquals(reply.ids, chat.greedy_ids);
  assertEquals(reply.text, chat.greedy_text);
});

Deno.test("Engine.generate() ends before a stop string, also one that spans tokens", async () => {
  await using engine = await createEngine({ model: MODEL });
  const base = { prompt: golden.completion.prompt, maxTokens: 32, sampling: { temperature: 0 } };
  const whole = await collect(engine, base);
  const at = 6;
  const stop = [...whole.text].slice(at, at + 3).join("");
  const cut = await collect(engine, { ...base, stop: ["never there", stop] });
  assertEquals(cut.text, whole.text.slice(0, whole.text.indexOf(stop)));
  assertEquals([cut.finish, cut.stop], ["stop", stop]);
  await settled(engine);
});

Deno.test("Engine.generate() ends at a stop token id and leaves it out of the text", async () => {
  await using engine = await createEngine({ model: MODEL });
  const base = { prompt: golden.completion.prompt, maxTokens: 32, sampling: { temperature: 0 } };
  const token = golden.completion.greedy_ids[9]!;
  const first = golden.completion.greedy_ids.indexOf(token);
  const cut = await collect(engine, { ...base, stopTokenIds: [token] });
  assertEquals(cut.ids, golden.completion.greedy_ids.slice(0, first + 1));
  assertEquals([cut.finish, cut.stop], ["stop", token]);
  assertEquals(
    cut.text,
    engine.decode([...cut.generation.promptTokenIds, ...cut.ids.slice(0, -1)]).slice(
      engine.decode(cut.generation.promptTokenIds).length,
    ),
  );
});

Deno.test("Engine.generate() gives each choice the seed plus its index", async () => {
  await using engine = await createEngine({ model: MODEL });
  const base = { prompt: [1, 2, 3, 4, 5], maxTokens: 20, ignoreEos: true };
  const many = await collect(engine, { ...base, n: 4, sampling: { temperature: 1, seed: 40 } });
  for (let i = 0; i < 4; i++) {
    const one = await collect(engine, { ...base, sampling: { temperature: 1, seed: 40 + i } });
    assertEquals(many.choices[i]!.ids, one.ids, `choice ${i}`);
  }
  assertEquals(many.generation.usage.completionTokens, 80);
});

Deno.test("Engine.generate() reports log probabilities of prompt and answer", async () => {
  await using engine = await createEngine({ model: MODEL });
  const prompt = golden.completion.ids;
  const answer = await collect(engine, {
    prompt,
    maxTokens: 5,
    sampling: { temperature: 0 },
    logprobs: 2,
    promptLogprobs: 1,
    ignoreEos: true,
  });
  assertEquals(answer.logprobs.length, 5);
  assert(answer.logprobs.every((value) => value <= 0));
  const scored = await answer.generation.promptLogprobs;
  assertEquals(scored?.map((entry) => entry?.token ?? null), [null, ...prompt.slice(1)]);
});

Deno.test("Engine.generate() counts prompt tokens found in the prefix cache", async () => {
  await using engine = await createEngine({ model: MODEL, blockTokens: 16 });
  const prompt = Array.from({ length: 50 }, (_, i) => i);
  const first = await collect(engine, { prompt, maxTokens: 3, ignoreEos: true });
  const second = await collect(engine, { prompt, maxTokens: 3, ignoreEos: true });
  assertEquals([first, second].map((one) => one.generation.usage.cachedTokens), [0, 48]);
});

Deno.test("Engine frees slot and blocks when a signal aborts, and when a loop is left", async () => {
  await using engine = await createEngine({ model: MODEL, slots: 1, prefixCache: false });
  const endless = { prompt: [1, 2, 3], ignoreEos: true };
  const abort = new AbortController();
  const finishes: (string | null)[] = [];
  for await (const chunk of engine.generate({ ...endless, signal: abort.signal })) {
    finishes.push(chunk.finishReason);
    abort.abort();
  }
  assertEquals(finishes.at(-1), "cancelled");
  await settled(engine);
  for await (const _ of engine.generate(endless)) break;
  await settled(engine);
  assertEquals((await collect(engine, { prompt: [1], maxTokens: 2, ignoreEos: true })).ids.length, 2);
});

Deno.test("Engine.close() ends running requests as cancelled and refuses new ones", async () => {
  const engine = await createEngine({ model: MODEL, slots: 1 });
  const running = collect(engine, { prompt: [1, 2, 3], ignoreEos: true, n: 128 });
  while (engine.stats().running === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  await engine.close();
  // The first ones may have come to their end.
  assertEquals((await running).choices.at(-1)!.finish, "cancelled");
  assertThrows(() => engine.generate({ prompt: [1] }), EngineError, "closed");
  await engine.close();
});

Deno.test("Engine refuses more requests than its queue holds, and recovers", async () => {
  await using engine = await createEngine({ model: MODEL, maxQueue: 2, slots: 1 });
  const request = { prompt: [1, 2, 3], maxTokens: 400, ignoreEos: true };
  const running = [collect(engine, request), collect(engine, request)];
  const error = assertThrows(() => engine.generate(request), EngineError);
  assertEquals(error.code, "overloaded");
  for (const one of await Promise.all(running)) assertEquals(one.ids.length, 400);
  assertEquals((await collect(engine, { ...request, maxTokens: 1 })).ids.length, 1);
});

Deno.test("Engine answers a hundred requests at once on two slots as it answers them alone", async () => {
  await using engine = await createEngine({ model: MODEL, slots: 2, kvMode: "kv-rm" });
  const request = (i: number) => ({
    prompt: Array.from({ length: 1 + i % 40 }, (_, j) => (i * 17 + j) % 250),
    maxTokens: 1 + i % 12,
    ignoreEos: true,
    sampling: { temperature: 1, seed: i },
  });
  const together = await Promise.all(Array.from({ length: 100 }, (_, i) => collect(engine, request(i))));
  for (let i = 0; i < 100; i += 9) assertEquals(together[i]!.ids, (await collect(engine, request(i))).ids);
  await settled(engine);
});

Deno.test("createEngine() says what is missing or wrong", async () => {
  await assertRejects(() => createEngine({ model: "/nowhere/at/all" }), ModelError, "/nowhere/at/all");
  await assertRejects(
    () => createEngine({ model: MODEL, libraryPath: "/nowhere/lib.so" }),
    EngineError,
    "/nowhere/lib.so",
  );
  await assertRejects(() => createEngine({ model: MODEL, slots: 0 }), InvalidRequestError, "slots is 0");
  await assertRejects(() => createEngine({ model: MODEL, kvMemory: 1 }), InvalidRequestError, "KV memory");
  await assertRejects(
    () => createEngine({ model: MODEL, maxContext: 1_000_000 }),
    InvalidRequestError,
    "maxContext is 1000000, wanted an integer from 1 to 512",
  );
});

Deno.test("Engine.generate() refuses what can never run", async () => {
  await using engine = await createEngine({ model: MODEL });
  assertThrows(() => engine.generate({}), InvalidRequestError, "either prompt or messages");
  assertThrows(() => engine.generate({ prompt: [] }), InvalidRequestError, "prompt is empty");
  assertThrows(
    () => engine.generate({ prompt: new Array<number>(513).fill(1) }),
    InvalidRequestError,
    "the prompt has 513 tokens, but the context holds 512",
  );
});
