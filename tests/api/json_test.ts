import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { findJsonFault, parseJson } from "../../api/json.ts";
import { InvalidRequestError } from "../../runtime/errors.ts";

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

const faults: [text: string, position: number, line: number, column: number, wanted: string][] = [
  ["", 0, 1, 1, "a value"],
  ["nul", 0, 1, 1, "a value"],
  ['{"a": x}', 6, 1, 7, "a value"],
  ['{"a":1,}', 7, 1, 8, "a quoted name"],
  ["{a:1}", 1, 1, 2, 'a quoted name or "}"'],
  ['{"a" 1}', 5, 1, 6, '":"'],
  ["[1 2]", 3, 1, 4, '"," or "]"'],
  ["[1,]", 3, 1, 4, "a value"],
  ['{\n  "a": 1\n  "b": 2\n}', 13, 3, 3, '"," or "}"'],
  ["[1] 2", 4, 1, 5, "nothing after the value"],
  ["01", 1, 1, 2, "nothing after the value"],
  ['"abc', 4, 1, 5, 'a closing "'],
  ['"a\\x"', 2, 1, 3, "a valid escape sequence"],
  ['"a\nb"', 2, 1, 3, "a control character to be escaped"],
];

for (const [text, position, line, column, wanted] of faults) {
  Deno.test(`findJsonFault(${JSON.stringify(text)}) is at line ${line}, column ${column}`, () => {
    const fault = findJsonFault(text);
    assertEquals([fault?.position, fault?.line, fault?.column, fault?.wanted], [
      position,
      line,
      column,
      wanted,
    ]);
  });
}

Deno.test("findJsonFault() agrees with JSON.parse on valid JSON", () => {
  fc.assert(fc.property(fc.json({ maxDepth: 4 }), (text) => assertEquals(findJsonFault(text), null)));
});

Deno.test("findJsonFault() agrees with JSON.parse on damaged JSON", () => {
  const damage = fc.tuple(fc.json({ maxDepth: 3 }), fc.nat(), fc.nat(3), fc.string({ maxLength: 2 }));
  fc.assert(
    fc.property(damage, ([text, at, removed, inserted]) => {
      const start = at % (text.length + 1);
      const damaged = text.slice(0, start) + inserted + text.slice(start + removed);
      assertEquals(findJsonFault(damaged) === null, isJson(damaged), damaged);
    }),
    { numRuns: 2000 },
  );
});

Deno.test("findJsonFault() bears any depth", () => {
  const depth = 200_000;
  assertEquals(findJsonFault("[".repeat(depth) + "]".repeat(depth)), null);
  assertEquals(findJsonFault("[".repeat(depth))?.position, depth);
});

Deno.test("parseJson() names line, column, found and wanted", () => {
  const error = assertThrows(() => parseJson('{"a": 1,\n"b": }'), InvalidRequestError);
  assert(
    error.message.includes('line 2, column 6 (position 14): found "}", wanted a value'),
    error.message,
  );
  assertEquals(error.code, "invalid_json");
});
