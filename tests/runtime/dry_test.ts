import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { join } from "node:path";
import { type Breakers, type DryOptions, DryPenalty, dryWords, putDry, takeDry } from "../../runtime/dry.ts";
import { BreakerIndex, checkDry } from "../../runtime/dry_check.ts";
import { InvalidRequestError } from "../../runtime/errors.ts";
import { loadModelFolder } from "../../runtime/model/folder.ts";
import { Ring } from "../../runtime/ring.ts";
import { type Sequence, type SequenceOptions, State } from "../../runtime/sequence.ts";
import type { SamplingParams } from "../../runtime/types.ts";
import { Bench } from "../harness.ts";

const model = await loadModelFolder(join(import.meta.dirname!, "../../models/tiny"));
const vocab = model.tables.config.vocab;
const index = new BreakerIndex({
  size: vocab,
  bytes: (token) => model.tokenizer.tokenBytes(token),
  encode: (text) => model.tokenizer.encode(text, { addSpecialTokens: false }),
});
const limits = { maxContext: 200, breakers: (texts: readonly string[]) => index.of(texts) };

/** Breakers of these sequences, in a vocabulary of 32. */
function breakersOf(sequences: readonly (readonly number[])[]): Breakers {
  const alone = new Uint32Array(1);
  const long = sequences.filter(({ length }) => length > 1);
  for (const tokens of sequences) if (tokens.length === 1) alone[0]! |= 1 << tokens[0]!;
  return {
    alone,
    heads: Int32Array.from(long, ([head]) => head!),
    tailOf: Int32Array.from(long, (_, i) => i),
    tailTokens: Int32Array.from(long.flatMap(([, ...tail]) => tail)),
    tailLengths: Int32Array.from(long, ({ length }) => length - 1),
  };
}

/** What DRY takes off each token's logit, from its definition. */
function penaltiesOf(
  known: readonly number[],
  sequences: readonly (readonly number[])[],
  { multiplier, base, allowedLength, lastTokens }: Omit<DryOptions, "breakers">,
): Map<number, number> {
  const seen = known.slice(-lastTokens);
  const found = new Map<number, number>();
  if (seen.length <= allowedLength) return found;
  let since = seen.length;
  for (let at = seen.length - 1; at >= 0; at--) {
    const here = sequences.filter((tokens) => tokens.every((token, i) => seen[at + i] === token));
    if (here.length === 0) continue;
    since = seen.length - at - Math.max(...here.map(({ length }) => length));
    break;
  }
  if (since < allowedLength) return found;
  for (let end = 1; end < seen.length; end++) {
    const token = seen[end]!;
    if (sequences.some((tokens) => tokens.length === 1 && tokens[0] === token)) continue;
    let length = 0;
    while (length < since && length < end && seen[end - 1 - length] === seen.at(-1 - length)) length++;
    if (length < allowedLength) continue;
    found.set(
      token,
      Math.max(found.get(token) ?? 0, Math.fround(multiplier * base ** (length - allowedLength))),
    );
  }
  return found;
}

function found(dry: DryPenalty): Map<number, number> {
  return new Map(Array.from({ length: dry.count }, (_, i) => [dry.tokens[i]!, dry.penalties[i]!]));
}

const options = fc.record({
  multiplier: fc.constantFrom(0.5, 4),
  base: fc.constantFrom(1, 1.75, 3),
  allowedLength: fc.nat(4),
  lastTokens: fc.constantFrom(3, 12, 1000),
});

Deno.test("DryPenalty.find() takes off what its definition says", () => {
  const token = fc.nat(3);
  const sequences = fc.uniqueArray(fc.array(fc.nat(5), { minLength: 1, maxLength: 3 }), {
    maxLength: 3,
    selector: (tokens) => tokens.join(),
  });
  let penalised = 0;
  fc.assert(
    fc.property(
      fc.array(token, { maxLength: 60, size: "max" }),
      sequences,
      options,
      (known, sequences, options) => {
        const dry = new DryPenalty({ ...options, breakers: breakersOf(sequences) }, 60);
        const tokens = Int32Array.from(known);
        // The same object at each length, as in an answer.
        for (let length = 0; length <= known.length; length++) {
          dry.find(tokens, length);
          const wanted = penaltiesOf(known.slice(0, length), sequences, options);
          assertEquals(found(dry), wanted, `after ${length}`);
          penalised += wanted.size;
        }
      },
    ),
    { numRuns: 300 },
  );
  assert(penalised > 1000);
});

