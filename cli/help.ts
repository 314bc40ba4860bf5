/**
 * The text of `--help`, from the table of options.
 *
 * @module
 */

import { type CommandEntry, type CommandName, COMMANDS } from "./commands/table.ts";
import { flagOf, type Option, OPTIONS, variableOf } from "./options.ts";
import { ENGINE_FAILED } from "./startup.ts";

const WIDTH = 100;
const INDENT = 6;

/** The help text: of one command, or the list of commands and the options of `serve`. */
export function helpText(version: string, command: CommandName | null = null): string {
  if (command !== null && command !== "serve") return commandHelp(version, command);
  const list = Object.values(COMMANDS).map(({ usage, about }) => `  kvrm ${usage.padEnd(26)}${about}`);
  return [
    `kvrm ${version}: serves a language model over an OpenAI-compatible HTTP API.`,
    ["Usage: kvrm COMMAND", ...list, `  kvrm ${"help run".padEnd(26)}Explain a command's flags.`].join("\n"),
    "From the sources: scripts/kvrm.sh in place of kvrm; and for the server alone, with no more permissions than\n" +
    "it needs,\n" +
    "  scripts/serve.sh [flags]\n" +
    "  deno run --allow-net=HOST:PORT --allow-read=MODEL --allow-env=KVRM_* --allow-ffi=LIB server.ts [flags]",
    ...groupTexts("serve"),
    OTHER,
    SOURCES,
    "Exit codes: 0 after SIGTERM or SIGINT; 1 when the server cannot start; 2 for flags that cannot be followed;\n" +
    `${ENGINE_FAILED} when the engine broke while it served (a lost GPU, no memory left): start it again.`,
  ].join("\n\n") + "\n";
}

const OTHER = "Other:\n  -h, --help\n  -V, --version";
const SOURCES =
  "An environment variable stands in for each flag, KVRM_KV_MODE for --kv-mode, and so does the config file,\n" +
  'with "kvMode" or "kv-mode". The flag wins over the variable, the variable over the file.';

const EXAMPLES: Readonly<Record<Exclude<CommandName, "serve">, string>> = {
  run:
    "Exit codes: 0 when the answer is whole; 1 when there is none; 2 for flags that cannot be followed;\n" +
    "130 after Ctrl-C.\n\n" +
    'Examples: kvrm run "Once upon a time" --max-tokens 64\n' +
    "          kvrm run --model org/name --temperature 0 < question.txt",
  pull:
    "HF_TOKEN names a token for models that need one, HF_HUB_CACHE the cache. A download that was interrupted\n" +
    "goes on where it stopped.\n\nExit codes: 0 when all is there; 1 when it is not; 2 for a name that is none.",
  bench:
    "Medians of several runs, greedy, with nothing else on the engine. What else runs on the machine counts.",
};

function commandHelp(version: string, command: Exclude<CommandName, "serve">): string {
  const { usage, about, groups } = COMMANDS[command];
  const shared = "Configuration" in groups ? [SOURCES] : [];
  return [
    `kvrm ${version}: kvrm ${usage}`,
    about,
    ...groupTexts(command),
    OTHER,
    ...shared,
    EXAMPLES[command],
  ].join("\n\n") + "\n";
}

function groupTexts(command: CommandName): string[] {
  const { groups }: CommandEntry = COMMANDS[command];
  return Object.entries(groups).map(([group, options]) =>
    [`${group}:`, ...Object.entries(options).map(([name, option]) => entry(name, option))].join("\n")
  );
}

function entry(name: string, option: Option<unknown>): string {
  const flag = option.value === undefined
    ? `${flagOf(name)}, ${flagOf(name).replace("--", "--no-")}`
    : `${flagOf(name)} ${option.value}`;
  // What only one command knows has no variable.
  const variable = name in OPTIONS ? ` [${variableOf(name)}]` : "";
  return `  ${flag}\n${wrap(`${option.help} Default: ${option.fallback}.${variable}`)}`;
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
