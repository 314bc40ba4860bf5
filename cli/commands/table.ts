/**
 * The commands, and the options that each takes.
 *
 * @module
 */

import { type Option, OPTION_GROUPS, type ServerOptions } from "../options.ts";
import { integer, number, text, toggle } from "../values.ts";

/** What `kvrm run` says about its answer; not one of the server's options. */
export interface AnswerOptions {
  system?: string;
  raw?: boolean;
  maxTokens?: number;
  temperature?: number;
  topP?: number;
  topK?: number;
  minP?: number;
  seed?: number;
  stop?: string;
  stats?: boolean;
}

/** What `kvrm bench` prints. */
export interface BenchOptions {
  json?: boolean;
}

/** Options by name, by the group that the help shows them in. */
export type OptionTable = Readonly<Record<string, Readonly<Record<string, Option<unknown>>>>>;

/** One command. */
export interface CommandEntry {
  /** What follows `kvrm`. */
  usage: string;
  /** A sentence for the list of commands. */
  about: string;
  /** Words that are no flags: at least, at most. */
  words: readonly [least: number, most: number];
  groups: OptionTable;
}

const ANSWER: Record<keyof AnswerOptions, Option<unknown>> = {
  system: {
    kind: text("a text"),
    value: "TEXT",
    help: "What the system's turn says.",
    fallback: "no such turn",
  },
  raw: {
    kind: toggle,
    help: "Go on from the prompt as it is, also where the model has a chat template.",
    fallback: "off",
  },
  maxTokens: {
    kind: integer(1, 2 ** 31 - 1),
    value: "TOKENS",
    help: "Tokens of the answer at most.",
    fallback: "what the context has left",
  },
  temperature: {
    kind: number(0, 100),
    value: "NUMBER",
    help: "How freely tokens are drawn; 0 always takes the most probable.",
    fallback: "the model's, else 1",
  },
  topP: {
    kind: number(0, 1),
    value: "NUMBER",
    help: "Draw from the most probable tokens that together have this probability.",
    fallback: "the model's, else 1",
  },
  topK: {
    kind: integer(0, 2 ** 31 - 1),
    value: "COUNT",
    help: "Draw from this many of the most probable tokens; 0: from all.",
    fallback: "the model's, else 0",
  },
  minP: {
    kind: number(0, 1),
    value: "NUMBER",
    help: "Leave out tokens below this share of the most probable one's probability.",
    fallback: "the model's, else 0",
  },
  seed: {
    kind: integer(0, 2 ** 31 - 1),
    value: "NUMBER",
    help: "The same seed gives the same answer.",
    fallback: "a random one",
  },
  stop: { kind: text("a text"), value: "TEXT", help: "Text that ends the answer.", fallback: "none" },
  stats: { kind: toggle, help: "Say at the end how many tokens there were, and how fast.", fallback: "off" },
};

const { Configuration, Model, Backend, "Batching and KV cache": Cache } = OPTION_GROUPS;

/** The options that make an engine, without those of a server with many clients. */
const ENGINE = {
  Configuration,
  "Model": { model: Model.model, maxContext: Model.maxContext },
  Backend,
  "KV cache": {
    kvMode: Cache.kvMode,
    kvMemory: Cache.kvMemory,
    kvDtype: Cache.kvDtype,
    blockTokens: Cache.blockTokens,
    prefillChunk: Cache.prefillChunk,
    farHistory: Cache.farHistory,
    farWindow: Cache.farWindow,
    farSinks: Cache.farSinks,
    farRows: Cache.farRows,
  },
};

/** All commands, in the order of the help. */
export const COMMANDS = {
  serve: {
    usage: "[serve] [flags]",
    about: "Serve a model over HTTP, with OpenAI's API.",
    words: [0, 0],
    groups: OPTION_GROUPS,
  },
  run: {
    usage: 'run ["prompt"] [flags]',
    about: "Answer one prompt on the terminal; without one, what comes on standard input.",
    words: [0, 1],
    groups: { "Answer": ANSWER, ...ENGINE },
  },
  pull: {
    usage: "pull org/name[@revision][:file]",
    about: "Download a model into the usual cache, and print its folder.",
    words: [1, 1],
    groups: {},
  },
  bench: {
    usage: "bench [flags]",
    about: "Measure a model on this machine: decode, prefill, bandwidth; half a minute.",
    words: [0, 0],
    groups: {
      "Output": { json: { kind: toggle, help: "Print JSON instead of a table.", fallback: "off" } },
      ...ENGINE,
    },
  },
} as const satisfies Record<string, CommandEntry>;

/** The name of a command. */
export type CommandName = keyof typeof COMMANDS;

/** What the command line asks for. */
export type Command =
  | { kind: "help"; command: CommandName | null }
  | { kind: "version" }
  | { kind: "serve"; options: ServerOptions }
  | { kind: "run"; options: ServerOptions & AnswerOptions; prompt: string | null }
  | { kind: "pull"; model: string }
  | { kind: "bench"; options: ServerOptions & BenchOptions };

/** A command's options without their groups. */
export function optionsOf(command: CommandName): Record<string, Option<unknown>> {
  return Object.assign({}, ...Object.values(COMMANDS[command].groups));
}
