import { assertEquals, assertThrows } from "@std/assert";
import { join } from "node:path";
import { type GgufValue, writeGguf } from "../../bench/peers/gguf_writer.ts";
import { ModelError } from "../../runtime/errors.ts";
import { readGgufHeader } from "../../runtime/model/gguf/reader.ts";
import { type GgufTokenizer, readGgufTokenizer } from "../../runtime/model/gguf/tokenizer.ts";
import { tokenizerMetadata, withFile } from "../gguf_models.ts";
import { FIXTURES, readGolden } from "./support.ts";

/** What a GGUF file with these metadata has for a tokenizer. */
async function read(metadata: Record<string, GgufValue>): Promise<GgufTokenizer> {
  let found: GgufTokenizer;
  await withFile("vocabulary.gguf", (path) => {
    writeGguf(path, metadata, []);
    found = readGgufTokenizer(readGgufHeader(path).metadata, path);
    found.tokenizer.prepare();
  });
  return found!;
}

interface Case {
  text: string;
  ids: number[];
  ids_plain: number[];
  decoded: string;
  decoded_special: string;
}

/** "metaspace-bpe" puts no space after a special token, where SentencePiece's files mean one. */
const KINDS = ["bytelevel-bpe", "bytelevel-bpe-llama3", "bytelevel-bpe-qwen2", "sentencepiece-bpe"];

for (const kind of KINDS) {
  const cases: Case[] = readGolden("tokenizers", kind, "golden.json").cases;

  Deno.test(`readGgufTokenizer() of ${kind} encodes and decodes as Python's tokenizers does from tokenizer.json`, async () => {
    const { tokenizer, notes } = await read(tokenizerMetadata(join(FIXTURES, "tokenizers", kind), 0));
    assertEquals(notes, []);
    for (const { text, ids, ids_plain, decoded, decoded_special } of cases) {
      assertEquals(tokenizer.encode(text), ids, text);
      assertEquals(tokenizer.encode(text, { addSpecialTokens: false }), ids_plain, text);
      assertEquals(tokenizer.decode(ids), decoded, text);
      assertEquals(tokenizer.decode(ids, { skipSpecialTokens: false }), decoded_special, text);
      const detokenizer = tokenizer.detokenizer();
      assertEquals(ids.map((id) => detokenizer.push(id)).join("") + detokenizer.finish(), decoded, text);
    }
  });
}

/** SentencePiece pieces with their scores; 0 to 2 are special. */
function pieces(list: [piece: string, score: number, type?: number][], more: Record<string, GgufValue> = {}) {
  const all: [string, number, number?][] = [["<unk>", 0, 2], ["<s>", 0, 3], ["</s>", 0, 3], ...list];
  return read({
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": { strings: all.map(([piece]) => piece) },
    "tokenizer.ggml.scores": { f32s: all.map(([, score]) => score) },
    "tokenizer.ggml.token_type": { i32s: all.map(([, , type]) => type ?? 1) },
    ...more,
  });
}

Deno.test("readGgufTokenizer() joins the pieces with the highest score first, the leftmost of equals", async () => {
  const list: [string, number][] = [["a", 0], ["b", 0], ["c", 0], ["ab", -3], ["bc", -2], ["aa", -4]];
  const plain = { "tokenizer.ggml.add_space_prefix": false, "tokenizer.ggml.add_bos_token": false };
  const { tokenizer } = await pieces(list, plain);
  assertEquals(tokenizer.encode("abc"), [3, 7]);
  assertEquals(tokenizer.encode("aaa"), [8, 3]);
  assertEquals(tokenizer.encode("aabaa"), [3, 6, 8]);
});

Deno.test("readGgufTokenizer() falls back to bytes, and to the unknown token where there are none", async () => {
  const bytes: [string, number, number][] = [["<0xC3>", 0, 6], ["<0xA9>", 0, 6]];
  const { tokenizer } = await pieces([["\u2581", -1], ["a", -1], ...bytes]);
  assertEquals(tokenizer.encode("a\u00e9"), [1, 3, 4, 5, 6]);
  assertEquals(tokenizer.decode([1, 3, 4, 5, 6]), "a\u00e9");
  assertEquals(tokenizer.encode("z"), [1, 3, 0]);
});

