import { assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { Tokenizer } from "@huggingface/tokenizers";
import fc from "fast-check";
import { join } from "node:path";
import { ModelError } from "../../runtime/errors.ts";
import { ModelTokenizer } from "../../runtime/model/tokenizer.ts";
import { referenceDecode } from "./reference_decoder.ts";
import { fixtureNames, FIXTURES, readGolden, sharedTest, TINY_TOKENIZER } from "./support.ts";

const KINDS = fixtureNames("tokenizers");
const load = (kind: string) => ModelTokenizer.fromFolder(join(FIXTURES, "tokenizers", kind));

interface Golden {
  cases: {
    text: string;
    ids: number[];
    ids_plain: number[];
    decoded: string;
    decoded_special: string;
    decoded_plain: string;
  }[];
  decodes: { ids: number[]; decoded: string; decoded_special: string }[];
}

for (const kind of KINDS) {
  const golden: Golden = readGolden("tokenizers", kind, "golden.json");

  Deno.test(`ModelTokenizer.encode() equals Python's for ${kind}`, async () => {
    const tokenizer = await load(kind);
    for (const { text, ids, ids_plain } of golden.cases) {
      assertEquals(tokenizer.encode(text), ids, text);
      assertEquals(tokenizer.encode(text, { addSpecialTokens: false }), ids_plain, text);
    }
  });

  Deno.test(`ModelTokenizer.decode() equals Python's for ${kind}`, async () => {
    const tokenizer = await load(kind);
    for (const { ids, ids_plain, decoded, decoded_special, decoded_plain } of golden.cases) {
      assertEquals(tokenizer.decode(ids), decoded);
      assertEquals(tokenizer.decode(ids, { skipSpecialTokens: false }), decoded_special);
      assertEquals(tokenizer.decode(ids_plain), decoded_plain);
    }
  });

  Deno.test(`ModelTokenizer.decode() equals Python's for broken sequences of ${kind}, but keeps whole characters`, async () => {
    const tokenizer = await load(kind);
    const json = readGolden("tokenizers", kind, "tokenizer.json");
    for (const { ids, decoded, decoded_special } of golden.decodes) {
      for (const [skipSpecialTokens, wanted] of [[true, decoded], [false, decoded_special]] as const) {
        assertEquals(referenceDecode(json, ids, skipSpecialTokens, "python"), wanted);
        const got = tokenizer.decode(ids, { skipSpecialTokens });
        assertEquals(got, referenceDecode(json, ids, skipSpecialTokens, "sentencepiece"));
        if (!json.model.byte_fallback) assertEquals(got, wanted);
      }
    }
  });

  Deno.test(`ModelTokenizer.tokenBytes() of ${kind} concatenates to the text's UTF-8`, async () => {
    const tokenizer = await load(kind);
    for (const { ids_plain } of golden.cases) {
      const bytes = ids_plain.filter((id) => !tokenizer.isSpecial(id)).flatMap((
        id,
      ) => [...tokenizer.tokenBytes(id)]);
      const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes));
      // Some decoders leave out the space that the tokenizer put before the first word.
      const decoded = tokenizer.decode(ids_plain);
      assertEquals(text === decoded || text === " " + decoded, true, JSON.stringify([text, decoded]));
    }
  });
}

Deno.test("ModelTokenizer.tokenBytes() gives the token's own bytes", async () => {
  const text = (tokenizer: ModelTokenizer, token: string) => {
    const [id] = tokenizer.encode(token, { addSpecialTokens: false }).slice(-1);
    return new TextDecoder().decode(tokenizer.tokenBytes(id!));
  };
  const llama3 = await load("bytelevel-bpe-llama3");
  assertEquals(text(llama3, "a the"), " the");
  assertEquals(text(llama3, "<|eot_id|>"), "<|eot_id|>");
  assertEquals(llama3.isSpecial(llama3.encode("<|eot_id|>").at(-1)!), true);
  assertEquals(llama3.tokenBytes(1_000_000), new Uint8Array(0));
  const llama2 = await load("sentencepiece-bpe");
  assertEquals(text(llama2, "a the"), " the");
  assertEquals([...llama2.tokenBytes(llama2.encode("\u{1f9a9}").at(-1)!)], [0xa9]);
});

