import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { CANNOT_RUN, promptOf, readEvents, type Service, startService } from "./service.ts";

const PROMPT = "Once upon a time";

let service: Service;
Deno.test.beforeAll(async () => {
  if (!CANNOT_RUN) service = await startService({ slots: 4 });
});
Deno.test.afterAll(async () => await service?.[Symbol.asyncDispose]());

const needed = { ignore: CANNOT_RUN };

/** What the engine generates greedily after PROMPT, with its ids, which the API does not show. */
async function generated(maxTokens: number): Promise<{ text: string; tokenIds: number[] }> {
  let text = "";
  const tokenIds: number[] = [];
  const request = { prompt: PROMPT, maxTokens, sampling: { temperature: 0 } };
  for await (const chunk of service.engine.generate(request)) {
    text += chunk.text;
    tokenIds.push(...chunk.tokenIds);
  }
  return { text, tokenIds };
}

Deno.test("POST /v1/completions answers in OpenAI's shape", needed, async () => {
  const answer = await service.complete({ prompt: PROMPT, temperature: 0, model: service.engine.model.id });
  assertMatch(answer.id, /^cmpl-[0-9a-f]{32}$/);
  assertEquals([answer.object, answer.model], ["text_completion", service.engine.model.id]);
  assert(Math.abs(answer.created - Date.now() / 1000) < 60);
  assertEquals(answer.choices.length, 1);
  assert(answer.choices[0].text.length > 0);
  assertEquals([answer.choices[0].index, answer.choices[0].logprobs], [0, null]);
  const { prompt_tokens, completion_tokens, total_tokens } = answer.usage;
  assertEquals(prompt_tokens, service.engine.encode(PROMPT).length);
  assertEquals([completion_tokens, total_tokens], [16, prompt_tokens + 16]);
});

Deno.test("POST /v1/completions streams the text that it gives at once", needed, async () => {
  const body = { prompt: PROMPT, max_tokens: 60, seed: 3, temperature: 1 };
  const whole = await service.complete(body);
  const response = await service.post("/v1/completions", {
    ...body,
    stream: true,
    stream_options: { include_usage: true },
  });
  assertEquals(response.headers.get("content-type"), "text/event-stream");
  assertMatch(response.headers.get("cache-control") ?? "", /no-cache/);
  assert(response.headers.get("x-request-id"));
  const events = await readEvents(response);
  const last = events.pop();
  assertEquals(last.choices, []);
  assertEquals(last.usage.completion_tokens, whole.usage.completion_tokens);
  assertEquals(events.map((event) => event.choices[0].text).join(""), whole.choices[0].text);
  assertEquals(events.map((event) => event.choices[0].finish_reason).filter(Boolean), [
    whole.choices[0].finish_reason,
  ]);
  assertEquals(new Set(events.map((event) => event.id)).size, 1);
  assert(events.every((event) => event.usage === null));
});

Deno.test("POST /v1/completions takes token ids, and texts and ids in batches", needed, async () => {
  const prompts = [PROMPT, "The little fox", "One day"];
  const ids = prompts.map((prompt) => service.engine.encode(prompt));
  const common = { temperature: 0, max_tokens: 12 };
  const texts = (answer: { choices: { text: string; index: number }[] }) => {
    assertEquals(answer.choices.map(({ index }) => index), answer.choices.map((_, i) => i));
    return answer.choices.map(({ text }) => text);
  };
  const solo = [];
  for (const prompt of ids) solo.push(...texts(await service.complete({ ...common, prompt })));
  assertEquals(new Set(solo).size, 3);
  assertEquals(texts(await service.complete({ ...common, prompt: prompts })), solo);
  const batch = await service.complete({ ...common, prompt: ids });
  assertEquals(texts(batch), solo);
  assertEquals(batch.usage.prompt_tokens, ids.flat().length);
  assertEquals(batch.usage.completion_tokens, 36);
});

Deno.test("POST /v1/completions numbers choices prompt * n + i, streamed or not", needed, async () => {
  const body = { prompt: [PROMPT, "The little fox"], n: 3, seed: 5, temperature: 1, max_tokens: 10 };
  const { choices } = await service.complete(body);
  assertEquals(choices.map(({ index }: { index: number }) => index), [0, 1, 2, 3, 4, 5]);
  const events = await readEvents(await service.post("/v1/completions", { ...body, stream: true }));
  const texts = Array(6).fill("");
  for (const { choices: [choice] } of events) texts[choice.index] += choice.text;
  assertEquals(texts, choices.map(({ text }: { text: string }) => text));
});

