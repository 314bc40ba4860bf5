/**
 * Schemas at random, of everything that a grammar can say.
 *
 * @module
 */
import fc from "fast-check";

type Json = Record<string, unknown>;

const names = fc.constantFrom(
  "a",
  "b",
  "name",
  "größe",
  'q"uote',
  "back\\slash",
  "a b",
  "nä",
  "__proto__",
  "",
);

const text: fc.Arbitrary<Json> = fc.oneof(
  fc.constant({ type: "string" }),
  fc.tuple(fc.nat(3), fc.nat(6)).map(([min, more]) => ({
    type: "string",
    minLength: min,
    maxLength: min + more,
  })),
  fc.constantFrom(
    "^[a-c]{2,4}$",
    "^(ab|cd)*\\d+$",
    "[^a-z]{1,3}",
    ".{1,3}",
    '^["\\\\]+x?$',
    "^\\w+\\s\\w*$",
    "^é+$",
    "\\S{2}",
    "^$",
  ).map((pattern) => ({ type: "string", pattern })),
  fc.constantFrom("date", "time", "date-time", "uuid", "ipv4", "email").map((format) => ({
    type: "string",
    format,
  })),
);

const number: fc.Arbitrary<Json> = fc.oneof(
  fc.constant({ type: "integer" }),
  fc.constant({ type: "number" }),
  fc.tuple(fc.integer({ min: -2000, max: 2000 }), fc.nat(300)).map(([low, more]) => ({
    type: "integer",
    minimum: low,
    maximum: low + more,
  })),
  fc.integer({ min: -2000, max: 2000 }).map((low) => ({ type: "integer", exclusiveMinimum: low })),
  fc.integer({ min: -2000, max: 2000 }).map((high) => ({ type: "integer", maximum: high })),
  fc.tuple(fc.integer({ min: -999, max: 999 }), fc.nat(50)).map(([low, more]) => ({
    type: "number",
    minimum: low / 10,
    maximum: (low + more) / 10,
  })),
  fc.integer({ min: -999, max: 999 }).map((low) => ({ type: "number", exclusiveMinimum: low / 100 })),
  fc.integer({ min: -999, max: 999 }).map((high) => ({ type: "number", exclusiveMaximum: high / 100 })),
);

const plain: fc.Arbitrary<Json> = fc.oneof(
  text,
  number,
  fc.constantFrom<Json>({ type: "boolean" }, { type: "null" }, { type: ["string", "null"] }, {
    $ref: "#/$defs/leaf",
  }),
  fc.array(fc.jsonValue({ maxDepth: 2 }), { minLength: 1, maxLength: 4 }).map((values) => ({ enum: values })),
  fc.jsonValue({ maxDepth: 1 }).map((value) => ({ const: value })),
);

const { schema } = fc.letrec<{ schema: Json; array: Json; object: Json; any: Json }>((tie) => ({
  schema: fc.oneof({ maxDepth: 3, withCrossShrink: true }, plain, tie("array"), tie("object"), tie("any")),
  array: fc.oneof(
    fc.tuple(tie("schema"), fc.nat(2), fc.nat(2)).map(([items, min, more]) => ({
      type: "array",
      items,
      minItems: min,
      maxItems: min + more,
    })),
    fc.tuple(fc.array(tie("schema"), { minLength: 1, maxLength: 3 }), fc.boolean(), fc.nat(3)).map((
      [prefixItems, more, min],
    ) => ({
      type: "array",
      prefixItems,
      items: more && { type: "integer" },
      minItems: more ? min : 0,
      maxItems: 5,
    })),
  ),
  object: fc.oneof(
    fc.tuple(
      fc.uniqueArray(fc.tuple(names, tie("schema")), { maxLength: 4, selector: ([name]) => name }),
      fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
      fc.constantFrom<unknown>(undefined, false, true, { type: "integer" }),
    ).map(([properties, required, further]) => ({
      type: "object",
      properties: Object.fromEntries(properties),
      required: properties.map(([name]) => name).filter((_, i) => required[i]),
      ...(further !== undefined && { additionalProperties: further }),
    })),
    fc.tuple(tie("schema"), fc.nat(1), fc.nat(2)).map(([additionalProperties, min, more]) => ({
      type: "object",
      additionalProperties,
      minProperties: min,
      maxProperties: min + more,
    })),
  ),
  any: fc.oneof(
    fc.array(tie("schema"), { minLength: 1, maxLength: 3 }).map((anyOf) => ({ anyOf })),
    tie("schema").map((one) => ({ allOf: [one] })),
    tie("object").map((one) => ({ allOf: [one, { type: "object" }] })),
  ),
}));

/** A schema of some depth. */
export const anySchema: fc.Arbitrary<Json> = schema.map((one) => ({
  ...one,
  $defs: { leaf: { type: "object", properties: { leaf: { type: "boolean" } }, required: ["leaf"] } },
}));
