/**
 * Where a sequence's blocks lie: logical blocks mapped to physical ones as extents.
 *
 * @module
 */

import type { PagerStats } from "./stats.ts";
import { ROOT } from "./prefix_index.ts";

/** Words of a transfer group in the descriptor: slot and kind, logical start, physical start, count. */
export const GROUP_WORDS = 4;
/** KVRM_GROUP_FAR, where it goes. */
const FAR = 1 << 16;

/**
 * Extents `{logicalStart, physicalStart, count}`, ascending from `firstBlock` to `blockCount`, adjacent ones
 * merged, without gaps but for the far history. One map per slot, reused; allocates nothing after construction. Only the pager
 * changes a map.
 */
export class BlockMap {
  /** Extents in use. */
  extentCount = 0;
  /** First logical block still mapped: 0, or more once a window has passed. */
  firstBlock = 0;
  /** End of the logical blocks mapped. */
  blockCount = 0;
  /** The far history: blocks [gapStart, gapEnd) were mapped once, and `farRows` summary rows stand for them. */
  gapStart = 0;
  gapEnd = 0;
  farRows = 0;
  /** Tokens of the prompt that were found in the prefix cache. */
  matchedTokens = 0;
  /** Whether a sequence owns the map. */
  open = false;

  readonly logicalStart: Int32Array;
  readonly physicalStart: Int32Array;
  readonly count: Int32Array;

  /** Blocks set aside right after the last extent. */
  reserve = 0;
  /** Blocks that the rest of the prompt needs: not mapped yet, but kept for it. */
  promised = 0;
  /** Logical blocks that publish() is done with. */
  publishedBlocks = 0;
  /** The index entry of block publishedBlocks - 1, and its serial. */
  chainEntry = ROOT;
  chainSerial = 0;
  /** The last entry up that chain whose block is not this map's, and its serial. */
  foreignEntry = ROOT;
  foreignSerial = 0;

  readonly #merge: boolean;
  readonly #stats: PagerStats;

  /**
   * @param slot the slot it belongs to
   * @param capacity extents at most
   * @param merge whether writeGroups() gives one group per extent, not per block
   */
  constructor(readonly slot: number, capacity: number, merge: boolean, stats: PagerStats) {
    this.logicalStart = new Int32Array(capacity);
    this.physicalStart = new Int32Array(capacity);
    this.count = new Int32Array(capacity);
    this.#merge = merge;
    this.#stats = stats;
  }

  /** Blocks that are mapped. */
  get mappedBlocks(): number {
    return this.blockCount - this.firstBlock - (this.gapEnd - this.gapStart);
  }

  /** Whether `logical` is mapped. */
  has(logical: number): boolean {
    return logical >= this.firstBlock && logical < this.blockCount &&
      (logical < this.gapStart || logical >= this.gapEnd);
  }

  /** The physical block of `logical`. Throws a RangeError if it is not mapped. */
  physical(logical: number): number {
    const i = this.extentOf(logical);
    return this.physicalStart[i]! + logical - this.logicalStart[i]!;
  }

  /** The extent that maps `logical`. Throws a RangeError if none does. */
  extentOf(logical: number): number {
    if (!this.has(logical)) {
      const but = this.gapEnd > this.gapStart ? ` but for ${this.gapStart} to ${this.gapEnd}` : "";
      throw new RangeError(
        `Cannot find block ${logical} of slot ${this.slot}: ` +
          `mapped are ${this.firstBlock} to ${this.blockCount}${but}`,
      );
    }
    let high = this.extentCount - 1;
    if (logical >= this.logicalStart[high]!) return high; // the block being written, nearly always
    let low = 0;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.logicalStart[middle]! <= logical) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** One past the physical end of the last extent; -1 if nothing is mapped. */
  physicalEnd(): number {
    const last = this.extentCount - 1;
    return last < 0 ? -1 : this.physicalStart[last]! + this.count[last]!;
  }

  /**
   * Writes groups `{slot | kind << 16, logicalStart, physicalStart, count}` for blocks [firstBlock, blocks) from
   * word `at` of `out` on: one per extent, or per block in paged mode, and one for the far history. Returns the
   * number of groups, -1 (and `out` undefined from `at` on) if it exceeds `room`.
   */
  writeGroups(out: Uint32Array, at: number, slot: number, blocks: number, room: number): number {
    const end = Math.min(blocks, this.blockCount);
    let groups = 0;
    for (let i = 0; i < this.extentCount; i++) {
      const logical = this.logicalStart[i]!;
      if (logical >= end) break;
      if (logical === this.gapEnd && this.gapEnd > this.gapStart) {
        if (groups === room) return -1;
        const word = at + groups++ * GROUP_WORDS;
        out[word] = slot | FAR;
        out[word + 1] = this.gapStart;
        out[word + 2] = 0;
        out[word + 3] = this.farRows;
      }
      const physical = this.physicalStart[i]!;
      const count = Math.min(this.count[i]!, end - logical);
      const step = this.#merge ? count : 1;
      for (let offset = 0; offset < count; offset += step) {
        if (groups === room) return -1;
        const word = at + groups * GROUP_WORDS;
        out[word] = slot;
        out[word + 1] = logical + offset;
        out[word + 2] = physical + offset;
        out[word + 3] = step;
        groups++;
      }
    }
    this.#stats.groupsBeforeMerge += Math.max(0, this.mappedBlocks - (this.blockCount - end));
    this.#stats.groupsAfterMerge += groups;
    return groups;
  }

