/**
 * Regular expressions, as JSON Schema and JavaScript write them, as EBNF. An expression describes the whole text.
 *
 * @module
 */
import type { GrammarBuilder } from "./builder.ts";
import {
  ANY,
  type CharSet,
  complement,
  has,
  intersect,
  JSON_PLAIN,
  literal,
  oneOf,
  range,
  union,
} from "./charset.ts";

/** What is wrong with an expression. */
export class RegexError extends Error {
  /** `at`: index of the character at fault. */
  constructor(message: string, readonly at: number) {
    super(`${message} at character ${at + 1}`);
  }
}

/** Groups within groups at most. */
const MAX_DEPTH = 50;
/** Highest bound of a repetition. */
const MAX_REPEAT = 10_000;

const DIGIT = range(0x30, 0x39);
const WORD = union(DIGIT, range(0x41, 0x5a), range(0x61, 0x7a), range(0x5f));
/** As in RE2, classes of characters look at ASCII alone: beyond it no character is a space or the end of a line. */
const SPACE = union(range(9, 13), range(0x20));
const LINE_END = union(range(10), range(13));
const CLASSES: Readonly<Record<string, CharSet>> = {
  d: DIGIT,
  w: WORD,
  s: SPACE,
  D: complement(DIGIT),
  W: complement(WORD),
  S: complement(SPACE),
};
const CONTROLS: Readonly<Record<string, number>> = { t: 9, n: 10, v: 11, f: 12, r: 13 };

/** How a JSON string writes the characters that cannot stand for themselves. */
const JSON_ESCAPES: readonly (readonly [number, string])[] = [
  [0x22, '\\"'],
  [0x5c, "\\\\"],
  [8, "\\b"],
  [9, "\\t"],
  [10, "\\n"],
  [12, "\\f"],
  [13, "\\r"],
];

/**
 * An EBNF expression for the texts that `pattern` matches as a whole; within JSON, for how a JSON string writes
 * them, without its quotes.
 *
 * @throws {RegexError} for what is malformed, and for what no grammar can say: looking around, back references
 */
export function regexGrammar(builder: GrammarBuilder, pattern: string, { json }: { json: boolean }): string {
  return new RegexParser(builder, pattern, json).parse();
}

class RegexParser {
  readonly #builder: GrammarBuilder;
  readonly #text: string;
  readonly #json: boolean;
  #at = 0;
  #depth = 0;

  constructor(builder: GrammarBuilder, text: string, json: boolean) {
    this.#builder = builder;
    this.#text = text;
    this.#json = json;
  }

