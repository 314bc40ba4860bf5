/**
 * From the command line and the environment to options.
 *
 * @module
 */

import { type Command, type CommandName, COMMANDS, optionsOf } from "./commands/table.ts";
import { flagOf, type Option, type OptionName, OPTIONS, type ServerOptions, variableOf } from "./options.ts";
import { ConfigError, readConfig } from "./config_file.ts";
import { nearest } from "./nearest.ts";

/** A command line or an environment that cannot be followed. The message is for the user. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

export type { Command };

const names = Object.keys(OPTIONS) as OptionName[];

/** The options of the command at hand. */
type Table = Readonly<Record<string, Option<unknown>>>;

/**
 * Reads `args`: a command, where none is named `serve`, its words and its flags. What the flags leave out is read
 * from the environment, and what both do from the config file.
 *
 * @throws {UsageError} naming the flag or variable, the value found and the value wanted
 */
export function readArguments(
  args: readonly string[],
  environment: (variable: string) => string | undefined,
  readText?: (path: string) => string,
): Command {
  const named = args[0] !== undefined && Object.hasOwn(COMMANDS, args[0]);
  const command = named ? args[0] as CommandName : "serve";
  if (args[0] === "help") return readHelp(args.slice(1));
  const table = optionsOf(command);
  const { given, words } = readFlags(named ? args.slice(1) : args, table);
  if (given.has("help")) return { kind: "help", command: named ? command : null };
  if (given.has("version")) return { kind: "version" };
  checkWords(command, named, words);
  const options = resolve(given, table, environment, readText);
  checkTogether(options);
  switch (command) {
    case "run":
      return { kind: "run", options, prompt: words[0] ?? null };
    case "pull":
      return { kind: "pull", model: words[0]! };
    case "bench":
      return { kind: "bench", options };
    default:
      return { kind: "serve", options };
  }
}

function readHelp(words: readonly string[]): Command {
  const [command = null, ...more] = words;
  if (command !== null && (!Object.hasOwn(COMMANDS, command) || more.length > 0)) {
    throw new UsageError(`help explains one of the commands ${Object.keys(COMMANDS).join(", ")}`);
  }
  return { kind: "help", command: command as CommandName | null };
}

function checkWords(command: CommandName, named: boolean, words: readonly string[]): void {
  const { words: [least, most], usage } = COMMANDS[command];
  if (words.length < least) throw new UsageError(`${command} needs more: kvrm ${usage}`);
  const extra = words[most];
  if (extra === undefined) return;
  const found = `unexpected argument ${JSON.stringify(extra)}`;
  if (named) throw new UsageError(`${found}; wanted kvrm ${usage}`);
  const meant = nearest(extra, Object.keys(COMMANDS));
  throw new UsageError(
    `${found}; ` +
      (meant === null ? "all options are flags such as --model" : `did you mean the command ${meant}?`),
  );
}

/** The value of each option that the flags, the environment or the config file give. */
function resolve(
  given: ReadonlyMap<string, string>,
  table: Table,
  environment: (variable: string) => string | undefined,
  readText?: (path: string) => string,
): ServerOptions {
  const shared = names.filter((name) => name in table);
  const variables = new Map<string, string>();
  for (const name of shared) {
    const found = environment(variableOf(name));
    // An empty variable is an unset one: shells and unit files cannot always tell them apart. Kubernetes sets
    // KVRM_PORT to an address where a service is named kvrm.
    if (found === undefined || found === "" || (name === "port" && found.startsWith("tcp://"))) continue;
    variables.set(name, found);
  }
  const path = given.get("config") ?? variables.get("config");
  if (path !== undefined) readValue(table, "config", path, given.has("config") ? "--config" : "KVRM_CONFIG");
  const file = path === undefined ? new Map<string, string>() : readFile(path, readText);
  const options: Record<string, unknown> = {};
  for (const name of Object.keys(table)) {
    const sources: [ReadonlyMap<string, string>, string][] = [
      [given, flagOf(name)],
      [variables, variableOf(name)],
      [file, `${path}: ${JSON.stringify(name)}`],
    ];
    const source = sources.find(([values]) => values.has(name));
    if (source !== undefined) options[name] = readValue(table, name, source[0].get(name)!, source[1]);
  }
  return options;
}

function readFile(path: string, readText?: (path: string) => string): Map<string, string> {
  try {
    return readConfig(path, names.filter((name) => name !== "config"), readText);
  } catch (error) {
    if (error instanceof ConfigError) throw new UsageError(error.message);
    throw error;
  }
}

/** Variables that are not options: of tests, of the libraries, of Kubernetes for a service named kvrm. */
const OTHER_VARIABLES =
  /^KVRM_(TEST|FUZZ|BENCH|SHARED|CPU_TARGET|PACK|EMULATOR|SERVICE|PORT|STARTED|VARIABLES|DENO)(_|$)/;

