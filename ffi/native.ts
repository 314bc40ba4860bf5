/**
 * The native library with a typed face: loading it, models, engines. The only module that calls
 * `Deno.dlopen`.
 *
 * @module
 */
import { NativeError } from "./errors.ts";
import {
  checkLayout,
  ENGINE_CONFIG,
  ENGINE_INFO,
  KVRM,
  MODEL_CONFIG,
  RESULT_HEADER,
  Status,
  TENSOR,
} from "./layout.ts";
import { symbols } from "./symbols.ts";

/** A kvrm_tensor. Row-major [rows, cols]; a vector is [n, 1]. */
export interface NativeTensor {
  /** kvrm_role */
  role: number;
  layer: number;
  /** kvrm_dtype: F32, F16, BF16, or of a matrix a block format of GGUF. */
  dtype: 0 | 1 | 2 | 4 | 5 | 6 | 7 | 8;
  /** Index into the list of files, or KVRM.NO_FILE for random values. */
  file: number;
  /** Bytes from the start of the file, below 2^53. */
  offset: number;
  rows: number;
  cols: number;
}

/** A model's shape and where its tensors lie: plain data that survives postMessage. */
export interface NativeModelTables {
  config: {
    hidden: number;
    intermediate: number;
    layers: number;
    heads: number;
    kvHeads: number;
    headDim: number;
    vocab: number;
    /** Tokens. */
    maxPosition: number;
    rmsEps: number;
    attentionScale: number;
    /** RoPE turns neighbours, as GGUF files of the llama architecture have Q and K. Default: halves of a head. */
    ropeInterleaved?: boolean;
  };
  tensors: NativeTensor[];
  /** Absolute paths. */
  files: string[];
  /** [headDim / 2]: RoPE's inverse frequencies, scaling applied. */
  invFreq: Float32Array;
  /** [layers]: sliding window in tokens, 0 for full attention. */
  layerWindows: Uint32Array;
}

/** How a model is loaded, beside its tables. */
export interface NativeModelOptions {
  /** Of made-up tensors. Default 1. */
  seed?: number;
  /** kvrm_quantize. Default KVRM.QUANTIZE_NONE. */
  quantize?: number;
  /** Ordinal of the GPU. Default 0, the only one of the CPU. */
  device?: number;
}

/** What an engine is created with: kvrm_engine_config. */
export interface NativeEngineConfig {
  noop: boolean;
  slots: number;
  blockTokens: number;
  numBlocks: number;
  maxContext: number;
  maxGroups: number;
  maxSegments: number;
  maxMoves: number;
  /** Edits of token states per step; 0: no penalties, no biases. */
  maxEdits: number;
  /** Token masks per step; 0: none. */
  maskRows: number;
  /** Blocks of the host tier; 0: none. */
  hostBlocks: number;
  /** kvrm_dtype: 0 f32, 1 f16, 2 bf16, 3 f8_e4m3. */
  kvDtype: number;
  /** 0: one per processor. */
  threads: number;
  /** Chunk sizes of the mixed shapes, ascending. */
  chunks: readonly number[];
  /** Operations on summary rows per step; 0, the default: no far history. */
  maxSummaries?: number;
  /** Summary rows of a slot. Default 0. */
  farRows?: number;
}

/** Sizes and section offsets in bytes: kvrm_engine_info. */
export type NativeEngineInfo = Readonly<Record<Exclude<keyof typeof ENGINE_INFO, "words">, number>>;

type Library = Deno.DynamicLibrary<typeof symbols>;

/** The loaded library. */
export class NativeLibrary implements Disposable {
  readonly #library: Library;
  /** Backend and target, e.g. "cpu/AVX3_DL". */
  readonly backend: string;

