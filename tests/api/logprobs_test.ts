import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { chatLogprobs, CompletionLogprobWriter, promptLogprobs, tokenText } from "../../api/logprobs.ts";
import type { TokenLogprob } from "../../runtime/types.ts";

const encoder = new TextEncoder();

function token(text: string | Uint8Array, logprob = -0.5, top: [string, number][] = []): TokenLogprob {
  const bytes = typeof text === "string" ? encoder.encode(text) : text;
  return {
    token: 1,
    bytes,
    logprob,
    top: top.map(([rival, p]) => ({ token: 2, bytes: encoder.encode(rival), logprob: p })),
  };
}

Deno.test("tokenText() writes what is not whole characters as OpenAI does", () => {
  assertEquals(tokenText(encoder.encode("é")), "é");
  assertEquals(tokenText(new Uint8Array([0xf0, 0x9f])), "bytes:\\xf0\\x9f");
  assertEquals(tokenText(new Uint8Array([0xa9])), "bytes:\\xa9");
  assertEquals(tokenText(new Uint8Array()), "");
  assertEquals(tokenText(encoder.encode("\uFEFFa")), "\uFEFFa");
});

Deno.test("chatLogprobs() gives token, logprob, bytes and rivals", () => {
  assertEquals(chatLogprobs([token("é", -0.25, [["a", -0.25], ["b", -Infinity]])]), [{
    token: "é",
    logprob: -0.25,
    bytes: [0xc3, 0xa9],
    top_logprobs: [
      { token: "a", logprob: -0.25, bytes: [0x61] },
      { token: "b", logprob: -9999, bytes: [0x62] },
    ],
  }]);
});

Deno.test("chatLogprobs() and CompletionLogprobWriter name tokens by their ids where asked to", () => {
  const tokens = [token("é", -1, [["a", -0.5]]), token("b")];
  const [first] = chatLogprobs(tokens, true);
  assertEquals([first!.token, first!.bytes], ["token_id:1", [0xc3, 0xa9]]);
  assertEquals(first!.top_logprobs, [{ token: "token_id:2", logprob: -0.5, bytes: [0x61] }]);
  assertEquals(new CompletionLogprobWriter(true).write(tokens), {
    tokens: ["token_id:1", "token_id:1"],
    token_logprobs: [-1, -0.5],
    top_logprobs: [{ "token_id:2": -0.5, "token_id:1": -1 }, { "token_id:1": -0.5 }],
    text_offset: [0, 1],
  });
});

Deno.test("promptLogprobs() gives by id what vLLM gives, the token's own among its rivals or beside them", () => {
  const rivals: [string, number][] = [["a", -0.5], ["b", -Infinity]];
  const rare = { ...token("c", -3, rivals), token: 9, rank: null };
  const best = { ...token("a", -0.5, rivals), token: 2, rank: 1 };
  assertEquals(promptLogprobs(null, 1), null);
  assertEquals(promptLogprobs([null, rare, best], 1), [
    null,
    {
      "9": { logprob: -3, rank: null, decoded_token: "c" },
      "2": { logprob: -0.5, rank: 1, decoded_token: "a" },
    },
    { "2": { logprob: -0.5, rank: 1, decoded_token: "a" } },
  ]);
  assertEquals(promptLogprobs([rare], 0), [{ "9": { logprob: -3, rank: null, decoded_token: "c" } }]);
});

Deno.test("CompletionLogprobWriter.write() has the chosen token among its rivals", () => {
  const written = new CompletionLogprobWriter().write([token("c", -3, [["a", -1], ["b", -2]]), token("d")]);
  assertEquals(written, {
    tokens: ["c", "d"],
    token_logprobs: [-3, -0.5],
    top_logprobs: [{ a: -1, b: -2, c: -3 }, { d: -0.5 }],
    text_offset: [0, 1],
  });
});

Deno.test("CompletionLogprobWriter.write() has null for the first token of a prompt", () => {
  const written = new CompletionLogprobWriter().write([
    { token: 1, bytes: encoder.encode("ab"), logprob: null },
    token("c"),
  ]);
  assertEquals(written.token_logprobs, [null, -0.5]);
  assertEquals(written.top_logprobs, [null, { c: -0.5 }]);
  assertEquals(written.text_offset, [0, 2]);
});

Deno.test("CompletionLogprobWriter.write() places the tokens of one character at its start", () => {
  const fox = encoder.encode("🦊");
  const writer = new CompletionLogprobWriter();
  const first = writer.write([token("é"), token(fox.subarray(0, 2))]);
  const rest = writer.write([token(fox.subarray(2)), token("x")]);
  assertEquals([...first.text_offset, ...rest.text_offset], [0, 1, 1, 2]);
});

Deno.test("CompletionLogprobWriter.write() counts code points, however a text is cut into tokens", () => {
  const cut = fc.tuple(fc.string({ unit: "binary" }), fc.array(fc.nat(60)));
  fc.assert(fc.property(cut, ([text, cuts]) => {
    const bytes = encoder.encode(text);
    const ends = [...cuts, bytes.length].sort((a, b) => a - b);
    const parts = ends.map((end, i) => bytes.subarray(ends[i - 1] ?? 0, end)).filter((part) => part.length);
    const writer = new CompletionLogprobWriter();
    const offsets = parts.flatMap((part) => writer.write([token(part)]).text_offset);
    let before = 0;
    parts.forEach((part, i) => {
      // A token's offset is the character that its first byte belongs to.
      const upTo = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes.subarray(0, before), {
        stream: true,
      });
      assertEquals(offsets[i], [...upTo].length);
      before += part.length;
    });
  }));
});
