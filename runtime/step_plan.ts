/**
 * Who does what in one step: what the scheduler decides and the descriptor is filled with.
 *
 * @module
 */
import type { Sequence } from "./sequence.ts";

/** Who does what in one step. Reused; it stays as it is until its step's result was taken. */
export class StepPlan {
  step = 0;
  /** Index of the shape: 0 decode, i mixed with chunk i - 1. */
  shape = 0;
  /** The sequence in each slot that takes part, else null. [slots] */
  readonly sequences: (Sequence | null)[];
  /** 1 where the slot samples. [slots] */
  readonly samples: Uint8Array;
  /** Slots that decode, `decodeCount` of them. */
  readonly decodeSlots: Int32Array;
  decodeCount = 0;
  /** Slots that prefill, with first position and token count of each segment, `segmentCount` of them. */
  readonly segmentSlots: Int32Array;
  readonly segmentPositions: Int32Array;
  readonly segmentCounts: Int32Array;
  /** Rows that each segment is padded with, besides its tokens. */
  readonly segmentPadding: Int32Array;
  segmentCount = 0;
  /** Tokens of all segments. */
  tokenCount = 0;
  /** Rows of padding of all segments. */
  paddingCount = 0;
  /** Tokens of the longest history of those who decode, their own included. */
  longest = 0;
  /** What they attend over, in tokens; 0: each its own history. */
  paddedWindow = 0;
  /** Edits of each slot's token state, `editCount` in all. [slots] */
  readonly edits: Int32Array;
  editCount = 0;
  /** Operations on summary rows. */
  summaryCount = 0;

  constructor(slots: number) {
    this.sequences = new Array<Sequence | null>(slots).fill(null);
    this.samples = new Uint8Array(slots);
    this.decodeSlots = new Int32Array(slots);
    this.segmentSlots = new Int32Array(slots);
    this.segmentPositions = new Int32Array(slots);
    this.segmentCounts = new Int32Array(slots);
    this.segmentPadding = new Int32Array(slots);
    this.edits = new Int32Array(slots);
  }

  get empty(): boolean {
    return this.decodeCount === 0 && this.segmentCount === 0 && this.editCount === 0 &&
      this.summaryCount === 0;
  }

  clear(step: number): void {
    this.step = step;
    this.shape = 0;
    this.sequences.fill(null);
    this.samples.fill(0);
    this.decodeCount = 0;
    this.segmentCount = 0;
    this.tokenCount = 0;
    this.paddingCount = 0;
    this.longest = 0;
    this.paddedWindow = 0;
    this.edits.fill(0);
    this.editCount = 0;
    this.summaryCount = 0;
  }
}
