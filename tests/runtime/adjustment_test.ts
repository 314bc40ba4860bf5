import { assert, assertEquals, assertLess } from "@std/assert";
import fc from "fast-check";
import { createEngine } from "../../mod.ts";
import { loadModelTables } from "../../runtime/model/tables.ts";
import { type Sequence, type SequenceOptions, State } from "../../runtime/sequence.ts";
import type { EngineOptions } from "../../runtime/options.ts";
import { FIXTURES } from "../golden.ts";
import { Bench } from "../harness.ts";

const folder = `${FIXTURES}/models/llama3`;
const { tables, dtype } = await loadModelTables(folder);
const VOCAB = tables.config.vocab;

function bench(options: Omit<EngineOptions, "model"> = {}): Bench {
  return new Bench(tables, dtype, {
    slots: 4,
    blockTokens: 16,
    maxContext: 256,
    kvDtype: "f32",
    threads: 1,
    ...options,
  });
}

function biases(pairs: readonly (readonly [number, number])[]): Partial<SequenceOptions> {
  return {
    biasTokens: Int32Array.from(pairs, ([token]) => token),
    biasValues: Float32Array.from(pairs, ([, bias]) => bias),
  };
}

/** The token that wins once `logits` are changed as kvrm.h says: each operation rounded to f32. */
function winner(logits: Float32Array, sequence: Sequence, options: Partial<SequenceOptions>): number {
  const f = Math.fround;
  const window = options.penaltyLastN ?? 0;
  const known = sequence.tokens.subarray(
    window > 0 ? Math.max(0, sequence.length - window) : 0,
    sequence.length,
  );
  const answer = window > 0 ? known : known.subarray(sequence.promptLength);
  let best = 0;
  let most = -Infinity;
  for (let token = 0; token < logits.length; token++) {
    let x = logits[token]!;
    if (known.includes(token)) {
      const penalty = f(options.repetitionPenalty ?? 1);
      x = x > 0 ? f(x / penalty) : f(x * penalty);
    }
    const count = answer.reduce((sum, one) => sum + (one === token ? 1 : 0), 0);
    if (count > 0) {
      x = f(x - f(f(options.frequencyPenalty ?? 0) * count));
      x = f(x - f(options.presencePenalty ?? 0));
    }
    const bias = options.biasTokens?.indexOf(token) ?? -1;
    if (bias >= 0) x = f(x + options.biasValues![bias]!);
    if (x > most) [best, most] = [token, x];
  }
  return best;
}

const options = fc.record({
  presencePenalty: fc.constantFrom(0, 0, 0.7, -0.4, 2),
  frequencyPenalty: fc.constantFrom(0, 0, 0.3, -0.1, 2),
  repetitionPenalty: fc.constantFrom(1, 1, 1.3, 0.8, 5),
  penaltyLastN: fc.constantFrom(0, 0, 0, 1, 7, 40),
  biases: fc.uniqueArray(
    fc.tuple(fc.integer({ min: 0, max: VOCAB - 1 }), fc.double({ min: -8, max: 8, noNaN: true })),
    { maxLength: 60, selector: ([token]) => token },
  ),
}).map(({ biases: pairs, ...rest }) => ({ ...rest, ...biases(pairs) }));

Deno.test("EngineLoop samples what the reference picks from the logits under penalties and biases", () => {
  using on = bench({ inFlight: 1, slots: 1 });
  const prompt = fc.array(fc.integer({ min: 0, max: VOCAB - 1 }), { minLength: 1, maxLength: 60 });
  const logits = new Float32Array(VOCAB);
  let changed = 0;
  fc.assert(
    fc.property(prompt, options, fc.constantFrom(5, 64, 1024), (prompt, adjusted, editLimit) => {
      on.host.scheduler.editLimit = editLimit;
      const sequence = on.sequence(prompt, 24, adjusted);
      on.host.loop.submit(sequence);
      while (sequence.state !== State.FINISHED) {
        const before = sequence.length;
        on.host.loop.turn(1_000_000);
        if (sequence.length === before) continue;
        on.host.engine.readLogits(0, logits);
        const token = sequence.tokens[--sequence.length]!;
        assertEquals(token, winner(logits, sequence, adjusted));
        if (token !== winner(logits, sequence, {})) changed++;
        sequence.length++;
      }
    }),
    { numRuns: 100, seed: 7 },
  );
  assert(changed > 100, `only ${changed} tokens differ from the model's own choice`);
});

