import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { event, EventStream } from "../../api/sse.ts";

const decoder = new TextDecoder();

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

async function readAll(stream: EventStream): Promise<string[]> {
  const parts: string[] = [];
  for await (const bytes of stream.body) parts.push(decoder.decode(bytes));
  return parts;
}

Deno.test("EventStream.write() joins what is written within one turn into one chunk", async () => {
  const stream = new EventStream();
  const reading = readAll(stream);
  for (let i = 0; i < 100; i++) {
    stream.write(event(i));
    await Promise.resolve();
  }
  await turn();
  stream.write(event("late"));
  await turn();
  stream.close();
  const parts = await reading;
  assertEquals(parts.length, 2);
  assertEquals(parts.join(""), Array.from({ length: 100 }, (_, i) => event(i)).join("") + event("late"));
});

Deno.test("EventStream.write() keeps every event once and in order, whatever the pace", async () => {
  const step = fc.oneof(fc.string({ maxLength: 40_000 }), fc.constantFrom("turn", "microtask"));
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
      const stream = new EventStream();
      const reading = readAll(stream);
      let written = "";
      for (const one of steps) {
        if (one === "turn") await turn();
        else if (one === "microtask") await Promise.resolve();
        else {
          if (stream.full) await stream.drained();
          stream.write(event(one));
          written += event(one);
        }
      }
      stream.close();
      assertEquals((await reading).join(""), written);
    }),
    { numRuns: 200 },
  );
});

Deno.test("EventStream.full bounds what a reader that does not read can make the server hold", async () => {
  const stream = new EventStream();
  const line = event("x".repeat(1000));
  let written = 0;
  const writing = (async () => {
    for (let i = 0; i < 10_000 && !stream.closed; i++) {
      stream.write(line);
      written += line.length;
      if (i % 10 === 0) await turn();
      if (stream.full) await stream.drained();
    }
  })();
  for (let i = 0; i < 500; i++) await turn();
  assertEquals(stream.full, true);
  assertEquals(written < 300_000, true, `${written} characters`);
  await stream.body.cancel();
  await writing;
});

Deno.test("EventStream.close() ends the stream after what was written, however slow the reader", async () => {
  const stream = new EventStream();
  const big = event("y".repeat(200_000));
  stream.write(big);
  await turn();
  stream.write(event("last"));
  stream.close();
  stream.write(event("dropped"));
  stream.close();
  await turn();
  assertEquals((await readAll(stream)).join(""), big + event("last"));
});

Deno.test("EventStream calls onCancel when the reader leaves, and drops later events", async () => {
  let cancelled = 0;
  const stream = new EventStream(() => cancelled++);
  stream.write(event(1));
  await stream.body.cancel();
  assertEquals([cancelled, stream.closed], [1, true]);
  stream.write(event(2));
  await stream.drained();
  stream.close();
  await turn();
  assertEquals(cancelled, 1);
});

Deno.test("EventStream does not call onCancel when it ends by itself", async () => {
  let cancelled = 0;
  const stream = new EventStream(() => cancelled++);
  stream.write(event(1));
  stream.close();
  assertEquals(await readAll(stream), [event(1)]);
  assertEquals(cancelled, 0);
});
