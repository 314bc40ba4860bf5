import { assertEquals } from "@std/assert";
import { countDeno, countNative } from "./gate_count.ts";

const tally = (count: ReturnType<typeof countDeno>) => [count.passed, count.failed, count.skipped];

Deno.test("countDeno() reads the closing line with colours, steps and ignored tests", () => {
  const output = [
    "\x1b[0m\x1b[38;5;245mrunning 4 tests from ./runtime/a_test.ts\x1b[0m",
    "A does x ... \x1b[32mok\x1b[0m (1ms)",
    "B does y ... \x1b[33mignored\x1b[0m (0ms)",
    "D has steps ...",
    "  s2 ... ignored (0ms)",
    "D has steps ... ok (1ms)",
    "",
    "\x1b[32mok\x1b[0m | 12 passed (3 steps) | 0 failed | 1 ignored (1 step) \x1b[38;5;245m(23ms)\x1b[0m",
    "",
  ].join("\n");
  const count = countDeno(output, 0);
  assertEquals(tally(count), [12, 0, 1]);
  assertEquals(count.skippedTests, [{ name: "B does y", file: "./runtime/a_test.ts" }]);
  assertEquals(tally(countDeno("FAILED | 0 passed (1 step) | 3 failed (1 step) (8ms)\n", 1)), [0, 3, 0]);
  assertEquals(tally(countDeno("ok | 1 passed | 0 failed (2ms)\n", 0)), [1, 0, 0]);
});

Deno.test("countDeno() counts a crash or a contradicting exit code as a failure", () => {
  assertEquals(tally(countDeno("running 3 tests from ./a_test.ts\nA x ... ok (1ms)\n", 139)), [0, 1, 0]);
  assertEquals(tally(countDeno("", 0)), [0, 1, 0]);
  assertEquals(tally(countDeno("ok | 5 passed | 0 failed (2ms)\n", 1)), [5, 1, 0]);
});

Deno.test("countNative() adds up the binaries", () => {
  const output = [
    "g++ -O3 -c x.cc",
    "# build/obj/a_test",
    "ok - One (3 checks)",
    "not ok - Two: a.cc:3: found 1, wanted 2",
    "native: 1 passed, 1 failed",
    "# build/obj/b_test",
    "ok - Three (1 checks)",
    "native: 1 passed, 0 failed",
  ].join("\n");
  assertEquals(tally(countNative(output, 2)), [2, 1, 0]);
});

Deno.test("countNative() counts a crash, a wrong total or a failed build as a failure", () => {
  const crashed =
    "# a_test\nok - One (1 checks)\n==1==ERROR: AddressSanitizer\n# b_test\nok - Two (1 checks)\n" +
    "native: 1 passed, 0 failed\n";
  assertEquals(tally(countNative(crashed, 2)), [2, 1, 0]);
  assertEquals(tally(countNative("# a_test\nok - One (1 checks)\nnative: 9 passed, 0 failed\n", 0)), [
    9,
    1,
    0,
  ]);
  assertEquals(tally(countNative("x.cc:1: error: no\n", 2)), [0, 1, 0]);
  assertEquals(tally(countNative("", 0)), [0, 1, 0]);
  // A leak is found after the closing line.
  assertEquals(tally(countNative("# a\nok - One (1 checks)\nnative: 1 passed, 0 failed\n", 2)), [1, 1, 0]);
});
