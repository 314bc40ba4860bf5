import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { InvalidRequestError } from "../../runtime/errors.ts";
import { grammarOf } from "../../runtime/grammar/constraint.ts";
import { Walker } from "./walk.ts";

const leaf = fc.constantFrom(
  ...[
    "a",
    "b",
    "ab",
    "[ab]",
    "[a-c]",
    "[^a]",
    "\\d",
    "\\w",
    "0",
    "[0-9]",
    "1",
    "c",
    "é",
    ".",
    "\\n",
    '"',
    "\\\\",
  ],
);
const quantifier = fc.constantFrom("", "", "", "", "?", "*", "+", "{2}", "{1,3}", "{0,2}");

function quantified(atom: fc.Arbitrary<string>): fc.Arbitrary<string> {
  return fc.tuple(atom, quantifier).map(([text, times]) =>
    (text.length > 1 && !/^[[(\\]/.test(text) ? `(?:${text})` : text) + times
  );
}

function choiceOf(atom: fc.Arbitrary<string>): fc.Arbitrary<string> {
  const sequence = fc.array(quantified(atom), { minLength: 1, maxLength: 3 }).map((parts) => parts.join(""));
  return fc.array(sequence, { minLength: 1, maxLength: 3 }).map((options) => options.join("|"));
}

const group = (inner: fc.Arbitrary<string>) => fc.oneof(leaf, leaf, inner.map((text) => `(${text})`));
const pattern = choiceOf(group(choiceOf(group(choiceOf(leaf)))));

Deno.test("regexGrammar() lets through what JavaScript matches, as a text and within JSON", async () => {
  using walker = await Walker.of("bytelevel-bpe");
  let whole = 0;
  await fc.assert(
    fc.asyncProperty(pattern, fc.nat(), fc.boolean(), async (pattern, seed, json) => {
      const schema = { type: "array", items: { type: "string", pattern }, minItems: 1, maxItems: 2 };
      const grammar = grammarOf(json ? { type: "jsonSchema", schema } : { type: "regex", pattern });
      const walk = await walker.walk(grammar, seed, 60);
      if (!walk.whole) return;
      whole++;
      const texts: string[] = json ? JSON.parse(walk.text) : [walk.text];
      for (const text of texts) {
        assert(new RegExp(`^(?:${pattern})$`, "u").test(text), `${pattern}: ${JSON.stringify(text)}`);
      }
    }),
    { numRuns: 60 },
  );
  assert(whole > 20);
});

const refused: [pattern: string, says: string][] = [
  ["a(?=b)", "looking ahead or behind is not supported at character 2"],
  ["(?<!a)b", "looking ahead or behind"],
  ["(a)\\1", "a back reference is not supported at character 4"],
  ["\\bword", "a boundary of words is not supported at character 1"],
  ["\\p{L}", "a property of characters"],
  ["a^", '"^" anywhere but at the start'],
  ["(^a)", '"^" anywhere but at the start'],
  ["a$b", '"$" anywhere but at the end'],
  ["(a", '"(" without ")"'],
  ["a)", '")" without "("'],
  ["[a", '"[" without "]"'],
  ["[z-a]", "out of order"],
  ["a{3,2}", "out of order"],
  ["a{99999}", "more than 10000"],
  ["*a", '"*" with nothing before it'],
  ["a**", "a quantifier after a quantifier"],
  ["\\q", 'the escape "\\q" is not known'],
  ["[\\u4e00-\\u9fff]", "some but not all of the characters beyond ASCII"],
  ["(".repeat(60) + ")".repeat(60), "more than 50 groups"],
];

Deno.test("regexGrammar() refuses what no grammar can say, with its place", () => {
  for (const [pattern, says] of refused) {
    const error = assertThrows(() => grammarOf({ type: "regex", pattern }), InvalidRequestError);
    assert(error.message.includes(says), `${pattern}: ${error.message}`);
    assertEquals(error.code, "invalid_grammar");
  }
});
