/**
 * JSON whose syntax errors say where they are; V8's own messages leave the position out half of the time.
 *
 * @module
 */

import { InvalidRequestError } from "../runtime/errors.ts";

/** Where a text stops being JSON. */
export interface JsonFault {
  /** UTF-16 units before it. */
  position: number;
  /** From 1. */
  line: number;
  /** From 1, in UTF-16 units. */
  column: number;
  found: string;
  wanted: string;
}

/** The value that `text` stands for, or an InvalidRequestError that names line, column, found and wanted. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    const fault = findJsonFault(text);
    const where = fault === null
      ? (cause as Error).message
      : `line ${fault.line}, column ${fault.column} (position ${fault.position}): ` +
        `found ${fault.found}, wanted ${fault.wanted}`;
    throw new InvalidRequestError(`The request body is not JSON: ${where}.`, null, "invalid_json", { cause });
  }
}

const SPACE = /[ \t\n\r]*/y;
const SCALAR = /(?:-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null)/y;
const ESCAPE = /\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/y;

/** The first fault of `text`, or null when it is JSON. Needs no recursion, so depth is no danger. */
export function findJsonFault(text: string): JsonFault | null {
  const open: ("{" | "[")[] = [];
  let at = 0;
  let state: "value" | "first value" | "key" | "first key" | "colon" | "next" = "value";

  const fault = (wanted: string): JsonFault => {
    const before = text.slice(0, at);
    const line = before.split("\n").length;
    const character = text.codePointAt(at);
    return {
      position: at,
      line,
      column: at - before.lastIndexOf("\n"),
      found: character === undefined ? "the end" : JSON.stringify(String.fromCodePoint(character)),
      wanted,
    };
  };
  /** Moves `at` behind a match of a sticky pattern. */
  const skip = (pattern: RegExp): boolean => {
    pattern.lastIndex = at;
    if (!pattern.test(text)) return false;
    at = pattern.lastIndex;
    return true;
  };
  /** Moves `at` behind a string's closing quote, or to what is wrong in it. */
  const skipString = (): string | null => {
    for (at++; text[at] !== '"';) {
      if (at >= text.length) return 'a closing "';
      if (text[at] === "\\") {
        if (!skip(ESCAPE)) return "a valid escape sequence";
      } else if (text.charCodeAt(at) < 0x20) return "a control character to be escaped";
      else at++;
    }
    at++;
    return null;
  };

  for (;;) {
    skip(SPACE);
    const character = text[at];
    if (state === "next") {
      const container = open.at(-1);
      if (container === undefined) return at === text.length ? null : fault("nothing after the value");
      const close = container === "{" ? "}" : "]";
      if (character === close) open.pop();
      else if (character === ",") state = container === "{" ? "key" : "value";
      else return fault(`"," or "${close}"`);
      at++;
    } else if (state === "colon") {
      if (character !== ":") return fault('":"');
      at++;
      state = "value";
    } else if (state === "key" || state === "first key") {
      if (character === "}" && state === "first key") {
        open.pop();
        at++;
        state = "next";
      } else if (character === '"') {
        const wanted = skipString();
        if (wanted !== null) return fault(wanted);
        state = "colon";
      } else return fault(state === "key" ? "a quoted name" : 'a quoted name or "}"');
    } else if (character === "]" && state === "first value") {
      open.pop();
      at++;
      state = "next";
    } else if (character === "{" || character === "[") {
      open.push(character);
      at++;
      state = character === "{" ? "first key" : "first value";
    } else if (character === '"') {
      const wanted = skipString();
      if (wanted !== null) return fault(wanted);
      state = "next";
    } else if (skip(SCALAR)) state = "next";
    else return fault(state === "value" ? "a value" : 'a value or "]"');
  }
}