Deno.test("POST /v1/completions gives choice i what seed + i gives alone", needed, async () => {
  const body = { prompt: PROMPT, temperature: 1, max_tokens: 12 };
  const { choices } = await service.complete({ ...body, seed: 40, n: 4 });
  for (const { index, text } of choices) {
    const alone = await service.complete({ ...body, seed: 40 + index });
    assertEquals(alone.choices[0].text, text);
  }
  assert(new Set(choices.map(({ text }: { text: string }) => text)).size > 1);
});

Deno.test(
  "POST /v1/completions gives the same for the same seed and other texts without one",
  needed,
  async () => {
    const body = { prompt: PROMPT, temperature: 1.5, max_tokens: 24 };
    const texts = async (seed?: number) => (await service.complete({ ...body, seed })).choices[0].text;
    assertEquals(await texts(11), await texts(11));
    assert(new Set(await Promise.all([texts(), texts(), texts(), texts()])).size > 1);
  },
);

Deno.test("POST /v1/completions takes each sampling filter to its greedy limit", needed, async () => {
  const greedy = (await service.complete({ prompt: PROMPT, temperature: 0 })).choices[0].text;
  const limits = [{ top_k: 1 }, { top_p: 0 }, { top_p: 1e-6 }, { min_p: 1 }, { top_n_sigma: 1e-9 }];
  for (const filter of limits) {
    const { choices } = await service.complete({ prompt: PROMPT, temperature: 1, ...filter });
    assertEquals(choices[0].text, greedy, JSON.stringify(filter));
  }
});

Deno.test("POST /v1/completions draws other texts with each of llama.cpp's samplers", needed, async () => {
  const body = { prompt: PROMPT, temperature: 1, seed: 5, max_tokens: 40 };
  const plain = (await service.complete(body)).choices[0].text;
  const samplers = [
    { typical_p: 0.2 },
    { top_n_sigma: 0.5 },
    { xtc_probability: 1, xtc_threshold: 0.05 },
    { dynatemp_range: 0.9, dynatemp_exponent: 2 },
    { mirostat: 1, mirostat_tau: 1 },
    { mirostat: 2, mirostat_tau: 1, mirostat_eta: 0.5 },
  ];
  for (const sampler of samplers) {
    const first = (await service.complete({ ...body, ...sampler })).choices[0].text;
    assertEquals((await service.complete({ ...body, ...sampler })).choices[0].text, first);
    assertNotEquals(first, plain, JSON.stringify(sampler));
  }
  const off = { typical_p: 1, top_n_sigma: -1, xtc_probability: 0, xtc_threshold: 0.1, mirostat: 0 };
  assertEquals((await service.complete({ ...body, ...off })).choices[0].text, plain);
});

Deno.test(
  "POST /v1/completions stops before a stop string, also one within a token and one over tokens",
  needed,
  async () => {
    const body = { prompt: PROMPT, temperature: 0, max_tokens: 40 };
    const { text } = (await service.complete(body)).choices[0];
    for (const [from, length] of [[5, 1], [7, 3], [4, 12], [9, 20]] as const) {
      const stop = text.slice(from, from + length);
      for (const stops of [stop, ["\u0000", stop]]) {
        const { choices: [choice], usage } = await service.complete({ ...body, stop: stops });
        assertEquals(choice.text, text.slice(0, text.indexOf(stop)));
        assertEquals([choice.finish_reason, choice.stop_reason], ["stop", stop]);
        assert(usage.completion_tokens <= 40);
        const events = await readEvents(
          await service.post("/v1/completions", { ...body, stop: stops, stream: true }),
        );
        assertEquals(events.map((event) => event.choices[0].text).join(""), choice.text);
        assertEquals(events.at(-1).choices[0].stop_reason, stop);
      }
    }
  },
);

Deno.test(
  "POST /v1/completions ends with the stop text where that is asked for",
  needed,
  async () => {
    const body = { prompt: "Once upon a time", max_tokens: 32, temperature: 0 };
    const { choices: [{ text }] } = await service.complete(body);
    const stop = text.slice(10, 16);
    const ended = { ...body, stop, include_stop_str_in_output: true };
    const wanted = text.slice(0, text.indexOf(stop) + stop.length);
    assertEquals((await service.complete(ended)).choices[0].text, wanted);
    const events = await readEvents(await service.post("/v1/completions", { ...ended, stream: true }));
    assertEquals(events.map((event) => event.choices[0].text).join(""), wanted);
  },
);

