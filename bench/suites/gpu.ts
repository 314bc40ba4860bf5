/**
 * How fast the native step is on a GPU: decode at several batches and histories, and prefill, of a random-weight
 * model of Llama 3.1 8B's shape; beside the card's copy bandwidth, which is decode's limit. What loading and the
 * capture of the graphs take comes first.
 *
 * `KVRM_LIB` names the library. `KVRM_BENCH_SHAPE=tiny` is a rehearsal with a model that the emulator can run.
 *
 * @module
 */
import { libraryPath, type NativeEngine, NativeLibrary, type NativeModelTables } from "../../ffi/mod.ts";
import { EngineHost } from "../../runtime/host.ts";
import { randomModel } from "../../runtime/model/folder.ts";
import { engineSizes } from "../../runtime/options.ts";
import { greedy, silent } from "../loop.ts";
import { median, type Report, type Rows } from "../report.ts";

interface Plan {
  shape: Parameters<typeof randomModel>[0];
  slots: number;
  maxContext: number;
  kvMemory: number;
  /** MiB that the bandwidth is measured over. */
  copyMib: number;
  /** Sequences, and the tokens that each has before the first measured step. */
  decode: readonly (readonly [batch: number, history: number])[];
  steps: number;
  prefill: readonly number[];
  /** Bytes of the file that loading is measured with. */
  fileBytes: number;
}

const PLANS: Record<string, Plan> = {
  "8b": {
    shape: { hidden: 4096, intermediate: 14336, layers: 32, heads: 32, kvHeads: 8, vocab: 128256 },
    slots: 128,
    maxContext: 8192,
    kvMemory: 20 * 2 ** 30,
    copyMib: 4096,
    decode: [[1, 128], [1, 4096], [8, 1024], [32, 1024], [128, 512]],
    steps: 48,
    prefill: [512, 2048, 8000],
    fileBytes: 4 * 2 ** 30,
  },
  tiny: {
    shape: { hidden: 64, intermediate: 128, layers: 2, heads: 4, kvHeads: 2, vocab: 256 },
    slots: 4,
    maxContext: 256,
    kvMemory: 2 ** 22,
    copyMib: 4,
    decode: [[1, 16], [3, 40]],
    steps: 4,
    prefill: [64],
    fileBytes: 2 ** 18,
  },
};

const MAX_POSITION = 8192;
const REPEATS = 3;
const REFRESH_US = 10_000_000;

/** Bytes of the matrices that a step reads whole: all but the embedding, which is read by row. */
function weightBytes({ tensors }: NativeModelTables): number {
  return tensors.reduce((sum, { role, rows, cols }) => sum + (role === 0 ? 0 : rows * cols * 2), 0);
}

/** Tables whose tensors lie in one file of `bytes` bytes, each wherever it fits. */
function fromFile(tables: NativeModelTables, file: string, bytes: number): NativeModelTables {
  let at = 0;
  const tensors = tables.tensors.map((tensor) => {
    const size = tensor.rows * tensor.cols * 2;
    if (at + size > bytes) at = 0;
    const placed = { ...tensor, file: 0, offset: at };
    at += size;
    return placed;
  });
  return { ...tables, tensors, files: [file] };
}

function writeFile(bytes: number): string {
  const path = Deno.makeTempFileSync({ prefix: "kvrm-bench-" });
  using file = Deno.openSync(path, { write: true });
  // Small numbers, whatever their bits: a NaN would be as fast.
  const piece = new Uint8Array(Math.min(bytes, 2 ** 26)).fill(0x3c);
  for (let left = bytes; left > 0; left -= piece.length) file.writeSync(piece.subarray(0, left));
  return path;
}

const counter = (engine: NativeEngine, index: number) => {
  const out = new Float64Array(7);
  engine.counters(out);
  return out[index]!;
};

/** Loading and capture, once each. */
function starting(plan: Plan, tables: NativeModelTables, library: NativeLibrary): Rows {
  const file = writeFile(plan.fileBytes);
  try {
    const all = tables.tensors.reduce((sum, { rows, cols }) => sum + rows * cols * 2, 0);
    const before = performance.now();
    using model = library.loadModel(fromFile(tables, file, plan.fileBytes));
    const loaded = performance.now();
    const { free } = model.memory();
    const sizes = engineSizes(engineOptions(plan), tables, "bf16");
    const created = performance.now();
    using engine = model.createEngine(sizes.native);
    const ready = performance.now();
    return [{
      "weights GB": all / 1e9,
      "load s": (loaded - before) / 1000,
      "load GB/s": all / 1e6 / (loaded - before),
      "capture ms": ready - created,
      "graphs": counter(engine, 4),
      "engine GB": (free - model.memory().free) / 1e9,
      "free GB": free / 1e9,
    }];
  } finally {
    Deno.removeSync(file);
  }
}

