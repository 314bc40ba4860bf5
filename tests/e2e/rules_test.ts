import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { CANNOT_CHAT, readEvents, type Service, startService } from "./service.ts";

const PROMPT = "Once upon a time";
const messages = [{ role: "user", content: "Tell me a story about a fox" }];

let service: Service;
Deno.test.beforeAll(async () => {
  if (!CANNOT_CHAT) service = await startService({ slots: 4 });
});
Deno.test.afterAll(async () => await service?.[Symbol.asyncDispose]());

const needed = { ignore: CANNOT_CHAT };

// deno-lint-ignore no-explicit-any
async function chat(body: Record<string, unknown>): Promise<any> {
  const response = await service.post("/v1/chat/completions", { messages, max_tokens: 24, ...body });
  const answer = await response.json();
  assertEquals(response.status, 200, JSON.stringify(answer));
  return answer;
}

/** Ids and text of a completion's choices, at once and streamed, which have to agree. */
async function choicesOf(body: Record<string, unknown>) {
  const asked = { prompt: PROMPT, max_tokens: 24, temperature: 0, return_token_ids: true, ...body };
  const { choices } = await service.complete(asked);
  const events = await readEvents(await service.post("/v1/completions", { ...asked, stream: true }));
  const streamed = choices.map(() => ({ ids: [] as number[], text: "", stop: null as unknown }));
  for (const { choices: [choice] } of events) {
    streamed[choice.index]!.ids.push(...choice.token_ids ?? []);
    streamed[choice.index]!.text += choice.text;
    streamed[choice.index]!.stop = choice.stop_reason ?? null;
  }
  const whole = choices.map(
    (choice: { token_ids: number[]; text: string; stop_reason: unknown }) => ({
      ids: choice.token_ids,
      text: choice.text,
      stop: choice.stop_reason,
    }),
  );
  assertEquals(streamed, whole);
  return whole as { ids: number[]; text: string; stop: unknown }[];
}

Deno.test("dry_multiplier keeps an answer from repeating itself", needed, async () => {
  const dry = { max_tokens: 120, dry_multiplier: 100, dry_base: 2, dry_sequence_breakers: ["\u0001"] };
  const repeated = (ids: readonly number[]) => {
    const threes = ids.slice(2).map((id, i) => `${ids[i]} ${ids[i + 1]} ${id}`);
    return threes.length - new Set(threes).size;
  };
  const [free] = await choicesOf({ max_tokens: 120 });
  const [varied] = await choicesOf(dry);
  assert(repeated(free!.ids) > 0);
  assertEquals(repeated(varied!.ids), 0);
  // Two tokens may come again, and more where a breaker is between: every token with an "e" is one here.
  const [broken] = await choicesOf({ ...dry, dry_sequence_breakers: ["e", "a", " "] });
  assert(repeated(broken!.ids) > 0);
  const [off] = await choicesOf({ max_tokens: 120, dry_multiplier: 1, dry_penalty_last_n: 0 });
  assertEquals(off, free);
});

Deno.test(
  "POST /v1/completions takes n_predict, n_probs and logit_bias as llama.cpp's server has them",
  needed,
  async () => {
    const { choices: [plain] } = await service.complete({
      prompt: PROMPT,
      temperature: 0,
      max_tokens: 12,
      logprobs: 3,
    });
    const { choices: [same] } = await service.complete({
      prompt: PROMPT,
      temperature: 0,
      n_predict: 12,
      n_probs: 3,
    });
    assertEquals(same, plain);
    const said = await chat({ n_predict: 5, n_probs: 2, temperature: 0 });
    assertEquals(said.usage.completion_tokens, 5);
    assertEquals(
      said.choices[0].logprobs,
      (await chat({ max_tokens: 5, logprobs: true, top_logprobs: 2, temperature: 0 })).choices[0].logprobs,
    );
    const [free] = await choicesOf({});
    const [without] = await choicesOf({
      logit_bias: [...new Set(free!.ids)].map((id) => [id, false]),
      temperature: 2,
      seed: 3,
    });
    assertEquals(without!.ids.filter((id) => free!.ids.includes(id)), []);
    const [forced] = await choicesOf({ logit_bias: [[" fox", 100]] });
    const fox = service.engine.encode(" fox", { addSpecialTokens: false });
    assertEquals(forced!.ids.filter((id) => !fox.includes(id)), []);
  },
);

Deno.test("min_tokens keeps stop tokens and stop texts from ending an answer before", needed, async () => {
  const [free] = await choicesOf({});
  const stop_token_ids = [free!.ids[2]!, free!.ids[5]!];
  const [early] = await choicesOf({ stop_token_ids });
  assertEquals([early!.ids.length, early!.stop], [3, free!.ids[2]]);
  const [late] = await choicesOf({ stop_token_ids, min_tokens: 10 });
  assert(late!.ids.length > 10);
  assertEquals(late!.ids.slice(0, 10).filter((id) => stop_token_ids.includes(id)), []);
  const stop = free!.text.slice(4, 6);
  const [cut] = await choicesOf({ stop });
  assertEquals(cut!.text, free!.text.slice(0, free!.text.indexOf(stop)));
  const [uncut] = await choicesOf({ stop, min_tokens: 24 });
  assertEquals(uncut!.text, free!.text);
  const { choices: [choice] } = await chat({ min_tokens: 20, stop: ["a", "e", "i", "o"], temperature: 0 });
  assert(service.engine.encode(choice.message.content).length >= 15, choice.message.content);
});

