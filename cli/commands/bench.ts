/**
 * `kvrm bench`: how fast a model runs on this machine.
 *
 * The loop is turned in this thread, without HTTP, text or clients: what it measures is the native step and the
 * planning around it. bench/ measures the rest.
 *
 * @module
 */

import { pickLibrary } from "../../runtime/engine.ts";
import { InvalidRequestError } from "../../runtime/errors.ts";
import { EngineHost } from "../../runtime/host.ts";
import type { LoopSink } from "../../runtime/loop.ts";
import { resolveModel } from "../../runtime/model/hub.ts";
import { loadModelTables } from "../../runtime/model/tables.ts";
import { Role, tensorBytes } from "../../runtime/model/weights.ts";
import { engineSizes } from "../../runtime/options.ts";
import { greedyOptions, Sequence } from "../../runtime/sequence.ts";
import type { ServerOptions } from "../options.ts";
import { print } from "./output.ts";
import type { BenchOptions } from "./table.ts";

const BATCHES = [1, 4, 16] as const;
const REPEATS = 5;
const PROMPT = 64;
/** Tokens that are timed per sequence, as far as the context has room. */
const STEPS = 64;
/** How long one measurement may take: a slow model is measured over fewer tokens. */
const SECONDS = 3;
/** What a processor's caches may hold. */
const CACHED_BYTES = 64 << 20;
const TURN_US = 10_000_000;
const SILENT: LoopSink = { admitted() {}, token() {}, promptToken() {}, ended() {} };

/** What is measured. */
export interface BenchResult {
  model: string;
  backend: string;
  threads: number;
  /** Weights read per decoded token, in bytes: all but the embedding, of which a token reads a row. */
  weightBytes: number;
  /** Tokens per second over all sequences, by batch. */
  decode: Record<number, number>;
  /** Tokens per second of a prompt, and its length. */
  prefill: { tokens: number; rate: number };
  /** Bytes per second that the library's threads read; 0 where it cannot tell. */
  bandwidth: number;
}

/** Measures and prints. */
export async function bench(options: ServerOptions & BenchOptions & { model: string }): Promise<void> {
  const result = await measure(options);
  print(options.json ? `${JSON.stringify(result, null, 2)}\n` : table(result));
}

async function measure(options: ServerOptions & { model: string }): Promise<BenchResult> {
  const { lib, backend = "auto", ...rest } = options;
  if (backend === "sim") {
    throw new InvalidRequestError(
      "backend is sim, which has nothing to measure, wanted auto, cuda or cpu",
      "backend",
    );
  }
  const library = pickLibrary({ backend, ...(lib !== undefined && { libraryPath: lib }) });
  const { folder, tables, dtype, config } = await loadModelTables(await resolveModel(options.model));
  const batch = Math.max(...BATCHES);
  const sizes = engineSizes(
    // No limit of what prompts add to a step: all have to be in before the first has ended.
    { ...rest, slots: batch, prefixCache: false, structuredOutput: false, mixedStretch: 0 },
    tables,
    dtype,
    library.gpu,
  );
  using host = new EngineHost(tables, sizes, SILENT, library.path);
  const { maxContext } = host.sizes;
  const steps = Math.max(1, Math.min(STEPS, maxContext - PROMPT - 8));
  const prompt = Math.max(1, Math.min(512, maxContext - 1));
  const sequences = new Sequences(config.vocab, Math.min(PROMPT, maxContext - steps - 8));
  return {
    model: folder,
    backend: host.library.backend,
    threads: host.engine.info.threads,
    weightBytes: weightBytes(tables.tensors),
    decode: Object.fromEntries(BATCHES.map((size) => [size, decode(host, sequences, size, steps)])),
    prefill: { tokens: prompt, rate: prefill(host, sequences, prompt) },
    bandwidth: bandwidth(host),
  };
}

/** Greedy sequences of different prompts, whose end is their length. */
class Sequences {
  readonly #vocab: number;
  readonly #prompt: number;
  #id = 0;

