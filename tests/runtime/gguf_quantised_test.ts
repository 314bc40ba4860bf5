/**
 * Quantised weights: logits against a double-precision computation from the numbers that the blocks stand for, and
 * greedy ids against that and against llama.cpp.
 *
 * Engines round activations to eight bits. What that does to these models is computed too, by the same reference with
 * activations that are rounded: the errors of an engine, whose sums and places of rounding differ, may be half as large
 * again.
 */
import { assert, assertEquals } from "@std/assert";
import { loadModelTables } from "../../runtime/model/tables.ts";
import { withFile } from "../gguf_models.ts";
import { Bench } from "../harness.ts";
import { ANSWER_TOKENS, askLlamaCpp, committedIds, PROMPTS } from "../llama_cpp.ts";
import { BLOCK_FORMATS, Reference, writeQuantisedModel } from "../quantised_model.ts";

/** How far the error's root mean square may be above that of rounded activations. */
const ALLOWED = 1.5;
/** An error of one logit that is no longer noise, in root mean squares: the difference of two is sqrt(2) of them. */
const OUTLIER = 6;
/** Of the 48 tokens of a format, those where the two best logits are further apart: at least. */
const CLEAR_TOKENS = 12;

const difference = (a: ArrayLike<number>, b: ArrayLike<number>) => Array.from(a, (value, i) => value - b[i]!);
const squares = (values: readonly number[]) => values.reduce((total, value) => total + value * value, 0);
/** The root mean square of all numbers of several lists. */
const rms = (lists: readonly number[][]) =>
  Math.sqrt(
    lists.reduce((total, list) => total + squares(list), 0) / lists.reduce((n, list) => n + list.length, 0),
  );

/** Greedy tokens of an engine, and the logits that each was chosen by. */
function run(on: Bench, prompt: readonly number[], vocab: number): { ids: number[]; logits: Float32Array[] } {
  const sequence = on.sequence(prompt, ANSWER_TOKENS);
  const logits: Float32Array[] = [];
  on.host.loop.submit(sequence);
  for (let slot = 0; !on.host.loop.idle;) {
    on.host.loop.turn(1_000_000);
    if (sequence.slot >= 0) slot = sequence.slot;
    if (sequence.generated === logits.length) continue;
    const found = new Float32Array(vocab);
    on.host.engine.readLogits(slot, found);
    logits.push(found);
  }
  return { ids: on.sink.of(sequence.id).tokens, logits };
}

/** How far each token is below the best one, and the best one above the second. */
function choices(logits: readonly Float64Array[], ids: readonly number[]): { below: number; gap: number }[] {
  return logits.map((all, i) => {
    const [first = 0, second = 0] = all.toSorted((a, b) => b - a);
    return { below: first - all[ids[i]!]!, gap: first - second };
  });
}

const nodeModules = Deno.env.get("KVRM_NODE_LLAMA_CPP");

BLOCK_FORMATS.forEach((format, number) => {
  Deno.test(`EngineLoop computes ${format} weights within the noise of eight-bit activations, and so does llama.cpp`, async () => {
    await withFile(`${format}.gguf`, async (path) => {
      writeQuantisedModel(path, format);
      const exact = Reference.read(path);
      const rounding = exact.rounding();
      const { tables, dtype } = await loadModelTables(path);
      assertEquals(dtype, format.toLowerCase());
      using on = new Bench(tables, dtype, { slots: 4, inFlight: 1, kvDtype: "f32", prefixCache: false });
      const found: number[][] = [], expected: number[][] = [];
      const ours: ReturnType<typeof choices> = [], theirs: ReturnType<typeof choices> = [];
      PROMPTS.forEach((prompt, p) => {
        const { ids, logits } = run(on, prompt, tables.config.vocab);
        const wanted = exact.along(prompt, ids);
        const noisy = rounding.along(prompt, ids);
        wanted.forEach((all, i) => {
          found.push(difference(logits[i]!, all));
          expected.push(difference(noisy[i]!, all));
        });
        ours.push(...choices(wanted, ids));
        const answer = committedIds().ids[number]![p]!;
        theirs.push(...choices(exact.along(prompt, answer), answer));
      });
      const noise = rms(expected);
      assert(rms(found) < ALLOWED * noise, `error ${rms(found)}, of rounded activations ${noise}`);
      const limit = OUTLIER * Math.SQRT2 * noise;
      for (const [who, tokens] of [["kvrm", ours], ["llama.cpp", theirs]] as const) {
        const worst = Math.max(...tokens.map(({ below }) => below));
        assert(
          worst < limit,
          `${who} chose a token whose logit is ${worst} below the best, wanted below ${limit}`,
        );
        const clear = tokens.filter(({ gap }) => gap > limit).length;
        assert(clear >= CLEAR_TOKENS, `${who}: only ${clear} tokens have no rival within ${limit}`);
      }
    });
  });
});

Deno.test({
  name: "askLlamaCpp() gives the committed ids" +
    (nodeModules === undefined
      ? " (skipped: KVRM_NODE_LLAMA_CPP names no node_modules with node-llama-cpp)"
      : ""),
  ignore: nodeModules === undefined,
  fn: async () => assertEquals((await askLlamaCpp(nodeModules!)).ids, committedIds().ids),
});