Deno.test("ModelTokenizer.encode() adds BOS once", () => {
  const bos = (config: object, post_processor: object | null = null) =>
    ModelTokenizer.fromJson({ ...TINY_TOKENIZER, post_processor }, {
      bos_token: "<s>",
      eos_token: "</s>",
      ...config,
    })
      .encode("ab");
  const template = {
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
    pair: [],
    special_tokens: { "<s>": { id: "<s>", ids: [1], tokens: ["<s>"] } },
  };
  assertEquals(bos({}), [6]);
  assertEquals(bos({ add_bos_token: true }), [1, 6]);
  assertEquals(bos({ add_bos_token: true, bos_token: { content: "<s>" } }), [1, 6]);
  assertEquals(bos({ add_bos_token: true }, template), [1, 6]);
  assertEquals(bos({}, template), [1, 6]);
  // transformers' Llama classes go by the flags alone.
  assertEquals(bos({ tokenizer_class: "LlamaTokenizer" }), [1, 6]);
  assertEquals(bos({ tokenizer_class: "LlamaTokenizerFast", add_bos_token: false }, template), [6]);
  assertEquals(bos({ tokenizer_class: "LlamaTokenizer", add_eos_token: true }), [1, 6, 2]);
});

Deno.test("ModelTokenizer.encode() recognises special tokens in a text without adding any", () => {
  const tokenizer = ModelTokenizer.fromJson(TINY_TOKENIZER, { bos_token: "<s>", add_bos_token: true });
  assertEquals(tokenizer.encode("<s>abc</s>", { addSpecialTokens: false }), [1, 7, 2]);
  assertEquals([tokenizer.bosTokenId, tokenizer.eosTokenId, tokenizer.vocabSize], [1, null, 8]);
});

Deno.test("ModelTokenizer.encode() splits words at Metaspace marks unless told not to", () => {
  const tokenizer = (pre_tokenizer: object) =>
    ModelTokenizer.fromJson({
      ...TINY_TOKENIZER,
      pre_tokenizer: { type: "Metaspace", replacement: "▁", ...pre_tokenizer },
      model: {
        type: "BPE",
        unk_token: "<unk>",
        vocab: { "<unk>": 0, "<s>": 1, "</s>": 2, "▁": 3, a: 4, "▁▁": 5, "▁a": 6 },
        merges: ["▁ ▁", "▁ a"],
      },
    }, {});
  assertEquals(tokenizer({}).encode("a  a"), [6, 3, 6]);
  assertEquals(tokenizer({ split: false }).encode("a  a"), [6, 5, 4]);
  assertEquals(tokenizer({ add_prefix_space: false }).encode("a a"), [4, 6]);
  assertEquals(tokenizer({ prepend_scheme: "never" }).encode("a a"), [4, 6]);
});

for (const kind of ["sentencepiece-bpe", "metaspace-bpe"]) {
  Deno.test(`ModelTokenizer.encode() takes ${kind} word by word without changing a token`, async () => {
    const tokenizer = await load(kind);
    const library = new Tokenizer(
      readGolden("tokenizers", kind, "tokenizer.json"),
      readGolden("tokenizers", kind, "tokenizer_config.json"),
    );
    const unit = fc.constantFrom(
      " ",
      " ",
      "▁",
      "e",
      "th",
      "ing",
      "ship",
      ".",
      "\n",
      "é",
      "🚢",
      "</s>",
      "<0x41>",
    );
    fc.assert(
      fc.property(fc.array(unit, { maxLength: 60 }), (units) => {
        const text = units.join("");
        const { ids } = library.encode(text, { add_special_tokens: false });
        assertEquals(tokenizer.encode(text, { addSpecialTokens: false }), ids);
      }),
      { numRuns: 1000 },
    );
  });
}

sharedTest(
  "ModelTokenizer.encode() gives the prompts of stories260K",
  "models/stories260K",
  async (folder) => {
    const tokenizer = await ModelTokenizer.fromFolder(folder);
    for (
      const { prompt, prompt_ids, greedy_ids, text } of JSON.parse(
        Deno.readTextFileSync(join(folder, "greedy.json")),
      )
    ) {
      assertEquals(tokenizer.encode(prompt), prompt_ids);
      const detokenizer = tokenizer.detokenizer({ prompt: prompt_ids });
      const streamed = greedy_ids.map((id: number) => detokenizer.push(id)).join("") + detokenizer.finish();
      assertEquals(streamed.trim(), text.trim());
    }
  },
);

Deno.test("ModelTokenizer.fromJson() refuses decoders that cannot be streamed", () => {
  const build = (...types: string[]) =>
    ModelTokenizer.fromJson({
      ...TINY_TOKENIZER,
      decoder: { type: "Sequence", decoders: types.map((type) => ({ type })) },
    }, {});
  assertThrows(() => build("CTC"), ModelError, "decoder CTC is not supported (decoders: CTC)");
  assertThrows(() => build("Fuse", "ByteFallback"), ModelError, "ByteFallback after Fuse");
  assertThrows(() => build("ByteFallback", "Strip"), ModelError, "needs Fuse before it");
  assertThrows(() => build("Fuse", "Replace"), ModelError, "Replace after ByteFallback or Fuse");
  assertNotEquals(build("ByteFallback", "Fuse", "Strip"), null);
});
