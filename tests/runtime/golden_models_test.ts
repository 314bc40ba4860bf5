import { assert, assertEquals } from "@std/assert";
import { loadModelTables } from "../../runtime/model/tables.ts";
import type { EngineOptions } from "../../runtime/options.ts";
import type { KvMode } from "../../runtime/types.ts";
import { FIXTURES, type Golden, goldenModels, readGolden, relativeError, sharedFolder } from "../golden.ts";
import { Bench } from "../harness.ts";

/** The issue asks for 1e-4 in F32; weights in BF16 and F16 are computed in F32 as well. */
const TOLERANCE = 1e-4;
const MODES: readonly KvMode[] = ["kv-rm", "static", "static-padded", "paged"];

async function bench(folder: string, options: Omit<EngineOptions, "model"> = {}): Promise<Bench> {
  const model = await loadModelTables(folder);
  return new Bench(model.tables, model.dtype, { slots: 4, blockTokens: 16, kvDtype: "f32", ...options });
}

/** Logits after the last token of `ids`, from the slot that just sampled. */
function lastLogits(on: Bench, ids: readonly number[], vocab: number): Float32Array {
  const sequence = on.sequence(ids, 1);
  let slot = 0;
  on.host.loop.submit(sequence);
  on.drain(() => slot = sequence.slot >= 0 ? sequence.slot : slot);
  const out = new Float32Array(vocab);
  on.host.engine.readLogits(Math.max(slot, 0), out);
  return out;
}

function vocabOf(golden: Golden, tensor: (key: string) => Float32Array): number {
  const prompt = golden.prompts[0]!;
  return tensor(prompt.step_logits).length / prompt.greedy_ids.length;
}

for (const name of goldenModels()) {
  const folder = `${FIXTURES}/models/${name}`;

  Deno.test(`EngineLoop gives HF's logits of ${name} at every prompt position`, async () => {
    const { golden, tensor } = readGolden(name);
    using on = await bench(folder, { inFlight: 1, prefixCache: false, prefillChunk: 16 });
    const vocab = vocabOf(golden, tensor);
    for (const prompt of golden.prompts) {
      if (prompt.prompt_logits === null) continue;
      const wanted = tensor(prompt.prompt_logits);
      for (let length = 1; length <= prompt.ids.length; length++) {
        const found = lastLogits(on, prompt.ids.slice(0, length), vocab);
        const error = relativeError(found, wanted.subarray((length - 1) * vocab, length * vocab));
        assert(error < TOLERANCE, `${name} ${prompt.name}, position ${length - 1}: relative error ${error}`);
      }
    }
  });

  Deno.test(`EngineLoop gives HF's logits of ${name} at every decode step, for one-token and chunked prefill`, async () => {
    const { golden, tensor } = readGolden(name);
    using on = await bench(folder, { inFlight: 1, prefixCache: false, prefillChunk: 64 });
    const vocab = vocabOf(golden, tensor);
    for (const chunk of [1, 64]) {
      on.host.scheduler.chunkLimit = chunk;
      for (const prompt of golden.prompts) {
        const wanted = tensor(prompt.step_logits);
        const sequence = on.sequence(prompt.ids, prompt.greedy_ids.length);
        on.host.loop.submit(sequence);
        const found = new Float32Array(vocab);
        let slot = 0;
        let seen = 0;
        while (!on.host.loop.idle) {
          on.host.loop.turn(1_000_000);
          if (sequence.slot >= 0) slot = sequence.slot;
          if (sequence.generated === seen) continue;
          on.host.engine.readLogits(slot, found);
          const error = relativeError(found, wanted.subarray(seen * vocab, (seen + 1) * vocab));
          assert(error < TOLERANCE, `${name} ${prompt.name}, step ${seen}, chunk ${chunk}: error ${error}`);
          seen++;
        }
        assertEquals(seen, prompt.greedy_ids.length);
      }
    }
  });

  Deno.test(`EngineLoop gives HF's greedy ids of ${name} in every kv-mode`, async () => {
    const { golden } = readGolden(name);
    for (const kvMode of MODES) {
      using on = await bench(folder, { kvMode });
      const sequences = golden.prompts.map((prompt) => on.sequence(prompt.ids, prompt.greedy_ids.length));
      const eos = on.sequence(golden.eos_prompt.ids, 32, { stopTokens: Int32Array.from(golden.eos_ids) });
      for (const sequence of [...sequences, eos]) on.host.loop.submit(sequence);
      on.drain();
      golden.prompts.forEach((prompt, i) => {
        assertEquals(on.sink.of(sequences[i]!.id).tokens, prompt.greedy_ids, `${kvMode} ${prompt.name}`);
      });
      assertEquals(on.sink.of(eos.id).tokens, golden.eos_prompt.greedy_ids, `${kvMode} eos`);
      on.host.pager.checkInvariants();
    }
  });
}

Deno.test("EngineLoop gives the reference's greedy ids of stories260K in every kv-mode", {
  ignore: sharedFolder("models/stories260K") === null,
}, async () => {
  const folder = sharedFolder("models/stories260K")!;
  const golden = JSON.parse(Deno.readTextFileSync(`${folder}/greedy.json`)) as {
    prompt: string;
    prompt_ids: number[];
    greedy_ids: number[];
  }[];
  for (const kvMode of MODES) {
    using on = await bench(folder, { kvMode });
    const sequences = golden.map((entry) => on.sequence(entry.prompt_ids, entry.greedy_ids.length));
    for (const sequence of sequences) on.host.loop.submit(sequence);
    on.drain();
    golden.forEach((entry, i) => {
      assertEquals(on.sink.of(sequences[i]!.id).tokens, entry.greedy_ids, `${kvMode}: ${entry.prompt}`);
    });
  }
});
