/**
 * From what a caller asks for to the sizes that everything is built with.
 *
 * @module
 */
import { KVRM, type NativeEngineConfig, type NativeModelOptions } from "../ffi/mod.ts";
import { InvalidRequestError } from "./errors.ts";
import { FarHistory, type FarHistoryOptions, type PagerOptions, reservesSlots } from "./kv/mod.ts";
import type { ModelTables } from "./model/folder.ts";
import { longestBuckets } from "./padding.ts";
import type { SchedulerOptions } from "./scheduler.ts";
import type { Simulation } from "./sim/sizes.ts";
import type { FarHistoryMode, KvDtype, KvMode } from "./types.ts";

/** How an engine is to be built. Everything but the model has a default. */
export interface EngineOptions {
  /** A Hugging Face model folder, or `org/name[@revision]` to download. */
  model: string;
  /** The name that clients use. Default: the folder's name. */
  modelId?: string;
  /**
   * Default "auto": cuda where its library is built and finds a GPU, else cpu. "sim" computes nothing: each step takes as
   * long as a cost model says of a card, and answers are made up.
   */
  backend?: "auto" | "cuda" | "cpu" | "sim";
  /** With backend "sim", whose steps are worked out: the model's "own", or Llama 3.1's "8b" or "70b". Default "own". */
  simShape?: string;
  /** With backend "sim": "h200", or a JSON file of a card's fields (`Card` in runtime/sim/cost.ts). Default "h200". */
  simCard?: string;
  /** With backend "sim": how many share the model, 1 to 64. Default 1. */
  simCards?: number;
  /** Default "kv-rm". */
  kvMode?: KvMode;
  /** Sequences that run at once, 1 to 256. Default 16. */
  slots?: number;
  /** Tokens per KV block. Default 32. */
  blockTokens?: 16 | 32 | 64;
  /**
   * KV pool in bytes. Default: what all slots can use, at most 85 % of the memory that is free, and on the CPU at
   * most 1 GiB.
   */
  kvMemory?: number;
  /**
   * Default: the weights' type. "fp8" on GPUs alone; "q8" on the CPU alone, 8 bits and a scale for each 32 numbers,
   * for models whose heads have a multiple of 32.
   */
  kvDtype?: KvDtype;
  /**
   * What the weights of the layers and the head become when they are loaded: "q8" (or "int8") 8 bits, "q4" (or "int4")
   * 4 bits, with a scale for each 32 on the CPU, for each row (8 bits) or 128 (4 bits) on a GPU; "fp8" on GPUs alone;
   * "bf16" on CPUs with AVX512_BF16 or AMX: matrices of numbers become BF16 and activations are rounded to it where they
   * meet them, for up to twice the speed of large batches and prompts. Default: nothing.
   */
  quantize?: "q8" | "q4" | "fp8" | "int8" | "int4" | "bf16";
  /** Which GPU, as CUDA numbers them. Default 0. */
  device?: number;
  /** Tokens of prompt and answer. Default: the model's, as far as the KV pool holds one such sequence. */
  maxContext?: number;
  /** Threads of the native library. Default: one per processor. */
  threads?: number;
  /** Prompt tokens per step at most, 16 to 4096. Default 256. In mode static-padded a prompt is one step. */
  prefillChunk?: number;
  /** The same while others decode. Default 64, at most prefillChunk. */
  mixedChunk?: number;
  /**
   * How many times as long a step may take with prompts beside decoding as without, more than 1 and at most 1000; fewer
   * than `mixedChunk` tokens go in then, 8 at least. 0: any. Default 3.
   */
  mixedStretch?: number;
  /** Steps in flight: 2 plans the next step while one runs, 1 waits for each. Default 2. */
  inFlight?: 1 | 2;
  /** What becomes of the KV of old tokens; not in mode static, and not on GPUs. Default "off": it stays. */
  farHistory?: FarHistoryMode;
  /** Tokens before each token whose KV stays, at least; rounded up to blocks. Default 1024. */
  farWindow?: number;
  /** Tokens at the start whose KV stays; rounded up to blocks. Default 4, as good as one block. */
  farSinks?: number;
  /** Summary rows of a sequence in each layer and KV head, 2 to 256. Default 32. */
  farRows?: number;
  /** Whether prompts reuse the KV of equal prefixes. Default true. */
  prefixCache?: boolean;
  /** Whether requests may have constraints, which need room for masks in the descriptor. Default true. */
  structuredOutput?: boolean;
  /** The native library. Default: the build beside this program. */
  libraryPath?: string;
  /** Steps compute nothing: for measuring everything around them. */
  noop?: boolean;
  /** Requests in flight at most, running and waiting; more are refused. Default 1024. */
  maxQueue?: number;
  /** Tokens of a prompt at most. Default: as many as the context holds. */
  maxPrompt?: number;
  /** Tokens that may wait for a reader who lags; a request with more ends with an error. Default 16384. */
  maxBacklog?: number;
  /** Seconds after which a worker that has not turned its loop is taken for dead. Default 30. */
  heartbeatTimeout?: number;
  /** Hears of each phase of the start as it ends, with the time as milliseconds since the epoch. */
  onPhase?: (name: string, time: number) => void;
}

