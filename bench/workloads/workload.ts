/**
 * What a replay sends: requests with their times, made from a trace by family and scale. Everything is decided
 * here, so that each side of a comparison, in this process or over HTTP, gets the same.
 *
 * @module
 */
import { lognormal, mix, random } from "./random.ts";
import { PREFIX_TOKENS, readTrace, syntheticTrace, type TraceRecord, worstWindow } from "./trace.ts";

/** One request. A replay ignores the end-of-sequence token, so that answers are as long as here. */
export interface WorkloadRequest {
  /** Milliseconds from the start of the replay; ascending. */
  arrivalMs: number;
  /** Token ids. */
  promptTokens: Int32Array;
  /** Tokens of the answer. */
  maxTokens: number;
}

/** Requests, and where they come from. */
export interface Workload {
  family: Family;
  requests: WorkloadRequest[];
  /** For people: the trace, and what was done with it. */
  source: string;
  /** Requests whose prompt or answer was cut to fit the context. */
  cut: number;
}

/** The kinds of load; {@link FAMILIES} says what each is. */
export type Family = "chat" | "code" | "multi-turn" | "documents" | "reasoning" | "uniform";

interface FamilyOf {
  about: string;
  /** Which trace gives the times: "chat" Azure's, "multi-turn" Mooncake's. */
  trace: "chat" | "multi-turn";
  /** Lengths where they are not the trace's. */
  lengths?: (rnd: () => number) => [prompt: number, answer: number];
}

/**
 * Lengths of `code` after the medians of Azure's coding trace as the Splitwise paper (ISCA 2024) gives them, 1,500
 * and 13 tokens; those of `documents` and `reasoning` are chosen.
 */
export const FAMILIES: Readonly<Record<Family, FamilyOf>> = {
  chat: { about: "Azure's conversation trace", trace: "chat" },
  code: {
    about: "long prompts, short answers: medians 1,500 and 13",
    trace: "chat",
    lengths: (rnd) => [lognormal(rnd, 1_500, 0.8, 7_400), lognormal(rnd, 13, 1, 600)],
  },
  "multi-turn": { about: "Mooncake's conversation trace, with its shared prefixes", trace: "multi-turn" },
  documents: {
    about: "very long prompts: medians 6,000 and 300",
    trace: "chat",
    lengths: (rnd) => [lognormal(rnd, 6_000, 0.5, 30_000), lognormal(rnd, 300, 0.5, 2_000)],
  },
  reasoning: {
    about: "short prompts, very long answers: medians 150 and 2,000",
    trace: "chat",
    lengths: (rnd) => [lognormal(rnd, 150, 0.8, 2_000), lognormal(rnd, 2_000, 0.7, 12_000)],
  },
  uniform: {
    about: "a control: every prompt 1,024 and every answer 256 tokens",
    trace: "chat",
    lengths: () => [1_024, 256],
  },
};

/** Where the traces lie unless told otherwise. */
export const TRACES = new URL("../../../shared/traces/", import.meta.url).pathname;
const FILES = { chat: "azure-2023-conv.csv", "multi-turn": "mooncake-conversation.jsonl" } as const;
const SYNTHETIC_REQUESTS = 4_000;

/** How a workload is made from a trace. */
export interface WorkloadOptions {
  family: Family;
  /** A trace's file, or a folder with both; "synthetic": the repository's own. Default {@link TRACES}, if there. */
  trace?: string | undefined;
  /** What lengths are multiplied by. Default 1. */
  lengthScale?: number | undefined;
  /** How many times faster than in the trace requests come. Default 1. */
  rate?: number | undefined;
  /** One request of so many is sent, spread evenly; bursts stay where they are. Default 1: all. */
  oneOf?: number | undefined;
  /** The part of the trace: "start", or "worst", where the most tokens come. Default "start". */
  part?: "start" | "worst" | undefined;
  /** Length of that part, in the trace's own time. Default: all of it. */
  spanMs?: number | undefined;
  /** Requests at most. Default: as many as there are. */
  count?: number | undefined;
  /** Tokens of prompt and answer at most. Answers are cut to a half, and then prompts. */
  maxContext: number;
  /** Ids are from `firstToken` (default 3, past the usual special ones) to below `vocab`. */
  vocab: number;
  firstToken?: number | undefined;
  /** Other tokens and drawn lengths. Default 1. */
  seed?: number | undefined;
}

