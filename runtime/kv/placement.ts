/**
 * Where new blocks go. The cheapest transfer is the one that placement made unnecessary: extents, grown in
 * place, with a reserve ahead (ExtentPlacement); or a stack's top, as a baseline (PagedPlacement).
 *
 * @module
 */

import type { BlockMap } from "./block_map.ts";
import type { BlockPool } from "./block_pool.ts";
import type { FreeRuns } from "./free_runs.ts";
import type { FreeStack } from "./free_stack.ts";

/** Takes blocks for maps, evicting cached ones if need be. */
export interface Placement {
  /** Blocks that could be handed out now. */
  available(): number;
  /**
   * Maps `count` more blocks at the end of `map`; false, and nothing changed, if that cannot be. `ahead`: so many
   * more are going to follow. Of these it may map some, too, and keeps the others in reserve if it can.
   */
  grow(map: BlockMap, count: number, ahead?: number): boolean;
  /** Takes one block for a copy of `map`'s block `logical`; -1 if there is none. */
  takeCopy(map: BlockMap, logical: number): number;
  /** Gives up what is set aside for `map`. */
  dropReserve(map: BlockMap): void;
}

/** Blocks from a LIFO stack, one at a time. */
export class PagedPlacement implements Placement {
  constructor(readonly pool: BlockPool, readonly stack: FreeStack) {}

  available(): number {
    return this.stack.free + this.pool.evictable;
  }

  grow(map: BlockMap, count: number): boolean {
    if (count > this.available()) return false;
    for (let i = 0; i < count; i++) map.append(this.#take(), 1);
    return true;
  }

  takeCopy(): number {
    return this.available() > 0 ? this.#take() : -1;
  }

  dropReserve(): void {}

  #take(): number {
    if (this.stack.free === 0) this.pool.evict(this.pool.oldest());
    const block = this.stack.take();
    this.pool.acquire(block, 1);
    return block;
  }
}

/** One in so many blocks of the pool may be left free by evictions for the sake of longer runs. */
const SLACK_SHARE = 16;

/**
 * Blocks in as few extents as possible. An extent grows in place: into its own reserve, then into free
 * blocks behind it, then into old cached ones. A new extent goes to the shortest run that holds it and a
 * reserve; where there is none, cached blocks are evicted, the oldest first and with it its old
 * neighbours. Other sequences' reserves are taken last.
 */
export class ExtentPlacement implements Placement {
  readonly #slack: number;
  #victim = 0;

  constructor(
    readonly pool: BlockPool,
    readonly runs: FreeRuns,
    /** One per slot. */
    readonly maps: readonly BlockMap[],
    readonly maxExtents: number,
    readonly reserveBlocks: number,
  ) {
    this.#slack = Math.floor(pool.numBlocks / SLACK_SHARE);
  }

  available(): number {
    return this.runs.free + this.pool.stats.reserved + this.pool.evictable;
  }

  grow(map: BlockMap, count: number, ahead = 0): boolean {
    if (count + ahead > this.available()) return false;
    const before = map.blockCount;
    let left = count + ahead;
    if (map.extentCount > 0) left -= this.#extend(map, left);
    while (left > 0) {
      if (map.extentCount >= this.maxExtents) {
        this.#undo(map, before);
        return false;
      }
      left -= this.#place(map, left);
    }
    if (ahead > 0) this.#setAside(map, before + count);
    this.#topUp(map);
    return true;
  }

  takeCopy(map: BlockMap, logical: number): number {
    if (this.available() === 0) return -1;
    // The last block's copy is where the sequence goes on growing: it takes the reserve along.
    const isLast = logical === map.blockCount - 1;
    if (isLast) this.dropReserve(map);
    const start = isLast ? this.#findRun(1, map.promised, this.#reserve(map)) : this.#findRun(1, 0, 0);
    this.runs.takeFront(start, 1);
    this.pool.acquire(start, 1);
    if (isLast) this.#setReserve(map, start + 1);
    return start;
  }

  /** Takes a run of `count` free blocks, and a reserve for `map` if the run is to be its last; or -1. */
  takeRun(map: BlockMap, count: number, isLast: boolean): number {
    let start = isLast ? this.runs.bestFit(count + this.#reserve(map)) : -1;
    if (start < 0) start = this.runs.bestFit(count);
    if (start < 0) return -1;
    this.runs.takeFront(start, count);
    this.pool.acquire(start, count);
    if (isLast) {
      this.dropReserve(map);
      this.#setReserve(map, start + count);
    }
    return start;
  }

  /** Makes more blocks free, near each other, or else of somebody's reserve; false if there is nothing left. */
  makeRoom(count: number): boolean {
    if (this.pool.evictable === 0) return this.#reclaim();
    this.#evictRun(count);
    return true;
  }

  dropReserve(map: BlockMap): void {
    this.#cutReserve(map, 0);
  }

  /** Grows the last extent by up to `count` blocks; returns by how many. */
  #extend(map: BlockMap, count: number): number {
    const end = map.physicalEnd();
    let got = Math.min(count, map.reserve);
    map.reserve -= got;
    this.pool.stats.reserved -= got;
    if (got < count) {
      let room = this.runs.roomAt(end + got);
      while (got + room < count && this.#evictIfOld(end + got + room) >= 0) {
        room = this.runs.roomAt(end + got);
      }
      room = Math.min(room, count - got);
      if (room > 0) this.runs.takeFront(end + got, room);
      got += room;
    }
    if (got > 0) {
      this.pool.acquire(end, got);
      map.append(end, got);
    }
    return got;
  }

