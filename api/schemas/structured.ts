/**
 * What an answer's text has to be: OpenAI's `response_format`, the extras of vLLM and llama.cpp's server.
 *
 * @module
 */

import { z } from "zod";
import { InvalidRequestError } from "../../runtime/errors.ts";
import type { Constraint } from "../../runtime/types.ts";
import { flag, list } from "./fields.ts";

const schemaWanted = "a JSON schema (an object)";
const schema = z.record(z.string(), z.unknown(), schemaWanted);
const choicesWanted = "an array of 1 to 4096 texts, none of them empty";
const choices = list(z.string(choicesWanted).min(1, choicesWanted), {
  min: 1,
  max: 4096,
  wanted: choicesWanted,
});
const patternWanted = "a regular expression (a text that is not empty)";
const pattern = z.string(patternWanted).min(1, patternWanted);
const grammarWanted = "a grammar in EBNF (a text)";
const grammar = z.string(grammarWanted);
const formatWanted =
  '{"type": "text"}, {"type": "json_object"} or {"type": "json_schema", "json_schema": {…}}';

/** A schema as an object or as its JSON text. */
const schemaOrText = z.union([schema, z.string()], `${schemaWanted} or its JSON text`);

/** `response_format`. */
export const responseFormatField = z.discriminatedUnion("type", [
  z.looseObject({ type: z.literal("text") }),
  z.looseObject({ type: z.literal("json_object") }),
  z.looseObject({
    type: z.literal("json_schema"),
    json_schema: z.looseObject({
      name: z.string("a text").nullish(),
      description: z.string("a text").nullish(),
      schema: schema.nullish(),
      strict: flag(),
    }, 'an object such as {"name": "…", "schema": {…}}'),
  }),
], { error: () => formatWanted }).nullish();

/** `response_format` and its relatives, for both kinds of completion. */
export const structuredFields = {
  response_format: responseFormatField,
  guided_json: schemaOrText.nullish(),
  guided_regex: pattern.nullish(),
  guided_choice: choices.nullish(),
  guided_grammar: grammar.nullish(),
  structured_outputs: z.looseObject({
    json: schemaOrText.nullish(),
    json_object: flag(),
    regex: pattern.nullish(),
    choice: choices.nullish(),
    grammar: grammar.nullish(),
    structural_tag: z.null('absent, because "structural_tag" is not supported').optional(),
  }, 'an object with one of "json", "json_object", "regex", "choice" and "grammar"').nullish(),
  json_schema: schema.nullish(),
  grammar: grammar.nullish(),
};

/** The values of `structuredFields`. */
export type StructuredBody = z.output<z.ZodObject<typeof structuredFields>>;

/** A constraint and the field that asks for it. */
export interface AskedConstraint {
  constraint: Constraint;
  constraintParam: string;
}

/** The constraint that a body asks for; null for none. More than one is refused. */
export function constraintOf(body: Partial<StructuredBody>): AskedConstraint | null {
  const asked: AskedConstraint[] = [];
  const ask = (constraintParam: string, constraint: Constraint) =>
    asked.push({ constraint, constraintParam });
  const format = body.response_format;
  if (format?.type === "json_object") ask("response_format", { type: "json" });
  if (format?.type === "json_schema") {
    const { schema } = format.json_schema;
    ask("response_format", schema ? { type: "jsonSchema", schema } : { type: "json" });
  }
  for (const [field, value] of Object.entries(body.structured_outputs ?? {})) {
    const name = `structured_outputs.${field}`;
    const constraint = value === null || value === undefined ? null : constraintFrom(field, value, name);
    if (constraint !== null) ask(name, constraint);
  }
  for (const field of ["guided_json", "guided_regex", "guided_choice", "guided_grammar"] as const) {
    const value = body[field] ?? null;
    if (value !== null) ask(field, constraintFrom(field.slice("guided_".length), value, field)!);
  }
  if (body.json_schema) ask("json_schema", { type: "jsonSchema", schema: body.json_schema });
  if (body.grammar) ask("grammar", { type: "grammar", ebnf: body.grammar });
  if (asked.length <= 1) return asked[0] ?? null;
  const [first, second] = asked as [AskedConstraint, AskedConstraint];
  throw new InvalidRequestError(
    `${first.constraintParam} and ${second.constraintParam} both say what the answer must be; only one of them may.`,
    second.constraintParam,
    "invalid_value",
  );
}

function constraintFrom(kind: string, value: unknown, field: string): Constraint | null {
  switch (kind) {
    case "json":
      return { type: "jsonSchema", schema: typeof value === "string" ? parseSchema(value, field) : value };
    case "json_object":
      return value === true ? { type: "json" } : null;
    case "regex":
      return { type: "regex", pattern: value as string };
    case "choice":
      return { type: "choice", choices: value as string[] };
    case "grammar":
      return { type: "grammar", ebnf: value as string };
    default:
      return null;
  }
}

function parseSchema(text: string, field: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    const message =
      `${field} is a text that is no JSON; it must be a JSON schema (an object) or its JSON text.`;
    throw new InvalidRequestError(message, field, "invalid_value", { cause });
  }
}