Deno.test("EngineLoop never repeats a token under a huge repetition or presence penalty", () => {
  using on = bench();
  const prompt = [5, 6, 7, 8, 9];
  for (const penalty of [{ repetitionPenalty: 1e9 }, { presencePenalty: 1e4 }, { frequencyPenalty: 1e4 }]) {
    const { tokens } = on.run(prompt, 80, penalty);
    assertEquals(new Set(tokens).size, 80, JSON.stringify(penalty));
  }
  const plain = on.run(prompt, 80).tokens;
  assertLess(new Set(plain).size, 80);
  // The prompt counts for a repetition penalty alone. Positive logits become nothing, negative ones huge.
  const negative = on.run(prompt, 60, { repetitionPenalty: 1e9 }).tokens;
  assertEquals(negative.filter((token) => prompt.includes(token)), []);
});

Deno.test("EngineLoop repeats for ever where the penalties are rewards", () => {
  using on = bench();
  const { tokens } = on.run([5, 6, 7], 40, { frequencyPenalty: -1e4 });
  assertEquals(new Set(tokens).size, 1);
});

Deno.test("EngineLoop takes a token of bias +100 always and one of -100 never", () => {
  using on = bench();
  for (const temperature of [0, 1]) {
    const forced = on.run([1, 2, 3], 20, { temperature, ...biases([[77, 100]]) });
    assertEquals(new Set(forced.tokens), new Set([77]));
    const two = on.run([1, 2, 3], 20, { temperature: 1, ...biases([[77, 100], [78, 100], [79, -100]]) });
    assert(two.tokens.every((token) => token === 77 || token === 78));
  }
  const plain = on.run([1, 2, 3], 30, { temperature: 1, seedLo: 4 }).tokens;
  const forbidden = plain.map((token) => [token, -100] as const);
  const unique = [...new Map(forbidden)];
  const other = on.run([1, 2, 3], 30, { temperature: 1, seedLo: 4, ...biases(unique) }).tokens;
  assertEquals(other.filter((token) => plain.includes(token)), []);
});

Deno.test("EngineLoop leaves log probabilities to the model under penalties and biases", () => {
  using on = bench();
  const plain = on.run([1, 2, 3], 1, { logprobs: 1 + 20 });
  const biased = on.run([1, 2, 3], 1, { logprobs: 1 + 20, ...biases([[plain.tops[2]!, 100]]) });
  assertEquals(biased.tokens, [plain.tops[2]!]);
  assertEquals(biased.logprobs, [plain.tops[3]!]);
  assertEquals(biased.tops, plain.tops);
});

Deno.test("EngineLoop gives a slot's next sequence nothing of the one before", () => {
  using on = bench({ slots: 1, prefixCache: false });
  const prompt = [9, 8, 7];
  const plain = on.run(prompt, 20).tokens;
  const biased = biases([[plain[0]!, -100], [plain[1]!, -100]]);
  const penalised = on.run(prompt, 20, { presencePenalty: 1 }).tokens;
  on.run(prompt, 20, { ...biased, repetitionPenalty: 3 });
  assertEquals(on.run(prompt, 20).tokens, plain);
  assertEquals(on.run(prompt, 20, { presencePenalty: 1 }).tokens, penalised);
});

