/**
 * Prints what scripts/serve.sh needs of a config file to know which permissions the server takes: model, host,
 * port, backend and library, a line each, and a last one of further files to read, each after a comma.
 *
 * @module
 */

import { ConfigError, prepareConfig, readConfig } from "./config_file.ts";
import { OPTIONS } from "./options.ts";

const FILES = ["tlsCert", "tlsKey", "apiKeysFile"];

function main(path: string): void {
  const options = readConfig(path, Object.keys(OPTIONS).filter((name) => name !== "config"));
  const lines = ["model", "host", "port", "backend", "lib"].map((name) => options.get(name) ?? "");
  const files = FILES.map((name) => options.get(name)).filter((file) => file !== undefined);
  const text = [...lines, files.map((file) => `,${file}`).join("")].join("\n");
  Deno.stdout.writeSync(new TextEncoder().encode(`${text}\n`));
}

try {
  await prepareConfig();
  main(Deno.args[0]!);
} catch (error) {
  if (!(error instanceof ConfigError)) throw error;
  Deno.stderr.writeSync(new TextEncoder().encode(`kvrm: ${error.message}\n`));
  Deno.exit(2);
}