Deno.test(
  "POST /v1/completions takes the last tokens of a prompt, with or without special ones",
  needed,
  async () => {
    const { engine } = service;
    const ids = engine.encode("Once upon a time there was a fox", { addSpecialTokens: false });
    const body = { prompt: "Once upon a time there was a fox", max_tokens: 1 };
    const counts = [];
    for (const fields of [{}, { add_special_tokens: false }, { truncate_prompt_tokens: 3 }]) {
      counts.push((await service.complete({ ...body, ...fields })).usage.prompt_tokens);
    }
    assertEquals(counts, [engine.encode(body.prompt).length, ids.length, 3]);
    const { choices: [choice] } = await service.complete({
      ...body,
      truncate_prompt_tokens: 3,
      echo: true,
      max_tokens: 0,
    });
    assertEquals(choice.text, engine.decode(ids.slice(-3)));
  },
);

Deno.test(
  "POST /v1/completions stops at a stop token id, which is not part of the text",
  needed,
  async () => {
    const { text, tokenIds } = await generated(30);
    const stop = tokenIds.findLast((id) => tokenIds.indexOf(id) > 4)!;
    const { choices: [choice], usage } = await service.complete({
      prompt: PROMPT,
      temperature: 0,
      max_tokens: 30,
      stop_token_ids: [stop],
    });
    assertEquals([choice.finish_reason, choice.stop_reason], ["stop", stop]);
    assertEquals(usage.completion_tokens, tokenIds.indexOf(stop) + 1);
    assert(text.startsWith(choice.text) && choice.text.length < text.length);
  },
);

Deno.test("POST /v1/completions generates to the last token with ignore_eos", needed, async () => {
  const { choices, usage } = await service.complete({
    prompt: PROMPT,
    temperature: 1,
    max_tokens: 300,
    ignore_eos: true,
    n: 2,
    seed: 1,
  });
  assertEquals(usage.completion_tokens, 600);
  assertEquals(choices[0].finish_reason, "length");
});

Deno.test(
  "POST /v1/completions gives logprobs whose tokens join to the text, with the greedy one on top",
  needed,
  async () => {
    const body = { prompt: PROMPT, temperature: 0, max_tokens: 10, logprobs: 3 };
    const { choices: [{ text, logprobs }] } = await service.complete(body);
    assertEquals(logprobs.tokens.join(""), text);
    assertEquals(logprobs.tokens.length, 10);
    for (const [i, token] of logprobs.tokens.entries()) {
      assertEquals([...text].slice(logprobs.text_offset[i]).join("").startsWith(token), true);
      const top: Record<string, number> = logprobs.top_logprobs[i];
      assertEquals(Object.keys(top).length, 3);
      assertEquals(top[token], logprobs.token_logprobs[i]);
      assertEquals(Math.max(...Object.values(top)), logprobs.token_logprobs[i]);
      assert(logprobs.token_logprobs[i] <= 0);
    }
    const events = await readEvents(await service.post("/v1/completions", { ...body, stream: true }));
    const parts = events.map((event) => event.choices[0].logprobs);
    for (const key of ["tokens", "token_logprobs", "top_logprobs", "text_offset"]) {
      assertEquals(parts.flatMap((part) => part[key]), logprobs[key], key);
    }
  },
);

Deno.test(
  "POST /v1/completions gives logprobs of the chosen token alone for logprobs 0",
  needed,
  async () => {
    const { choices: [{ logprobs }] } = await service.complete({
      prompt: PROMPT,
      max_tokens: 3,
      logprobs: 0,
    });
    for (const [i, top] of logprobs.top_logprobs.entries()) {
      assertEquals(top, { [logprobs.tokens[i]]: logprobs.token_logprobs[i] });
    }
  },
);