Deno.test("EngineLoop waits with a sequence's first token until all its edits are in", () => {
  using on = bench({ inFlight: 1, prefixCache: false });
  const { loop, scheduler } = on.host;
  scheduler.editLimit = 10;
  const prompt = Array.from({ length: 40 }, (_, i) => i);
  // CLEAR, 40 tokens of the prompt and a bias: five steps, the last of which samples.
  const edited = on.sequence(prompt, 3, { repetitionPenalty: 1.2, ...biases([[3, 1]]) });
  const plain = on.sequence(prompt, 8);
  loop.submit(edited);
  loop.submit(plain);
  const generated: [number, number][] = [];
  on.drain(() => generated.push([edited.generated, plain.generated]));
  // The other sequence is not held up meanwhile.
  assertEquals(generated.slice(0, 7), [[0, 0], [0, 1], [0, 2], [0, 3], [0, 4], [1, 5], [2, 6]]);
});

Deno.test("EngineLoop spends no edits on sequences without penalties and biases", () => {
  using on = bench();
  const { engine, loop } = on.host;
  const commit = engine.commit.bind(engine);
  let edits = 0;
  engine.commit = (descriptor) => {
    edits += new Uint32Array(descriptor.buffer)[10]!;
    commit(descriptor);
  };
  const plain = [1, 2, 3].map((salt) => on.sequence([salt, 5, 6], 10, { temperature: 1 }));
  plain.forEach((sequence) => loop.submit(sequence));
  on.drain();
  assertEquals(edits, 0);
  // One CLEAR, two different tokens of the prompt; what is sampled is counted by the engine.
  on.run([4, 4, 9], 10, { repetitionPenalty: 1.1 });
  assertEquals(edits, 3);
  on.run([4, 4, 9], 10, { frequencyPenalty: 0.1 });
  assertEquals(edits, 4);
  on.run([4, 4, 9], 0, { frequencyPenalty: 0.1 });
  assertEquals(edits, 4);
});

Deno.test("EngineLoop counts the answer so far again after a preemption", () => {
  for (const editLimit of [3, 1024]) {
    using on = bench({ slots: 2 });
    const { loop, scheduler } = on.host;
    scheduler.editLimit = editLimit;
    const adjusted = {
      temperature: 1,
      repetitionPenalty: 1.4,
      presencePenalty: 0.5,
      frequencyPenalty: 0.5,
      ...biases([[11, 2], [12, -3]]),
    };
    const wanted = on.run([1, 2, 3, 4, 2], 60, adjusted).tokens;
    const again = on.sequence([1, 2, 3, 4, 2], 60, adjusted);
    loop.submit(again);
    let times = 0;
    on.drain((turn) => {
      if (turn % 9 === 8 && again.state === State.RUNNING && times++ < 12) {
        scheduler.preempt(again, loop.lastStep);
      }
    });
    assertEquals(on.sink.of(again.id).tokens, wanted);
    assert(scheduler.preemptions >= 4, `${scheduler.preemptions} preemptions`);
  }
});

Deno.test("Engine.generate() takes penalties and biases, also with several choices", async () => {
  await using engine = await createEngine({ model: folder, threads: 1 });
  const tokens = async (n: number, sampling: object) => {
    const choices: number[][] = Array.from({ length: n }, () => []);
    const request = { prompt: [1, 2, 3, 4, 5], maxTokens: 30, ignoreEos: true, n, sampling };
    for await (const chunk of engine.generate(request)) choices[chunk.index]!.push(...chunk.tokenIds);
    return choices;
  };
  const sampling = {
    temperature: 1,
    seed: 3,
    presencePenalty: 2,
    frequencyPenalty: 1,
    repetitionPenalty: 10,
    logitBias: [[33, 9], [34, -100]] as const,
  };
  const together = await tokens(3, sampling);
  for (let i = 0; i < 3; i++) {
    const [alone] = await tokens(1, { ...sampling, seed: 3 + i });
    assertEquals(together[i], alone);
  }
  assert(together.flat().includes(33));
  assert(!together.flat().includes(34));
  assert(JSON.stringify(await tokens(3, { temperature: 1, seed: 3 })) !== JSON.stringify(together));
});
