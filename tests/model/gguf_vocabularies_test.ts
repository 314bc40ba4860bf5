/**
 * Tokenizers in GGUF files against the reference vocabularies of llama.cpp: the folder `models/` of its sources, with
 * `ggml-vocab-*.gguf` and, beside each, texts (`.inp`) and the ids that are expected for them (`.out`).
 *
 *     KVRM_LLAMA_VOCABS=path/to/llama.cpp/models deno test --allow-read --allow-env tests/model/gguf_vocabularies_test.ts
 */
import { assertEquals } from "@std/assert";
import { readGgufHeader } from "../../runtime/model/gguf/reader.ts";
import { readGgufTokenizer } from "../../runtime/model/gguf/tokenizer.ts";

const folder = Deno.env.get("KVRM_LLAMA_VOCABS");
const SEPARATOR = "\n__ggml_vocab_test__\n";
/** Of architectures that are not served, with tokenizers of other kinds. */
const OTHER_KINDS = ["bert-bge"];

function vocabularies(): string[] {
  if (folder === undefined) return [];
  const names = [...Deno.readDirSync(folder)].map(({ name }) => name);
  return names.flatMap((name) => {
    const [, vocabulary] = /^ggml-vocab-(.+)\.gguf$/.exec(name) ?? [];
    const known = vocabulary !== undefined && !OTHER_KINDS.includes(vocabulary);
    return known && names.includes(`${name}.out`) ? [vocabulary] : [];
  }).sort();
}

if (folder === undefined) {
  Deno.test({
    name:
      "readGgufTokenizer() gives the ids of llama.cpp's vocabularies (skipped: KVRM_LLAMA_VOCABS names no folder)",
    ignore: true,
    fn: () => {},
  });
}

for (const name of vocabularies()) {
  const path = `${folder}/ggml-vocab-${name}.gguf`;
  Deno.test(`readGgufTokenizer() gives the ids of llama.cpp's vocabulary ${name}`, () => {
    const { tokenizer } = readGgufTokenizer(readGgufHeader(path).metadata, path);
    const texts = Deno.readTextFileSync(`${path}.inp`).split(SEPARATOR);
    const lines = Deno.readTextFileSync(`${path}.out`).split("\n");
    let compared = 0;
    texts.forEach((text, i) => {
      if (lines[i] === undefined) return;
      const wanted = lines[i].trim().split(/\s+/).filter((word) => word !== "").map(Number);
      assertEquals(tokenizer.encode(text, { addSpecialTokens: false }), wanted, JSON.stringify(text));
      const detokenizer = tokenizer.detokenizer({});
      const streamed = wanted.map((id) => detokenizer.push(id)).join("") + detokenizer.finish();
      assertEquals(streamed, text, JSON.stringify(text));
      compared++;
    });
    assertEquals(compared >= 40, true, `${compared} texts`);
  });
}
