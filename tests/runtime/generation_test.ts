import { assert, assertEquals, assertRejects } from "@std/assert";
import { EngineError } from "../../runtime/errors.ts";
import { EngineGeneration } from "../../runtime/generation.ts";
import { Finish } from "../../runtime/loop.ts";
import type { Detokenizer } from "../../runtime/model/detokenizer.ts";
import type { GenerateChunk, TokenLogprob } from "../../runtime/types.ts";

/** Token 65 is "A". */
const detokenizer = {
  push: (token: number) => String.fromCharCode(token),
  finish: () => "",
} as unknown as Detokenizer;

function start(n: number, maxBacklog = 1000) {
  const calls: string[] = [];
  const generation = new EngineGeneration([1, 2], {
    promptLogprobs: false,
    maxBacklog,
    onCancel: (_, reason) => calls.push(`cancel ${reason?.message ?? ""}`.trim()),
    onEnd: () => calls.push("end"),
  });
  const choices = Array.from(
    { length: n },
    (_, index) =>
      generation.addChoice({ id: index + 1, index, detokenizer, stop: [], stopTokens: new Int32Array(0) }),
  );
  return { generation, choices, calls };
}

async function rest(generation: EngineGeneration): Promise<GenerateChunk[]> {
  const chunks: GenerateChunk[] = [];
  for await (const chunk of generation) chunks.push(chunk);
  return chunks;
}

Deno.test("EngineGeneration joins tokens that wait for their reader, choice by choice, but for the last", async () => {
  const { generation, choices: [a, b], calls } = start(2);
  for (const token of [65, 66]) a!.token(token, Finish.NONE, undefined);
  for (const token of [97, 98]) b!.token(token, Finish.NONE, undefined);
  a!.token(67, Finish.LENGTH, undefined);
  b!.token(99, Finish.STOP, undefined);
  const chunks = await rest(generation);
  assertEquals(
    chunks.map(({ index, text, tokenIds, finishReason }) => [index, text, tokenIds, finishReason]),
    [
      [0, "AB", [65, 66], null],
      [1, "ab", [97, 98], null],
      [0, "C", [67], "length"],
      [1, "c", [99], "stop"],
    ],
  );
  assertEquals([calls, generation.usage.completionTokens], [["end"], 6]);
  assertEquals(generation.timing.finishReasons, ["length", "stop"]);
  assert(generation.timing.ended >= generation.timing.submitted);
});

Deno.test("EngineGeneration does not join what a reader has taken, nor log probabilities", async () => {
  const { generation, choices: [a] } = start(1);
  const reader = generation[Symbol.asyncIterator]();
  a!.token(65, Finish.NONE, undefined);
  const { value } = await reader.next();
  a!.token(66, Finish.NONE, undefined);
  const logprob: TokenLogprob = { token: 67, bytes: new Uint8Array(), logprob: -1, top: [] };
  a!.token(67, Finish.NONE, logprob);
  a!.token(68, Finish.LENGTH, undefined);
  assertEquals(value.text, "A");
  assertEquals((await rest(generation)).map(({ text }) => text), ["B", "C", "D"]);
});

Deno.test("EngineGeneration ends with slow_reader when more waits than may", async () => {
  const { generation, choices: [a], calls } = start(1, 10);
  const reader = generation[Symbol.asyncIterator]();
  for (let i = 0; i < 10; i++) a!.token(65, Finish.NONE, undefined);
  assertEquals(calls, []);
  assertEquals((await reader.next()).value.tokenIds.length, 10);
  for (let i = 0; i < 11; i++) a!.token(65, Finish.NONE, undefined);
  assertEquals(calls, [
    "cancel the client reads too slowly: 11 tokens wait for it, of at most 10",
    "end",
  ]);
  assertEquals((await reader.next()).value.tokenIds.length, 11);
  const error = await assertRejects(() => reader.next(), EngineError);
  assertEquals([error.code, generation.timing.error], ["slow_reader", "slow_reader"]);
});

Deno.test("EngineGeneration weighs a token with log probabilities by what it holds", () => {
  const { choices: [a], calls } = start(1, 10);
  const rival = { token: 1, bytes: new Uint8Array(), logprob: -1 };
  const logprob: TokenLogprob = { ...rival, top: [rival, rival, rival] };
  a!.token(65, Finish.NONE, logprob);
  a!.token(65, Finish.NONE, logprob);
  assertEquals(calls, []);
  a!.token(65, Finish.NONE, logprob);
  assertEquals(calls.length, 2);
});

Deno.test("EngineGeneration.cancel() throws the reason after what was generated, once", async () => {
  const { generation, choices: [a], calls } = start(1);
  a!.token(65, Finish.NONE, undefined);
  generation.cancel(new EngineError("late", "timeout"));
  generation.cancel();
  const chunks: string[] = [];
  const error = await assertRejects(async () => {
    for await (const { text } of generation) chunks.push(text);
  }, EngineError);
  assertEquals([error.code, chunks, calls], ["timeout", ["A"], ["cancel late", "end"]]);
});
