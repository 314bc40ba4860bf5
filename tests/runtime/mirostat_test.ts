import { assert, assertEquals, assertThrows } from "@std/assert";
import { join } from "node:path";
import { createEngine } from "../../runtime/engine.ts";
import { InvalidRequestError } from "../../runtime/errors.ts";
import { checkMirostat, Mirostat } from "../../runtime/mirostat.ts";
import { checkRequest } from "../../runtime/request.ts";
import { loadModelFolder } from "../../runtime/model/folder.ts";
import type { SamplingParams, TokenLogprob } from "../../runtime/types.ts";
import { Bench } from "../harness.ts";

const TINY = join(import.meta.dirname!, "../../models/tiny");
const model = await loadModelFolder(TINY);
const vocab = model.tables.config.vocab;
const prompt = model.tokenizer.encode("Once upon a time there was");

Deno.test("Mirostat.drawn() moves mu by its error", () => {
  const mirostat = new Mirostat({ version: 2, tau: 3, eta: 0.5 });
  assertEquals(mirostat.mu, 6);
  mirostat.drawn(5);
  assertEquals(mirostat.mu, 5);
  mirostat.drawn(0);
  assertEquals(mirostat.mu, 6.5);
});

/** What llama.cpp does with the best tokens of a distribution, as far as these are all that it keeps. */
function follow(top: TokenLogprob["top"], mu: number): { kept: number; bits: number[] } | null {
  const p = top.map(({ logprob }) => Math.exp(logprob));
  let kept = p.findIndex((one) => -Math.log2(one) > mu);
  if (kept < 0) return null;
  kept = Math.max(1, kept);
  const all = p.slice(0, kept).reduce((sum, one) => sum + one);
  return { kept, bits: p.slice(0, kept).map((one) => -Math.log2(one / all)) };
}

Deno.test("Engine.generate() draws under mirostat what llama.cpp's second version leaves, token by token", async () => {
  await using engine = await createEngine({ model: TINY, threads: 1, slots: 2 });
  let looked = 0, cut = 0;
  for (const [seed, tau, eta] of [[1, 1, 0.1], [2, 1.5, 0.5], [3, 0.5, 1], [4, 2, 0.3]] as const) {
    let mu = 2 * tau;
    let known = true;
    const sampling = {
      temperature: 1,
      seed,
      mirostat: 2,
      mirostatTau: tau,
      mirostatEta: eta,
      topK: 1,
    } as const;
    const request = { prompt, maxTokens: 60, ignoreEos: true, logprobs: 20, sampling };
    for await (const { logprobs } of engine.generate(request)) {
      for (const { token, top } of logprobs!) {
        const left = follow(top, mu);
        // Too flat for the alternatives that are told: from here on mu is not known.
        if (left === null) known = false;
        if (left === null || !known) continue;
        const rank = top.findIndex((one) => one.token === token);
        assert(rank >= 0 && rank < left.kept, `rank ${rank} of ${left.kept}, mu ${mu}`);
        mu -= eta * (left.bits[rank]! - tau);
        looked++;
        if (left.kept < 20) cut++;
      }
    }
  }
  assert(looked > 60 && cut > 60, `${looked} tokens looked at, ${cut} cut`);
});

Deno.test("EngineLoop keeps the mean surprise near what mirostat aims at", () => {
  using bench = new Bench(model.tables, model.dtype, { slots: 1, maxContext: 1024, threads: 1 });
  for (const version of [1, 2] as const) {
    for (const tau of [2, 4]) {
      // Warm enough to surprise more than that by itself.
      const options = { temperature: 2, mirostat: { version, tau, eta: 0.1 }, seedLo: 7 };
      const sequence = bench.sequence(prompt, 600, options);
      let sum = 0, count = 0;
      const { mirostat } = sequence;
      const drawn = mirostat!.drawn.bind(mirostat);
      mirostat!.drawn = (bits) => {
        assert(bits >= 0);
        if (count++ >= 50) sum += bits;
        drawn(bits);
      };
      bench.host.loop.submit(sequence);
      bench.drain();
      assertEquals(count, 600);
      const mean = sum / (count - 50);
      assert(Math.abs(mean - tau) < 0.25 * tau, `version ${version}: ${mean} bits, wanted ${tau}`);
    }
  }
});

Deno.test("checkRequest() leaves a request with mirostat its temperature, biases and rules alone", () => {
  const limits = {
    vocab,
    maxContext: 512,
    eosTokenIds: model.eosTokenIds,
    defaults: { topK: 40, topP: 0.9, minP: 0.1 },
    masks: true,
    encode: (text: string) => model.tokenizer.encode(text, { addSpecialTokens: false }),
    breakers: () => {
      throw new Error("not asked for");
    },
  };
  const baseOf = (sampling: SamplingParams) =>
    checkRequest({ sampling, minTokens: 3, maxTokens: 9 }, prompt, limits).base;
  const others = { presencePenalty: 1, repetitionPenalty: 1.2, typicalP: 0.5, logitBias: [[5, 1]] } as const;
  const base = baseOf({ mirostat: 2, mirostatTau: 3, temperature: 0.8, ...others });
  assertEquals(base.mirostat, { version: 2, tau: 3, eta: Math.fround(0.1) });
  assertEquals([base.temperature, base.topK, base.topP, base.minP], [0.8, 0, 1, 0]);
  assertEquals([base.presencePenalty, base.repetitionPenalty, base.samplers], [0, 1, null]);
  assertEquals([...base.biasTokens], [5]);
  assert(base.rules !== null);
  // Greedy is greedy, and its penalties stay.
  const greedy = baseOf({ mirostat: 1, temperature: 0, ...others });
  assertEquals([greedy.mirostat, greedy.presencePenalty, greedy.topK], [null, 1, 40]);
});

Deno.test("checkMirostat() names field, found and wanted", () => {
  assertEquals(checkMirostat({}), null);
  assertEquals(checkMirostat({ mirostat: 0, mirostatTau: 4 }), null);
  assertEquals(checkMirostat({ mirostat: 1 })?.tau, 5);
  for (
    const [sampling, message] of [
      [{ mirostat: 3 as 2 }, "mirostat is 3, wanted 0, 1 or 2"],
      [{ mirostat: 2 as const, mirostatTau: NaN }, "mirostat_tau is NaN"],
      [{ mirostat: 2 as const, mirostatEta: -1 }, "mirostat_eta is -1"],
    ] as const
  ) assertThrows(() => checkMirostat(sampling), InvalidRequestError, message);
});
