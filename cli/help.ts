/**
 * The text of `--help`, from the table of options.
 *
 * @module
 */

import { ENGINE_FAILED } from "./startup.ts";
import { flagOf, type Option, OPTION_GROUPS, variableOf } from "./options.ts";

const WIDTH = 100;
const INDENT = 6;

/** The whole help text. */
export function helpText(version: string): string {
  const groups = Object.entries(OPTION_GROUPS).map(([group, options]) =>
    [`${group}:`, ...Object.entries(options).map(([name, option]) => entry(name, option))].join("\n")
  );
  return [
    `kvrm ${version}: serves a language model over an OpenAI-compatible HTTP API.`,
    "Usage: scripts/serve.sh [flags], which gives the server just the permissions that it needs;\n" +
    "       deno run --allow-net=HOST:PORT --allow-read=MODEL --allow-env=KVRM_* --allow-ffi=LIB server.ts [flags]",
    ...groups,
    "Other:\n  -h, --help\n  -V, --version",
    "An environment variable stands in for each flag, KVRM_KV_MODE for --kv-mode, and so does the config file,\n" +
    'with "kvMode" or "kv-mode". The flag wins over the variable, the variable over the file.',
    "Exit codes: 0 after SIGTERM or SIGINT; 1 when the server cannot start; 2 for flags that cannot be followed;\n" +
    `${ENGINE_FAILED} when the engine broke while it served (a lost GPU, no memory left): start it again.`,
  ].join("\n\n") + "\n";
}

function entry(name: string, option: Option<unknown>): string {
  const flag = option.value === undefined
    ? `${flagOf(name)}, ${flagOf(name).replace("--", "--no-")}`
    : `${flagOf(name)} ${option.value}`;
  return `  ${flag}\n${wrap(`${option.help} Default: ${option.fallback}. [${variableOf(name)}]`)}`;
}

function wrap(text: string): string {
  const indent = " ".repeat(INDENT);
  const lines = [indent];
  for (const word of text.split(" ")) {
    const line = lines.at(-1)!;
    if (line.length + word.length + 1 > WIDTH) lines.push(indent + word);
    else lines[lines.length - 1] = line === indent ? indent + word : `${line} ${word}`;
  }
  return lines.join("\n");
}