Deno.test("min_tokens makes each choice as long", needed, async () => {
  const body = { n: 3, seed: 4, temperature: 2, max_tokens: 120, stop_token_ids: [1, 2, 3] };
  const short = (await choicesOf(body)).filter(({ ids }) => ids.length < 120);
  assert(short.length > 0, "nothing ends early");
  for (const { ids } of await choicesOf({ ...body, min_tokens: 120 })) assertEquals(ids.length, 120);
});

Deno.test("allowed_token_ids leaves these tokens alone, in each choice", needed, async () => {
  const allowed = service.engine.encode(" a little fox was big and happy.", { addSpecialTokens: false });
  const body = { allowed_token_ids: allowed, n: 3, seed: 1, temperature: 1.5 };
  for (const { ids } of await choicesOf(body)) {
    assertEquals([ids.length, ids.filter((id) => !allowed.includes(id))], [24, []]);
  }
  const answer = await chat({ allowed_token_ids: allowed, return_token_ids: true });
  assert(answer.choices[0].token_ids.every((id: number) => allowed.includes(id)));
});

Deno.test("bad_words keeps words out, of one token and of several", needed, async () => {
  const [free] = await choicesOf({});
  const words = free!.text.trim().split(/\s+/).map((word) => word.replace(/\W/g, "")).filter(Boolean);
  const bad_words = [words[1]!, words.slice(2, 4).join(" "), words[6]!];
  for (const body of [{ bad_words }, { bad_words, n: 2, temperature: 1, seed: 5 }]) {
    for (const { ids, text } of await choicesOf(body)) {
      for (const word of bad_words) {
        const banned = [word, ` ${word}`].map((one) =>
          service.engine.encode(one, { addSpecialTokens: false }).join()
        );
        for (const one of banned) assert(!`,${ids.join()},`.includes(`,${one},`), `${text} has ${word}`);
      }
    }
  }
});

Deno.test("prompt_logprobs are on each choice of a completion, as vLLM writes them", needed, async () => {
  const prompts = [PROMPT, "The little fox"];
  const body = { prompt: prompts, n: 2, max_tokens: 2, prompt_logprobs: 3, temperature: 1, seed: 2 };
  const { choices } = await service.complete(body);
  const echoed = await service.complete({ ...body, echo: true, logprobs: 5 });
  assertEquals(choices.length, 4);
  choices.forEach((choice: { prompt_logprobs: unknown[] }, index: number) => {
    const ids = service.engine.encode(prompts[index >> 1]!);
    const [first, ...rest] = choice.prompt_logprobs;
    assertEquals([first, rest.length], [null, ids.length - 1]);
    assertEquals(echoed.choices[index].prompt_logprobs, choice.prompt_logprobs);
    const { token_logprobs, tokens, top_logprobs } = echoed.choices[index].logprobs;
    rest.forEach((entry, i) => {
      const ranked = entry as Record<string, { logprob: number; rank: number | null; decoded_token: string }>;
      const own = ranked[ids[i + 1]!]!;
      assertEquals([own.logprob, own.decoded_token], [token_logprobs[i + 1], tokens[i + 1]]);
      const ranks = Object.values(ranked).map(({ rank }) => rank);
      const rivals = own.rank === null || own.rank > 3 ? 4 : 3;
      assertEquals(ranks.length, rivals);
      assertEquals([1, 2, 3].filter((rank) => !ranks.includes(rank)), []);
      assert(Object.keys(top_logprobs[i + 1]).length <= 6);
    });
  });
});

Deno.test("prompt_logprobs are a chat's own, and in the first event of a stream", needed, async () => {
  const body = { messages, max_tokens: 3, temperature: 0, prompt_logprobs: 0, return_token_ids: true };
  const answer = await chat(body);
  assertEquals(answer.prompt_logprobs.length, answer.prompt_token_ids.length);
  answer.prompt_logprobs.forEach((entry: Record<string, unknown> | null, i: number) => {
    assertEquals(
      entry === null ? [] : Object.keys(entry),
      i === 0 ? [] : [String(answer.prompt_token_ids[i])],
    );
  });
  const events = await readEvents(await service.post("/v1/chat/completions", { ...body, stream: true }));
  assertEquals(events[0].prompt_logprobs, answer.prompt_logprobs);
  assertEquals(events.filter((event) => "prompt_logprobs" in event).length, 1);
  const asked = { prompt: PROMPT, max_tokens: 3, temperature: 0, prompt_logprobs: 1 };
  const { choices } = await service.complete(asked);
  const pieces = await readEvents(await service.post("/v1/completions", { ...asked, stream: true }));
  assertEquals(pieces[0].choices[0].prompt_logprobs, choices[0].prompt_logprobs);
  assertEquals("prompt_logprobs" in (await service.complete({ prompt: PROMPT })).choices[0], false);
  // The prefix cache has all of the prompt by now.
  assertEquals((await chat(body)).prompt_logprobs, answer.prompt_logprobs);
});