  constructor(vocab: number, prompt: number) {
    this.#vocab = vocab;
    this.#prompt = Math.max(1, prompt);
  }

  next(maxTokens: number, promptLength = this.#prompt): Sequence {
    const id = ++this.#id;
    const prompt = Int32Array.from({ length: promptLength }, (_, i) => (id * 977 + i * 31) % this.#vocab);
    return new Sequence({
      ...greedyOptions(id, prompt, maxTokens),
      stopTokens: Int32Array.of(-1), // never sampled
    });
  }
}

function decode({ loop, scheduler }: EngineHost, sequences: Sequences, batch: number, steps: number): number {
  return median(() => {
    for (let i = 0; i < batch; i++) loop.submit(sequences.next(steps + 8));
    const { running } = scheduler;
    while (running.length < batch || running.some((one) => one.generated < 2)) loop.turn(TURN_US);
    const before = loop.stats.generatedTokens;
    const start = performance.now();
    const late = () => performance.now() - start > SECONDS * 1000;
    while (!running.some((one) => one.generated >= steps) && !late()) loop.turn(TURN_US);
    const rate = (loop.stats.generatedTokens - before) / (performance.now() - start) * 1000;
    for (const one of [...running]) loop.cancel(one);
    while (!loop.idle) loop.turn(TURN_US);
    return rate;
  });
}

function prefill({ loop }: EngineHost, sequences: Sequences, tokens: number): number {
  return median(() => {
    loop.submit(sequences.next(0, tokens));
    const start = performance.now();
    while (!loop.idle) loop.turn(TURN_US);
    return tokens / (performance.now() - start) * 1000;
  });
}

function bandwidth({ library }: EngineHost): number {
  try {
    return library.measureBandwidth(0, 256, 4) * 1e9;
  } catch {
    return 0; // a library for a device that has no such measure
  }
}

/** The median of a few runs, after one that is not counted; of fewer where they take long. */
function median(measure: () => number): number {
  const start = performance.now();
  measure();
  const values: number[] = [];
  do values.push(measure()); while (
    values.length < REPEATS && performance.now() - start < SECONDS * REPEATS * 1000
  );
  return values.sort((a, b) => a - b)[values.length >> 1]!;
}

function weightBytes(
  tensors: readonly { role: number; dtype: number; rows: number; cols: number }[],
): number {
  const tied = !tensors.some(({ role }) => role === Role.LM_HEAD);
  return tensors.reduce((sum, tensor) => {
    return tensor.role === Role.EMBED && !tied ? sum : sum + tensorBytes(tensor);
  }, 0);
}

function table({ model, backend, threads, weightBytes, decode, prefill, bandwidth }: BenchResult): string {
  const perSecond = (value: number) => value >= 100 ? value.toFixed(0) : value.toFixed(1);
  const gigabytes = (value: number) => `${(value / 1e9).toFixed(1)} GB/s`;
  const rows = Object.entries(decode).map(([size, rate]) => {
    const one = size === "1";
    return [`decode, ${size} ${one ? "sequence" : "sequences"}`, `${perSecond(rate)} tokens/s`];
  });
  rows.push([`prefill of ${prefill.tokens} tokens`, `${perSecond(prefill.rate)} tokens/s`]);
  if (bandwidth > 0) {
    const read = decode[1]! * weightBytes;
    rows.push(["memory reads", gigabytes(bandwidth)]);
    const cached = weightBytes < CACHED_BYTES ? "; so few may stay in the processor's caches" : "";
    const share = `${(read / bandwidth * 100).toFixed(0)}% of that${cached}`;
    rows.push(["weights read, 1 sequence", `${gigabytes(read)}, ${share}`]);
  }
  const width = Math.max(...rows.map(([name]) => name!.length));
  const head = `${model}: ${
    (weightBytes / 2 ** 20).toFixed(1)
  } MiB per token; ${backend}, ${threads} threads`;
  return [head, ...rows.map(([name, value]) => `  ${name!.padEnd(width)}  ${value}`)].join("\n") + "\n";
}
