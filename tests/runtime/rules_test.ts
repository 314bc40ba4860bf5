import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import fc from "fast-check";
import { join } from "node:path";
import { createEngine } from "../../runtime/engine.ts";
import { InvalidRequestError } from "../../runtime/errors.ts";
import { Finish } from "../../runtime/loop.ts";
import { loadModelFolder } from "../../runtime/model/folder.ts";
import type { EngineOptions } from "../../runtime/options.ts";
import { checkRules } from "../../runtime/rule_check.ts";
import { anyOf, everyToken, has, type RuleOptions, TokenRules } from "../../runtime/rules.ts";
import type { Sequence, SequenceOptions } from "../../runtime/sequence.ts";
import type { GenerateRequest, KvMode } from "../../runtime/types.ts";
import { Bench, type Outcome } from "../harness.ts";

const TINY = join(import.meta.dirname!, "../../models/tiny");
const model = await loadModelFolder(TINY);
const vocab = model.tables.config.vocab;
const prompt = model.tokenizer.encode("Once upon a time there was");
const encode = (text: string) => model.tokenizer.encode(text, { addSpecialTokens: false });
const limits = { vocab, eosTokenIds: model.eosTokenIds, masks: true, encode };
const MOST = 60;

const rulesOf = (request: GenerateRequest) => checkRules(request, MOST, limits);

/** What the rules say of a token, from their words. */
function allows(rules: RuleOptions, answer: readonly number[], token: number): boolean {
  if (rules.allowed.length > 0 && !has(rules.allowed, token)) return false;
  if (answer.length < rules.minTokens && rules.endTokens.includes(token)) return false;
  const all = [...answer, token];
  let at = 0;
  for (const length of rules.badLengths) {
    const word = [...rules.badTokens.subarray(at, at += length)];
    if (all.slice(-length).join() === word.join()) return false;
  }
  return true;
}

Deno.test("TokenRules.prepare() leaves the tokens that all of the rules leave", () => {
  const ids = 40;
  const id = fc.nat(ids - 1);
  const cases = fc.record({
    allowed: fc.option(fc.uniqueArray(id, { minLength: 1 }), { nil: null }),
    minTokens: fc.nat(6),
    ends: fc.uniqueArray(id, { maxLength: 3 }),
    words: fc.array(fc.array(fc.nat(4), { minLength: 2, maxLength: 4 }), { maxLength: 6 }),
    answer: fc.array(fc.nat(4), { maxLength: 8 }),
    grammar: fc.option(fc.uniqueArray(id), { nil: null }),
  });
  const maskOf = (tokens: readonly number[]) => {
    const mask = new Uint32Array(2);
    for (const token of tokens) mask[token >> 5]! |= 1 << (token & 31);
    return mask;
  };
  fc.assert(
    fc.property(cases, ({ allowed, minTokens, ends, words, answer, grammar }) => {
      const options: RuleOptions = {
        vocab: ids,
        allowed: allowed === null ? new Uint32Array(0) : maskOf(allowed),
        minTokens,
        endTokens: Int32Array.from(ends),
        badTokens: Int32Array.from(words.flat()),
        badLengths: Int32Array.from(words, ({ length }) => length),
      };
      using on = new Bench(model.tables, model.dtype, { slots: 1, maxContext: 64, noop: true });
      const sequence = on.sequence([1, 0, 1, 2], 20);
      sequence.tokens.set(answer, 4);
      sequence.length += answer.length;
      const rules = new TokenRules(options);
      const wanted = Array.from({ length: ids }, (_, token) => token).filter((token) =>
        allows(options, answer, token) && (grammar === null || grammar.includes(token))
      );
      const left = rules.prepare(sequence, grammar === null ? null : maskOf(grammar));
      // A whole text may end.
      const ended = wanted.length > 0 || grammar === null
        ? wanted
        : ends.filter((end) => grammar.includes(end));
      const mask = rules.mask ?? everyToken(ids);
      assertEquals([...Array(64).keys()].filter((token) => has(mask, token)), ended.sort((a, b) => a - b));
      assertEquals(left, anyOf(mask));
    }),
    { numRuns: 300 },
  );
});

const greedy = (() => {
  using on = new Bench(model.tables, model.dtype, { slots: 1, maxContext: 512, prefixCache: false });
  return on.run(prompt, MOST).tokens;
})();

