/**
 * The far history: which blocks of a sequence a token sees as they are, and which as summary rows, by a rule of
 * its position alone.
 *
 *   blocks   0 .. sinks │ sinks .. near       │ near .. position's
 *            exact      │ at most F rows, or  │ exact
 *                       │ forgotten           │
 *
 * The near window slides in strides of a quarter of its length, not token by token: between two strides all tokens
 * see the same summary rows, so that a chunk of a prompt that ends at a stride needs one set of them.
 *
 * @module
 */
import type { FarHistoryOptions } from "./options.ts";

/** Words of an operation on summary rows in the descriptor: slot and kind, row, source, tokens. */
export const SUMMARY_WORDS = 4;

/** Kinds of those operations: KVRM_SUMMARY_CLEAR and so on. */
export const SummaryKind = { CLEAR: 0, BLOCK: 1, MERGE: 2 } as const;

/** Operations that one block may need: two, and CLEAR before a sequence's first. */
export const SUMMARIES_PER_BLOCK = 2;

/** The rule. Positions and lengths in tokens, the rest in blocks. Pure arithmetic, no state. */
export class FarHistory {
  /** Blocks at the start that stay. */
  readonly sinks: number;
  /** Exact blocks before the stride that a token lies in. */
  readonly window: number;
  /** Blocks by which the window slides. */
  readonly stride: number;
  /** F: rows that stand for older blocks; 0: nothing does. */
  readonly rows: number;
  readonly #blockTokens: number;

  constructor(options: FarHistoryOptions, blockTokens: number) {
    this.sinks = options.sinkBlocks;
    this.stride = Math.max(1, options.windowBlocks >>> 2);
    // In whole strides, so that it slides where strides begin.
    this.window = Math.ceil(options.windowBlocks / this.stride) * this.stride;
    this.rows = options.rows;
    this.#blockTokens = blockTokens;
  }

  /** Blocks that a sequence has mapped at most. */
  get maxBlocks(): number {
    return this.sinks + this.window + this.stride;
  }

  /** Blocks, from block `sinks` on, that the token at `position` does not see as they are. */
  farBlocks(position: number): number {
    const block = Math.floor(position / this.#blockTokens);
    return Math.max(0, block - block % this.stride - this.window - this.sinks);
  }

  /** The first position after `position` that sees fewer blocks as they are. */
  nextStride(position: number): number {
    const block = Math.floor(position / this.#blockTokens);
    const next = Math.max(block - block % this.stride + this.stride, this.#firstFar());
    return next * this.#blockTokens;
  }

  /** Blocks to map for tokens [0, count) once those before `position` are computed. */
  blocksAhead(position: number, count: number): number {
    return Math.ceil(Math.min(count, this.nextStride(position)) / this.#blockTokens);
  }

  /** The row of the far block with index `far`, counted from block `sinks`. */
  rowOf(far: number): number {
    // Row 0 takes up the oldest when there is no row left; the others come by turns.
    return far < this.rows ? far : 1 + (far - this.rows) % (this.rows - 1);
  }

  /** Rows in use once `far` blocks are. */
  rowsInUse(far: number): number {
    return Math.min(far, this.rows);
  }

  /** The first block whose tokens do not see all blocks as they are. */
  #firstFar(): number {
    const after = this.window + this.sinks + 1;
    return Math.ceil(after / this.stride) * this.stride;
  }
}

/** The operations on summary rows of the step being planned. */
export class SummaryList {
  /** Operations pending. */
  length = 0;
  readonly #words: Uint32Array;

  constructor(readonly capacity: number) {
    this.#words = new Uint32Array(capacity * SUMMARY_WORDS);
  }

  /** Operations that can still be added. */
  room(): number {
    return this.capacity - this.length;
  }

  /** Makes `block` the newest of what the rows of `slot` stand for, `count` blocks so far. */
  add(far: FarHistory, slot: number, count: number, block: number, blockTokens: number): void {
    if (far.rows === 0) return;
    const row = far.rowOf(count);
    if (count === 0) this.#push(slot, SummaryKind.CLEAR, 0, 0, 0);
    if (count >= far.rows) this.#push(slot, SummaryKind.MERGE, 0, row, 0);
    this.#push(slot, SummaryKind.BLOCK, row, block, blockTokens << 16);
  }

  /** Whether an operation reads `block`. */
  reads(block: number): boolean {
    for (let i = 0; i < this.length; i++) {
      const at = i * SUMMARY_WORDS;
      if (this.#words[at]! >>> 16 === SummaryKind.BLOCK && this.#words[at + 2] === block) return true;
    }
    return false;
  }

  /** Writes the operations from word `at` of `out` on, and forgets them; returns how many. */
  write(out: Uint32Array, at: number, room: number): number {
    const count = this.length;
    if (count > room) {
      throw new RangeError(`Cannot write ${count} summaries: the descriptor has room for ${room}`);
    }
    for (let i = 0; i < count * SUMMARY_WORDS; i++) out[at + i] = this.#words[i]!;
    this.length = 0;
    return count;
  }

  #push(slot: number, kind: number, row: number, source: number, tokens: number): void {
    const at = this.length++ * SUMMARY_WORDS;
    this.#words[at] = slot | kind << 16;
    this.#words[at + 1] = row;
    this.#words[at + 2] = source;
    this.#words[at + 3] = tokens;
  }
}
