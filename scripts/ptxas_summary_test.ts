import { assertEquals, assertThrows } from "@std/assert";
import { hotSpills, isHot, readLog, shortName } from "./ptxas_summary.ts";

/** What nvcc 13.0 writes with `-Xptxas -v`: two kernels for two architectures, one calls a function. */
const LOG = `ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z1kPf' for 'sm_90a'
ptxas info    : Function properties for _Z1kPf
    256 bytes stack frame, 12 bytes spill stores, 20 bytes spill loads
ptxas info    : Used 128 registers, used 1 barriers, 4096 bytes smem
ptxas info    : Compile time = 13.172 ms
ptxas info    : Function properties for _Z1fPf
    16 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z1kPf' for 'sm_80'
ptxas info    : Function properties for _Z1kPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, used 0 barriers, 360 bytes cmem[0]
`;

Deno.test("readLog() tells each kernel of each architecture, its callees on its account", () => {
  assertEquals(readLog("gemm", LOG), [
    {
      file: "gemm",
      symbol: "_Z1kPf",
      arch: "sm_90a",
      registers: 128,
      shared: 4096,
      stack: 272,
      spillStores: 16,
      spillLoads: 28,
    },
    {
      file: "gemm",
      symbol: "_Z1kPf",
      arch: "sm_80",
      registers: 40,
      shared: 0,
      stack: 0,
      spillStores: 0,
      spillLoads: 0,
    },
  ]);
});

Deno.test("readLog() refuses a log that lacks a kernel's registers, or tells them twice", () => {
  const lines = LOG.split("\n");
  const used = lines.findIndex((line) => line.includes("Used 128"));
  assertThrows(
    () => readLog("gemm", lines.toSpliced(used, 1).join("\n")),
    Error,
    "nothing of _Z1kPf (sm_90a)",
  );
  assertThrows(() => readLog("gemm", lines.toSpliced(used, 0, lines[used]!).join("\n")), Error, "two things");
});

Deno.test("hotSpills() finds spills in attention and products, and lets others spill", () => {
  assertEquals(["attention", "attention_prefill", "gemm", "begin"].map(isHot), [true, true, true, false]);
  assertEquals(hotSpills(readLog("gemm", LOG)).map((kernel) => kernel.arch), ["sm_90a"]);
  assertEquals(hotSpills(readLog("sampling", LOG)), []);
});

Deno.test("shortName() keeps template arguments and drops parameters and namespaces", () => {
  assertEquals(
    shortName("void kvrm::cuda::(anonymous namespace)::Decode<(int)64, 4u>(kvrm::cuda::Args, float*)"),
    "Decode<(int)64, 4u>",
  );
  assertEquals(shortName("Plain(int)"), "Plain");
  assertEquals(shortName("_Z1kPf"), "_Z1kPf");
});