Deno.test("POST /v1/completions echoes the prompt, with its logprobs when asked", needed, async () => {
  const body = { prompt: PROMPT, temperature: 0, max_tokens: 8, echo: true };
  const plain = await service.complete({ ...body, echo: false, logprobs: 2 });
  const echoed = await service.complete({ ...body, logprobs: 2 });
  const { text, logprobs } = echoed.choices[0];
  assertEquals(text, PROMPT + plain.choices[0].text);
  const promptTokens = service.engine.encode(PROMPT).length;
  assertEquals(logprobs.tokens.length, promptTokens + 8);
  assertEquals([logprobs.token_logprobs[0], logprobs.top_logprobs[0]], [null, null]);
  assertEquals(logprobs.tokens.slice(promptTokens), plain.choices[0].logprobs.tokens);
  assertEquals(logprobs.token_logprobs.slice(promptTokens), plain.choices[0].logprobs.token_logprobs);
  assertEquals((await service.complete(body)).choices[0], { ...echoed.choices[0], logprobs: null });

  const events = await readEvents(
    await service.post("/v1/completions", { ...body, logprobs: 2, stream: true }),
  );
  assertEquals(events.map((event) => event.choices[0].text).join(""), text);
  const parts = events.map((event) => event.choices[0].logprobs);
  for (const key of ["tokens", "token_logprobs", "text_offset"]) {
    assertEquals(parts.flatMap((part) => part[key]), logprobs[key], key);
  }
});

Deno.test("POST /v1/completions scores a prompt alone with echo and max_tokens 0", needed, async () => {
  const body = { echo: true, logprobs: 0, temperature: 0 };
  const { choices: [whole] } = await service.complete({ ...body, prompt: PROMPT, max_tokens: 8 });
  const prompt = [...service.engine.encode(PROMPT), ...(await generated(8)).tokenIds];
  const { choices: [scored], usage } = await service.complete({ ...body, prompt, max_tokens: 0 });
  assertEquals([usage.completion_tokens, scored.finish_reason], [0, "length"]);
  assertEquals(scored.text, whole.text);
  assertEquals(scored.logprobs, whole.logprobs);
});

Deno.test("POST /v1/completions counts cached tokens when a prompt comes again", needed, async () => {
  const prompt = promptOf(service.engine, 130);
  const first = await service.complete({ prompt, max_tokens: 2, temperature: 0 });
  const second = await service.complete({ prompt, max_tokens: 2, temperature: 0 });
  assertEquals(first.usage.prompt_tokens, 130);
  assertEquals(first.usage.prompt_tokens_details.cached_tokens, 0);
  assertEquals(second.usage.prompt_tokens_details.cached_tokens, 128);
  assertEquals(second.choices, first.choices);
});

Deno.test("POST /v1/completions follows penalties and biases", needed, async () => {
  const greedy = await generated(8);
  const body = { prompt: PROMPT, max_tokens: 8, temperature: 0 };
  // The best token of each place is forbidden: none of them comes.
  const forbidden = Object.fromEntries(greedy.tokenIds.map((id) => [id, -100]));
  const other = await service.complete({ ...body, logit_bias: forbidden, logprobs: 0 });
  assertEquals(other.choices[0].logprobs.tokens.length, 8);
  const words = greedy.tokenIds.map((id) => service.engine.decode([id]));
  assertEquals(other.choices[0].logprobs.tokens.filter((token: string) => words.includes(token)), []);
  const wanted = greedy.tokenIds[0]!;
  const forced = await service.complete({ ...body, logit_bias: { [wanted]: 100 } });
  assertEquals(forced.choices[0].text, service.engine.decode(new Array<number>(8).fill(wanted)));
  // Under such a penalty no token comes twice.
  const once = await service.complete({
    ...body,
    max_tokens: 40,
    ignore_eos: true,
    presence_penalty: 2,
    frequency_penalty: 2,
    repetition_penalty: 10,
    logprobs: 0,
  });
  const plain = await service.complete({ ...body, max_tokens: 40, ignore_eos: true, logprobs: 0 });
  const different = (answer: { choices: { logprobs: { tokens: string[] } }[] }) =>
    new Set(answer.choices[0]!.logprobs.tokens).size;
  assert(
    different(once) > different(plain),
    `${different(once)} different tokens, without ${different(plain)}`,
  );
});

Deno.test("POST /v1/completions says which token of logit_bias the model does not have", needed, async () => {
  const response = await service.post("/v1/completions", {
    prompt: PROMPT,
    logit_bias: { [service.engine.model.vocabSize]: 1 },
  });
  assertEquals(response.status, 400);
  const { error } = await response.json();
  assertEquals(error.param, "logit_bias");
  assertMatch(error.message, /logit_bias contains the token id \d+, wanted integers from 0 to \d+/);
});