Deno.test("readGgufTokenizer() takes BOS and EOS as the file says, else as the kind has them", async () => {
  const encode = async (more: Record<string, GgufValue>) =>
    (await pieces([["\u2581", -1], ["a", -1]], more)).tokenizer.encode("a");
  assertEquals(await encode({}), [1, 3, 4]);
  assertEquals(await encode({ "tokenizer.ggml.add_bos_token": false }), [3, 4]);
  assertEquals(await encode({ "tokenizer.ggml.add_eos_token": true }), [1, 3, 4, 2]);
  assertEquals(await encode({ "tokenizer.ggml.bos_token_id": { u32: 2 } }), [2, 3, 4]);
  assertEquals(await encode({ "tokenizer.ggml.bos_token_id": { u32: 0xffffffff } }), [3, 4]);
  assertEquals(await encode({ "tokenizer.ggml.add_space_prefix": false }), [1, 4]);
});

Deno.test("readGgufTokenizer() tells control, user-defined and unused tokens apart", async () => {
  const list: [string, number, number?][] = [
    ["\u2581", -1],
    ["a", -1],
    ["<|im_end|>", 0, 3],
    ["<tool \u00e9>", 0, 4],
    ["[PAD]", 0, 5],
  ];
  const { tokenizer, eosTokenIds } = await pieces(list, { "tokenizer.ggml.eot_token_id": { u32: 1 } });
  assertEquals(tokenizer.encode("a<|im_end|>a<tool \u00e9>"), [1, 3, 4, 5, 3, 4, 6]);
  assertEquals(tokenizer.decode([1, 3, 4, 5, 6, 7]), "a<tool \u00e9>");
  assertEquals(tokenizer.decode([4, 5, 6], { skipSpecialTokens: false }), "a<|im_end|><tool \u00e9>");
  assertEquals(eosTokenIds, [2, 1, 5]);
  assertEquals([tokenizer.isSpecial(5), tokenizer.isSpecial(6)], [true, false]);
  assertEquals(new TextDecoder().decode(tokenizer.tokenBytes(6)), "<tool \u00e9>");
});

Deno.test("readGgufTokenizer() reads the chat templates, with the special tokens for them", async () => {
  const main = "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}";
  const messages = [{ role: "user", content: "Hi" }];
  const one = await pieces([], { "tokenizer.chat_template": main });
  assertEquals(one.chatTemplate!.render(messages), "<s>Hi</s>");
  const two = await pieces([], {
    "tokenizer.chat_template": main,
    "tokenizer.chat_templates": { strings: ["tool_use"] },
    "tokenizer.chat_template.tool_use": "tools: {{ tools | length }}",
  });
  assertEquals(two.chatTemplate!.render(messages, { tools: [{}, {}] }), "tools: 2");
  assertEquals((await pieces([])).chatTemplate, null);
});

Deno.test("readGgufTokenizer() names the file, the key, what it is and what is wanted", async () => {
  await withFile("vocabulary.gguf", (path) => {
    const refuses = (metadata: Record<string, GgufValue>, ...parts: string[]) => {
      writeGguf(path, metadata, []);
      const error = assertThrows(() => readGgufTokenizer(readGgufHeader(path).metadata, path), ModelError);
      for (const part of [path, ...parts]) assertEquals(error.message.includes(part), true, error.message);
    };
    const tokens = { strings: ["a", "b"] };
    refuses({}, 'tokenizer.ggml.model is missing, wanted "llama" or "gpt2"');
    refuses({ "tokenizer.ggml.model": "bert" }, 'tokenizer.ggml.model is "bert"');
    refuses({ "tokenizer.ggml.model": "llama" }, "tokenizer.ggml.tokens is missing");
    const llama = { "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": tokens };
    refuses(llama, "tokenizer.ggml.scores is missing, wanted one for each of 2 tokens");
    refuses({ ...llama, "tokenizer.ggml.scores": { f32s: [0] } }, "is an array of 1 elements");
    refuses({ ...llama, "tokenizer.ggml.scores": "x" }, 'tokenizer.ggml.scores is "x", wanted an array');
    refuses({ ...llama, "tokenizer.ggml.token_type": { i32s: [1] } }, "tokenizer.ggml.token_type");
    const gpt2 = { "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": tokens };
    refuses({ ...gpt2, "tokenizer.ggml.pre": "magic" }, 'tokenizer.ggml.pre is "magic", wanted one of gpt-2');
    refuses({ ...gpt2, "tokenizer.ggml.pre": "gpt-2" }, "tokenizer.ggml.merges is missing");
  });
});
