import { assert, assertEquals } from "@std/assert";
import { join } from "node:path";
import { allocateBoard } from "../../runtime/grammar/board.ts";
import { grammarOf } from "../../runtime/grammar/constraint.ts";
import { GrammarService } from "../../runtime/grammar/service.ts";
import { loadVocabulary } from "../../runtime/grammar/vocabulary.ts";
import { Finish } from "../../runtime/loop.ts";
import { loadModelFolder } from "../../runtime/model/folder.ts";
import type { EngineOptions } from "../../runtime/options.ts";
import { checkRules } from "../../runtime/rule_check.ts";
import type { SequenceOptions } from "../../runtime/sequence.ts";
import type { Constraint, GenerateRequest, KvMode } from "../../runtime/types.ts";
import { Bench, type Outcome } from "../harness.ts";

const TINY = join(import.meta.dirname!, "../../models/tiny");
const model = await loadModelFolder(TINY);
const vocab = model.tables.config.vocab;
const prompt = model.tokenizer.encode("Once upon a time there was");

/** An engine loop in this thread, with its grammar worker. */
class Constrained implements AsyncDisposable {
  readonly bench: Bench;
  readonly service: GrammarService;
  readonly ids = new Map<string, number>();

  constructor(options: Omit<EngineOptions, "model">) {
    const board = allocateBoard(options.slots ?? 16, 512, vocab);
    this.service = new GrammarService({
      board,
      vocabulary: () => loadVocabulary(model.tokenizer, vocab, model.eosTokenIds),
      onBroken: (_, error) => {
        throw error;
      },
    });
    this.bench = new Bench(model.tables, model.dtype, { maxContext: 512, ...options }, 0, board);
  }

  async prepare(constraints: readonly Constraint[]): Promise<number[]> {
    return await Promise.all(constraints.map((constraint) => this.service.acquire(grammarOf(constraint))));
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.service.close();
    this.bench[Symbol.dispose]();
    return Promise.resolve();
  }
}

const CONSTRAINTS: readonly Constraint[] = [
  { type: "json" },
  {
    type: "jsonSchema",
    schema: {
      type: "object",
      properties: {
        name: { type: "string", maxLength: 20 },
        age: { type: "integer", minimum: 1, maximum: 99 },
        friends: { type: "array", items: { type: "string", maxLength: 12 }, minItems: 2, maxItems: 4 },
      },
      required: ["name", "age", "friends"],
    },
  },
  { type: "regex", pattern: "([A-Z][a-z]{2,6} ){4,6}\\d{4}" },
  { type: "choice", choices: ["a brave dog", "a brave cat", "a bold fish"] },
];

const MOST = 90;

const limits = {
  vocab,
  eosTokenIds: model.eosTokenIds,
  masks: true,
  encode: (text: string) => model.tokenizer.encode(text, { addSpecialTokens: false }),
};

/** What is sampled how: half of them constrained, and of the others and these some by rules, too. */
function requests(grammars: readonly number[]): Partial<SequenceOptions>[] {
  const rules = checkRules({ minTokens: 12, badWords: ["a brave dog", ",", " small"] }, MOST, limits);
  return Array.from({ length: 18 }, (_, i) => ({
    rules: i >= 9 && i % 4 < 2 ? rules : null,
    temperature: i % 3 === 0 ? 0 : 1.2,
    seedLo: 100 + i,
    logprobs: 3,
    grammar: i % 2 === 0 ? 0 : grammars[(i >> 1) % grammars.length]!,
    stopTokens: Int32Array.from(model.eosTokenIds),
    ...(i % 4 === 3 && { frequencyPenalty: 0.5 }),
  }));
}

async function alone(): Promise<Outcome[]> {
  await using one = new Constrained({ slots: 1, prefixCache: false, inFlight: 1 });
  const grammars = await one.prepare(CONSTRAINTS);
  return requests(grammars).map((options) => one.bench.run(prompt, MOST, options));
}

const expected = await alone();

const SETTINGS: [name: string, options: Omit<EngineOptions, "model">, preemptEvery: number][] = [
  ["a batch, one step ahead", { slots: 12 }, 0],
  ["a few slots, step by step", { slots: 3, inFlight: 1 }, 0],
  ["forced preemption", { slots: 4 }, 5],
  ["forced preemption of pages", { slots: 4, kvMode: "paged" as KvMode, blockTokens: 16 }, 7],
];

