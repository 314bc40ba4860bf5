/**
 * What the engine's loop measures, in shared memory: the worker fills fixed arrays, and whoever is asked for
 * metrics reads them. No message and no allocation per step.
 *
 * @module
 */
import { Histogram } from "./histogram.ts";

/** Seconds; a step of a small model takes tens of microseconds, one with a long prompt can take seconds. */
const STEP_BOUNDS = [
  ...[1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.03, 0.05, 0.075],
  ...[0.1, 0.2, 0.5, 1, 2, 5, 10],
];
/** Seconds of planning and of handing a step over. */
const PLAN_BOUNDS = [5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.05];
/** Transfer groups of one slot. */
const GROUP_BOUNDS = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128, 256];

/** Counters and levels, each a float64. Blocks are KV blocks, counters start at 0 with the engine. */
export const Gauge = {
  /** Tokens that running sequences have in the cache. */
  LIVE_TOKENS: 0,
  BLOCKS_RESERVED: 1,
  BLOCKS_IN_FLIGHT: 2,
  BLOCKS_SHARED: 3,
  /** Extents of running sequences. */
  EXTENTS: 4,
  LARGEST_FREE_RUN: 5,
  MOVES: 6,
  COPIED_BLOCKS: 7,
  STAGED_BLOCKS: 8,
  HOST_BLOCKS: 9,
  /** Blocks that steps so far were allowed to stage. */
  STAGING_BUDGET: 10,
  GROUPS_BEFORE: 11,
  GROUPS_AFTER: 12,
  PREFIX_QUERIES: 13,
  PREFIX_HITS: 14,
  EVICTIONS: 15,
  SHAPES_PREPARED: 16,
  BUSY_SECONDS: 17,
  COUNT: 24,
} as const;

/** The loop's measurements, over memory that both sides know. */
export class LoopMetrics {
  readonly gauges: Float64Array<SharedArrayBuffer>;
  /** By index of the shape: 0 decode, i mixed with the i-th chunk size. Seconds on the device. */
  readonly step: readonly Histogram[];
  /** Seconds from the start of planning to a filled descriptor. */
  readonly plan: Histogram;
  /** Seconds of handing a descriptor over. */
  readonly commit: Histogram;
  /** Mean over the slots of each step: blocks read, as many groups would be without merging. */
  readonly groupsBefore: Histogram;
  /** The same after merging. */
  readonly groupsAfter: Histogram;

  /** @param buffer made by {@link LoopMetrics.allocate} for as many shapes */
  constructor(readonly buffer: SharedArrayBuffer, readonly shapes: number) {
    let at = 0;
    const take = (count: number) => new Float64Array(buffer, at * 8, (at += count, count));
    const histogram = (bounds: readonly number[]) => new Histogram(bounds, take(Histogram.cells(bounds)));
    this.gauges = take(Gauge.COUNT);
    this.step = Array.from({ length: shapes }, () => histogram(STEP_BOUNDS));
    this.plan = histogram(PLAN_BOUNDS);
    this.commit = histogram(PLAN_BOUNDS);
    this.groupsBefore = histogram(GROUP_BOUNDS);
    this.groupsAfter = histogram(GROUP_BOUNDS);
  }

  /** Shared memory for the measurements of a loop with so many shapes. */
  static allocate(shapes: number): SharedArrayBuffer {
    const cells = Gauge.COUNT + shapes * Histogram.cells(STEP_BOUNDS) + 2 * Histogram.cells(PLAN_BOUNDS) +
      2 * Histogram.cells(GROUP_BOUNDS);
    return new SharedArrayBuffer(cells * 8);
  }
}
