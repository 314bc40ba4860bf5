import { assertEquals, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import { bytes, formatBytes, integer, oneOf, seconds, text, toggle } from "../../cli/values.ts";

const sizes: [text: string, value: number | undefined][] = [
  ["1000000", 1_000_000],
  ["1B", 1],
  ["2GiB", 2 ** 31],
  ["2gib", 2 ** 31],
  ["1.5 MiB", 1_572_864],
  ["1kB", 1000],
  ["1TB", 1e12],
  ["0", undefined],
  ["-1MiB", undefined],
  ["2G", undefined],
  ["GiB", undefined],
  ["1e9", undefined],
  ["99999999TiB", undefined],
  ["", undefined],
];

for (const [found, value] of sizes) {
  Deno.test(`bytes.read(${JSON.stringify(found)}) is ${value}`, () => assertEquals(bytes.read(found), value));
}

Deno.test("bytes.read() undoes formatBytes() where one decimal is enough", () => {
  fc.assert(fc.property(fc.integer({ min: 1, max: 1023 }), fc.nat(4), (count, power) => {
    assertEquals(bytes.read(formatBytes(count * 1024 ** power)), count * 1024 ** power);
  }));
});

Deno.test("integer().read() takes decimal integers in range and nothing else", () => {
  const kind = integer(-5, 300);
  assertEquals(["-5", "0", "007", "300"].map(kind.read), [-5, 0, 7, 300]);
  for (const bad of ["", "-6", "301", "1.5", "1e2", " 1", "0x10", "NaN", "9".repeat(400)]) {
    assertEquals(kind.read(bad), undefined, bad);
  }
});

Deno.test("seconds().read() takes fractions up to its maximum", () => {
  const kind = seconds(60);
  assertEquals(["0", "0.5", "60"].map(kind.read), [0, 0.5, 60]);
  for (const bad of ["", "61", "-1", "1s", "."]) assertEquals(kind.read(bad), undefined, bad);
});

Deno.test("oneOf().read() gives the choice itself, number or word", () => {
  assertEquals(oneOf(16, 32).read("32"), 32);
  assertEquals(oneOf("a", "b").read("b"), "b");
  assertEquals(oneOf("a", "b").read("A"), undefined);
  assertEquals(oneOf("a", "b", "c").wanted, "a, b or c");
});

Deno.test("toggle.read() takes true, false, 1 and 0", () => {
  assertEquals(["true", "1", "false", "0", "yes", ""].map(toggle.read), [
    true,
    true,
    false,
    false,
    undefined,
    undefined,
  ]);
});

Deno.test("text().read() refuses the empty text", () => {
  assertEquals(text("a name").read(""), undefined);
  assertStringIncludes(text("a name").wanted, "a name");
});