/** Makes a workload. The same options give the same requests. Throws an Error when the trace cannot be read. */
export function makeWorkload(options: WorkloadOptions): Workload {
  const { family, maxContext, lengthScale = 1, rate = 1, oneOf = 1, seed = 1 } = options;
  const { trace, lengths } = FAMILIES[family];
  const { records, name } = recordsOf(trace, options.trace);
  const part = partOf(records, options);
  const rnd = random(seed);
  let cut = 0;
  const requests: WorkloadRequest[] = [];
  for (let i = 0; i < part.length && requests.length < (options.count ?? Infinity); i++) {
    const record = part[i]!;
    // Drawn for those that are left out, too: thinning changes nothing about the others.
    const [prompt, answer] = lengths === undefined ? [record.prompt, record.answer] : lengths(rnd);
    if (i % oneOf !== 0) continue;
    let maxTokens = Math.max(1, Math.round(answer * lengthScale));
    let length = Math.max(1, Math.round(prompt * lengthScale));
    if (length + maxTokens > maxContext) {
      cut++;
      maxTokens = Math.max(1, Math.min(maxTokens, Math.max(maxContext - length, maxContext >>> 1)));
      length = maxContext - maxTokens;
    }
    requests.push({
      arrivalMs: (record.timeMs - part[0]!.timeMs) / rate,
      promptTokens: tokensOf(length, lengths === undefined ? record.prefixIds : undefined, i, options),
      maxTokens,
    });
  }
  const words = [name, FAMILIES[family].about];
  if (lengthScale !== 1) words.push(`lengths x ${lengthScale}`);
  if (rate !== 1) words.push(`arrivals x ${rate}`);
  if (oneOf !== 1) words.push(`every ${oneOf}th request`);
  if (options.spanMs !== undefined) {
    words.push(`the ${options.part === "worst" ? "worst" : "first"} ${options.spanMs / 1000} s`);
  }
  return { family, requests, source: words.join(", "), cut };
}

/** The same requests, all there at once: for measuring throughput. */
export function atOnce(workload: Workload): Workload {
  const requests = workload.requests.map((request) => ({ ...request, arrivalMs: 0 }));
  return { ...workload, requests, source: `${workload.source}, all at once` };
}

function recordsOf(
  kind: FamilyOf["trace"],
  path: string | undefined,
): { records: TraceRecord[]; name: string } {
  const isThere = (file: string) => {
    try {
      return Deno.statSync(file);
    } catch {
      return null;
    }
  };
  const folder = path ?? TRACES;
  const stat = path === "synthetic" ? null : isThere(folder);
  if (stat === null) {
    if (path !== undefined && path !== "synthetic") throw new Error(`there is no trace ${path}`);
    return { records: syntheticTrace(SYNTHETIC_REQUESTS), name: "synthetic trace" };
  }
  const file = stat.isDirectory ? `${folder.replace(/\/$/, "")}/${FILES[kind]}` : folder;
  return { records: readTrace(file), name: file.split("/").pop()! };
}

function partOf(records: TraceRecord[], { part, spanMs }: WorkloadOptions): TraceRecord[] {
  if (spanMs === undefined) return records;
  const from = part === "worst" ? worstWindow(records, spanMs) : 0;
  return records.filter(({ timeMs }) => timeMs >= from && timeMs < from + spanMs);
}

/** Ids of a prompt: equal where prefix ids are equal, else different from every other request's. */
function tokensOf(
  length: number,
  prefixIds: readonly number[] | undefined,
  index: number,
  { vocab, firstToken = 3, lengthScale = 1, seed = 1 }: WorkloadOptions,
): Int32Array {
  const tokens = new Int32Array(length);
  const span = vocab - firstToken;
  const perId = Math.max(1, Math.round(PREFIX_TOKENS * lengthScale));
  for (let i = 0; i < length; i++) {
    const id = prefixIds?.[Math.floor(i / perId)];
    const word = id === undefined ? mix(index * 2 + 1, i) : mix(id * 2, i % perId);
    tokens[i] = firstToken + mix(word, seed) % span;
  }
  return tokens;
}
