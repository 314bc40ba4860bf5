import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import fc from "fast-check";
import { join } from "node:path";
import { BeamSelection, checkBeams, MOST_BEAMS, tokensOf } from "../../runtime/beam_search.ts";
import { createEngine } from "../../runtime/engine.ts";
import { EngineError, InvalidRequestError } from "../../runtime/errors.ts";
import type { Engine, GenerateRequest, TokenLogprob } from "../../runtime/types.ts";

const TINY = join(import.meta.dirname!, "../../models/tiny");
const PROMPT = "Once upon a time there was";

interface Answer {
  tokens: number[];
  sum: number;
  ended: boolean;
}

/** Alternatives of what follows `tokens`, best first. */
type Model = (tokens: readonly number[]) => Promise<TokenLogprob["top"]> | TokenLogprob["top"];

interface Search {
  width: number;
  promptLength: number;
  maxTokens: number;
  lengthPenalty: number;
  ends: readonly number[];
}

/** vLLM's search as it stands there: all steps, everything sorted, nothing shared with the one under test. */
async function bruteForce(model: Model, search: Search): Promise<Answer[]> {
  const { width, promptLength, maxTokens, lengthPenalty, ends } = search;
  let beams: Answer[] = [{ tokens: [], sum: 0, ended: false }];
  const completed: Answer[] = [];
  for (let step = 0; step < maxTokens && beams.length > 0; step++) {
    const next: Answer[] = [];
    for (const { tokens, sum } of beams) {
      for (const { token, logprob } of (await model(tokens)).slice(0, 2 * width)) {
        const ended = ends.includes(token);
        (ended ? completed : next).push({ tokens: [...tokens, token], sum: sum + logprob, ended });
      }
    }
    beams = next.sort((a, b) => b.sum - a.sum).slice(0, width);
  }
  const score = ({ tokens, sum, ended }: Answer) =>
    sum / (promptLength + tokens.length - (ended ? 1 : 0)) ** lengthPenalty;
  return [...completed, ...beams].sort((a, b) => score(b) - score(a)).slice(0, width);
}

const sumOf = (logprobs: readonly TokenLogprob[]) => logprobs.reduce((sum, { logprob }) => sum + logprob, 0);

Deno.test("BeamSelection finds what a search to the last token finds, and often sooner", async () => {
  let steps = 0, most = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        width: fc.integer({ min: 1, max: 4 }),
        promptLength: fc.integer({ min: 1, max: 30 }),
        maxTokens: fc.integer({ min: 1, max: 9 }),
        lengthPenalty: fc.constantFrom(1, 0, 2, 0.5, -1),
        ends: fc.uniqueArray(fc.nat(11), { maxLength: 3 }),
        seed: fc.nat(),
        eager: fc.boolean(),
      }),
      async ({ seed, eager, ...search }) => {
        // What follows depends on all tokens; some models like to end.
        const model = (tokens: readonly number[]) => {
          let state = seed;
          for (const token of tokens) state = (state * 1103515245 + token * 12345 + 7) % 2147483647;
          const weights = Array.from({ length: 12 }, (_, token) => {
            state = (state * 48271 + 11) % 2147483647;
            return 0.05 + state / 2147483647 + (eager && search.ends.includes(token) ? 3 : 0);
          });
          const all = weights.reduce((sum, weight) => sum + weight);
          const top = weights.map((weight, token) => ({
            token,
            bytes: new Uint8Array(),
            logprob: Math.fround(Math.log(weight / all)),
          }));
          return top.sort((a, b) => b.logprob - a.logprob);
        };
        const wanted = await bruteForce(model, search);
        const selection = new BeamSelection({
          ...search,
          endTokens: Int32Array.from(search.ends),
          rivals: 2,
        });
        do {
          steps++;
        } while (
          selection.advance(selection.live.map((beam) => model(tokensOf(beam).map(({ token }) => token))))
        );
        most += search.maxTokens;
        const found = selection.best().map(({ beam, ended }) => ({
          tokens: tokensOf(beam).map(({ token }) => token),
          sum: beam.sum,
          ended,
        }));
        assertEquals(found, wanted);
        for (const { beam } of selection.best()) {
          for (const { top } of tokensOf(beam)) assertEquals(top.length, 2);
        }
      },
    ),
    { numRuns: 400, seed: 20261129 },
  );
  assert(steps < most, `${steps} steps of ${most}`);
});

