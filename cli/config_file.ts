/**
 * Options from a file: JSON, comments and trailing commas allowed.
 *
 * @module
 */

import type { ParseError } from "jsonc-parser";
import { nearest } from "./nearest.ts";

/** A file that cannot be followed. The message is for the user. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

/** What reads JSON with comments; ten milliseconds of a start that only those who have a file pay. */
let jsonc: typeof import("jsonc-parser") | null = null;

/** Loads what {@link readConfig} needs. */
export async function prepareConfig(): Promise<void> {
  jsonc = await import("jsonc-parser");
}

/**
 * Reads the options of a file, once {@link prepareConfig} was called: names in camelCase or kebab-case, values as text, as a flag would give them.
 *
 * @throws {ConfigError} naming the file, and what in it cannot be followed
 */
export function readConfig(
  path: string,
  names: readonly string[],
  readText: (path: string) => string = Deno.readTextFileSync,
): Map<string, string> {
  const options = new Map<string, string>();
  for (const [given, value] of Object.entries(parseObject(path, text(path, readText)))) {
    const name = given.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
    if (!names.includes(name)) {
      const meant = nearest(name, names);
      const hint = meant === null ? "" : `; did you mean ${JSON.stringify(meant)}?`;
      throw new ConfigError(`${path}: unknown option ${JSON.stringify(given)}${hint}`);
    }
    if (options.has(name)) throw new ConfigError(`${path}: ${JSON.stringify(name)} is given twice`);
    options.set(name, valueText(path, given, value));
  }
  return options;
}

function text(path: string, readText: (path: string) => string): string {
  try {
    return readText(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) {
      throw new ConfigError(`cannot read the config file ${path}: run with --allow-read=${path}`);
    }
    const reason = error instanceof Deno.errors.NotFound ? "there is no such file" : (error as Error).message;
    throw new ConfigError(`cannot read the config file ${path}: ${reason}`);
  }
}

function parseObject(path: string, source: string): Record<string, unknown> {
  if (jsonc === null) throw new Error("call prepareConfig() first");
  const errors: ParseError[] = [];
  const value = jsonc.parse(source, errors, { allowTrailingComma: true });
  const first = errors[0];
  if (first !== undefined) {
    const before = source.slice(0, first.offset);
    const line = before.split("\n").length;
    const column = first.offset - before.lastIndexOf("\n");
    throw new ConfigError(
      `${path} is not JSON: ${jsonc.printParseErrorCode(first.error)} at line ${line}, column ${column}`,
    );
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new ConfigError(`${path} must hold one JSON object of options, such as {"slots": 8}`);
  }
  return value;
}

function valueText(path: string, name: string, value: unknown): string {
  if (Array.isArray(value) && value.every((one) => typeof one === "string")) return value.join(",");
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") {
    return String(value);
  }
  throw new ConfigError(
    `${path}: ${JSON.stringify(name)} is ${JSON.stringify(value)}; ` +
      "it must be a text, a number, true or false, or an array of texts",
  );
}