  /** Maps a new extent of up to `count` blocks; returns how many, at least 1. The reserve is used up. */
  #place(map: BlockMap, count: number): number {
    const isLastChance = map.extentCount === this.maxExtents - 1;
    const { promised } = map;
    let start = this.#findRun(count, promised, this.#reserve(map));
    while (isLastChance && this.runs.lengthOf(start) < count + promised && this.makeRoom(count + promised)) {
      start = this.runs.longest();
    }
    const got = Math.min(count, this.runs.lengthOf(start));
    this.runs.takeFront(start, got);
    this.pool.acquire(start, got);
    map.append(start, got);
    this.#setReserve(map, start + got);
    return got;
  }

  /**
   * The first block of the best run for `count` blocks and `reserve` more, `promised` of which will be needed; the
   * longest if none fits.
   */
  #findRun(count: number, promised: number, reserve: number): number {
    const { runs, pool } = this;
    const wanted = count + reserve;
    let start = runs.bestFit(wanted);
    while (start < 0 && pool.evictable > 0 && runs.free < wanted + this.#slack) {
      this.#evictRun(wanted);
      start = runs.bestFit(wanted);
    }
    if (start >= 0) return start;
    while (runs.free < count && this.#reclaim());
    start = runs.bestFit(count + promised);
    return start >= 0 ? start : runs.longest();
  }

  /** Evicts the oldest cached block and then its neighbours, if they are old, until `count` lie together. */
  #evictRun(count: number): void {
    const { runs, pool } = this;
    let start = pool.evict(pool.oldest());
    while (runs.lengthOf(start) < count) {
      let longer = this.#evictIfOld(start + runs.lengthOf(start));
      if (longer < 0) longer = this.#evictIfOld(start - 1);
      if (longer < 0) return;
      start = longer;
    }
  }

  /** Evicts `block` out of turn if it is cached and old; returns the first block of its free run, or -1. */
  #evictIfOld(block: number): number {
    const { pool } = this;
    if (block < 0 || block >= pool.numBlocks) return -1;
    return pool.isEvictable(block) && pool.lru.isOld(block) ? pool.evict(block) : -1;
  }

  /**
   * Takes back one sequence's reserve, but for what it was promised; false if nobody has more than that. Goes
   * round, so that all lose alike.
   */
  #reclaim(): boolean {
    if (this.pool.stats.reserved === 0) return false;
    for (let looks = 0; looks < this.maps.length; looks++) {
      const map = this.maps[this.#victim]!;
      this.#victim = (this.#victim + 1) % this.maps.length;
      if (map.reserve <= map.promised) continue;
      this.pool.stats.reserveReclaims += map.reserve - map.promised;
      this.#cutReserve(map, map.promised);
      return true;
    }
    return false;
  }

  /**
   * Blocks to set aside behind a sequence: what its prompt still needs, and a quarter of what it has, since a long
   * answer goes on growing and each new extent would soon be full again; but of that no more than its share of
   * half the free ones, since in a full pool reserves would only cut what is left into pieces.
   */
  #reserve(map: BlockMap): number {
    const { reserved, promised, sequences } = this.pool.stats;
    const held = map.blockCount + map.promised - (map.gapEnd - map.gapStart);
    const wanted = this.reserveBlocks === 0 ? 0 : Math.max(this.reserveBlocks, held >> 2);
    const spare = Math.max(0, this.runs.free + reserved - promised);
    return map.promised + Math.min(wanted, Math.floor(spare / (2 * sequences + 1)));
  }

  /** Sets blocks from `block` on aside for `map`, which has no reserve, as far as they are free. */
  #setReserve(map: BlockMap, block: number): void {
    map.reserve = Math.min(this.#reserve(map), this.runs.roomAt(block));
    if (map.reserve === 0) return;
    this.runs.takeFront(block, map.reserve);
    this.pool.stats.reserved += map.reserve;
  }

  /** Lengthens a reserve that is half used up. */
  #topUp(map: BlockMap): void {
    const reserve = this.#reserve(map);
    if (map.reserve * 2 >= reserve || map.extentCount === 0) return;
    const block = map.physicalEnd() + map.reserve;
    const more = Math.min(reserve - map.reserve, this.runs.roomAt(block));
    if (more === 0) return;
    this.runs.takeFront(block, more);
    map.reserve += more;
    this.pool.stats.reserved += more;
  }

  /** Gives up all of a reserve but its first `count` blocks. */
  #cutReserve(map: BlockMap, count: number): void {
    const gone = map.reserve - count;
    if (gone <= 0) return;
    this.runs.release(map.physicalEnd() + count, gone);
    this.pool.stats.reserved -= gone;
    map.reserve = count;
  }

  /** Makes blocks from `blockCount` on, which were just placed, part of the reserve, as far as they lie before it. */
  #setAside(map: BlockMap, blockCount: number): void {
    const first = Math.max(blockCount, map.logicalStart[map.extentCount - 1]! + 1);
    const count = map.blockCount - first;
    if (count <= 0) return;
    this.#discardFrom(map, first);
    this.runs.takeFront(map.physicalEnd(), count);
    map.reserve += count;
    this.pool.stats.reserved += count;
  }

  #undo(map: BlockMap, blockCount: number): void {
    this.dropReserve(map);
    this.#discardFrom(map, blockCount);
  }

  #discardFrom(map: BlockMap, blockCount: number): void {
    for (let logical = blockCount; logical < map.blockCount; logical++) {
      this.pool.discard(map.physical(logical));
    }
    map.truncate(blockCount);
  }
}
