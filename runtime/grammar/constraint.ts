/**
 * Constraints as grammars: one EBNF text for whatever a request asks for.
 *
 * @module
 */
import { InvalidRequestError } from "../errors.ts";
import type { Constraint } from "../types.ts";
import { GrammarBuilder, GrammarSizeError, MAX_GRAMMAR } from "./builder.ts";
import { literal } from "./charset.ts";
import { RegexError, regexGrammar } from "./regex.ts";
import { SchemaError } from "./schema_merge.ts";
import { schemaGrammar } from "./schema.ts";

/** Texts to choose from at most. */
const MAX_CHOICES = 4096;
/** Constraints within constraints at most. */
const MAX_DEPTH = 16;

/**
 * The grammar's text. Equal constraints have equal texts.
 *
 * @param param the request's field that is at fault when something is
 * @throws {InvalidRequestError} with the place of what cannot be had
 */
export function grammarOf(constraint: Constraint, param = "constraint"): string {
  const builder = new GrammarBuilder();
  try {
    if (constraint.type === "grammar") return userGrammar(constraint.ebnf);
    return builder.text(expression(builder, constraint, 0));
  } catch (error) {
    const known = error instanceof SchemaError || error instanceof RegexError ||
      error instanceof GrammarSizeError || error instanceof ConstraintError;
    if (!known) throw error;
    const what = error instanceof SchemaError
      ? "the schema at "
      : error instanceof RegexError
      ? "the pattern has "
      : "";
    throw new InvalidRequestError(`${param}: ${what}${error.message}`, param, "invalid_grammar", {
      cause: error,
    });
  }
}

class ConstraintError extends Error {}

function userGrammar(ebnf: string): string {
  if (ebnf.length > MAX_GRAMMAR) throw new GrammarSizeError();
  if (!/^\s*root\s*::=/m.test(ebnf)) {
    throw new ConstraintError('the grammar has no rule "root"; wanted EBNF such as root ::= "yes" | "no"');
  }
  const place = classBeyondAscii(ebnf);
  if (place === null) return ebnf;
  throw new ConstraintError(
    `the class of characters in line ${place} of the grammar goes beyond ASCII, which the grammar engine gets wrong; ` +
      'write such characters as texts: ("é" | "è")',
  );
}

/** The line of the first class that names a character beyond ASCII; null when there is none. */
function classBeyondAscii(ebnf: string): number | null {
  let line = 1;
  // A text, a comment, a class or the end of a line, whichever comes first.
  for (const [part] of ebnf.matchAll(/"(?:[^"\\\n]|\\.)*"|#[^\n]*|\[(?:[^\]\\\n]|\\.)*\]|\n/gu)) {
    if (part === "\n") line++;
    else if (part[0] === "[" && /[^\0-\x7f]|\\u(?!00[0-7])|\\U(?!000000[0-7])|\\x[89a-fA-F]/u.test(part)) {
      return line;
    }
  }
  return null;
}

function expression(builder: GrammarBuilder, constraint: Constraint, depth: number): string {
  if (depth > MAX_DEPTH) throw new ConstraintError(`more than ${MAX_DEPTH} constraints within each other`);
  const inner = (part: Constraint) => expression(builder, part, depth + 1);
  switch (constraint.type) {
    case "json":
      return builder.object;
    case "jsonSchema":
      return schemaGrammar(builder, constraint.schema);
    case "regex":
      return builder.rule(regexGrammar(builder, constraint.pattern, { json: false }));
    case "choice":
      return builder.or(choices(constraint.choices));
    case "literal":
      return literal(constraint.text);
    case "sequence":
      return builder.rule(constraint.parts.map((part) => `(${inner(part)})`).join(" ") || '""');
    case "either":
      return builder.or(constraint.options.map(inner));
    case "repeat": {
      const { least = 0, most } = constraint;
      return builder.rule(`(${inner(constraint.part)}){${least},${most ?? ""}}`);
    }
    case "until":
      return builder.rule(`TagDispatch(stop_eos=false, stop_str=(${literal(constraint.text)}))`);
    case "dispatch": {
      const tags = constraint.tags.map(({ trigger, then }) => {
        return `(${literal(trigger)}, ${builder.rule(inner(then))})`;
      });
      return builder.rule(`TagDispatch(${tags.join(", ")}, stop_eos=true)`);
    }
    case "grammar":
      throw new ConstraintError("a grammar cannot be part of another constraint");
  }
}

function choices(texts: readonly string[]): string[] {
  if (texts.length === 0 || texts.length > MAX_CHOICES) {
    throw new ConstraintError(`${texts.length} choices, wanted 1 to ${MAX_CHOICES}`);
  }
  if (texts.includes("")) throw new ConstraintError("a choice is empty, wanted texts");
  return texts.map(literal);
}
