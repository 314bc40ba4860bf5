/**
 * How a pager is built.
 *
 * @module
 */

import type { KvMode } from "../types.ts";

/** Blocks that staging may move in a step, unless said otherwise. */
export const MOVE_BUDGET_BLOCKS = 8;

/** Whether each slot has a contiguous reservation of the longest sequence, of which nothing is shared. */
export function reservesSlots(mode: KvMode): boolean {
  return mode === "static" || mode === "static-padded";
}

/** Sizes and switches of a BlockPager. A block holds its tokens' K and V of all layers. */
export interface PagerOptions {
  /** Blocks in the pool. In the static modes at least slots × maxBlocksPerSequence. */
  numBlocks: number;
  /** Tokens of a block. */
  blockTokens: number;
  mode: KvMode;
  slots: number;
  /** Blocks of the longest sequence. */
  maxBlocksPerSequence: number;
  /** G: transfer groups of a slot at most, in kv-rm mode. */
  maxGroupsPerSlot: number;
  /** Keep the blocks of ended sequences findable by content. Not in the static modes. */
  prefixCache: boolean;
  /** Blocks set aside, softly, behind a short sequence; a quarter of a long one. 0: none. Default 4. kv-rm mode only. */
  reserveBlocks?: number;
  /** Blocks that staging may move in a step. 0 turns it off. Default {@link MOVE_BUDGET_BLOCKS}. kv-rm mode only. */
  moveBudgetBlocks?: number;
  /** Staging joins runs below this many blocks. Default 4. */
  minRunBlocks?: number;
  /**
   * Whether adjacent blocks become one transfer group. Default: not in paged mode. Without it, and in paged mode with
   * it, a descriptor needs room for a group per block: for comparisons only.
   */
  merge?: boolean;
  /** Moves that a step's descriptor holds. Default slots + 64. */
  maxMoves?: number;
  /** What becomes of old blocks. Not in static mode. Default: they stay. */
  far?: FarHistoryOptions;
}

/** How a sequence's old blocks are given up, see FarHistory. */
export interface FarHistoryOptions {
  /** Blocks at the start that stay. */
  sinkBlocks: number;
  /** Blocks before a token that stay, at least 1. */
  windowBlocks: number;
  /** F: summary rows of a sequence, at least 2; 0: what is given up is forgotten. */
  rows: number;
  /** Operations on summary rows that a step's descriptor holds, at least 3. */
  maxSummaries: number;
}