async function choicesOf(engine: Engine, request: GenerateRequest) {
  const n = request.n ?? 1;
  const choices = Array.from({ length: n }, () => ({
    tokens: [] as number[],
    logprobs: [] as TokenLogprob[],
    text: "",
    finish: "",
    stopReason: undefined as string | number | undefined,
  }));
  const generation = engine.generate(request);
  for await (const chunk of generation) {
    const choice = choices[chunk.index]!;
    choice.tokens.push(...chunk.tokenIds);
    choice.logprobs.push(...chunk.logprobs ?? []);
    choice.text += chunk.text;
    if (chunk.finishReason !== null) choice.finish = chunk.finishReason;
    if (chunk.stopReason !== undefined) choice.stopReason = chunk.stopReason;
  }
  return { choices, usage: generation.usage, timing: generation.timing };
}

Deno.test("Engine.generate() searches with beams as brute force does, token for token and bit for bit", async () => {
  const cached = { prefixCache: true, slots: 3, blockTokens: 16 } as const;
  for (const options of [cached, { prefixCache: false, slots: 2, prefillChunk: 16 }]) {
    await using engine = await createEngine({ model: TINY, threads: 1, ...options });
    const prompt = engine.encode(PROMPT);
    const known = new Map<string, TokenLogprob["top"]>();
    const model = async (tokens: readonly number[]) => {
      const key = tokens.join();
      const found = known.get(key);
      if (found !== undefined) return found;
      const request = { prompt: [...prompt, ...tokens], maxTokens: 1, logprobs: 20, ignoreEos: true };
      const { top } = (await choicesOf(engine, request)).choices[0]!.logprobs[0]!;
      known.set(key, top);
      return top;
    };
    // A frequent token as an end: the model's own is rare.
    const period = engine.encode(".", { addSpecialTokens: false }).at(-1)!;
    for (
      const [n, maxTokens, stopTokenIds, lengthPenalty] of [
        [1, 12, [], 1],
        [3, 20, [], 1],
        [4, 24, [period], 1],
        [4, 24, [period], 0],
        [2, 24, [period], 2.5],
        [10, 7, [period], -0.5],
      ] as const
    ) {
      const request = {
        prompt: PROMPT,
        n,
        maxTokens,
        stopTokenIds,
        beamSearch: { lengthPenalty },
        logprobs: 3,
      };
      const { choices, usage } = await choicesOf(engine, request);
      const wanted = await bruteForce(model, {
        width: n,
        promptLength: prompt.length,
        maxTokens,
        lengthPenalty,
        ends: [...stopTokenIds, 1],
      });
      assertEquals(choices.map(({ tokens }) => tokens), wanted.map(({ tokens }) => tokens));
      assertEquals(choices.map(({ logprobs }) => sumOf(logprobs)), wanted.map(({ sum }) => sum));
      assertEquals(choices.map(({ finish }) => finish), wanted.map(({ ended }) => ended ? "stop" : "length"));
      for (const { text, tokens, logprobs, finish, stopReason } of choices) {
        const ended = finish === "stop";
        if (ended) assertEquals(stopReason, tokens.at(-1));
        assertEquals(
          text,
          engine.decode([...prompt, ...ended ? tokens.slice(0, -1) : tokens])
            .slice(engine.decode(prompt).length),
        );
        for (const { top } of logprobs) assertEquals(top.length, 3);
      }
      assertEquals(usage.promptTokens, prompt.length);
      assertEquals(usage.completionTokens, choices.reduce((sum, { tokens }) => sum + tokens.length, 0));
    }
    if (options.prefixCache) assert(engine.stats().cachedTokens > 0);
  }
});

Deno.test("Engine.generate() with one beam that nothing ends is greedy", async () => {
  await using engine = await createEngine({ model: TINY, threads: 1, slots: 2 });
  const common = { prompt: PROMPT, maxTokens: 40, ignoreEos: true, logprobs: 0, promptLogprobs: 1 };
  const greedy = await choicesOf(engine, { ...common, sampling: { temperature: 0 } });
  const generation = engine.generate({ ...common, beamSearch: {} });
  const tokens: number[] = [];
  for await (const { tokenIds } of generation) tokens.push(...tokenIds);
  assertEquals(tokens, greedy.choices[0]!.tokens);
  const scored = await generation.promptLogprobs;
  assertEquals(scored?.length, engine.encode(PROMPT).length);
  assert(scored!.slice(1).every((entry) => entry !== null));
});

