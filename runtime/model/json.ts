/**
 * Reading JSON files so that a malformed one is reported with its place.
 *
 * @module
 */
import { ModelError } from "../errors.ts";

/** Reads a file as text, or null where it does not exist. Throws a ModelError naming the file otherwise. */
export async function readTextIfPresent(path: string): Promise<string | null> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return null;
    throw new ModelError(`cannot read ${path}: ${messageOf(error)}`, { cause: error });
  }
}

/** Reads a JSON file, or null where it does not exist. Throws a ModelError with file, line and column. */
export async function readJsonIfPresent(path: string): Promise<unknown> {
  const text = await readTextIfPresent(path);
  return text === null ? null : parseJson(text, path);
}

/** Reads a JSON file that must exist; `purpose` says what it is for in the error. */
export async function readJson(path: string, purpose: string): Promise<unknown> {
  const text = await readTextIfPresent(path);
  if (text === null) throw new ModelError(`${path} is missing: ${purpose}`);
  return parseJson(text, path);
}

/** Parses JSON; throws a ModelError that says where `source` is malformed. */
export function parseJson(text: string, source: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const at = jsonErrorOffset(text);
    const before = text.slice(0, at).split("\n");
    const column = (before.at(-1)?.length ?? 0) + 1;
    const found = at >= text.length ? "the end of the file" : JSON.stringify(text.slice(at, at + 12));
    throw new ModelError(
      `${source} is not valid JSON: line ${before.length}, column ${column}: unexpected ${found}`,
      { cause: error },
    );
  }
}

const TOKEN =
  // deno-lint-ignore no-control-regex -- JSON strings exclude exactly these
  /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null|[{}[\]:,]/y;
const SPACE = /[ \t\r\n]*/y;

/**
 * Offset of the first token that cannot stand where it stands. V8 gives the place only in some of its
 * messages, so malformed text is scanned again.
 */
function jsonErrorOffset(text: string): number {
  const open: string[] = [];
  let at = 0;
  // What may come next: a value, a key, the separators, or nothing (the text is complete).
  let expect: "value" | "value-or-end" | "key" | "key-or-end" | "colon" | "comma" | "nothing" = "value";
  for (;;) {
    SPACE.lastIndex = at;
    SPACE.test(text);
    at = SPACE.lastIndex;
    TOKEN.lastIndex = at;
    const token = TOKEN.exec(text)?.[0];
    if (token === undefined || expect === "nothing") return at;
    const closes = token === "}" || token === "]";
    if (closes) {
      const fits = open.at(-1) === (token === "}" ? "{" : "[") &&
        (expect === "comma" || expect === (token === "}" ? "key-or-end" : "value-or-end"));
      if (!fits) return at;
      open.pop();
      expect = open.length > 0 ? "comma" : "nothing";
    } else if (expect === "comma") {
      if (token !== ",") return at;
      expect = open.at(-1) === "{" ? "key" : "value";
    } else if (expect === "colon") {
      if (token !== ":") return at;
      expect = "value";
    } else if (expect === "key" || expect === "key-or-end") {
      if (!token.startsWith('"')) return at;
      expect = "colon";
    } else {
      if (token === "," || token === ":") return at;
      if (token === "{" || token === "[") {
        open.push(token);
        expect = token === "{" ? "key-or-end" : "value-or-end";
      } else expect = open.length > 0 ? "comma" : "nothing";
    }
    at = TOKEN.lastIndex;
  }
}

/** The message of whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
