import { assert, assertEquals } from "@std/assert";
import { Validator } from "@cfworker/json-schema";
import fc from "fast-check";
import { grammarOf } from "../../runtime/grammar/constraint.ts";
import { InvalidRequestError } from "../../runtime/errors.ts";
import type { Constraint } from "../../runtime/types.ts";
import { anySchema } from "./schemas.ts";
import { isJsonPrefix, Walker } from "./walk.ts";

const TOKENIZERS = [
  "bytelevel-bpe",
  "bytelevel-bpe-llama3",
  "bytelevel-bpe-qwen2",
  "metaspace-bpe",
  "sentencepiece-bpe",
  "unigram",
  "unigram-bytes",
];

/** The grammar of a schema, or null where no value is valid. */
function schemaGrammar(schema: unknown): string | null {
  try {
    return grammarOf({ type: "jsonSchema", schema });
  } catch (error) {
    // Such as an optional pattern beside a bound: refused, not passed over.
    if (error instanceof InvalidRequestError) return null;
    throw error;
  }
}

Deno.test("grammarOf() lets nothing through that is invalid under its schema, whatever that is", async () => {
  using walker = await Walker.of("bytelevel-bpe");
  let whole = 0;
  await fc.assert(
    fc.asyncProperty(anySchema, fc.nat(), async (schema, seed) => {
      const grammar = schemaGrammar(schema);
      if (grammar === null) return;
      const walk = await walker.walk(grammar, seed);
      if (!walk.whole) return assert(isJsonPrefix(walk.text), walk.text);
      whole++;
      const { valid, errors } = new Validator(schema as object, "2020-12").validate(JSON.parse(walk.text));
      assert(valid, `${walk.text}: ${errors.map(({ error }) => error).join(" ")}`);
    }),
    { numRuns: 150 },
  );
  assert(whole > 75, `only ${whole} walks came to an end`);
});

for (const tokenizer of TOKENIZERS) {
  Deno.test(`loadVocabulary() has the tokens of ${tokenizer} spell valid values`, async () => {
    using walker = await Walker.of(tokenizer);
    const schema = {
      type: "object",
      properties: {
        name: { type: "string", maxLength: 12 },
        kind: { enum: ["a", "é", "日本"] },
        sizes: {
          type: "array",
          items: { type: "integer", minimum: 5, maximum: 230 },
          minItems: 1,
          maxItems: 3,
        },
      },
      required: ["name", "kind", "sizes"],
      additionalProperties: false,
    };
    const validator = new Validator(schema as object);
    for (let seed = 0; seed < 12; seed++) {
      const { text, whole } = await walker.walk(grammarOf({ type: "jsonSchema", schema }), seed);
      assert(whole && validator.validate(JSON.parse(text)).valid, text);
    }
  });
}

const exact: [name: string, constraint: Constraint, accepts: RegExp][] = [
  ["regex", { type: "regex", pattern: "[A-Z][a-z]{2,5} \\d{3}(-\\d)?" }, /^[A-Z][a-z]{2,5} \d{3}(-\d)?$/],
  [
    "regex with alternatives",
    { type: "regex", pattern: "^(ja|nein)( bitte)?$|^vielleicht$" },
    /^(ja|nein)( bitte)?$|^vielleicht$/,
  ],
  ["regex beyond ASCII", { type: "regex", pattern: "[äöü]{2}.[^b-y]" }, /^[äöü]{2}.[^b-y]$/u],
  [
    "choice",
    { type: "choice", choices: ["ja", "nein", "vielleicht später"] },
    /^(ja|nein|vielleicht später)$/,
  ],
  ["grammar", { type: "grammar", ebnf: 'root ::= "a" rest\nrest ::= [0-9]{2,4} "!"' }, /^a[0-9]{2,4}!$/],
  ["literal", { type: "literal", text: 'a "b"\n\\é' }, /^a "b"\n\\é$/],
  ["repeat", { type: "repeat", part: { type: "literal", text: "ab" }, least: 1, most: 3 }, /^(ab){1,3}$/],
  [
    "until",
    { type: "sequence", parts: [{ type: "until", text: "in" }, { type: "choice", choices: ["1", "2"] }] },
    /^((?!in)[^])*in[12]$/,
  ],
];

for (const [name, constraint, accepts] of exact) {
  Deno.test(`grammarOf() lets texts through that fit: ${name}`, async () => {
    using walker = await Walker.of("bytelevel-bpe-qwen2");
    const texts = new Set<string>();
    for (let seed = 0; seed < 12; seed++) {
      const { text, whole } = await walker.walk(grammarOf(constraint), seed, name === "until" ? 1000 : 60);
      if (whole) assert(accepts.test(text), JSON.stringify(text));
      else assertEquals(name, "until", text);
      texts.add(text);
    }
    assert(name === "literal" || texts.size > 1);
  });
}

Deno.test("grammarOf() has a trigger followed by its constraint, and other text free", async () => {
  using walker = await Walker.of("bytelevel-bpe-qwen2");
  const call: Constraint = { type: "regex", pattern: "[0-9]{1,3};" };
  const grammar = grammarOf({ type: "dispatch", tags: [{ trigger: "e", then: call }] });
  let calls = 0;
  for (let seed = 0; seed < 20; seed++) {
    const { text, whole } = await walker.walk(grammar, seed, 400, 100);
    if (!whole) continue;
    const triggers = text.split("e").slice(1);
    calls += triggers.length;
    for (const after of triggers) assert(/^[0-9]{1,3};/.test(after), text);
  }
  assert(calls > 5);
});

Deno.test("GrammarService gives up a sequence that no token of the model can go on with, and no other", async () => {
  using walker = await Walker.of("wordpiece"); // it has no braces
  const impossible = walker.sequence(await walker.service.acquire(grammarOf({ type: "json" })), 0);
  walker.client.tell(impossible);
  const { text } = await walker.walk(grammarOf({ type: "regex", pattern: "( [a-z]){3}" }), 1);
  assert(/^( [a-z]){3}$/.test(text), text);
  assertEquals(walker.broken, [impossible.id]);
});

Deno.test("MaskServer.publish() allows the end, and nothing else, once the text is whole", async () => {
  using walker = await Walker.of("bytelevel-bpe-llama3");
  const id = await walker.service.acquire(grammarOf({ type: "choice", choices: ["a"] }));
  const sequence = walker.sequence(id, 0);
  const [token, ...others] = await walker.allowed(sequence);
  assertEquals([walker.text([token!]), others], ["a", []]);
  walker.take(sequence, token!);
  assertEquals(await walker.allowed(sequence), [walker.stopToken]);
  walker.take(sequence, walker.stopToken);
  assertEquals(await walker.allowed(sequence), [walker.stopToken]);
});
