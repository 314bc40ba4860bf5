import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { join } from "node:path";
import { ModelTokenizer } from "../../runtime/model/tokenizer.ts";
import { Utf8Stream } from "../../runtime/model/utf8.ts";
import { referenceDecode } from "./reference_decoder.ts";
import { fixtureNames, FIXTURES, readGolden, TINY_TOKENIZER } from "./support.ts";

type Streaming = Parameters<ModelTokenizer["detokenizer"]>[0];

/** Pushes ids one by one; no chunk may hold half a surrogate pair. */
function stream(tokenizer: ModelTokenizer, ids: readonly number[], options: Streaming): string {
  const detokenizer = tokenizer.detokenizer(options);
  const chunks = ids.map((id) => detokenizer.push(id));
  chunks.push(detokenizer.finish());
  for (const chunk of chunks) assertEquals(chunk.isWellFormed(), true);
  return chunks.join("");
}

/** Ids of every sort, with those that stand for single bytes often enough to make broken characters. */
function idsOf(tokenizer: ModelTokenizer): fc.Arbitrary<number[]> {
  const bytes: number[] = [];
  const special: number[] = [];
  for (let id = 0; id < tokenizer.vocabSize; id++) {
    if (tokenizer.isSpecial(id)) special.push(id);
    else if (tokenizer.tokenBytes(id).some((byte) => byte >= 0x80)) bytes.push(id);
  }
  return fc.array(
    fc.oneof(
      { weight: 4, arbitrary: fc.constantFrom(0, ...bytes) },
      { weight: 4, arbitrary: fc.nat(tokenizer.vocabSize + 2) },
      { weight: 1, arbitrary: fc.constantFrom(0, ...special) },
    ),
    { maxLength: 40 },
  );
}

for (const kind of fixtureNames("tokenizers")) {
  const load = () => ModelTokenizer.fromFolder(join(FIXTURES, "tokenizers", kind));
  const json = readGolden("tokenizers", kind, "tokenizer.json");

  Deno.test(`Detokenizer streams what decoding at once gives, for any ids of ${kind}`, async () => {
    const tokenizer = await load();
    fc.assert(
      fc.property(idsOf(tokenizer), fc.boolean(), (ids, skipSpecialTokens) => {
        const streamed = stream(tokenizer, ids, { skipSpecialTokens });
        assertEquals(streamed, tokenizer.decode(ids, { skipSpecialTokens }));
        assertEquals(streamed, referenceDecode(json, ids, skipSpecialTokens, "sentencepiece"));
      }),
      { numRuns: 2000 },
    );
  });

  Deno.test(`Detokenizer continues a prompt of ${kind}`, async () => {
    const tokenizer = await load();
    fc.assert(
      fc.property(idsOf(tokenizer), idsOf(tokenizer), fc.boolean(), (prompt, ids, skipSpecialTokens) => {
        const whole = tokenizer.detokenizer({ skipSpecialTokens });
        for (const id of prompt) whole.push(id);
        const wanted = ids.map((id) => whole.push(id)).join("") + whole.finish();
        assertEquals(stream(tokenizer, ids, { skipSpecialTokens, prompt }), wanted);
      }),
      { numRuns: 1000 },
    );
  });

  Deno.test(`Detokenizer gives real text of ${kind} without U+FFFD and late by at most one character`, async () => {
    const tokenizer = await load();
    for (const { ids, decoded } of readGolden("tokenizers", kind, "golden.json").cases) {
      if (decoded.includes("\ufffd")) continue;
      const detokenizer = tokenizer.detokenizer();
      let streamed = "";
      ids.forEach((id: number, i: number) => {
        const chunk = detokenizer.push(id);
        assertEquals(chunk.includes("\ufffd"), false);
        streamed += chunk;
        const soFar = tokenizer.decode(ids.slice(0, i + 1));
        assertEquals(soFar.replace(/\ufffd+$/, ""), streamed);
      });
      assertEquals(streamed + detokenizer.finish(), tokenizer.decode(ids));
    }
  });
}

Deno.test("Detokenizer shows each character of a run of byte tokens when it is complete", async () => {
  const tokenizer = await ModelTokenizer.fromFolder(join(FIXTURES, "tokenizers", "sentencepiece-bpe"));
  const ids = tokenizer.encode("\u{1f9a9}\u{1f9a9}").slice(-8);
  const detokenizer = tokenizer.detokenizer({ prompt: tokenizer.encode("x") });
  assertEquals(ids.map((id) => detokenizer.push(id)), ["", "", "", "\u{1f9a9}", "", "", "", "\u{1f9a9}"]);
  // Cut in the second one, the first one stays.
  assertEquals(stream(tokenizer, ids.slice(0, 6), {}), "\u{1f9a9}\ufffd\ufffd");
});

Deno.test("Detokenizer strips both ends of a text", () => {
  const strip = { type: "Strip", content: "a", start: 2, stop: 3 };
  const json = {
    ...TINY_TOKENIZER,
    decoder: { type: "Sequence", decoders: [{ type: "ByteFallback" }, { type: "Fuse" }, strip] },
  };
  const tokenizer = ModelTokenizer.fromJson(json, {});
  fc.assert(
    fc.property(fc.array(fc.constantFrom(3, 3, 3, 4, 6, 1)), (ids) => {
      assertEquals(stream(tokenizer, ids, {}), referenceDecode(json, ids, true, "sentencepiece"));
    }),
    { numRuns: 1000 },
  );
});

Deno.test("Detokenizer joins tokens with spaces where the tokenizer has no decoder", () => {
  const tokenizer = ModelTokenizer.fromJson({ ...TINY_TOKENIZER, decoder: null }, {});
  assertEquals(stream(tokenizer, [1, 3, 6, 2, 5], {}), "a ab c");
});

Deno.test("Utf8Stream marks invalid bytes as TextDecoder does, however they are cut", () => {
  const byte = fc.oneof(
    fc.nat(255),
    fc.constantFrom(0x80, 0xbf, 0xc2, 0xe0, 0xa0, 0xed, 0xf0, 0x90, 0xf4, 0x8f),
  );
  fc.assert(
    fc.property(fc.array(fc.array(byte, { maxLength: 5 }), { maxLength: 8 }), (pieces) => {
      const utf8 = new Utf8Stream("subpart");
      const got = pieces.map((piece) => utf8.push(Uint8Array.from(piece))).join("") + utf8.flush();
      assertEquals(got, new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(pieces.flat())));
    }),
    { numRuns: 5000 },
  );
});