  /** Maps `count` more blocks at the end. */
  append(physical: number, count: number): void {
    if (this.extentCount > 0 && this.physicalEnd() === physical) {
      this.count[this.extentCount - 1]! += count;
    } else {
      this.#set(this.extentCount++, this.blockCount, physical, count);
    }
    this.blockCount += count;
  }

  /** Unmaps blocks from `blockCount` on. */
  truncate(blockCount: number): void {
    while (this.extentCount > 0 && this.logicalStart[this.extentCount - 1]! >= blockCount) this.extentCount--;
    const last = this.extentCount - 1;
    if (last >= 0) this.count[last] = Math.min(this.count[last]!, blockCount - this.logicalStart[last]!);
    this.blockCount = blockCount;
  }

  /** Unmaps blocks before `firstBlock`. */
  trimFront(firstBlock: number): void {
    let gone = 0;
    while (gone < this.extentCount && this.logicalStart[gone]! + this.count[gone]! <= firstBlock) gone++;
    if (gone > 0) this.#shift(gone, -gone);
    if (this.extentCount > 0 && this.logicalStart[0]! < firstBlock) {
      const cut = firstBlock - this.logicalStart[0]!;
      this.#set(0, firstBlock, this.physicalStart[0]! + cut, this.count[0]! - cut);
    }
    this.firstBlock = firstBlock;
  }

  /** Unmaps blocks from the gap, or from `start` where there is none yet, up to `end`. May cut an extent in two. */
  widenGap(start: number, end: number): void {
    if (this.gapEnd === this.gapStart) this.gapStart = this.gapEnd = start;
    const from = this.gapEnd;
    let i = this.extentOf(from);
    const left = from - this.logicalStart[i]!;
    if (left > 0) {
      // What stays of the extent before the gap, then the rest as an extent of its own.
      this.#shift(i + 1, 1);
      this.#set(i + 1, from, this.physicalStart[i]! + left, this.count[i]! - left);
      this.count[i++] = left;
    }
    let gone = i;
    while (gone < this.extentCount && this.logicalStart[gone]! + this.count[gone]! <= end) gone++;
    if (gone > i) this.#shift(gone, i - gone);
    if (i < this.extentCount && this.logicalStart[i]! < end) {
      const cut = end - this.logicalStart[i]!;
      this.#set(i, end, this.physicalStart[i]! + cut, this.count[i]! - cut);
    }
    this.gapEnd = end;
  }

  /** Maps logical blocks [logical, logical + count), which are mapped, to `physical` and on. */
  remap(logical: number, count: number, physical: number): void {
    const i = this.extentOf(logical);
    const j = this.extentOf(logical + count - 1);
    const leftStart = this.logicalStart[i]!;
    const leftPhysical = this.physicalStart[i]!;
    const left = logical - leftStart;
    const offset = logical + count - this.logicalStart[j]!;
    const right = this.count[j]! - offset;
    const rightPhysical = this.physicalStart[j]! + offset;
    this.#shift(j + 1, i + (left > 0 ? 1 : 0) + 1 + (right > 0 ? 1 : 0) - (j + 1));
    let at = i;
    if (left > 0) this.#set(at++, leftStart, leftPhysical, left);
    this.#set(at, logical, physical, count);
    if (right > 0) this.#set(at + 1, logical + count, rightPhysical, right);
    this.#mergeWithNext(at);
    this.#mergeWithNext(at - 1);
  }

  /** Maps what `source` maps of its first `blocks` blocks. */
  copyFrom(source: BlockMap, blocks: number): void {
    this.extentCount = source.extentCount;
    for (let i = 0; i < source.extentCount; i++) {
      this.#set(i, source.logicalStart[i]!, source.physicalStart[i]!, source.count[i]!);
    }
    this.firstBlock = source.firstBlock;
    this.gapStart = source.gapStart;
    this.gapEnd = source.gapEnd;
    this.truncate(blocks);
  }

  /** Whether the blocks of extent i + 1 come right after those of extent i: no gap lies between. */
  isFollowed(i: number): boolean {
    return this.logicalStart[i]! + this.count[i]! === this.logicalStart[i + 1];
  }

  /** An empty map again. */
  reset(): void {
    this.extentCount =
      this.firstBlock =
      this.blockCount =
      this.gapStart =
      this.gapEnd =
      this.farRows =
      this.matchedTokens =
        0;
    this.reserve = this.promised = 0;
    this.restartChain();
    this.open = false;
  }

  /** Makes publish() start from the first block again. */
  restartChain(): void {
    this.publishedBlocks = this.chainSerial = this.foreignSerial = 0;
    this.chainEntry = this.foreignEntry = ROOT;
  }

  #set(i: number, logical: number, physical: number, count: number): void {
    this.logicalStart[i] = logical;
    this.physicalStart[i] = physical;
    this.count[i] = count;
  }

  /** Moves extents from index `from` on by `by` places. */
  #shift(from: number, by: number): void {
    this.logicalStart.copyWithin(from + by, from, this.extentCount);
    this.physicalStart.copyWithin(from + by, from, this.extentCount);
    this.count.copyWithin(from + by, from, this.extentCount);
    this.extentCount += by;
  }

  #mergeWithNext(i: number): void {
    if (i < 0 || i + 1 >= this.extentCount) return;
    if (this.physicalStart[i]! + this.count[i]! !== this.physicalStart[i + 1]! || !this.isFollowed(i)) return;
    this.count[i]! += this.count[i + 1]!;
    this.#shift(i + 2, -1);
  }
}
