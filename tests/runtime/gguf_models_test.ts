import { assert, assertEquals } from "@std/assert";
import { loadModel } from "../../runtime/model/folder.ts";
import { FIXTURES, goldenModels, readGolden, relativeError, sharedFolder } from "../golden.ts";
import { withFile, writeFolderAsGguf } from "../gguf_models.ts";
import { Bench } from "../harness.ts";

/** As for safetensors: the weights are the same. */
const TOLERANCE = 1e-4;
/** Layers with and without a window: GGUF has one window for all. */
const NOT_IN_GGUF = ["qwen2-swa"];

for (const name of goldenModels()) {
  if (NOT_IN_GGUF.includes(name)) continue;
  const folder = `${FIXTURES}/models/${name}`;

  Deno.test(`EngineLoop gives HF's logits and greedy ids of ${name} from a GGUF file`, async () => {
    await withFile(`${name}.gguf`, async (path) => {
      await writeFolderAsGguf(folder, path);
      const { golden, tensor } = readGolden(name);
      const model = await loadModel(path);
      assertEquals([model.id, model.notes], [name, []]);
      const options = { slots: 4, blockTokens: 16, kvDtype: "f32", inFlight: 1, prefixCache: false } as const;
      using on = new Bench(model.tables, model.dtype, options);
      const found = new Float32Array(model.tables.config.vocab);
      for (const prompt of golden.prompts) {
        const wanted = tensor(prompt.step_logits);
        const sequence = on.sequence(prompt.ids, prompt.greedy_ids.length);
        on.host.loop.submit(sequence);
        for (let slot = 0, seen = 0; !on.host.loop.idle;) {
          on.host.loop.turn(1_000_000);
          if (sequence.slot >= 0) slot = sequence.slot;
          if (sequence.generated === seen) continue;
          on.host.engine.readLogits(slot, found);
          const error = relativeError(found, wanted.subarray(seen * found.length, (seen + 1) * found.length));
          assert(error < TOLERANCE, `${name} ${prompt.name}, step ${seen}: relative error ${error}`);
          seen++;
        }
        assertEquals(on.sink.of(sequence.id).tokens, prompt.greedy_ids, `${name} ${prompt.name}`);
      }
    });
  });
}

Deno.test("loadModel() reads a tokenizer and a chat template from a GGUF file, from text to text", async () => {
  await withFile("llama3.gguf", async (path) => {
    await writeFolderAsGguf(`${FIXTURES}/models/llama3`, path);
    const model = await loadModel(path, { id: "some/name" });
    assertEquals([model.id, model.architecture, model.dtype], ["some/name", "LlamaForCausalLM", "f32"]);
    assertEquals([...model.eosTokenIds].sort(), [257, 258]);
    const { text } = JSON.parse(Deno.readTextFileSync(`${FIXTURES}/models/llama3/golden.json`));
    assertEquals(model.tokenizer.encode(text.completion.prompt), text.completion.ids);
    assertEquals(model.tokenizer.decode(text.completion.greedy_ids), text.completion.greedy_text);
    assertEquals(model.chatTemplate!.render(text.chat.messages), text.chat.rendered);
    assertEquals(model.tokenizer.encode(text.chat.rendered, { addSpecialTokens: false }), text.chat.ids);
  });
});

Deno.test("EngineLoop gives the reference's greedy ids of stories260K from a GGUF file", {
  ignore: sharedFolder("models/stories260K") === null,
}, async () => {
  const folder = sharedFolder("models/stories260K")!;
  await withFile("stories260K.gguf", async (path) => {
    await writeFolderAsGguf(folder, path);
    const model = await loadModel(path);
    using on = new Bench(model.tables, model.dtype, { slots: 4, kvDtype: "f32" });
    const golden = JSON.parse(Deno.readTextFileSync(`${folder}/greedy.json`)) as {
      prompt: string;
      prompt_ids: number[];
      greedy_ids: number[];
    }[];
    for (const { prompt, prompt_ids, greedy_ids } of golden) {
      assertEquals(model.tokenizer.encode(prompt), prompt_ids, prompt);
      assertEquals(on.run(prompt_ids, greedy_ids.length).tokens, greedy_ids, prompt);
    }
  });
});