Deno.test("DryPenalty.find() stays finite, and within the biases that a slot can have", () => {
  const breakers = { ...breakersOf([]), alone: new Uint32Array(128) };
  const long = new DryPenalty(
    { multiplier: 100, base: 50, allowedLength: 1, lastTokens: 900, breakers },
    900,
  );
  long.find(new Int32Array(900), 900);
  assertEquals(found(long), new Map([[0, Math.fround(3e38)]]));
  const all = Int32Array.from({ length: 3000 }, (_, i) => i);
  const wide = new DryPenalty({ multiplier: 1, base: 2, allowedLength: 0, lastTokens: 4000, breakers }, 3000);
  wide.find(all, 3000);
  assertEquals(wide.count, 1024);
  assert(wide.tokens.every((token) => token > 1900)); // the most recent ones
});

Deno.test("BreakerIndex.of() finds each way that tokens make a breaker's text", () => {
  const texts = ["\n", "he", "said:", '"'];
  const { alone, heads, tailOf, tailTokens, tailLengths } = index.of(texts);
  let single = 0;
  for (let token = 0; token < vocab; token++) {
    const text = new TextDecoder().decode(model.tokenizer.tokenBytes(token));
    const breaks = (alone[token >> 5]! >>> (token & 31) & 1) === 1;
    assertEquals(breaks, texts.some((breaker) => text.includes(breaker)), JSON.stringify(text));
    single += Number(breaks);
  }
  assert(single > 4 && heads.length > 4, `${single} and ${heads.length}`);
  heads.forEach((head, i) => {
    const from = tailLengths.slice(0, tailOf[i]!).reduce((sum, length) => sum + length, 0);
    const tail = [...tailTokens.subarray(from, from + tailLengths[tailOf[i]!]!)];
    const text = [head, ...tail].map((token) => new TextDecoder().decode(model.tokenizer.tokenBytes(token)));
    assert(
      texts.some((breaker) => text.join("").replaceAll(" ", "").includes(breaker)),
      JSON.stringify(text),
    );
  });
  assert(index.of([...texts]) === index.of(texts), "found twice");
});

Deno.test("checkDry() has llama.cpp's defaults, and is nothing where it does nothing", () => {
  const { breakers, ...rest } = checkDry({ dryMultiplier: 0.5 }, limits)!;
  assertEquals(rest, { multiplier: 0.5, base: 1.75, allowedLength: 2, lastTokens: 200 });
  assert(breakers === index.of(["\n", ":", '"', "*"]));
  assertEquals(checkDry({ dryMultiplier: 1, dryBase: 0.5 }, limits)!.base, 1.75);
  assertEquals(checkDry({ dryMultiplier: 1, dryPenaltyLastN: 7 }, limits)!.lastTokens, 7);
  for (const off of [{}, { dryBase: 2 }, { dryMultiplier: 1, dryPenaltyLastN: 0 }]) {
    assertEquals(checkDry(off, limits), null);
  }
});

const wrong: [sampling: SamplingParams, message: string][] = [
  [{ dryMultiplier: -1 }, "dry_multiplier is -1, wanted a number from 0 to 100"],
  [{ dryBase: NaN }, "dry_base is NaN, wanted a number from 0 to 100"],
  [{ dryAllowedLength: -1 }, "dry_allowed_length is -1, wanted an integer from 0 to 2147483647"],
  [{ dryPenaltyLastN: -2 }, "dry_penalty_last_n is -2, wanted an integer from -1 to 2147483647"],
  [{ drySequenceBreakers: ["a", ""] }, "dry_sequence_breakers has an empty text, wanted at most 64"],
  [{ drySequenceBreakers: Array(65).fill("a") }, "dry_sequence_breakers has 65 texts, wanted at most 64"],
];