/** Rules of each kind, of which each changes what the model would say. */
const RULES: readonly (GenerateRequest | null)[] = [
  null,
  { minTokens: 25, stopTokenIds: [greedy[3]!, greedy[9]!] },
  { allowedTokenIds: Array.from({ length: vocab }, (_, i) => i).filter((i) => i % 3 !== greedy[2]! % 3) },
  { badWords: [".", "a", "in", "M"] },
  { badWords: ["named Maggie", "He lived in", "lived in", "small town", " to make new", "friends. One"] },
  {
    minTokens: 20,
    badWords: [" named M", "in a small", "I will keep", " boy found"],
    allowedTokenIds: Array.from({ length: vocab }, (_, i) => i).filter((i) => i !== greedy[5]),
  },
];

function requests(): Partial<SequenceOptions>[] {
  return Array.from({ length: 18 }, (_, i) => {
    const request = RULES[i % RULES.length]!;
    return {
      temperature: i % 2 === 0 ? 0 : 1.1,
      seedLo: 7 + i,
      logprobs: 21,
      rules: request === null ? null : rulesOf(request),
      stopTokens: Int32Array.from([...model.eosTokenIds, ...request?.stopTokenIds ?? []]),
      ...(i % 4 === 3 && { frequencyPenalty: 0.5 }),
    };
  });
}

function alone(): Outcome[] {
  using on = new Bench(model.tables, model.dtype, {
    slots: 1,
    maxContext: 512,
    prefixCache: false,
    inFlight: 1,
  });
  return requests().map((options) => on.run(prompt, MOST, options));
}

const expected = alone();

Deno.test("EngineLoop samples what the rules allow, and greedily the best of it", () => {
  let changed = 0;
  requests().forEach(({ rules, temperature, stopTokens, frequencyPenalty }, i) => {
    const { tokens, tops } = expected[i]!;
    if (!rules) return;
    tokens.forEach((token, at) => {
      const before = tokens.slice(0, at);
      assert(allows(rules, before, token), `request ${i}, token ${at}: ${token}`);
      const best = [...Array(20).keys()].map((rank) => tops[(at * 20 + rank) * 2]!);
      const wanted = best.find((rival) => allows(rules, before, rival));
      if (temperature !== 0 || frequencyPenalty !== undefined || wanted === undefined) return;
      assertEquals(token, wanted, `request ${i}, token ${at}`);
      if (token !== best[0]) changed++;
    });
    if (stopTokens!.includes(tokens.at(-1)!)) assert(tokens.length > rules.minTokens, `request ${i}`);
  });
  assert(changed > 10, `${changed} tokens are not the model's best`);
});

const SETTINGS: [name: string, options: Omit<EngineOptions, "model">, preemptEvery: number][] = [
  ["a batch, one step ahead", { slots: 18 }, 0],
  ["a few slots, step by step", { slots: 3, inFlight: 1 }, 0],
  ["forced preemption", { slots: 4 }, 5],
  ["forced preemption of pages", { slots: 4, kvMode: "paged" as KvMode, blockTokens: 16 }, 7],
  ["padded prompts", { slots: 4, kvMode: "static-padded" as KvMode }, 0],
];

for (const [name, options, preemptEvery] of SETTINGS) {
  Deno.test(`EngineLoop gives, with ${name}, sequences with rules what they get alone`, () => {
    using on = new Bench(model.tables, model.dtype, { maxContext: 512, ...options });
    const sequences = requests().map((request) => on.sequence(prompt, MOST, request));
    for (const sequence of sequences) on.host.loop.submit(sequence);
    assertEquals(on.drainPreempting(preemptEvery) > 10, preemptEvery > 0);
    sequences.forEach((sequence, i) => {
      const { tokens, logprobs, tops, finish } = on.sink.of(sequence.id);
      const { tokens: t, logprobs: l, tops: p, finish: f } = expected[i]!;
      assertEquals([tokens, logprobs, tops, finish], [t, l, p, f], `request ${i}`);
    });
  });
}

/** Steps that a sequence had in flight at most. */
function ahead(on: Bench, sequence: Sequence): number {
  const { engine, loop } = on.host;
  const wait = engine.wait.bind(engine);
  let most = 0;
  engine.wait = (...args) => {
    most = Math.max(most, sequence.pending);
    return wait(...args);
  };
  loop.submit(sequence);
  on.drain();
  engine.wait = wait;
  return most;
}

