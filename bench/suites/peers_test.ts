import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import type { SuiteResult } from "../evaluation/results.ts";
import { suite } from "./peers.ts";

function resultOf(sides: Record<string, Record<string, number>>, name: string): SuiteResult {
  const runs = [0, 1].flatMap((repeat) =>
    Object.entries(sides).map(([side, values]) => ({ case: name, side, repeat, date: "2026-01-02", values }))
  );
  return { suite: "peers", machine: "m", parameters: { peer: "1 (abc) -t 2" }, sources: {}, runs };
}

const rates = (one: number, many: number) => ({
  "decode 1": one,
  "decode 4": many,
  "decode 8": many,
  "decode 16": many,
  "prefill 128": many,
  "GB/s at 1": one / 10,
});

Deno.test("suite.report() gives ours, theirs and the ratio, and says where ours is slower", () => {
  const result = resultOf(
    { kvrm: { ...rates(50, 400), "read GB/s": 10 }, "llama.cpp": rates(100, 200) },
    "kernel, 1.1b, Q8_0",
  );
  const { tables, answer, headline, readme } = suite.report(result);
  assertEquals(tables[0]!.rows[0]!.slice(0, 3), ["1.1b, Q8_0", "50 / 100 = × 0.50", "400 / 200 = × 2.00"]);
  assertEquals(tables[1]!.rows, [["1.1b, Q8_0", "5", "10", "10", "50 %"]]);
  assertStringIncludes(answer[0]!, "Slower than it at decode 1.");
  assertEquals(headline, "1.1b, Q8_0: decode × 0.50, × 2.00, × 2.00, × 2.00 at batch 1, 4, 8, 16");
  assertEquals(readme, [tables[0]!]);
});

Deno.test("suite.report() sets each server of a trace beside ours", () => {
  const served = (rate: number, failed = 0) => ({
    "tokens/s": rate,
    "ttft p99": 1000 / rate,
    "itl p99": rate,
    failed,
  });
  const result = resultOf(
    { kvrm: served(100), "llama.cpp": served(50, 2), vllm: served(200) },
    "trace, 160m, F16",
  );
  const { tables, answer } = suite.report(result);
  const rows = tables[0]!.rows.map((row) => [row[1], row[2], row.at(-1)]);
  assertEquals(rows, [
    ["kvrm", "100", "0"],
    ["llama.cpp", "50", "2"],
    ["vllm", "200", "0"],
    ["ours to llama.cpp", "× 2.00", ""],
    ["ours to vllm", "× 0.50", ""],
  ]);
  assertStringIncludes(answer[0]!, "to llama.cpp: tokens/s × 2.00, ttft p99 × 0.50, itl p99 × 2.00.");
});

Deno.test("suite.run() without peers says how they are had", () => {
  const context = { trace: undefined, repeat: 0, before: resultOf({}, ""), begin: () => () => {} };
  assertThrows(() => suite.run("kernel, 160m, F16", context), Error, "peersSuite() has not looked for peers");
  assert(suite.cases.every(({ name }) => name.startsWith("kernel, ")));
});