/** The sizes of one engine: plain data that survives postMessage. */
export interface EngineSizes {
  kvMode: KvMode;
  kvDtype: KvDtype;
  maxContext: number;
  blockBytes: number;
  inFlight: number;
  /** See {@link EngineOptions.mixedStretch}. */
  mixedStretch: number;
  /** What the caller left open, and may be made smaller once the free memory is known. */
  open: { kvMemory: boolean; maxContext: boolean };
  /** Where steps compute nothing: what they are taken to compute, and on what. */
  simulation?: Simulation;
  model: NativeModelOptions;
  native: NativeEngineConfig;
  pager: PagerOptions;
  scheduler: SchedulerOptions;
}

/** In the order of kvrm_dtype. */
const DTYPES: readonly KvDtype[] = ["f32", "f16", "bf16", "fp8", "q8"];
/** Of one number of KV. */
const DTYPE_BYTES: Readonly<Record<KvDtype, number>> = { f32: 4, f16: 2, bf16: 2, fp8: 1, q8: 34 / 32 };
const QUANTIZE = {
  q8: KVRM.QUANTIZE_INT8,
  q4: KVRM.QUANTIZE_INT4,
  fp8: KVRM.QUANTIZE_FP8,
  int8: KVRM.QUANTIZE_INT8,
  int4: KVRM.QUANTIZE_INT4,
  bf16: KVRM.QUANTIZE_BF16,
} as const;
/** Sequences that run at once, where nobody says. */
export const DEFAULT_SLOTS = 16;
const DEFAULT_KV_MEMORY = 2 ** 30;
/** Of the free memory, for a pool whose size was left open. */
const MOST_OF_FREE_MEMORY = 0.85;
/** Groups that a slot's history may be cut into in mode kv-rm: keeps 256 slots within 96 KiB. */
const GROUPS_PER_SLOT = 8;
/** Moves per step: copies on write of every slot, and staging. */
const STAGING_MOVES = 64;
/** Rows of a chunk at most, as csrc/common/engine_config.cc has it: in mode static-padded a whole prompt's. */
const MOST_ROWS = 65536;
/** How many times as long a step may take with prompts as without. */
const MIXED_STRETCH = 3;
/** Edits of token states per step: those of a prompt fit while its prefill runs. */
const EDITS_PER_STEP = 1024;
/** Operations on summary rows per step, beside two for each slot: blocks of a prefix that was found. */
const SUMMARIES_PER_STEP = 64;

/**
 * Works out an engine's sizes.
 *
 * @throws {InvalidRequestError} naming the option, the value found and the value wanted
 */
