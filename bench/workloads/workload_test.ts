import { assert, assertEquals, assertThrows } from "@std/assert";
import { parseAzure, parseMooncake, readTrace, syntheticTrace, worstWindow } from "./trace.ts";
import { atOnce, FAMILIES, type Family, makeWorkload } from "./workload.ts";

const COMMON = { trace: "synthetic", maxContext: 2048, vocab: 1000, lengthScale: 0.25 } as const;

Deno.test("parseAzure() reads times to 100 ns and orders requests by them", () => {
  const text = "TIMESTAMP,ContextTokens,GeneratedTokens\n" +
    "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n2023-11-16 18:15:47.5,0,55\n";
  const records = parseAzure(text);
  assertEquals(records.map(({ prompt, answer }) => [prompt, answer]), [[374, 44], [1, 55], [396, 109]]);
  assert(Math.abs(records[1]!.timeMs - 819.41) < 1e-3);
  assert(Math.abs(records[2]!.timeMs - 4314.579) < 1e-3);
});

Deno.test("parseAzure() names the line that is wrong", () => {
  assertThrows(
    () => parseAzure("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,x,44\n"),
    Error,
    "line 2 of the trace has a prompt of NaN",
  );
});

Deno.test("parseMooncake() keeps the ids of shared prefixes", () => {
  const [record] = parseMooncake(
    '{"timestamp": 7, "input_length": 600, "output_length": 5, "hash_ids": [3, 9]}\n',
  );
  assertEquals(record, { timeMs: 7, prompt: 600, answer: 5, prefixIds: [3, 9] });
});

Deno.test("readTrace() refuses a trace without requests", () => {
  const path = Deno.makeTempFileSync({ suffix: ".csv" });
  try {
    Deno.writeTextFileSync(path, "TIMESTAMP,ContextTokens,GeneratedTokens\n");
    assertThrows(() => readTrace(path), Error, "has no requests");
  } finally {
    Deno.removeSync(path);
  }
});

Deno.test("syntheticTrace() is the same each time, ascending, and has bursts and shared prefixes", () => {
  const records = syntheticTrace(2000);
  assertEquals(records, syntheticTrace(2000));
  const gaps = records.slice(1).map(({ timeMs }, i) => timeMs - records[i]!.timeMs);
  assert(gaps.every((gap) => gap >= 0));
  // Squared coefficient of variation: 1 for a Poisson process, more with bursts.
  const mean = gaps.reduce((sum, gap) => sum + gap) / gaps.length;
  const variance = gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / gaps.length;
  assert(variance / mean ** 2 > 1.5, `${variance / mean ** 2}`);
  const firsts = new Set(records.map(({ prefixIds }) => prefixIds![0]));
  assert(firsts.size < 0.6 * records.length);
});

Deno.test("worstWindow() finds where the most tokens come", () => {
  const at = (timeMs: number, prompt: number) => ({ timeMs, prompt, answer: 1 });
  const records = [at(0, 5), at(10, 1), at(100, 4), at(105, 4), at(300, 7)];
  assertEquals(worstWindow(records, 20), 100);
  assertEquals(worstWindow(records, 6), 100);
  assertEquals(worstWindow(records, 5), 300);
  assertEquals(worstWindow(records, 1000), 0);
});

Deno.test("makeWorkload() gives the same requests each time, within context and vocabulary", () => {
  for (const family of Object.keys(FAMILIES) as Family[]) {
    const workload = makeWorkload({ ...COMMON, family, count: 60 });
    assertEquals(workload, makeWorkload({ ...COMMON, family, count: 60 }));
    assertEquals(workload.requests.length, 60);
    let last = 0;
    for (const { arrivalMs, promptTokens, maxTokens } of workload.requests) {
      assert(arrivalMs >= last);
      last = arrivalMs;
      assert(promptTokens.length >= 1 && maxTokens >= 1);
      assert(promptTokens.length + maxTokens <= COMMON.maxContext);
      assert(promptTokens.every((token) => token >= 3 && token < COMMON.vocab));
    }
  }
});

Deno.test("makeWorkload() makes equal tokens of equal prefix ids, and only of those", () => {
  const path = Deno.makeTempFileSync({ suffix: ".jsonl" });
  try {
    const line = (ids: number[]) =>
      JSON.stringify({ timestamp: 0, input_length: ids.length * 512, output_length: 4, hash_ids: ids });
    Deno.writeTextFileSync(path, [line([1, 2, 3]), line([1, 2, 4]), line([5, 2, 3])].join("\n"));
    const options = { ...COMMON, family: "multi-turn", trace: path, vocab: 32_000 } as const;
    const [a, b, c] = makeWorkload(options).requests.map(({ promptTokens }) => promptTokens);
    assertEquals(a!.length, 384);
    assertEquals(a!.subarray(0, 256), b!.subarray(0, 256));
    const same = (x: Int32Array, y: Int32Array) => x.filter((token, i) => token === y[i]).length;
    assert(same(a!.subarray(256), b!.subarray(256)) < 5);
    assert(same(a!.subarray(0, 128), c!.subarray(0, 128)) < 5);
    // No ids, no sharing: the chat family takes lengths alone.
    const chat = makeWorkload({ ...COMMON, family: "uniform", vocab: 32_000, count: 2 }).requests;
    assert(same(chat[0]!.promptTokens, chat[1]!.promptTokens) < 5);
  } finally {
    Deno.removeSync(path);
  }
});

Deno.test("makeWorkload() scales lengths and times, and thins without changing what it keeps", () => {
  const options = { ...COMMON, family: "chat", maxContext: 100_000, count: 40 } as const;
  const whole = makeWorkload({ ...options, lengthScale: 1 }).requests;
  const scaled = makeWorkload({ ...options, lengthScale: 0.5, rate: 4 }).requests;
  for (let i = 0; i < whole.length; i++) {
    assertEquals(scaled[i]!.arrivalMs, whole[i]!.arrivalMs / 4);
    assertEquals(scaled[i]!.promptTokens.length, Math.max(1, Math.round(whole[i]!.promptTokens.length / 2)));
  }
  const thinned = makeWorkload({ ...options, lengthScale: 1, oneOf: 4, count: 10 }).requests;
  assertEquals(thinned, whole.filter((_, i) => i % 4 === 0));
  assertEquals(atOnce({ family: "chat", requests: thinned, source: "", cut: 0 }).requests[5]!.arrivalMs, 0);
});

Deno.test("makeWorkload() cuts what does not fit the context, and counts it", () => {
  const workload = makeWorkload({ ...COMMON, family: "documents", maxContext: 512, count: 20 });
  assertEquals(workload.cut, 20);
  for (const { promptTokens, maxTokens } of workload.requests) {
    assertEquals(promptTokens.length + maxTokens, 512);
    assert(maxTokens <= 256);
  }
});