Deno.test("EngineLoop runs a step ahead of the last token but for bad words of several tokens", () => {
  using on = new Bench(model.tables, model.dtype, { slots: 2, maxContext: 512 });
  assert(RULES[4]!.badWords!.every((word) => encode(word).length > 1));
  const most = RULES.map((request) =>
    ahead(on, on.sequence(prompt, 30, { rules: request === null ? null : rulesOf(request) }))
  );
  assertEquals(most, [2, 2, 2, 2, 1, 1]);
});

Deno.test("EngineLoop writes no mask for a sequence whose rules leave every token", () => {
  const rules = new TokenRules(rulesOf({ minTokens: 3, ignoreEos: true, badWords: ["there was a little"] })!);
  using on = new Bench(model.tables, model.dtype, { slots: 1, maxContext: 64, noop: true });
  const sequence = on.sequence(prompt, 10);
  assert(rules.prepare(sequence, null));
  assert(rules.mask !== null && !has(rules.mask, model.eosTokenIds[0]!));
  sequence.length += 3;
  assert(rules.prepare(sequence, null));
  assertEquals(rules.mask, null);
});

Deno.test("EngineLoop ends a sequence that no token is left for, and nobody else", () => {
  using on = new Bench(model.tables, model.dtype, { slots: 2, maxContext: 512 });
  const { loop, pager } = on.host;
  const [a, b] = [greedy[0]!, greedy[1]!];
  const rules: RuleOptions = {
    ...rulesOf({ allowedTokenIds: [a, b] })!,
    badTokens: Int32Array.of(a, a, a, b, b, a, b, b),
    badLengths: Int32Array.of(2, 2, 2, 2),
  };
  const stuck = Array.from({ length: 3 }, () => on.sequence(prompt, 20, { rules }));
  const free = on.sequence(prompt, MOST);
  for (const sequence of [stuck[0]!, free, ...stuck.slice(1)]) loop.submit(sequence);
  on.drain();
  for (const { id } of stuck) {
    const { tokens, finish } = on.sink.of(id);
    assertEquals([tokens, finish], [[a], Finish.STUCK]);
  }
  assertEquals(on.sink.of(free.id).tokens, greedy);
  assertEquals(pager.stats.active, 0);
  pager.checkInvariants();
});

Deno.test("checkRules() names field, value found and value wanted", () => {
  const refuses = (request: GenerateRequest, param: string, message: string, most = 20) => {
    const error = assertThrows(() => checkRules(request, most, limits), InvalidRequestError);
    assertEquals([error.param, error.message], [param, message]);
  };
  refuses({ minTokens: -1 }, "min_tokens", "min_tokens is -1, wanted an integer, 0 or more");
  refuses(
    { minTokens: 9, maxTokens: 8 },
    "min_tokens",
    "min_tokens is 9, wanted at most max_tokens, which is 8",
    8,
  );
  refuses(
    { minTokens: 30, maxTokens: 100 },
    "min_tokens",
    "min_tokens is 30, wanted at most 20, which the context has left for the answer",
  );
  refuses(
    { allowedTokenIds: [] },
    "allowed_token_ids",
    "allowed_token_ids is empty, wanted at least one integer from 0 to 2047",
  );
  for (const id of [2048, -1, 0.5]) {
    refuses(
      { allowedTokenIds: [3, id] },
      "allowed_token_ids",
      `allowed_token_ids contains the token id ${id}, wanted integers from 0 to 2047`,
    );
  }
  refuses(
    { badWords: ["  "] },
    "bad_words",
    'bad_words contains "  ", wanted texts that are more than space',
  );
  const many = Array.from({ length: 1025 }, (_, i) => `w${i}`);
  refuses({ badWords: many }, "bad_words", "bad_words has 1025 texts, wanted at most 1024");
  const long = many.slice(0, 1000).map((word) => `${word} and many a word more, to be too long`);
  refuses({ badWords: long }, "bad_words", "bad_words has more than 8192 tokens, wanted at most as many");
  const eos = model.eosTokenIds[0]!;
  refuses(
    { minTokens: 1, allowedTokenIds: [eos] },
    "min_tokens",
    "min_tokens is 1, but all tokens that allowed_token_ids leaves end the answer",
  );
  const letter = { ...limits, encode: (text: string) => [...text].map((one) => one.charCodeAt(0)) };
  const error = assertThrows(
    () => checkRules({ allowedTokenIds: [97], badWords: ["a"] }, 20, letter),
    InvalidRequestError,
  );
  assertEquals(error.message, "bad_words leaves no token of allowed_token_ids, wanted at least one");
  const fields = {
    min_tokens: { minTokens: 1 },
    bad_words: { badWords: ["a"] },
    allowed_token_ids: { allowedTokenIds: [1] },
  };
  for (const [field, request] of Object.entries(fields)) {
    const refused = assertThrows(
      () => checkRules(request, 20, { ...limits, masks: false }),
      InvalidRequestError,
      `${field} cannot be had: this engine was started without structured output`,
    );
    assertEquals([refused.param, refused.code], [field, "unsupported_parameter"]);
  }
});

