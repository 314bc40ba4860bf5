/**
 * From the command line and the environment to options.
 *
 * @module
 */

import { flagOf, type OptionName, OPTIONS, type ServerOptions, variableOf } from "./options.ts";
import { ConfigError, readConfig } from "./config_file.ts";
import { nearest } from "./nearest.ts";

/** A command line or an environment that cannot be followed. The message is for the user. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** What the command line asks for. */
export type Command = { kind: "help" } | { kind: "version" } | { kind: "serve"; options: ServerOptions };

const names = Object.keys(OPTIONS) as OptionName[];

/**
 * Reads `args`, the environment for what they leave out, and the config file for what both do.
 *
 * @throws {UsageError} naming the flag or variable, the value found and the value wanted
 */
export function readArguments(
  args: readonly string[],
  environment: (variable: string) => string | undefined,
  readText?: (path: string) => string,
): Command {
  const given = readFlags(args);
  if (given.has("help")) return { kind: "help" };
  if (given.has("version")) return { kind: "version" };
  const variables = new Map<string, string>();
  for (const name of names) {
    const found = environment(variableOf(name));
    // An empty variable is an unset one: shells and unit files cannot always tell them apart. Kubernetes sets
    // KVRM_PORT to an address where a service is named kvrm.
    if (found === undefined || found === "" || (name === "port" && found.startsWith("tcp://"))) continue;
    variables.set(name, found);
  }
  const path = given.get("config") ?? variables.get("config");
  if (path !== undefined) readValue("config", path, given.has("config") ? "--config" : "KVRM_CONFIG");
  const file = path === undefined ? new Map<string, string>() : readFile(path, readText);
  const options: Record<string, unknown> = {};
  for (const name of names) {
    const sources: [ReadonlyMap<string, string>, string][] = [
      [given, flagOf(name)],
      [variables, variableOf(name)],
      [file, `${path}: ${JSON.stringify(name)}`],
    ];
    const source = sources.find(([values]) => values.has(name));
    if (source !== undefined) options[name] = readValue(name, source[0].get(name)!, source[1]);
  }
  checkTogether(options);
  return { kind: "serve", options };
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
  /^KVRM_(TEST|FUZZ|BENCH|SHARED|CPU_TARGET|EMULATOR|SERVICE|PORT|STARTED|VARIABLES|DENO)(_|$)/;

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

/** The text given for each flag; "true" and "false" for switches. */
function readFlags(args: readonly string[]): Map<string, string> {
  const flags = new Map<string, string>();
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!;
    if (!arg.startsWith("-") || arg === "-") {
      throw new UsageError(
        `unexpected argument ${JSON.stringify(arg)}; all options are flags such as --model`,
      );
    }
    const at = arg.indexOf("=");
    const flag = at < 0 ? arg : arg.slice(0, at);
    let value = at < 0 ? undefined : arg.slice(at + 1);
    const [name, negated] = resolveFlag(flag);
    if (name === "help" || name === "version" || OPTIONS[name].value === undefined) {
      if (value !== undefined) throw new UsageError(`${flag} takes no value; found ${JSON.stringify(value)}`);
      value = String(!negated);
    } else if (value === undefined) {
      value = args[++i];
      if (value === undefined || /^--[a-z]/.test(value)) {
        throw new UsageError(`${flag} needs a value: ${OPTIONS[name].kind.wanted}`);
      }
    }
    const before = flags.get(name);
    if (before !== undefined && before !== value) {
      throw new UsageError(
        OPTIONS[name as OptionName].value === undefined
          ? `${flagOf(name)} and ${flagOf(name).replace("--", "--no-")} contradict each other; give one`
          : `${flag} is given twice, as ${JSON.stringify(before)} and as ${
            JSON.stringify(value)
          }; give it once`,
      );
    }
    flags.set(name, value);
  }
  return flags;
}

function resolveFlag(flag: string): [name: OptionName | "help" | "version", negated: boolean] {
  if (flag === "--help" || flag === "-h") return ["help", false];
  if (flag === "--version" || flag === "-V") return ["version", false];
  for (const name of names) {
    if (flag === flagOf(name)) return [name, false];
    if (OPTIONS[name].value === undefined && flag === flagOf(name).replace("--", "--no-")) {
      return [name, true];
    }
  }
  const meant = nearest(flag, [...names.map(flagOf), "--help", "--version", "--no-prefix-cache"]);
  throw new UsageError(
    `unknown flag ${flag}${meant === null ? "" : `; did you mean ${meant}?`} (--help lists all flags)`,
  );
}

function readValue(name: OptionName, found: string, source: string): unknown {
  const { kind } = OPTIONS[name];
  const value = kind.read(found);
  if (value !== undefined) return value;
  throw new UsageError(`${source} is ${JSON.stringify(found)}; it must be ${kind.wanted}`);
}

/** Refuses options that contradict each other. */
function checkTogether(options: ServerOptions): void {
  if (options.kvMode === "static" && options.prefixCache) {
    throw new UsageError(
      "--prefix-cache cannot be had with --kv-mode static, which shares nothing; drop one of them",
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