/** @throws {UsageError} for a variable that looks like an option and is none */
export function checkVariables(variables: readonly string[]): void {
  const known = names.map(variableOf);
  for (const variable of variables) {
    if (!variable.startsWith("KVRM_") || known.includes(variable) || OTHER_VARIABLES.test(variable)) continue;
    const meant = nearest(variable, known);
    throw new UsageError(
      `unknown variable ${variable}${meant === null ? "" : `; did you mean ${meant}?`} (--help lists all)`,
    );
  }
}

/** The text given for each flag, "true" and "false" for switches; and the words between, or after `--`. */
function readFlags(
  args: readonly string[],
  table: Table,
): { given: Map<string, string>; words: string[] } {
  const given = new Map<string, string>();
  const words: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!;
    if (arg === "--") {
      words.push(...args.slice(i + 1));
      break;
    }
    if (!arg.startsWith("-") || arg === "-") {
      words.push(arg);
      continue;
    }
    const at = arg.indexOf("=");
    const flag = at < 0 ? arg : arg.slice(0, at);
    let value = at < 0 ? undefined : arg.slice(at + 1);
    const [name, negated] = resolveFlag(flag, table);
    const isSwitch = name === "help" || name === "version" || table[name]!.value === undefined;
    if (isSwitch) {
      if (value !== undefined) throw new UsageError(`${flag} takes no value; found ${JSON.stringify(value)}`);
      value = String(!negated);
    } else if (value === undefined) {
      value = args[++i];
      if (value === undefined || /^--[a-z]/.test(value)) {
        throw new UsageError(`${flag} needs a value: ${table[name]!.kind.wanted}`);
      }
    }
    const before = given.get(name);
    if (before !== undefined && before !== value) {
      throw new UsageError(
        isSwitch
          ? `${flagOf(name)} and ${flagOf(name).replace("--", "--no-")} contradict each other; give one`
          : `${flag} is given twice, as ${JSON.stringify(before)} and as ${
            JSON.stringify(value)
          }; give it once`,
      );
    }
    given.set(name, value);
  }
  return { given, words };
}

function resolveFlag(flag: string, table: Table): [name: string, negated: boolean] {
  if (flag === "--help" || flag === "-h") return ["help", false];
  if (flag === "--version" || flag === "-V") return ["version", false];
  const known = Object.keys(table);
  for (const name of known) {
    if (flag === flagOf(name)) return [name, false];
    if (table[name]!.value === undefined && flag === flagOf(name).replace("--", "--no-")) return [name, true];
  }
  const switches = known.filter((name) => table[name]!.value === undefined);
  const meant = nearest(flag, [
    ...known.map(flagOf),
    ...switches.map((name) => flagOf(name).replace("--", "--no-")),
    "--help",
    "--version",
  ]);
  throw new UsageError(
    `unknown flag ${flag}${meant === null ? "" : `; did you mean ${meant}?`} (--help lists all flags)`,
  );
}

function readValue(table: Table, name: string, found: string, source: string): unknown {
  const { kind } = table[name]!;
  const value = kind.read(found);
  if (value !== undefined) return value;
  throw new UsageError(`${source} is ${JSON.stringify(found)}; it must be ${kind.wanted}`);
}

/** Refuses options that contradict each other. */
function checkTogether(options: ServerOptions): void {
  if ((options.kvMode === "static" || options.kvMode === "static-padded") && options.prefixCache) {
    throw new UsageError(
      `--prefix-cache cannot be had with --kv-mode ${options.kvMode}, which shares nothing; drop one of them`,
    );
  }
  const { farHistory = "off" } = options;
  if (farHistory !== "off" && (options.kvMode === "static" || options.kvMode === "static-padded")) {
    throw new UsageError(
      `--far-history ${farHistory} cannot be had with --kv-mode ${options.kvMode}, ` +
        "which gives no block back; drop one of them",
    );
  }
  if ((options.tlsCert === undefined) !== (options.tlsKey === undefined)) {
    const [given, missing] = options.tlsCert === undefined
      ? ["--tls-key", "--tls-cert"]
      : ["--tls-cert", "--tls-key"];
    throw new UsageError(`${given} is given without ${missing}; TLS needs both`);
  }
  if (options.heartbeatTimeout !== undefined && options.heartbeatTimeout < 1) {
    throw new UsageError(`--heartbeat-timeout is ${options.heartbeatTimeout}; it must be at least 1`);
  }
  const { mixedChunk, prefillChunk = 256 } = options;
  if (mixedChunk !== undefined && mixedChunk > prefillChunk) {
    throw new UsageError(
      `--mixed-chunk is ${mixedChunk}; it must be at most --prefill-chunk, ${prefillChunk}`,
    );
  }
}
