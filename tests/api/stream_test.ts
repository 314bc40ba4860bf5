import { assertEquals, assertRejects } from "@std/assert";
import { collectAll, startAll } from "../../api/batch.ts";
import { CompletionChunkWriter } from "../../api/chunks.ts";
import { DONE, EventStream } from "../../api/sse.ts";
import { type StreamParts, writeAll } from "../../api/stream.ts";
import { EngineError, InvalidRequestError } from "../../runtime/errors.ts";
import type { Engine, GenerateChunk, Generation } from "../../runtime/types.ts";
import { newTiming } from "../../runtime/telemetry/request_metrics.ts";

const identity = { id: "cmpl-1", object: "text_completion", created: 7, model: "tiny" };

interface Recorded extends Generation {
  cancelled: boolean;
}

/** A generation that gives `chunks` and then throws, if told to. */
function recorded(chunks: readonly GenerateChunk[], error?: Error): Recorded {
  return {
    cancelled: false,
    promptTokenIds: [1],
    timing: newTiming(),
    promptLogprobs: Promise.resolve(null),
    usage: { promptTokens: 1, cachedTokens: 0, completionTokens: chunks.length },
    cancel() {
      this.cancelled = true;
    },
    async *[Symbol.asyncIterator]() {
      for (const chunk of chunks) {
        await Promise.resolve();
        yield chunk;
      }
      if (error) throw error;
    },
  };
}

function chunk(
  index: number,
  text: string,
  finishReason: GenerateChunk["finishReason"] = null,
): GenerateChunk {
  return { index, text, tokenIds: [1], finishReason };
}

function parts(generations: Generation[], n = 1): StreamParts<CompletionChunkWriter> {
  return {
    identity,
    generations,
    n,
    includeUsage: false,
    writer: (index) => new CompletionChunkWriter(identity, index, false),
  };
}

async function stream(parts: StreamParts<CompletionChunkWriter>) {
  const errors: unknown[] = [];
  const events = new EventStream();
  const [text] = await Promise.all([
    new Response(events.body).text(),
    writeAll(parts, events, (error) => errors.push(error)),
  ]);
  const lines = text.split("\n\n").slice(0, -1);
  return {
    errors,
    lines,
    values: lines.filter((line) => `${line}\n\n` !== DONE).map((line) => JSON.parse(line.slice(6))),
  };
}

Deno.test("writeAll() numbers choices prompt * n + i and closes with [DONE]", async () => {
  const first = recorded([chunk(0, "a"), chunk(1, "b"), chunk(1, "B", "stop"), chunk(0, "A", "length")]);
  const second = recorded([chunk(1, "d", "length"), chunk(0, "c", "length")]);
  const { lines, values, errors } = await stream(parts([first, second], 2));
  assertEquals(`${lines.at(-1)}\n\n`, DONE);
  const texts = ["", "", "", ""];
  for (const { choices: [choice] } of values) texts[choice.index] += choice.text;
  assertEquals(texts, ["aA", "bB", "c", "d"]);
  assertEquals(errors, []);
});

Deno.test("writeAll() makes a failure the last event, without [DONE], and ends the other prompts", async () => {
  const failure = new EngineError("the worker failed", "failed");
  const other = recorded([chunk(0, "b"), chunk(0, "B", "length")]);
  const { lines, values, errors } = await stream(parts([recorded([chunk(0, "a")], failure), other]));
  assertEquals(values.at(-1), {
    error: { message: "the worker failed", type: "server_error", param: null, code: "failed" },
  });
  assertEquals(lines.includes(DONE.trim()), false);
  assertEquals(errors, [failure]);
  assertEquals(other.cancelled, true);
});

Deno.test("writeAll() tells a client whose request the server has cancelled", async () => {
  const { values } = await stream(parts([recorded([chunk(0, "a"), chunk(0, "", "cancelled")])]));
  assertEquals(values.at(-1).error.code, "closed");
});

Deno.test("writeAll() stops without an error when the reader has left", async () => {
  const errors: unknown[] = [];
  const events = new EventStream();
  await events.body.cancel();
  const generation = recorded([chunk(0, "a"), chunk(0, "", "cancelled")]);
  await writeAll(parts([generation]), events, (error) => errors.push(error));
  assertEquals(errors, []);
});

Deno.test("collectAll() gathers text, logprobs, finish and stop reason of each choice", async () => {
  const generations = [
    recorded([
      chunk(0, "a"),
      chunk(1, "x"),
      { ...chunk(0, "b", "stop"), stopReason: 5 },
      chunk(1, "", "length"),
    ]),
    recorded([chunk(1, "d", "length"), chunk(0, "c", "length")]),
  ];
  assertEquals(await collectAll(generations, 2), [
    { text: "ab", tokenIds: [1, 1], logprobs: [], finishReason: "stop", stopReason: 5 },
    { text: "x", tokenIds: [1, 1], logprobs: [], finishReason: "length", stopReason: null },
    { text: "c", tokenIds: [1], logprobs: [], finishReason: "length", stopReason: null },
    { text: "d", tokenIds: [1], logprobs: [], finishReason: "length", stopReason: null },
  ]);
});

Deno.test("collectAll() ends every generation when one fails", async () => {
  const good = recorded([chunk(0, "a", "length")]);
  await assertRejects(() => collectAll([good, recorded([], new EngineError("x", "failed"))], 1), EngineError);
  assertEquals(good.cancelled, true);
  await assertRejects(() => collectAll([recorded([chunk(0, "", "cancelled")])], 1), EngineError, "cancelled");
});

Deno.test("startAll() ends what it has started when a later prompt is refused", async () => {
  const started = recorded([]);
  const answers = [() => started, () => {
    throw new InvalidRequestError("too long");
  }];
  const engine = { generate: () => answers.shift()!() } as unknown as Engine;
  await assertRejects(
    async () => await startAll(engine, [{ prompt: "a" }, { prompt: "b" }]),
    InvalidRequestError,
  );
  assertEquals(started.cancelled, true);
});
