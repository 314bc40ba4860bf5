/**
 * A grammar under construction: rules of XGrammar's EBNF, and the parts of JSON that every schema needs.
 *
 * @module
 */
import { JSON_PLAIN, literal, oneOf } from "./charset.ts";

/** Size of a grammar's text at most, in characters. */
export const MAX_GRAMMAR = 1 << 20;

/** A grammar that has become larger than {@link MAX_GRAMMAR}. */
export class GrammarSizeError extends Error {
  constructor() {
    super(`the grammar is larger than ${MAX_GRAMMAR} characters`);
  }
}

/** See the module. A rule with the same body as another is that other. */
export class GrammarBuilder {
  readonly #rules = new Map<string, string>();
  readonly #names = new Map<string, string>();
  #next = 0;
  #size = 0;

  /** A rule with this body; returns its name. */
  rule(body: string): string {
    const known = this.#names.get(body);
    if (known !== undefined) return known;
    const name = this.reserve();
    this.define(name, body);
    this.#names.set(body, name);
    return name;
  }

  /** The name of a rule that is yet to be defined: for rules that refer to themselves. */
  reserve(): string {
    return `r${this.#next++}`;
  }

  /** Gives a reserved rule its body. */
  define(name: string, body: string): void {
    this.#size += name.length + body.length + 6;
    if (this.#size > MAX_GRAMMAR) throw new GrammarSizeError();
    this.#rules.set(name, body);
  }

  /**
   * One of some expressions, of which there is at least one. Each becomes a rule that refers to a rule: XGrammar
   * copies rules without references into those that begin with them, and merges states that it should keep apart
   * where alternatives begin alike, so that `[0-9] | [1-9] [0-9]` matches "05". References are never merged.
   */
  or(options: readonly string[]): string {
    const different = [...new Set(options)];
    if (different.length === 1) return different[0]!;
    return this.rule(different.map((option) => this.rule(this.rule(option))).join(" | "));
  }

  /** One character of a JSON string that stands for itself. */
  get char(): string {
    return oneOf(JSON_PLAIN)![0]!;
  }

  /**
   * The rest of a JSON string, its quote included; no escape is half of a surrogate pair. A rule that goes on with
   * itself, and not a repetition of characters: XGrammar knows beforehand which tokens stay within a rule, and tries
   * every other token at every step.
   */
  get stringEnd(): string {
    const known = this.#names.get("stringEnd");
    if (known !== undefined) return known;
    const name = this.reserve();
    this.#names.set("stringEnd", name);
    const hex = "[0-9A-Fa-f]";
    const code = `([0-9A-CE-Fa-ce-f] ${hex} ${hex} ${hex} | [Dd] [0-7] ${hex} ${hex})`;
    const escape = this.rule(`["\\\\/bfnrt] | "u" ${code}`);
    this.define(name, `"\\"" | ${this.char} ${name} | "\\\\" ${escape} ${name}`);
    return name;
  }

  /** A JSON string. */
  get string(): string {
    return this.rule(`"\\"" ${this.stringEnd}`);
  }

  /** An integer. */
  get integer(): string {
    // So many digits are exact in JavaScript and Python alike.
    return this.rule(`"-"? ${this.or(['"0"', "[1-9] [0-9]{0,14}"])}`);
  }

  /** A number. */
  get number(): string {
    return this.rule(`${this.integer} ("." [0-9]{1,16})? ([eE] [+-]? [0-9]{1,2})?`);
  }

  /** True or false. */
  get boolean(): string {
    return this.or(['"true"', '"false"']);
  }

  /** Any JSON value. */
  get value(): string {
    const known = this.#names.get("value");
    if (known !== undefined) return known;
    const name = this.reserve();
    this.#names.set("value", name);
    const pair = `${this.string} ": " ${name}`;
    this.#names.set("object", this.rule(`"{" (${pair} (", " ${pair})*)? "}"`));
    this.#names.set("array", this.rule(`"[" (${name} (", " ${name})*)? "]"`));
    const values = [this.object, this.array, this.string, this.number, this.boolean, '"null"'];
    this.define(name, this.or(values));
    return name;
  }

  /** Any JSON object. */
  get object(): string {
    return this.#names.get("object") ?? (this.value, this.#names.get("object")!);
  }

  /** Any JSON array. */
  get array(): string {
    return this.#names.get("array") ?? (this.value, this.#names.get("array")!);
  }

  /** A value, written as every value of a constraint is. */
  constant(value: unknown): string {
    return literal(jsonText(value));
  }

  /** The whole grammar, whose root is `expression`. */
  text(expression: string): string {
    const rules = Array.from(this.#rules, ([name, body]) => `${name} ::= ${body}\n`);
    return `root ::= ${expression}\n${rules.join("")}`;
  }
}

/** JSON with a space after each comma and colon, as Python writes it, and nowhere else. */
export function jsonText(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(jsonText).join(", ")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  return `{${Object.entries(value).map(([key, v]) => `${JSON.stringify(key)}: ${jsonText(v)}`).join(", ")}}`;
}