  /**
   * Loads the library at `path` and checks that it speaks this program's ABI.
   *
   * @throws {Error} with the cause when it cannot be loaded or its records differ.
   */
  constructor(path: string) {
    try {
      this.#library = Deno.dlopen(path, symbols);
    } catch (cause) {
      const hint = cause instanceof Deno.errors.NotCapable
        ? "allow it with --allow-ffi=" + path
        : path.endsWith("libkvrm_cuda.so")
        ? "run `make cuda`"
        : "run `make`";
      throw new Error(`cannot load the native library ${path}: ${(cause as Error).message} (${hint})`, {
        cause,
      });
    }
    const version = this.#library.symbols.kvrm_abi_version();
    if (version !== KVRM.ABI_VERSION) {
      throw new Error(
        `the native library ${path} has ABI version ${version}, wanted ${KVRM.ABI_VERSION}: run \`make\``,
      );
    }
    const text = new Uint8Array(64 << 10);
    checkLayout(decode(text, this.#library.symbols.kvrm_layout(text, text.length)));
    this.backend = decode(text, this.#library.symbols.kvrm_backend(text, text.length));
  }

  /** Maps a model's files and checks its tensors. @throws {NativeError} */
  loadModel(tables: NativeModelTables, options: NativeModelOptions = {}): NativeModel {
    const config = new DataView(new ArrayBuffer(MODEL_CONFIG.words * 4));
    const setU32 = (word: number, value: number) => config.setUint32(word * 4, value, true);
    const shape = tables.config;
    setU32(MODEL_CONFIG.abi_version, KVRM.ABI_VERSION);
    setU32(MODEL_CONFIG.hidden, shape.hidden);
    setU32(MODEL_CONFIG.intermediate, shape.intermediate);
    setU32(MODEL_CONFIG.layers, shape.layers);
    setU32(MODEL_CONFIG.heads, shape.heads);
    setU32(MODEL_CONFIG.kv_heads, shape.kvHeads);
    setU32(MODEL_CONFIG.head_dim, shape.headDim);
    setU32(MODEL_CONFIG.vocab, shape.vocab);
    setU32(MODEL_CONFIG.max_position, shape.maxPosition);
    config.setFloat32(MODEL_CONFIG.rms_eps * 4, shape.rmsEps, true);
    config.setFloat32(MODEL_CONFIG.attention_scale * 4, shape.attentionScale, true);
    setU32(MODEL_CONFIG.random_seed, options.seed ?? 1);
    setU32(MODEL_CONFIG.quantize, options.quantize ?? KVRM.QUANTIZE_NONE);
    setU32(MODEL_CONFIG.device, options.device ?? 0);
    setU32(MODEL_CONFIG.rope_interleaved, shape.ropeInterleaved ? 1 : 0);

    const tensors = new Uint32Array(tables.tensors.length * TENSOR.words);
    tables.tensors.forEach((tensor, i) => {
      const at = i * TENSOR.words;
      tensors[at + TENSOR.role] = tensor.role;
      tensors[at + TENSOR.layer] = tensor.layer;
      tensors[at + TENSOR.dtype] = tensor.dtype;
      tensors[at + TENSOR.file] = tensor.file;
      tensors[at + TENSOR.offset_lo] = tensor.offset % 2 ** 32;
      tensors[at + TENSOR.offset_hi] = Math.floor(tensor.offset / 2 ** 32);
      tensors[at + TENSOR.rows] = tensor.rows;
      tensors[at + TENSOR.cols] = tensor.cols;
    });

    const paths = new TextEncoder().encode(tables.files.map((file) => file + "\0").join(""));
    const handle = new Uint32Array(1);
    unwrap(
      this.#library,
      this.#library.symbols.kvrm_model_load(
        bytes(config),
        bytes(tensors),
        tables.tensors.length,
        paths,
        paths.length,
        new Float32Array(tables.invFreq),
        new Uint32Array(tables.layerWindows),
        handle,
      ),
    );
    return new NativeModel(this.#library, handle[0]!);
  }

  /** Bytes of the model that another thread of this process loads; both 0 when none loads. */
  loadProgress(): { done: number; all: number } {
    const out = new Float64Array(2);
    unwrap(this.#library, this.#library.symbols.kvrm_load_progress(out));
    return { done: out[0]!, all: out[1]! };
  }

  /** Read bandwidth of main memory in GB/s over `mib` MiB read `repeat` times by `threads` threads. */
  measureBandwidth(threads: number, mib: number, repeat: number): number {
    const out = new Float64Array(1);
    unwrap(this.#library, this.#library.symbols.kvrm_measure_bandwidth(threads, mib, repeat, out));
    return out[0]!;
  }

  [Symbol.dispose](): void {
    this.#library.close();
  }
}

/** A loaded model. Free it after its engines. */
export class NativeModel implements Disposable {
  readonly #library: Library;
  readonly #handle: number;

  constructor(library: Library, handle: number) {
    this.#library = library;
    this.#handle = handle;
  }

  /** Bytes of the memory that KV pools come from. @throws {NativeError} */
  memory(): { free: number; all: number } {
    const out = new Float64Array(2);
    unwrap(this.#library, this.#library.symbols.kvrm_memory(this.#handle, out));
    return { free: out[0]!, all: out[1]! };
  }

  /** Allocates pool and arena, plans the shapes, starts the threads. @throws {NativeError} */
  createEngine(config: NativeEngineConfig): NativeEngine {
    if (config.chunks.length > KVRM.MAX_SHAPES - 1) {
      throw new RangeError(`${config.chunks.length} chunk sizes, wanted at most ${KVRM.MAX_SHAPES - 1}`);
    }
    const record = new Uint32Array(ENGINE_CONFIG.words);
    record[ENGINE_CONFIG.abi_version] = KVRM.ABI_VERSION;
    record[ENGINE_CONFIG.flags] = config.noop ? KVRM.ENGINE_NOOP : 0;
    record[ENGINE_CONFIG.slots] = config.slots;
    record[ENGINE_CONFIG.block_tokens] = config.blockTokens;
    record[ENGINE_CONFIG.num_blocks] = config.numBlocks;
    record[ENGINE_CONFIG.max_context] = config.maxContext;
    record[ENGINE_CONFIG.max_groups] = config.maxGroups;
    record[ENGINE_CONFIG.max_segments] = config.maxSegments;
    record[ENGINE_CONFIG.max_moves] = config.maxMoves;
    record[ENGINE_CONFIG.max_edits] = config.maxEdits;
    record[ENGINE_CONFIG.mask_rows] = config.maskRows;
    record[ENGINE_CONFIG.host_blocks] = config.hostBlocks;
    record[ENGINE_CONFIG.kv_dtype] = config.kvDtype;
    record[ENGINE_CONFIG.threads] = config.threads;
    record[ENGINE_CONFIG.num_chunks] = config.chunks.length;
    record.set(config.chunks, ENGINE_CONFIG.chunk0);
    record[ENGINE_CONFIG.max_summaries] = config.maxSummaries ?? 0;
    record[ENGINE_CONFIG.far_rows] = config.farRows ?? 0;
    const info = new Uint32Array(ENGINE_INFO.words);
    const handle = new Uint32Array(1);
    unwrap(
      this.#library,
      this.#library.symbols.kvrm_engine_create(this.#handle, bytes(record), bytes(info), handle),
    );
    return new NativeEngine(this.#library, handle[0]!, info);
  }

  [Symbol.dispose](): void {
    unwrap(this.#library, this.#library.symbols.kvrm_model_free(this.#handle));
  }
}

/** A running engine; one thread may use it. */
export class NativeEngine implements Disposable {
  readonly #library: Library;
  readonly #handle: number;
  readonly info: NativeEngineInfo;

  constructor(library: Library, handle: number, info: Uint32Array) {
    this.#library = library;
    this.#handle = handle;
    const named: Record<string, number> = {};
    for (const [name, word] of Object.entries(ENGINE_INFO)) if (name !== "words") named[name] = info[word]!;
    this.info = named as NativeEngineInfo;
  }

  /** Checks and enqueues one step. The buffer is the caller's again at once. @throws {NativeError} */
  commit(descriptor: Uint8Array<ArrayBuffer>): void {
    const status = this.#library.symbols.kvrm_commit(this.#handle, descriptor, descriptor.length);
    if (status !== Status.OK) unwrap(this.#library, status);
  }

  /**
   * Takes the oldest step's result if it comes within `timeoutUs`; false when it did not.
   *
   * @throws {NativeError} also when the step itself failed
   */
  wait(timeoutUs: number, result: Uint8Array<ArrayBuffer>): boolean {
    const status = this.#library.symbols.kvrm_wait(this.#handle, timeoutUs, result, result.length);
    if (status === Status.TIMEOUT) return false;
    if (status !== Status.OK) unwrap(this.#library, status);
    const stepStatus = result[RESULT_HEADER.status * 4]!;
    if (stepStatus !== Status.OK) throw new NativeError(stepStatus, "the step failed in the native library");
    return true;
  }

  /** Copies `out.length / block_bytes` blocks from the pool. Only while no step is in flight. */
  exportBlocks(first: number, count: number, out: Uint8Array<ArrayBuffer>): void {
    unwrap(
      this.#library,
      this.#library.symbols.kvrm_export_blocks(this.#handle, first, count, out, out.length),
    );
  }

  /** Copies blocks into the pool. Only while no step is in flight. */
  importBlocks(first: number, count: number, data: Uint8Array<ArrayBuffer>): void {
    unwrap(
      this.#library,
      this.#library.symbols.kvrm_import_blocks(this.#handle, first, count, data, data.length),
    );
  }

  /** The logits of a slot that sampled in the last step, into out [vocab]. Only while idle. */
  readLogits(slot: number, out: Float32Array<ArrayBuffer>): void {
    unwrap(this.#library, this.#library.symbols.kvrm_read_logits(this.#handle, slot, out, out.length));
  }

  /** The counters of kvrm.h, in its order. */
  counters(out: Float64Array<ArrayBuffer>): void {
    unwrap(this.#library, this.#library.symbols.kvrm_counters(this.#handle, out, out.length));
  }

  [Symbol.dispose](): void {
    unwrap(this.#library, this.#library.symbols.kvrm_engine_destroy(this.#handle));
  }
}

function bytes(view: ArrayBufferView<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

function decode(buffer: Uint8Array, length: number): string {
  return new TextDecoder().decode(buffer.subarray(0, Math.min(length, buffer.length)));
}

function unwrap(library: Library, status: number): void {
  if (status === Status.OK) return;
  const text = new Uint8Array(4096);
  const message = decode(text, library.symbols.kvrm_last_error(text, text.length));
  throw new NativeError(status, message || `the native library returned status ${status}`);
}
