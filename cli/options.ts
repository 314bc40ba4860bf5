/**
 * The server's options: one table for flags, environment and help.
 *
 * @module
 */

import { LOG_FORMATS, LOG_LEVELS } from "../api/log.ts";
import { TOOL_FORMATS } from "../api/tools/names.ts";
import { bytes, integer, list, number, oneOf, seconds, text, toggle, type ValueKind } from "./values.ts";

/** One option. Its name in the table, `kvMode`, is the flag `--kv-mode` and the variable `KVRM_KV_MODE`. */
export interface Option<T> {
  kind: ValueKind<T>;
  /** What stands for the value in the help; a switch has none. */
  value?: string;
  /** One sentence, without the default. */
  help: string;
  /** The default in words; the engine's or the server's code has it in deed. */
  fallback: string;
}

/** Checks an option at compile time without widening the type of its value. */
function option<T>(kind: ValueKind<T>, value: string, help: string, fallback: string): Option<T> {
  return { kind, value, help, fallback };
}

function toggleOption(help: string, fallback: string): Option<boolean> {
  return { kind: toggle, help, fallback };
}

/** All options by group, in the order of the help. */
export const OPTION_GROUPS = {
  "Configuration": {
    config: option(
      text("a path"),
      "PATH",
      'File of options: JSON, with comments, such as {"slots": 8, "kv-mode": "paged"}.',
      "none",
    ),
  },
  "Model": {
    model: option(
      text("a model's folder, a GGUF file, org/name or org/name:file"),
      "FOLDER|FILE.gguf|ORG/NAME|ORG/NAME:FILE",
      "Hugging Face folder or GGUF file, or the name of either to download into the usual cache.",
      "models/tiny, the embedded model",
    ),
    servedModelName: option(
      text("a name"),
      "NAME",
      "The name that clients ask for.",
      "the folder's or file's name",
    ),
    maxContext: option(
      integer(1, 2 ** 31 - 1),
      "TOKENS",
      "Tokens of prompt and answer together.",
      "the model's",
    ),
    toolCallParser: option(
      oneOf(...TOOL_FORMATS),
      TOOL_FORMATS.join("|"),
      "How the model writes calls of tools.",
      "as its chat template tells",
    ),
  },
  "Network": {
    host: option(text("an address"), "ADDRESS", "Address to listen on.", "127.0.0.1"),
    port: option(integer(0, 65535), "PORT", "Port to listen on; 0 picks a free one.", "8000"),
    tlsCert: option(
      text("a path"),
      "PATH",
      "Certificate chain in PEM; makes this https, with --tls-key.",
      "none",
    ),
    tlsKey: option(text("a path"), "PATH", "Private key in PEM, for --tls-cert.", "none"),
    corsOrigin: option(
      list("origins such as https://example.org, separated by commas, or *"),
      "ORIGIN,...|*",
      "Origins whose pages may call the API from a browser.",
      "none",
    ),
  },
  "Access and limits": {
    apiKeys: option(
      list("keys without spaces, separated by commas"),
      "KEY,...",
      "Keys, one of which each request has to bear; other processes see flags, so prefer the variable.",
      "no key is asked for",
    ),
    apiKeysFile: option(text("a path"), "PATH", "The same from a file, one a line.", "none"),
    metricsWithoutKey: toggleOption("Let GET /metrics be read without a key.", "off"),
    maxBody: option(bytes, "BYTES", "Largest request body; larger ones get a 413.", "16MiB"),
    maxPrompt: option(
      integer(1, 2 ** 31 - 1),
      "TOKENS",
      "Longest prompt; longer ones get a 400.",
      "what the context holds",
    ),
    maxQueue: option(
      integer(1, 1_000_000),
      "REQUESTS",
      "Choices of requests running and waiting; more get a 429.",
      "1024",
    ),
    maxBacklog: option(
      integer(1, 2 ** 31 - 1),
      "TOKENS",
      "Tokens that may wait for a client that reads too slowly; more end its request.",
      "16384",
    ),
    requestTimeout: option(
      seconds(7 * 86400),
      "SECONDS",
      "How long a request may take; a longer one ends with a 504, or an error event; 0: as long as it likes.",
      "0",
    ),
    heartbeatTimeout: option(
      seconds(86400),
      "SECONDS",
      "An engine loop that has not turned for so long is taken for dead: the process ends with 75.",
      "30",
    ),
    drainTimeout: option(
      seconds(86400),
      "SECONDS",
      "How long running requests may take to finish after SIGTERM or SIGINT.",
      "10",
    ),
  },
  "Backend": {
    backend: option(
      oneOf("auto", "cuda", "cpu", "sim"),
      "auto|cuda|cpu|sim",
      "Where the model runs; auto takes cuda where its library is built and finds a GPU. sim runs nothing: steps take as " +
        "long as a card is reckoned to need, and answers are made up, for trying deployments without it.",
      "auto",
    ),
    lib: option(
      text("a path"),
      "PATH",
      "The native library; it needs --allow-ffi=PATH.",
      "the backend's, build/libkvrm_cuda.so or build/libkvrm_cpu.so beside the server",
    ),
    simShape: option(
      oneOf("own", "8b", "70b"),
      "own|8b|70b",
      "With sim, whose steps are worked out: the model's own, or those of Llama 3.1.",
      "own",
    ),
    simCard: option(
      text("h200 or a path"),
      "h200|FILE.json",
      "With sim, the card, or a file that describes one.",
      "h200",
    ),
    simCards: option(integer(1, 64), "COUNT", "With sim, how many cards share the model.", "1"),
    device: option(integer(0, 1023), "NUMBER", "Which GPU, as CUDA numbers them.", "0"),
    quantize: option(
      oneOf("q8", "q4", "fp8", "int8", "int4", "bf16"),
      "q8|q4|bf16|fp8",
      "What weights become when they are loaded; bf16 (activations too) on CPUs, fp8 on GPUs.",
      "as they are",
    ),
    threads: option(
      integer(1, 1024),
      "COUNT",
      "Threads of the native library.",
      "one per processor",
    ),
  },
  "Batching and KV cache": {
    slots: option(integer(1, 256), "COUNT", "Sequences that run at once.", "16"),
    kvMode: option(
      oneOf("kv-rm", "static", "static-padded", "paged"),
      "kv-rm|static|static-padded|paged",
      "How KV state is placed: regularized, reserved at full length, the same with everything padded to length " +
        "buckets, or in scattered blocks.",
      "kv-rm",
    ),
    kvMemory: option(
      bytes,
      "BYTES",
      "Memory of the KV cache.",
      "what all slots can use, at most 85% of what is free, and 1GiB on the CPU",
    ),
    kvDtype: option(
      oneOf("f32", "f16", "bf16", "fp8", "q8"),
      "f32|f16|bf16|fp8|q8",
      "Storage type of the KV cache; fp8 on GPUs, q8 on the CPU.",
      "the weights' type; f16 for quantised ones",
    ),
    blockTokens: option(oneOf(16, 32, 64), "16|32|64", "Tokens per KV block.", "32"),
    prefillChunk: option(integer(16, 4096), "TOKENS", "Prompt tokens per step at most.", "256"),
    mixedChunk: option(
      integer(1, 4096),
      "TOKENS",
      "The same while others decode, at most --prefill-chunk.",
      "64",
    ),
    mixedStretch: option(
      number(0, 1000),
      "TIMES",
      "How many times as long a step may take with prompts as without: less for even times between tokens, more for " +
        "early first ones. 0: any.",
      "3",
    ),
    farHistory: option(
      oneOf("off", "summaries", "window"),
      "off|summaries|window",
      "What becomes of the KV of old tokens: it stays, becomes summary rows, or is forgotten; on the CPU.",
      "off",
    ),
    farWindow: option(
      integer(1, 2 ** 24),
      "TOKENS",
      "Tokens before each token whose KV stays, with --far-history.",
      "1024",
    ),
    farSinks: option(
      integer(0, 2 ** 24),
      "TOKENS",
      "Tokens at the start whose KV stays, with --far-history; rounded up to blocks.",
      "4, which is one block",
    ),
    farRows: option(
      integer(2, 256),
      "COUNT",
      "Summary rows of a sequence in each layer and KV head, with --far-history summaries.",
      "32",
    ),
    prefixCache: toggleOption(
      "Reuse the KV of equal prefixes.",
      "on, but for --kv-mode static and static-padded",
    ),
  },
  "Logging and measuring": {
    logLevel: option(
      oneOf(...LOG_LEVELS),
      LOG_LEVELS.join("|"),
      "How much is written to standard error.",
      "info",
    ),
    logFormat: option(
      oneOf(...LOG_FORMATS),
      LOG_FORMATS.join("|"),
      "Lines for people, or one JSON object per line.",
      "text",
    ),
    startupReport: toggleOption("Print where the time went until ready, and to the first token.", "off"),
    inFlight: option(
      oneOf(1, 2),
      "1|2",
      "Steps in flight: 2 plans the next step while one runs.",
      "2",
    ),
    noop: toggleOption("Steps compute nothing: for measuring everything around them.", "off"),
  },
} as const;

type Groups = typeof OPTION_GROUPS;
type OptionTable = { [G in keyof Groups]: Groups[G] }[keyof Groups];
type UnionToIntersection<U> = (U extends unknown ? (u: U) => void : never) extends (i: infer I) => void ? I
  : never;

/** What was asked for; what was not is absent. */
export type ServerOptions = {
  -readonly [K in keyof UnionToIntersection<OptionTable>]?: UnionToIntersection<OptionTable>[K] extends
    Option<infer T> ? T : never;
};

/** The name of an option in the table. */
export type OptionName = keyof ServerOptions;

/** The table without its groups. */
export const OPTIONS = Object.assign({}, ...Object.values(OPTION_GROUPS)) as Record<
  OptionName,
  Option<unknown>
>;

/** `kvMode` as `--kv-mode`. */
export function flagOf(name: string): string {
  return "--" + name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** `kvMode` as `KVRM_KV_MODE`. */
export function variableOf(name: string): string {
  return "KVRM_" + name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase();
}