export function engineSizes(
  options: EngineOptions,
  tables: ModelTables,
  modelDtype: string,
  gpu = false,
): EngineSizes {
  const { config } = tables;
  const kvMode = options.kvMode ?? "kv-rm";
  const slots = integer("slots", options.slots, DEFAULT_SLOTS, 1, 256);
  const blockTokens = oneOf("blockTokens", options.blockTokens ?? 32, [16, 32, 64]);
  oneOf("kvMode", kvMode, ["kv-rm", "static", "static-padded", "paged"]);
  const kvDtype = oneOf(
    "kvDtype",
    options.kvDtype ?? DTYPES.find((dtype) => dtype === modelDtype) ?? "f16",
    DTYPES,
  );
  if (kvDtype === "q8" && config.headDim % 32 !== 0) {
    throw new InvalidRequestError(
      `kvDtype is q8 and the model's heads have ${config.headDim} numbers, wanted a multiple of 32`,
      "kvDtype",
    );
  }
  const prefillChunk = integer("prefillChunk", options.prefillChunk, 256, 16, 4096);
  const mixedChunk = integer("mixedChunk", options.mixedChunk, Math.min(64, prefillChunk), 1, prefillChunk);
  const threads = integer("threads", options.threads, 0, 0, 1024);

  const rowBytes = config.headDim * config.kvHeads * DTYPE_BYTES[kvDtype];
  const blockBytes = blockTokens * config.layers * 2 * rowBytes;
  const quantize = options.quantize === undefined
    ? KVRM.QUANTIZE_NONE
    : QUANTIZE[oneOf("quantize", options.quantize, Object.keys(QUANTIZE) as (keyof typeof QUANTIZE)[])];
  const far = farOptions(options, tables, kvMode, slots, blockTokens, gpu);
  const limited = { ...options, mostKvMemory: gpu ? Infinity : DEFAULT_KV_MEMORY };
  const maxPosition = kvMode === "static-padded"
    ? Math.min(config.maxPosition, MOST_ROWS)
    : config.maxPosition;
  const pool = poolSize(limited, slots, blockTokens, blockBytes, maxPosition, kvMode, far);

  const chunks = [prefillChunk];
  for (let chunk = prefillChunk / 4; chunk >= 16 && chunks.length < 3; chunk /= 4) {
    chunks.unshift(Math.floor(chunk));
  }
  if (!chunks.includes(mixedChunk)) chunks.push(mixedChunk);
  chunks.sort((a, b) => a - b);

  const maxMoves = slots + STAGING_MOVES;
  const window = tables.layerWindows.every((w) => w > 0) ? Math.max(...tables.layerWindows) : 0;
  return withPool({
    kvMode,
    kvDtype,
    maxContext: 0,
    blockBytes,
    mixedStretch: stretch(options.mixedStretch ?? MIXED_STRETCH),
    inFlight: oneOf("inFlight", options.inFlight ?? 2, [1, 2]),
    open: { kvMemory: options.kvMemory === undefined, maxContext: options.maxContext === undefined },
    model: { quantize, device: integer("device", options.device, 0, 0, 1023) },
    native: {
      noop: options.noop ?? false,
      slots,
      blockTokens,
      numBlocks: 0,
      maxContext: 0,
      maxGroups: 0,
      maxSegments: slots,
      maxMoves,
      maxEdits: EDITS_PER_STEP,
      maskRows: options.structuredOutput === false || options.noop ? 0 : slots,
      hostBlocks: 0,
      kvDtype: DTYPES.indexOf(kvDtype),
      threads,
      chunks,
      ...(far && { maxSummaries: far.maxSummaries, farRows: far.rows }),
    },
    pager: {
      numBlocks: 0,
      blockTokens,
      mode: kvMode,
      slots,
      maxBlocksPerSequence: 0,
      maxGroupsPerSlot: GROUPS_PER_SLOT,
      prefixCache: !reservesSlots(kvMode) && (options.prefixCache ?? true),
      maxMoves,
      ...(far && { far }),
    },
    scheduler: {
      slots,
      chunks,
      chunkWhileDecoding: mixedChunk,
      edits: EDITS_PER_STEP,
      window: reservesSlots(kvMode) ? 0 : window,
      padded: 0,
    },
  }, pool);
}

/**
 * The same sizes, with a smaller pool where the caller left its size open and `free` bytes of memory are too
 * few; then the context is cut as well, if that was left open.
 *
 * @throws {InvalidRequestError} when not even one sequence fits
 */
export function fitToMemory(sizes: EngineSizes, free: number): EngineSizes {
  const budget = Math.floor(free * MOST_OF_FREE_MEMORY);
  const { native, blockBytes, maxContext } = sizes;
  if (!sizes.open.kvMemory || native.numBlocks * blockBytes <= budget) return sizes;
  const wanted = { kvMemory: budget, ...(!sizes.open.maxContext && { maxContext }) };
  const { slots, blockTokens } = native;
  return withPool(
    sizes,
    poolSize(wanted, slots, blockTokens, blockBytes, maxContext, sizes.kvMode, sizes.pager.far),
  );
}

interface PoolSize {
  maxContext: number;
  numBlocks: number;
}

function withPool(sizes: EngineSizes, { maxContext, numBlocks }: PoolSize): EngineSizes {
  const { slots, blockTokens } = sizes.native;
  const maxBlocksPerSequence = Math.ceil(maxContext / blockTokens);
  // Far history is a group of its own and cuts another in two.
  const more = sizes.pager.far ? 2 : 0;
  const maxGroups = slots * ((sizes.kvMode === "paged" ? maxBlocksPerSequence : GROUPS_PER_SLOT) + more);
  const padded = sizes.kvMode === "static-padded" ? maxContext : 0;
  const chunks = padded > 0 ? longestBuckets(padded, KVRM.MAX_SHAPES - 1) : sizes.native.chunks;
  return {
    ...sizes,
    maxContext,
    native: { ...sizes.native, numBlocks, maxContext, maxGroups, chunks },
    pager: { ...sizes.pager, numBlocks, maxBlocksPerSequence },
    scheduler: { ...sizes.scheduler, chunks, padded },
  };
}