Deno.test("checkDry() names field, value found and value wanted", () => {
  for (const [sampling, message] of wrong) {
    const error = assertThrows(
      () => checkDry({ dryMultiplier: 1, ...sampling }, limits),
      InvalidRequestError,
    );
    assert(error.message.startsWith(message), error.message);
  }
});

Deno.test("takeDry() takes what putDry() has put, in as many words as dryWords() says", () => {
  const put = checkDry({ dryMultiplier: 0.5, dryBase: 2, drySequenceBreakers: ["he said", "\n"] }, limits)!;
  const memory = Ring.allocate(1 << 14);
  const ring = new Ring(memory);
  putDry(ring, put);
  ring.publish();
  const consumer = new Ring(memory);
  assertEquals(consumer.available, dryWords(put));
  assertEquals(takeDry(consumer), put);
});

/** The token that wins once `logits` have what precedes them taken off. */
function winner(logits: Float32Array, sequence: Sequence, wanted: Partial<SequenceOptions>): number {
  const known = [...sequence.tokens.subarray(0, sequence.length)];
  const answer = known.slice(sequence.promptLength);
  const off = penaltiesOf(known, [], wanted.dry!);
  let best = 0;
  let most = -Infinity;
  for (let token = 0; token < logits.length; token++) {
    const count = answer.filter((one) => one === token).length;
    let x = Math.fround(logits[token]! - Math.fround(Math.fround(wanted.frequencyPenalty!) * count));
    const own = wanted.biasTokens!.indexOf(token);
    const bias = (own < 0 ? 0 : wanted.biasValues![own]!) - (off.get(token) ?? 0);
    x = Math.fround(x + Math.fround(bias));
    if (x > most) [best, most] = [token, x];
  }
  return best;
}

Deno.test("EngineLoop samples what is best without repetitions, beside other penalties and biases", () => {
  using on = new Bench(model.tables, model.dtype, {
    slots: 2,
    maxContext: 200,
    inFlight: 1,
    threads: 1,
    kvDtype: "f32",
  });
  const logits = new Float32Array(vocab);
  let changed = 0;
  const asked = fc.record({
    options,
    frequencyPenalty: fc.constantFrom(0, 0.2),
    own: fc.uniqueArray(fc.nat(vocab - 1), { maxLength: 40 }),
    editLimit: fc.constantFrom(3, 40, 1024),
    preempt: fc.boolean(),
  });
  fc.assert(
    fc.property(asked, ({ options, frequencyPenalty, own, editLimit, preempt }) => {
      const wanted = {
        dry: {
          ...options,
          multiplier: 6,
          breakers: { ...breakersOf([]), alone: new Uint32Array(Math.ceil(vocab / 32)) },
        },
        frequencyPenalty,
        biasTokens: Int32Array.from(own),
        biasValues: Float32Array.from(own, (token) => (token % 7) - 3),
      };
      on.host.scheduler.editLimit = editLimit;
      const prompt = model.tokenizer.encode("the fox saw the fox and the fox saw the");
      const sequence = on.sequence(prompt, 30, wanted);
      on.host.loop.submit(sequence);
      for (let turn = 0; sequence.state !== State.FINISHED; turn++) {
        const before = sequence.length;
        const { slot } = sequence;
        on.host.loop.turn(1_000_000);
        if (preempt && turn === 9 && sequence.state === State.RUNNING) {
          on.host.scheduler.preempt(sequence, on.host.loop.lastStep);
        }
        if (sequence.length === before || slot < 0 || sequence.slot !== slot) continue;
        on.host.engine.readLogits(slot, logits);
        const sampled = sequence.tokens[before]!;
        sequence.length = before; // as it was when the token was drawn
        assertEquals(sampled, winner(logits, sequence, wanted));
        sequence.length = before + 1;
        if (sampled !== logits.indexOf(Math.max(...logits))) changed++;
      }
      on.drain();
    }),
    { numRuns: 40, seed: 7 },
  );
  assert(changed > 20, `${changed} tokens were others than without penalties`);
});