for (const [name, options, preemptEvery] of SETTINGS) {
  Deno.test(`EngineLoop gives, with ${name}, constrained and free sequences what they get alone`, async () => {
    await using all = new Constrained(options);
    const { bench } = all;
    const grammars = await all.prepare(CONSTRAINTS);
    const sequences = requests(grammars).map((request) => bench.sequence(prompt, MOST, request));
    for (const sequence of sequences) bench.host.loop.submit(sequence);
    assertEquals(bench.drainPreempting(preemptEvery) > 10, preemptEvery > 0);
    sequences.forEach((sequence, i) => {
      const { tokens, logprobs, tops, finish } = bench.sink.of(sequence.id);
      const { tokens: t, logprobs: l, tops: p, finish: f } = expected[i]!;
      assertEquals([tokens, logprobs, tops, finish], [t, l, p, f], `request ${i}`);
    });
  });
}

Deno.test("EngineLoop reports the model's own log probabilities of constrained tokens", () => {
  const texts = expected.map(({ tokens }) => model.tokenizer.decode(tokens));
  requests([1, 2, 3, 4]).forEach(({ grammar }, i) => {
    const { finish } = expected[i]!;
    if (grammar === 2 && finish === 1) JSON.parse(texts[i]!);
    if (grammar === 3) assert(/^([A-Z][a-z]{2,6} ){4,6}\d{4}$/.test(texts[i]!), texts[i]);
    if (grammar === 4) assert(/^a (brave (dog|cat)|bold fish)$/.test(texts[i]!), texts[i]);
  });
  // A grammar that allows one token only does not make that token certain.
  const choice = expected[requests([1, 2, 3, 4]).findIndex(({ grammar }) => grammar === 4)]!;
  assert(choice.logprobs.some((logprob) => logprob < -0.5));
});

Deno.test("EngineLoop.cancel() gives the slot of a constrained sequence to the next one", async () => {
  await using one = new Constrained({ slots: 1 });
  const [json, , , choice] = await one.prepare(CONSTRAINTS);
  const { loop } = one.bench.host;
  const stopTokens = Int32Array.from(model.eosTokenIds);
  for (let i = 0; i < 20; i++) {
    const cancelled = one.bench.sequence(prompt, MOST, {
      grammar: json!,
      stopTokens,
      temperature: 1,
      seedLo: i,
    });
    loop.submit(cancelled);
    for (let turn = 0; turn < i; turn++) loop.turn(1000);
    loop.cancel(cancelled);
    const { tokens } = one.bench.run(prompt, MOST, { grammar: choice!, stopTokens, seedLo: i });
    assert(/^a (brave (dog|cat)|bold fish)$/.test(model.tokenizer.decode(tokens)));
  }
});

Deno.test("EngineLoop keeps to rules within a grammar, and ends a text that is whole before min_tokens", async () => {
  await using one = new Constrained({ slots: 2 });
  const pattern = "[a-z]{3}";
  const [choice, letters] = await one.prepare([
    { type: "choice", choices: ["a brave dog", "a brave cat"] },
    { type: "regex", pattern },
  ]);
  const stopTokens = Int32Array.from(model.eosTokenIds);
  const say = (grammar: number, request: GenerateRequest, seedLo = 0) => {
    const rules = checkRules(request, MOST, limits);
    const { tokens, finish } = one.bench.run(prompt, MOST, {
      grammar,
      rules,
      stopTokens,
      seedLo,
      temperature: 1,
    });
    return [model.tokenizer.decode(tokens), finish] as const;
  };
  for (let seed = 0; seed < 8; seed++) {
    const badWords = ["d", "do", "dog"];
    assertEquals(say(choice!, { badWords, minTokens: 50 }, seed), ["a brave cat", Finish.STOP]);
    const allowedTokenIds = ["a", "b", "c", "ab", "bc"].flatMap(limits.encode);
    const [text, finish] = say(letters!, { allowedTokenIds, minTokens: 9 }, seed);
    assert(/^[abc]{3}$/.test(text) && finish === Finish.STOP, text);
  }
  assertEquals(say(letters!, { allowedTokenIds: limits.encode(" fox") }), ["", Finish.STUCK]);
});
