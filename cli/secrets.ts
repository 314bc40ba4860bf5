/**
 * Files that hold secrets: API keys, and the certificate that TLS needs.
 *
 * @module
 */

import { UsageError } from "./arguments.ts";
import { flagOf, type ServerOptions } from "./options.ts";

/** All API keys: those given, and those of the file, one a line; `#` begins a comment. */
export function readKeys({ apiKeys = [], apiKeysFile }: ServerOptions): string[] {
  if (apiKeysFile === undefined) return [...apiKeys];
  const lines = readFile("apiKeysFile", apiKeysFile).split("\n").map((line) => line.trim());
  const keys = lines.filter((line) => line !== "" && !line.startsWith("#"));
  if (keys.length === 0) {
    throw new UsageError(`--api-keys-file ${apiKeysFile} holds no key; one a line is wanted`);
  }
  const odd = lines.findIndex((line) => !line.startsWith("#") && /\s/.test(line));
  if (odd >= 0) {
    throw new UsageError(`--api-keys-file ${apiKeysFile}: line ${odd + 1} has a space within a key`);
  }
  return [...apiKeys, ...keys];
}

/** Certificate chain and private key in PEM; null without TLS. */
export function readTls({ tlsCert, tlsKey }: ServerOptions): { cert: string; key: string } | null {
  if (tlsCert === undefined || tlsKey === undefined) return null;
  return { cert: readFile("tlsCert", tlsCert), key: readFile("tlsKey", tlsKey) };
}

function readFile(option: string, path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    const reason = error instanceof Deno.errors.NotFound
      ? "there is no such file"
      : error instanceof Deno.errors.NotCapable
      ? `run with --allow-read=${path}`
      : (error as Error).message;
    throw new UsageError(`${flagOf(option)}: cannot read ${path}: ${reason}`);
  }
}