Deno.test("checkRules() gives null where nothing is ruled out, and bans a word with and without a space", () => {
  assertEquals(rulesOf({}), null);
  assertEquals(rulesOf({ minTokens: 0, badWords: [] }), null);
  assertEquals(checkRules({ minTokens: 3 }, 20, { ...limits, eosTokenIds: [] }), null);
  const letters = (text: string) => [...text].map((one) => one.charCodeAt(0) % 128);
  const check = (...badWords: string[]) => checkRules({ badWords }, 20, { ...limits, encode: letters })!;
  const two = check("ab");
  assertEquals([[...two.badTokens], [...two.badLengths]], [[...letters("ab"), ...letters(" ab")], [2, 3]]);
  assertEquals(two.allowed.length, 0, "every token may come");
  // What has a banned token in it needs no watching.
  const one = check("a", "  ab", "a");
  assertEquals([one.badLengths.length, has(one.allowed, 97), has(one.allowed, 98)], [0, false, true]);
});

Deno.test("Engine.generate() ends with an error that says so when no token is left", async () => {
  await using engine = await createEngine({ model: TINY, slots: 2 });
  const [token] = greedy as [number];
  const text = engine.decode([token, token]);
  const request = { prompt, allowedTokenIds: [token], badWords: [text], maxTokens: 5, n: 2 };
  assertEquals(encode(text), [token, token]);
  const seen: number[] = [];
  const error = await assertRejects(async () => {
    for await (const { tokenIds } of engine.generate(request)) seen.push(...tokenIds);
  }, InvalidRequestError);
  assertEquals([error.code, seen.every((one) => one === token)], ["no_token_left", true]);
  const after = engine.generate({ prompt, maxTokens: 2 });
  for await (const _ of after);
  assertEquals(after.usage.completionTokens, 2);
});

Deno.test("Engine.generate() looks for stop strings after min_tokens alone", async () => {
  await using engine = await createEngine({ model: TINY, slots: 2 });
  const base = { prompt, maxTokens: 40, sampling: { temperature: 0 } };
  const say = async (more: GenerateRequest) => {
    let text = "", tokens = 0, stop: string | number | undefined;
    for await (const chunk of engine.generate({ ...base, ...more })) {
      text += chunk.text;
      tokens += chunk.tokenIds.length;
      stop = chunk.stopReason;
    }
    return { text, tokens, stop };
  };
  const whole = await say({});
  const stop = ["a", "e"];
  const early = await say({ stop });
  assert(early.tokens < 5, early.text);
  for (const minTokens of [5, 10, 20]) {
    const late = await say({ stop, minTokens });
    assert(late.tokens > minTokens, `${late.tokens} of ${minTokens}`);
    assertEquals(whole.text.slice(0, late.text.length), late.text);
    assert(stop.includes(late.stop as string) && late.text.length > early.text.length);
  }
});

Deno.test("Engine.generate() gives the ranks of the prompt's tokens and no more rivals than asked for", async () => {
  await using engine = await createEngine({ model: TINY, slots: 2 });
  const scores = async (more: GenerateRequest) => {
    const generation = engine.generate({ prompt, maxTokens: 1, ...more });
    for await (const _ of generation);
    return (await generation.promptLogprobs)!.slice(1).map((entry) => entry!);
  };
  const all = await scores({ promptLogprobs: 20 });
  const ranked = await scores({ promptLogprobs: 2, promptRanks: true });
  ranked.forEach(({ token, logprob, rank, top }, i) => {
    assertEquals([token, logprob, top], [all[i]!.token, all[i]!.logprob, all[i]!.top.slice(0, 2)]);
    const at = all[i]!.top.findIndex((rival) => rival.token === token);
    assertEquals(rank, at < 0 ? null : at + 1);
  });
  assertEquals(all.some((entry) => "rank" in entry), false);
});