Deno.test(
  "POST /v1/completions takes what asks for nothing, what it does not know, and what only names the caller",
  needed,
  async () => {
    await service.complete({
      prompt: PROMPT,
      max_tokens: 1,
      best_of: 1,
      suffix: null,
      presence_penalty: 0,
      frequency_penalty: 0.0,
      logit_bias: {},
      user: "somebody",
      metadata: { run: "1" },
      priority: -3,
      stop: null,
      unheard_of: [1, 2],
    });
  },
);

Deno.test("POST /v1/completions gives token ids that make the text, streamed or not", needed, async () => {
  const prompt = ["Once upon a time", "One day"];
  const body = {
    prompt,
    n: 2,
    max_tokens: 24,
    seed: 3,
    temperature: 1,
    ignore_eos: true,
    return_token_ids: true,
  };
  const { choices } = await service.complete(body);
  const streamed = choices.map(() => ({
    text: "",
    token_ids: [] as number[],
    prompt_token_ids: [] as number[],
  }));
  const events = await readEvents(
    await service.post("/v1/completions", { ...body, stream: true, stream_options: { include_usage: true } }),
  );
  const seen = new Set<number>();
  for (const { index, text, token_ids, prompt_token_ids } of events.flatMap(({ choices }) => choices)) {
    assertEquals(prompt_token_ids !== undefined, !seen.has(index));
    seen.add(index);
    streamed[index]!.text += text;
    streamed[index]!.token_ids.push(...token_ids);
    streamed[index]!.prompt_token_ids.push(...prompt_token_ids ?? []);
  }
  for (const [i, { text, token_ids, prompt_token_ids }] of choices.entries()) {
    assertEquals([token_ids.length, service.engine.decode(token_ids, { skipSpecialTokens: true })], [
      24,
      text,
    ]);
    assertEquals(prompt_token_ids, service.engine.encode(prompt[i >> 1]!));
    assertEquals(streamed[i], { text, token_ids, prompt_token_ids });
  }
  const [plain] = (await service.complete({ prompt: "Once", max_tokens: 2 })).choices;
  assertEquals("token_ids" in plain || "prompt_token_ids" in plain, false);
});

Deno.test("POST /v1/completions searches with beams, best answer first", needed, async () => {
  const body = {
    prompt: [PROMPT, "The little fox"],
    use_beam_search: true,
    n: 3,
    max_tokens: 10,
    logprobs: 2,
  };
  const answer = await service.complete({ ...body, temperature: 0, best_of: 3, ignore_eos: true });
  assertEquals(answer.choices.map(({ index }: { index: number }) => index), [0, 1, 2, 3, 4, 5]);
  const prompts = body.prompt.map((prompt) => service.engine.encode(prompt).length);
  assertEquals(answer.usage.prompt_tokens, prompts[0]! + prompts[1]!);
  assertEquals(answer.usage.completion_tokens, 60);
  for (const first of [0, 3]) {
    const sums = answer.choices.slice(first, first + 3).map((
      choice: { logprobs: { token_logprobs: number[] } },
    ) => choice.logprobs.token_logprobs.reduce((sum, logprob) => sum + logprob));
    assertEquals(sums, sums.toSorted((a: number, b: number) => b - a));
  }
  const texts = new Set(answer.choices.map(({ text }: { text: string }) => text));
  assertEquals(texts.size, 6);
  // One beam takes the best token each time.
  const common = { prompt: PROMPT, temperature: 0, max_tokens: 20, ignore_eos: true };
  const greedy = await service.complete(common);
  const one = await service.complete({ ...common, use_beam_search: true });
  assertEquals(one.choices[0].text, greedy.choices[0].text);
});

Deno.test("POST /v1/completions refuses by name what does not go with a search", needed, async () => {
  for (
    const [fields, param] of [
      [{ stream: true }, "stream"],
      [{ n: 11 }, "n"],
      [{ temperature: 0.5 }, "temperature"],
      [{ top_p: 0.5 }, "top_p"],
      [{ stop: "." }, "stop"],
      [{ max_tokens: 0 }, "max_tokens"],
      [{ guided_choice: ["a", "b"] }, "guided_choice"],
      [{ length_penalty: "x" }, "length_penalty"],
      [{ best_of: 3 }, "best_of"],
    ] as const
  ) {
    const response = await service.post("/v1/completions", {
      prompt: PROMPT,
      use_beam_search: true,
      ...fields,
    });
    const { error } = await response.json();
    assertEquals([response.status, error.param], [400, param], JSON.stringify(error));
  }
});