  parse(): string {
    const out = this.#alternatives();
    if (this.#at < this.#text.length) throw this.#error('")" without "("');
    return out;
  }

  #alternatives(): string {
    if (++this.#depth > MAX_DEPTH) throw this.#error(`more than ${MAX_DEPTH} groups within each other`);
    const options = [this.#sequence()];
    while (this.#take("|")) options.push(this.#sequence());
    this.#depth--;
    return this.#builder.or(options);
  }

  #sequence(): string {
    const parts: string[] = [];
    let first = true;
    while (this.#at < this.#text.length && this.#peek !== "|" && this.#peek !== ")") {
      if (this.#take("^")) {
        if (!first || this.#depth > 1) {
          throw this.#error('"^" anywhere but at the start is not supported', -1);
        }
        continue;
      }
      if (this.#take("$")) {
        const atEnd = this.#at === this.#text.length || this.#peek === "|";
        if (!atEnd || this.#depth > 1) throw this.#error('"$" anywhere but at the end is not supported', -1);
        continue;
      }
      first = false;
      parts.push(this.#quantified());
    }
    return parts.length === 0 ? '""' : parts.join(" ");
  }

  #quantified(): string {
    const atom = this.#atom();
    const start = this.#at;
    let bounds: string | null = null;
    if (this.#take("*")) bounds = "*";
    else if (this.#take("+")) bounds = "+";
    else if (this.#take("?")) bounds = "?";
    else if (this.#peek === "{") bounds = this.#repetition();
    if (bounds === null) return atom;
    this.#take("?"); // lazy or not, the texts are the same
    if (/^[*+?{]$/.test(this.#peek)) throw new RegexError("a quantifier after a quantifier", start);
    return bounds === "{1,1}" ? atom : `(${atom})${bounds}`;
  }

  #repetition(): string {
    const [all, low, comma, high] = /^\{(\d+)(,?)(\d*)\}/.exec(this.#text.slice(this.#at)) ?? [];
    if (all === undefined) throw this.#error('"{" that starts no repetition; write "\\{"');
    const most = high !== "" ? Number(high) : comma === "" ? Number(low) : null;
    if (Number(low) > MAX_REPEAT || (most !== null && most > MAX_REPEAT)) {
      throw this.#error(`a repetition of more than ${MAX_REPEAT}`);
    }
    if (most !== null && most < Number(low)) throw this.#error("a repetition whose bounds are out of order");
    this.#at += all.length;
    return `{${Number(low)},${most ?? ""}}`;
  }

  #atom(): string {
    const char = this.#next();
    switch (char) {
      case "(": {
        if (this.#peek === "?") this.#groupKind();
        const inside = this.#alternatives();
        if (!this.#take(")")) throw this.#error('"(" without ")"');
        return `(${inside})`;
      }
      case "[":
        return this.#chars(this.#class());
      case ".":
        return this.#chars(complement(LINE_END));
      case "\\":
        return this.#chars(this.#escape(false));
      case "*":
      case "+":
      case "?":
      case "{":
        throw this.#error(`"${char}" with nothing before it`, -1);
      default:
        return this.#chars(range(char.codePointAt(0)!));
    }
  }

  #groupKind(): void {
    const rest = this.#text.slice(this.#at);
    const kind = /^\?(:|<[A-Za-z_$][\w$]*>)/.exec(rest)?.[0];
    if (kind !== undefined) this.#at += kind.length;
    else if (/^\?<?[=!]/.test(rest)) throw this.#error("looking ahead or behind is not supported", -1);
    else throw this.#error("a group of unknown kind", -1);
  }

  #class(): CharSet {
    const start = this.#at - 1;
    const negated = this.#take("^");
    const sets: CharSet[] = [];
    while (!this.#take("]")) {
      if (this.#at >= this.#text.length) throw new RegexError('"[" without "]"', start);
      const from = this.#classChar();
      if (this.#peek !== "-" || this.#text[this.#at + 1] === "]" || this.#at + 1 >= this.#text.length) {
        sets.push(from);
        continue;
      }
      this.#at++;
      const to = this.#classChar();
      const [low, high] = [single(from), single(to)];
      if (low === null || high === null) throw this.#error("a range that ends in a class");
      if (low > high) throw this.#error("a range whose ends are out of order");
      sets.push(intersect(range(low, high), ANY));
    }
    const set = union(...sets);
    return negated ? complement(set) : set;
  }

  #classChar(): CharSet {
    const char = this.#next();
    return char === "\\" ? this.#escape(true) : range(char.codePointAt(0)!);
  }

  #escape(inClass: boolean): CharSet {
    if (this.#at >= this.#text.length) throw this.#error('"\\" with nothing behind it', -1);
    const char = this.#next();
    const named = CLASSES[char];
    if (named !== undefined) return named;
    const control = CONTROLS[char];
    if (control !== undefined) return range(control);
    if (char === "b" && inClass) return range(8);
    if (char === "x" || char === "u") return range(this.#hex(char));
    if (char === "c" && /^[A-Za-z]$/.test(this.#peek)) return range(this.#next().charCodeAt(0) % 32);
    if (char === "b" || char === "B") throw this.#error("a boundary of words is not supported", -2);
    if (char === "p" || char === "P") throw this.#error("a property of characters is not supported", -2);
    if (/^[1-9k]$/.test(char)) throw this.#error("a back reference is not supported", -2);
    if (/^[A-Za-z0-9]$/.test(char)) throw this.#error(`the escape "\\${char}" is not known`, -2);
    return range(char.codePointAt(0)!);
  }

  #hex(kind: string): number {
    const digits = kind === "x" ? /^[0-9A-Fa-f]{2}/ : /^(\{[0-9A-Fa-f]{1,6}\}|[0-9A-Fa-f]{4})/;
    const found = digits.exec(this.#text.slice(this.#at))?.[0];
    if (found === undefined) throw this.#error(`"\\${kind}" without its digits`, -2);
    this.#at += found.length;
    const code = parseInt(found.replace(/[{}]/g, ""), 16);
    if (code > 0x10ffff || !has(ANY, code)) throw this.#error("a number that is no character", -2);
    return code;
  }

  /** One character of a set. */
  #chars(set: CharSet): string {
    const plain = intersect(set, this.#json ? JSON_PLAIN : ANY);
    const options: string[] = [];
    if (plain.length > 0) {
      const some = oneOf(plain);
      if (some === null) {
        throw this.#error("a class with some but not all of the characters beyond ASCII", -1);
      }
      options.push(...some);
    }
    if (this.#json) {
      for (const [code, text] of JSON_ESCAPES) if (has(set, code)) options.push(literal(text));
    }
    if (options.length === 0) throw this.#error("a character that nothing matches", -1);
    return this.#builder.or(options);
  }

  get #peek(): string {
    return this.#text[this.#at] ?? "";
  }

  #take(char: string): boolean {
    if (this.#text[this.#at] !== char) return false;
    this.#at++;
    return true;
  }

  #next(): string {
    const char = String.fromCodePoint(this.#text.codePointAt(this.#at)!);
    this.#at += char.length;
    return char;
  }

  #error(message: string, offset = 0): RegexError {
    return new RegexError(message, Math.max(0, this.#at + offset));
  }
}

function single(set: CharSet): number | null {
  return set.length === 1 && set[0]![0] === set[0]![1] ? set[0]![0] : null;
}
