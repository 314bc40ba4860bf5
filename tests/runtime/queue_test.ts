import { assert, assertEquals, assertThrows } from "@std/assert";
import { createEngine, type Engine, EngineError, InvalidRequestError } from "../../mod.ts";
import { FIXTURES } from "../golden.ts";

const MODEL = `${FIXTURES}/models/llama3`;

async function finish(engine: Engine, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    for await (const _ of engine.generate({ prompt: "a", maxTokens: 1 }));
  }
}

Deno.test("Engine.generate() says when a full queue has room, by the pace at which choices ended", async () => {
  await using engine = await createEngine({ model: MODEL, threads: 1, maxQueue: 4 });
  const began = performance.now();
  await finish(engine, 20);
  const full = () => {
    using undo = new DisposableStack();
    const first = engine.generate({ prompt: "a", n: 4, maxTokens: 1 });
    undo.defer(() => first.cancel());
    return assertThrows(() => engine.generate({ prompt: "a", n: 4, maxTokens: 1 }), EngineError);
  };
  const error = full();
  // Four places, none of which took longer than all of that: one second, on any but a very busy machine.
  const longest = Math.ceil(4 * (performance.now() - began) / 1000);
  assert(1 <= error.retryAfter! && error.retryAfter! <= longest, `${error.retryAfter} of ${longest}`);
  assertEquals(error.code, "overloaded");
  assertEquals(
    error.message,
    "the queue holds 4 of at most 4 requests and was asked for 4 more; try again later",
  );
  // Nothing has ended for a while: the pace of before says nothing any more.
  await new Promise((resolve) => setTimeout(resolve, 1300));
  assert(full().retryAfter! >= 5, `${full().retryAfter}`);
  const never = assertThrows(() => engine.generate({ prompt: "a", n: 5 }), InvalidRequestError);
  assertEquals(never.message, "n is 5; this server's queue holds at most 4");
});

Deno.test("Engine.generate() refuses a prompt that is longer than the option allows", async () => {
  await using engine = await createEngine({ model: MODEL, threads: 1, maxPrompt: 3 });
  await finish(engine, 1);
  const error = assertThrows(() => engine.generate({ prompt: [1, 2, 3, 4] }), InvalidRequestError);
  assertEquals([error.code, error.message], [
    "prompt_too_long",
    "the prompt has 4 tokens; this server takes at most 3",
  ]);
});

Deno.test("Generation.timing has the times of the engine's thread, in order", async () => {
  await using engine = await createEngine({ model: MODEL, threads: 1 });
  const before = performance.timeOrigin + performance.now();
  const generation = engine.generate({ prompt: "a b c", maxTokens: 5, ignoreEos: true, n: 2 });
  for await (const _ of generation);
  const { submitted, admitted, firstToken, lastToken, ended, finishReasons } = generation.timing;
  const times = [
    before,
    submitted,
    admitted,
    firstToken,
    lastToken,
    ended,
    performance.timeOrigin + performance.now(),
  ];
  for (let i = 1; i < times.length; i++) assert(times[i]! >= times[i - 1]! - 0.5, times.join(" "));
  assertEquals(finishReasons, ["length", "length"]);
  const { requests } = engine.telemetry;
  assertEquals([requests.firstToken.snapshot().count, requests.interToken.snapshot().count], [1, 8]);
  assertEquals(requests.finished, { stop: 0, length: 2, cancelled: 0, error: 0 });
});