function engineOptions(plan: Plan) {
  return {
    model: "",
    slots: plan.slots,
    maxContext: plan.maxContext,
    kvMemory: plan.kvMemory,
    prefillChunk: Math.min(2048, plan.maxContext),
    mixedChunk: Math.min(2048, plan.maxContext),
    mixedStretch: 0,
    prefixCache: false,
    kvDtype: "bf16",
  } as const;
}

/** Tokens/s of `batch` sequences whose histories are `history` tokens long, beside the card's limit. */
function decode(host: EngineHost, plan: Plan, batch: number, history: number, copy: number, weights: number) {
  const { vocab, layers, kvHeads, hidden, heads } = plan.shape;
  const kvToken = layers * 2 * kvHeads * (hidden / heads) * 2;
  const step: number[] = [];
  for (let repeat = 0; repeat < REPEATS; repeat++) {
    for (let i = 0; i < batch; i++) {
      host.loop.submit(greedy(i + 1, history, plan.steps + 8, (at) => (i * 977 + repeat + at * 31) % vocab));
    }
    const { running } = host.scheduler;
    while (running.length < batch || running.some((one) => one.generated < 2)) host.loop.turn(REFRESH_US);
    const before = host.loop.stats.generatedTokens;
    const start = performance.now();
    while (!running.some((one) => one.generated >= plan.steps)) host.loop.turn(REFRESH_US);
    const tokens = host.loop.stats.generatedTokens - before;
    step.push((performance.now() - start) * batch / tokens);
    while (!host.loop.idle) host.loop.turn(REFRESH_US);
  }
  const ms = median(step);
  const gb = (weights + batch * (history + plan.steps / 2) * kvToken) / 1e9;
  return {
    sequences: batch,
    history,
    "ms/step": ms,
    "tokens/s": batch / ms * 1000,
    "GB/step": gb,
    "GB/s": gb / ms * 1000,
    "of copy": `${(gb / ms * 1e5 / copy).toFixed(0)}%`,
  };
}

function prefill(host: EngineHost, plan: Plan, tokens: number, weights: number) {
  const rates: number[] = [];
  for (let repeat = 0; repeat < REPEATS; repeat++) {
    host.loop.submit(greedy(1, tokens, 0, (at) => (repeat * 7 + at * 31) % plan.shape.vocab));
    const start = performance.now();
    while (!host.loop.idle) host.loop.turn(REFRESH_US);
    rates.push(tokens / (performance.now() - start) * 1000);
  }
  const rate = median(rates);
  return { prompt: tokens, "tokens/s": rate, "TFLOP/s of products": rate * weights / 1e12 };
}

/** Runs the suite. */
export function run(): Promise<Report[]> {
  const name = Deno.env.get("KVRM_BENCH_SHAPE") || "8b";
  const plan = PLANS[name];
  if (!plan) throw new Error(`KVRM_BENCH_SHAPE is ${name}, wanted one of ${Object.keys(PLANS).join(", ")}`);
  const tables = randomModel({ ...plan.shape, maxPosition: MAX_POSITION });
  const weights = weightBytes(tables);
  const path = libraryPath("cuda");
  using library = new NativeLibrary(path);
  const copy = library.measureBandwidth(0, plan.copyMib, 10);
  const start = starting(plan, tables, library);

  using host = new EngineHost(tables, engineSizes(engineOptions(plan), tables, "bf16"), silent, path);
  const decoding = plan.decode.map(([batch, history]) => decode(host, plan, batch, history, copy, weights));
  const filling = plan.prefill.map((tokens) => prefill(host, plan, tokens, weights));
  const title = `${name} Llama shape, random BF16 weights, ${library.backend}`;
  return Promise.resolve([
    { suite: `${title}: start`, rows: start, notes: ["loading reads a file that is in the page cache"] },
    {
      suite: `${title}: decode, medians of ${REPEATS}`,
      rows: decoding,
      notes: [`copy bandwidth of this card, bytes read and written: ${copy.toFixed(0)} GB/s`],
    },
    { suite: `${title}: prefill, medians of ${REPEATS}`, rows: filling, notes: [] },
  ]);
}
