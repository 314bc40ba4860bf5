import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { InvalidRequestError } from "../../runtime/errors.ts";
import { grammarOf } from "../../runtime/grammar/constraint.ts";
import { decimalRange, integerRange } from "../../runtime/grammar/number_range.ts";

let deep: unknown = { type: "string" };
for (let i = 0; i < 60; i++) deep = { type: "array", items: deep };

const refused: [schema: unknown, says: string][] = [
  [3, "#: found 3, wanted a schema"],
  [{ type: "text" }, '#: type is "text", wanted one of object, array'],
  [{ properties: { a: { not: {} } } }, '#/properties/a: "not" is not supported'],
  [{ items: { type: "array", uniqueItems: true } }, '#/items: "uniqueItems" is not supported'],
  [{ type: "integer", multipleOf: 3 }, '"multipleOf" of 3 is not supported'],
  [{ if: {}, then: {} }, '"if" is not supported'],
  [{ type: "object", patternProperties: { a: {} } }, '"patternProperties" is not supported'],
  [{ type: "object", properties: { a: {} }, maxProperties: 1 }, '"maxProperties" beside "properties"'],
  [{ $ref: "#/$defs/a" }, '$ref is "#/$defs/a", which is not there'],
  [{ $ref: "https://example.org/schema" }, "a place in the same schema"],
  [{ $ref: "#" }, '"$ref" to "#" leads back to itself'],
  [{ anyOf: [{ type: "string" }, { $ref: "#" }] }, "leads back to itself"],
  [{ allOf: [{ type: "string" }, { type: "integer" }] }, "no value is valid"],
  [{ enum: [] }, "no value is valid"],
  [{ type: "integer", minimum: 5, maximum: 4 }, "no value is valid"],
  [{ type: "string", minLength: -1 }, "minLength is -1, wanted an integer"],
  [{ type: "string", pattern: "a", maxLength: 3 }, '"pattern" with minLength or maxLength is not supported'],
  [{ type: "string", pattern: "(?!a)" }, "#: pattern has looking ahead or behind"],
  [{ type: "number", minimum: 1e300 }, "minimum is 1e+300"],
  [{ anyOf: {} }, "#/anyOf: found {}, wanted an array of schemas"],
  [deep, "more than 48 schemas within each other"],
];

Deno.test("schemaGrammar() refuses what it cannot hold to, with its place", () => {
  for (const [schema, says] of refused) {
    const error = assertThrows(
      () => grammarOf({ type: "jsonSchema", schema }, "response_format"),
      InvalidRequestError,
    );
    assertStringIncludes(error.message, says);
    assertEquals([error.param, error.code], ["response_format", "invalid_grammar"]);
  }
});

Deno.test("schemaGrammar() passes over annotations, and over what says nothing of a type", () => {
  const plain = grammarOf({ type: "jsonSchema", schema: { type: "string" } });
  const noted = {
    title: "t",
    description: "d",
    default: 1,
    examples: [],
    $schema: "s",
    minimum: 3,
    format: "odd",
  };
  assertEquals(grammarOf({ type: "jsonSchema", schema: { type: "string", ...noted } }), plain);
});

Deno.test("grammarOf() bounds a grammar's size", () => {
  const choices = Array.from({ length: 4096 }, (_, i) => `${i}`.repeat(100));
  const error = assertThrows(() => grammarOf({ type: "choice", choices }), InvalidRequestError);
  assertStringIncludes(error.message, "larger than 1048576 characters");
});

/** The expressions as one regular expression; they are classes, literals and repetitions. */
function asRegExp(options: readonly string[]): RegExp {
  const text = (option: string) => option.replaceAll(" ", "").replaceAll('"', "").replaceAll(".", "\\.");
  return new RegExp(`^(?:${options.map(text).join("|") || "(?!)"})$`);
}

Deno.test("integerRange() has the integers between its bounds, and no others", () => {
  for (
    const [low, high] of [[0, 0], [3, 150], [-12, 7], [-250, -99], [95, 1203], [-5, null], [
      null,
      42,
    ]] as const
  ) {
    const accepts = asRegExp(integerRange({
      low: low === null ? null : BigInt(low),
      high: high === null ? null : BigInt(high),
    }));
    for (let n = -1300; n <= 1300; n++) {
      assertEquals(accepts.test(`${n}`), n >= (low ?? -Infinity) && n <= (high ?? Infinity), `${n}`);
    }
    assert(!accepts.test("007") && !accepts.test("-0"));
  }
});

Deno.test("decimalRange() has decimals between its bounds, however many digits they have", () => {
  for (const [low, high] of [[5, 250], [-130, 20], [-250, -101], [99, 101]] as const) {
    const accepts = asRegExp(decimalRange({ low: BigInt(low), high: BigInt(high) }, 2));
    for (let n = -300; n <= 300; n++) {
      const text = (n / 100).toFixed(2);
      if (text.startsWith("-0.00")) continue;
      assertEquals(accepts.test(text), n >= low && n <= high, text);
      const more = Number(`${text}999`);
      assertEquals(accepts.test(`${text}999`), more >= low / 100 && more <= high / 100, `${text}999`);
    }
  }
});