/** What becomes of old blocks; undefined: they stay. */
function farOptions(
  options: EngineOptions,
  tables: ModelTables,
  kvMode: KvMode,
  slots: number,
  blockTokens: number,
  gpu: boolean,
): FarHistoryOptions | undefined {
  const mode = oneOf("farHistory", options.farHistory ?? "off", ["off", "summaries", "window"]);
  const window = integer("farWindow", options.farWindow, 1024, 1, 2 ** 24);
  const sinks = integer("farSinks", options.farSinks, 4, 0, 2 ** 24);
  const rows = integer("farRows", options.farRows, 32, 2, KVRM.MAX_FAR_ROWS);
  if (mode === "off") return undefined;
  const refuse = (found: string, wanted: string) => {
    throw new InvalidRequestError(
      `farHistory is ${mode} with ${found}, wanted ${wanted}, or farHistory off`,
      "farHistory",
    );
  };
  if (reservesSlots(kvMode)) refuse(`kvMode ${kvMode}`, "kvMode kv-rm or paged");
  if (gpu) refuse("a GPU", "backend cpu");
  const windowed = tables.layerWindows.findIndex((tokens) => tokens > 0);
  if (windowed >= 0) {
    refuse(
      `a model whose layer ${windowed} has a sliding window of ${tables.layerWindows[windowed]} tokens`,
      "a model with full attention in every layer",
    );
  }
  return {
    sinkBlocks: Math.ceil(sinks / blockTokens),
    windowBlocks: Math.ceil(window / blockTokens),
    rows: mode === "summaries" ? rows : 0,
    maxSummaries: 2 * slots + SUMMARIES_PER_STEP,
  };
}

/** Context and blocks that fit each other: the pool holds at least one sequence of the full context. */
function poolSize(
  options: Pick<EngineOptions, "maxContext" | "kvMemory"> & { mostKvMemory?: number },
  slots: number,
  blockTokens: number,
  blockBytes: number,
  maxPosition: number,
  kvMode: KvMode,
  farHistory: FarHistoryOptions | undefined,
): PoolSize {
  if (options.maxContext !== undefined) integer("maxContext", options.maxContext, 0, 1, maxPosition);
  const sequences = reservesSlots(kvMode) ? slots : 1;
  const wanted = options.maxContext ?? maxPosition;
  const far = farHistory === undefined ? undefined : new FarHistory(farHistory, blockTokens);
  // What is given up comes back once the steps that read it are done: two strides at most.
  const bound = far === undefined ? Infinity : far.maxBlocks + 2 * far.stride;
  const perSequence = Math.min(Math.ceil(wanted / blockTokens), bound);
  const all = perSequence * slots;
  const memory = options.kvMemory ?? Math.min(all * blockBytes, options.mostKvMemory ?? Infinity);
  const held = Math.floor(memory / blockBytes);
  if (held >= perSequence * sequences) return { maxContext: wanted, numBlocks: Math.min(held, all) };
  const fits = Math.floor(held / sequences) * blockTokens;
  if (options.maxContext !== undefined || fits === 0) {
    const need = (sequences * (fits === 0 ? 1 : perSequence) * blockBytes / 2 ** 20).toFixed(1);
    throw new InvalidRequestError(
      `the KV memory of ${(memory / 2 ** 20).toFixed(1)} MiB is too small for ${sequences} sequence(s) of ` +
        `${wanted} tokens: at least ${need} MiB are needed; raise kvMemory or lower maxContext or slots`,
      "kvMemory",
    );
  }
  return { maxContext: Math.min(fits, wanted), numBlocks: held };
}

function integer(
  name: string,
  value: number | undefined,
  fallback: number,
  low: number,
  high: number,
): number {
  if (value === undefined) return fallback;
  if (Number.isInteger(value) && value >= low && value <= high) return value;
  throw new InvalidRequestError(`${name} is ${value}, wanted an integer from ${low} to ${high}`, name);
}

function stretch(value: number): number {
  if (value === 0 || (value > 1 && value <= 1000)) return value;
  throw new InvalidRequestError(
    `mixedStretch is ${value}, wanted 0 or more than 1 and at most 1000`,
    "mixedStretch",
  );
}

function oneOf<T>(name: string, value: T, allowed: readonly T[]): T {
  if (allowed.includes(value)) return value;
  throw new InvalidRequestError(`${name} is ${value}, wanted one of ${allowed.join(", ")}`, name);
}