Deno.test("return_tokens_as_token_ids names tokens by their ids", needed, async () => {
  const body = { temperature: 0, return_tokens_as_token_ids: true, return_token_ids: true };
  const answer = await chat({ ...body, logprobs: true, top_logprobs: 2 });
  const names = answer.choices[0].token_ids.map((id: number) => `token_id:${id}`);
  const { content } = answer.choices[0].logprobs;
  assertEquals(content.map(({ token }: { token: string }) => token), names);
  assert(content[0].top_logprobs.every(({ token }: { token: string }) => /^token_id:\d+$/.test(token)));
  const completion = { ...body, prompt: PROMPT, logprobs: 2, echo: true, max_tokens: 4 };
  const { choices: [choice] } = await service.complete(completion);
  const ids = [...choice.prompt_token_ids, ...choice.token_ids];
  assertEquals(choice.logprobs.tokens, ids.map((id) => `token_id:${id}`));
  const plain = await service.complete({ ...completion, return_tokens_as_token_ids: false });
  assertEquals(choice.logprobs.text_offset, plain.choices[0].logprobs.text_offset);
  const events = await readEvents(await service.post("/v1/completions", { ...completion, stream: true }));
  assertEquals(
    events.flatMap(({ choices: [{ logprobs }] }) => logprobs?.tokens ?? []),
    choice.logprobs.tokens,
  );
});

const refused: [fields: Record<string, unknown>, param: string, says: string][] = [
  [{ min_tokens: 17, max_tokens: 16 }, "min_tokens", "wanted at most max_tokens, which is 16"],
  [{ min_tokens: 1_000_000, max_tokens: 2_000_000 }, "min_tokens", "the context has left"],
  [{ allowed_token_ids: [] }, "allowed_token_ids", "at least one"],
  [{ allowed_token_ids: [1, 10_000_000] }, "allowed_token_ids", "the token id 10000000"],
  [{ bad_words: [" "] }, "bad_words", "more than space"],
  [{ prompt_logprobs: 21 }, "prompt_logprobs", "from 0 to 20"],
  [{ prompt_logprobs: -1 }, "prompt_logprobs", "from 0 to 20"],
];

Deno.test("POST /v1/completions and chats refuse rules that cannot be had, by name", needed, async () => {
  for (const [fields, param, says] of refused) {
    for (const stream of [false, true]) {
      const answers = [
        await service.post("/v1/completions", { prompt: PROMPT, stream, ...fields }),
        await service.post("/v1/chat/completions", { messages, stream, ...fields }),
      ];
      for (const response of answers) {
        const { error } = await response.json();
        assertEquals([response.status, error.param], [400, param], JSON.stringify(error));
        assertStringIncludes(error.message, says);
      }
    }
  }
});

Deno.test("POST /v1/completions says so when an answer cannot go on, streamed or not", needed, async () => {
  const [id] = service.engine.encode(" a", { addSpecialTokens: false });
  const body = { prompt: PROMPT, allowed_token_ids: [id], bad_words: ["a a"], max_tokens: 8 };
  const response = await service.post("/v1/completions", body);
  const { error } = await response.json();
  assertEquals([response.status, error.code], [400, "no_token_left"]);
  const stream = await (await service.post("/v1/completions", { ...body, stream: true })).text();
  assertStringIncludes(stream, "no_token_left");
});

Deno.test("POST /v1/completions refuses rules where no masks are", needed, async () => {
  await using plain = await startService({ slots: 1, structuredOutput: false });
  for (const fields of [{ min_tokens: 2 }, { allowed_token_ids: [5] }, { bad_words: ["fox"] }]) {
    const response = await plain.post("/v1/completions", { prompt: PROMPT, ...fields });
    const { error } = await response.json();
    assertEquals([response.status, error.param], [400, Object.keys(fields)[0]]);
    assertStringIncludes(error.message, "without structured output");
  }
  await plain.complete({ prompt: PROMPT, max_tokens: 2, min_tokens: 0, bad_words: [], prompt_logprobs: 1 });
});

Deno.test("POST /v1/responses takes min_tokens, within what the answer may have", needed, async () => {
  const body = { input: "hi", min_tokens: 4, store: false };
  const response = await service.post("/v1/responses", { ...body, max_output_tokens: 4 });
  assertEquals([response.status, (await response.json()).usage.output_tokens], [200, 4]);
  const refused = await service.post("/v1/responses", { ...body, max_output_tokens: 3 });
  const { error } = await refused.json();
  assertEquals([refused.status, error.param], [400, "min_tokens"]);
});