Deno.test("Engine.generate() counts a search as its choices in queue and telemetry", async () => {
  await using engine = await createEngine({ model: TINY, threads: 1, slots: 2, maxQueue: 5 });
  const { requests } = engine.telemetry;
  const search = { prompt: PROMPT, n: 4, maxTokens: 30, ignoreEos: true, beamSearch: {} };
  const running = choicesOf(engine, search);
  const error = assertThrows(() => engine.generate({ prompt: PROMPT, n: 2 }), EngineError);
  assertEquals(error.code, "overloaded");
  const { timing } = await running;
  assertEquals(requests.finished, { stop: 0, length: 4, cancelled: 0, error: 0 });
  const { endToEnd, generationTokens, promptTokens, firstToken } = requests;
  const measured = [endToEnd, generationTokens, promptTokens, firstToken];
  assertEquals(measured.map((histogram) => histogram.snapshot().count), [1, 1, 1, 1]);
  assert(timing.admitted > 0 && timing.firstToken >= timing.admitted && timing.lastToken > timing.firstToken);
  assertEquals(timing.finishReasons, Array(4).fill("length"));
  // The places are free again.
  await choicesOf(engine, { prompt: PROMPT, n: 5, maxTokens: 1 });
  assertThrows(() => engine.generate({ ...search, n: 6 }), InvalidRequestError, "n is 6");
});

Deno.test("Generation.cancel() ends a search and all that runs for it", async () => {
  await using engine = await createEngine({ model: TINY, threads: 1, slots: 4 });
  const generation = engine.generate({
    prompt: PROMPT,
    n: 4,
    maxTokens: 1500,
    ignoreEos: true,
    beamSearch: {},
  });
  const read = (async () => {
    const reasons = [];
    for await (const { finishReason } of generation) reasons.push(finishReason);
    return reasons;
  })();
  while (generation.timing.firstToken === 0) await new Promise((resolve) => setTimeout(resolve, 2));
  generation.cancel();
  assertEquals(await read, Array(4).fill("cancelled"));
  const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
  while (engine.stats().running + engine.stats().waiting > 0) await pause(5);
  await pause(50); // a step may be in flight
  const { steps } = engine.stats();
  await pause(100);
  assertEquals(engine.stats().steps, steps);
  assertEquals(engine.telemetry.requests.finished, { stop: 0, length: 0, cancelled: 4, error: 0 });
  // With a reason, as a time limit has one.
  const late = engine.generate({ prompt: PROMPT, n: 2, maxTokens: 900, ignoreEos: true, beamSearch: {} });
  setTimeout(() => late.cancel(new EngineError("too late", "timeout")), 30);
  await assertRejects(
    async () => {
      for await (const _ of late);
    },
    EngineError,
    "too late",
  );
  assertEquals(engine.telemetry.requests.finished, { stop: 0, length: 0, cancelled: 4, error: 2 });
});

Deno.test("checkBeams() names what does not go with a search", () => {
  const cases: [Partial<GenerateRequest>, string][] = [
    [{ sampling: { temperature: 0.7 } }, "temperature"],
    [{ sampling: { topK: 5 } }, "top_k"],
    [{ sampling: { topP: 0.5 } }, "top_p"],
    [{ sampling: { presencePenalty: 1 } }, "presence_penalty"],
    [{ sampling: { typicalP: 0.5 } }, "typical_p"],
    [{ sampling: { dryMultiplier: 1 } }, "dry_multiplier"],
    [{ sampling: { logitBias: [[1, 1]] } }, "logit_bias"],
    [{ stop: ["."] }, "stop"],
    [{ minTokens: 1 }, "min_tokens"],
    [{ allowedTokenIds: [1] }, "allowed_token_ids"],
    [{ badWords: ["fox"] }, "bad_words"],
    [{ constraint: { type: "json" }, constraintParam: "response_format" }, "response_format"],
    [{ n: MOST_BEAMS + 1 }, "n"],
    [{ beamSearch: { lengthPenalty: 11 } }, "length_penalty"],
  ];
  for (const [fields, param] of cases) {
    const error = assertThrows(
      () => checkBeams({ beamSearch: {}, ...fields }, 16, 2048),
      InvalidRequestError,
      param,
    );
    assertEquals(error.param, param);
  }
  assertThrows(() => checkBeams({ beamSearch: {} }, 0, 2048), InvalidRequestError, "max_tokens is 0");
  const plain = { sampling: { temperature: 0, topP: 1, seed: 5 }, n: MOST_BEAMS, beamSearch: {} };
  assertEquals(checkBeams(plain, 16, 2048), 1);
  assertEquals(checkBeams({ ...plain, sampling: { temperature: 1 } }, 1, 2048), 1);
});

Deno.test("Engine.generate() refuses a search where the engine computes nothing", async () => {
  await using engine = await createEngine({ model: TINY, threads: 1, slots: 2, noop: true });
  const generation = engine.generate({ prompt: PROMPT, n: 2, maxTokens: 5, beamSearch: {} });
  await assertRejects(
    async () => {
      for await (const _ of generation);
    },
    InvalidRequestError,
    "tells no log probabilities",
  );
  await choicesOf(engine, { prompt: PROMPT, n: 2, maxTokens: 5 });
});
