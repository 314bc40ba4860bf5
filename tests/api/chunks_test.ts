import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { ChatChunkWriter, CompletionChunkWriter, usageEvent } from "../../api/chunks.ts";
import { newIdentity } from "../../api/identity.ts";
import { usageBody } from "../../api/usage.ts";
import { EngineError } from "../../runtime/errors.ts";
import type { GenerateChunk, TokenLogprob } from "../../runtime/types.ts";

const identity = { id: 'cmpl-"1"', object: "o", created: 7, model: "a\\b\n" };

function chunk(text: string, rest: Partial<GenerateChunk> = {}): GenerateChunk {
  return { index: 0, text, tokenIds: [1], finishReason: null, ...rest };
}

/** The JSON values of events; fails on anything that is not framed as one. */
function parse(events: string): unknown[] {
  return events.split("\n\n").slice(0, -1).map((event) => {
    assertEquals(event.startsWith("data: "), true, event);
    assertEquals(event.includes("\n"), false, event);
    return JSON.parse(event.slice("data: ".length));
  });
}

const logprob: TokenLogprob = { token: 1, bytes: new TextEncoder().encode("x"), logprob: -1, top: [] };

Deno.test("ChatChunkWriter.write() opens with the role, then gives text", () => {
  const writer = new ChatChunkWriter(identity, 3, false);
  const choice = (delta: object) => ({
    ...identity,
    choices: [{ index: 3, delta, logprobs: null, finish_reason: null }],
  });
  assertEquals(parse(writer.write(chunk("a"))), [
    choice({ role: "assistant", content: "" }),
    choice({ content: "a" }),
  ]);
  assertEquals(parse(writer.write(chunk("b"))), [choice({ content: "b" })]);
});

Deno.test("ChatChunkWriter.write() says nothing for a token whose text is undecided", () => {
  const writer = new ChatChunkWriter(identity, 0, false);
  writer.write(chunk("a"));
  assertEquals(writer.write(chunk("")), "");
});

Deno.test("ChatChunkWriter.write() ends with the reason, and what stopped it", () => {
  const writer = new ChatChunkWriter(identity, 0, true);
  writer.write(chunk("a"));
  assertEquals(parse(writer.write(chunk("b", { finishReason: "stop", stopReason: "END" }))), [{
    ...identity,
    choices: [{
      index: 0,
      delta: { content: "b" },
      logprobs: null,
      finish_reason: "stop",
      stop_reason: "END",
    }],
    usage: null,
  }]);
  assertEquals(parse(writer.write(chunk("", { finishReason: "length" }))), [{
    ...identity,
    choices: [{ index: 0, delta: {}, logprobs: null, finish_reason: "length", stop_reason: null }],
    usage: null,
  }]);
});

Deno.test("ChatChunkWriter.write() gives logprobs even where the text is undecided", () => {
  const writer = new ChatChunkWriter(identity, 0, false);
  const [, second] = parse(writer.write(chunk("", { logprobs: [logprob] })));
  assertEquals(second, {
    ...identity,
    choices: [{
      index: 0,
      delta: {},
      logprobs: { content: [{ token: "x", logprob: -1, bytes: [120], top_logprobs: [] }], refusal: null },
      finish_reason: null,
    }],
  });
});

Deno.test("CompletionChunkWriter.echo() gives the prompt; later offsets go on from it", () => {
  const writer = new CompletionChunkWriter(identity, 1, false);
  const first = { token: 2, bytes: new TextEncoder().encode("ab"), logprob: null };
  assertEquals(parse(writer.echo("abx", [first, logprob])), [{
    ...identity,
    choices: [{
      index: 1,
      text: "abx",
      logprobs: {
        tokens: ["ab", "x"],
        token_logprobs: [null, -1],
        top_logprobs: [null, { x: -1 }],
        text_offset: [0, 2],
      },
      finish_reason: null,
    }],
  }]);
  const [next] = parse(writer.write(chunk("x", { logprobs: [logprob], finishReason: "length" })));
  assertEquals((next as { choices: unknown[] }).choices, [{
    index: 1,
    text: "x",
    logprobs: { tokens: ["x"], token_logprobs: [-1], top_logprobs: [{ x: -1 }], text_offset: [3] },
    finish_reason: "length",
    stop_reason: null,
  }]);
});

for (
  const [name, Writer, key] of [
    ["ChatChunkWriter", ChatChunkWriter, "delta"],
    ["CompletionChunkWriter", CompletionChunkWriter, "text"],
  ] as const
) {
  Deno.test(`${name}.write() frames any text as JSON on one line`, () => {
    fc.assert(fc.property(fc.string({ unit: "binary" }), fc.nat(), fc.boolean(), (text, index, usage) => {
      const writer = new Writer(identity, index, usage);
      const last = parse(writer.write(chunk(text + "\n\r\u2028"))).at(-1) as {
        choices: [Record<string, unknown>];
      };
      const value = last.choices[0][key] as string & { content: string };
      assertEquals(key === "text" ? value : value.content, text.toWellFormed() + "\n\r\u2028");
      assertEquals(last.choices[0].index, index);
      assertEquals("usage" in last, usage);
    }));
  });

  Deno.test(`${name}.write() throws for a choice that was cancelled`, () => {
    const writer = new Writer(identity, 0, false);
    assertThrows(() => writer.write(chunk("", { finishReason: "cancelled" })), EngineError);
  });
}

Deno.test("usageEvent() has no choices and all counts", () => {
  const usage = usageBody([
    { promptTokens: 5, cachedTokens: 2, completionTokens: 3 },
    { promptTokens: 1, cachedTokens: 0, completionTokens: 4 },
  ]);
  assertEquals(parse(usageEvent(identity, usage)), [{
    ...identity,
    choices: [],
    usage: {
      prompt_tokens: 6,
      completion_tokens: 7,
      total_tokens: 13,
      prompt_tokens_details: { cached_tokens: 2 },
    },
  }]);
});

Deno.test("newIdentity() gives each response an id of its own", () => {
  const one = newIdentity("cmpl", "text_completion", "tiny");
  assertEquals(/^cmpl-[0-9a-f]{32}$/.test(one.id), true);
  assertEquals(one.id === newIdentity("cmpl", "text_completion", "tiny").id, false);
});
