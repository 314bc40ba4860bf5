/**
 * The sides of comparisons: the same binary, model and loop, built differently.
 *
 * @module
 */
import { EngineHost } from "../../runtime/host.ts";
import { type ModelTables, randomModel } from "../../runtime/model/folder.ts";
import { type EngineOptions, type EngineSizes, engineSizes } from "../../runtime/options.ts";
import { replay, SwitchedSink } from "./replay.ts";

/** One way to build the engine. */
export interface Side {
  name: string;
  options: Omit<EngineOptions, "model">;
  /** What has no option: parts of mechanisms, switched off for a comparison. */
  adjust?: (sizes: EngineSizes) => EngineSizes;
}

/**
 * The model of all replays: a Llama of 12 million parameters with random weights, so that a trace's minutes fit in
 * a minute here.
 */
export const MODEL = {
  hidden: 384,
  intermediate: 1024,
  layers: 6,
  heads: 6,
  kvHeads: 2,
  vocab: 4096,
} as const;
export const MODEL_WORDS = "12M Llama shape (6 layers, hidden 384, 6 heads, 2 of KV), random weights, F16";
const DTYPE = "f16";
/** Bytes of K of one token in one layer. */
export const ROW_BYTES = MODEL.hidden / MODEL.heads * MODEL.kvHeads * 2;

/** Bytes of KV of one token. */
export const TOKEN_BYTES = 2 * MODEL.layers * ROW_BYTES;

/** Tables of {@link MODEL}, for contexts of at most `maxPosition`. */
export function model(maxPosition: number): ModelTables {
  return randomModel({ ...MODEL, maxPosition, dtype: DTYPE });
}

/** A side, ready to replay. */
export class OpenSide implements Disposable {
  readonly sink = new SwitchedSink();
  readonly host: EngineHost;

  constructor(readonly side: Side, maxPosition: number, tables: ModelTables = model(maxPosition)) {
    const options = { model: "", structuredOutput: false, ...side.options };
    const sizes = engineSizes(options, tables, DTYPE);
    this.host = new EngineHost(tables, side.adjust?.(sizes) ?? sizes, this.sink);
  }

  /** Runs everything once, so that no code is compiled and no page first touched while it is timed. */
  warmUp(): void {
    const { slots } = this.host.sizes.native;
    const requests = Array.from({ length: 2 * slots }, (_, i) => ({
      arrivalMs: 0,
      promptTokens: new Int32Array(40 + i).fill(5),
      maxTokens: 12,
    }));
    replay(this.host, this.sink, requests, { limitSeconds: 2 });
  }

  [Symbol.dispose](): void {
    this.host[Symbol.dispose]();
  }
}

/** For {@link Side.adjust}: groups in a descriptor for every block of every slot. */
export function groupPerBlock(sizes: EngineSizes): EngineSizes {
  const maxGroups = sizes.native.slots * sizes.pager.maxBlocksPerSequence;
  return { ...sizes, native: { ...sizes.native, maxGroups } };
}
