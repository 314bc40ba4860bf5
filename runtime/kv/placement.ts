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
  /** Maps `count` more blocks at the end of `map`; false, and nothing changed, if that cannot be. */
  grow(map: BlockMap, count: number): boolean;
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
    if (this.stack.free === 0) this.pool.evict();
    const block = this.stack.take();
    this.pool.acquire(block, 1);
    return block;
  }
}

/**
 * Blocks in as few extents as possible. An extent grows in place: into its own reserve, then into free
 * blocks behind it, then into old cached ones. A new extent goes to the shortest run that holds it and a
 * reserve of `reserveBlocks`. Other sequences' reserves are taken last.
 */
export class ExtentPlacement implements Placement {
  #victim = 0;

  constructor(
    readonly pool: BlockPool,
    readonly runs: FreeRuns,
    /** One per slot. */
    readonly maps: readonly BlockMap[],
    readonly maxExtents: number,
    readonly reserveBlocks: number,
  ) {}

  available(): number {
    return this.runs.free + this.pool.stats.reserved + this.pool.evictable;
  }

  grow(map: BlockMap, count: number): boolean {
    if (count > this.available()) return false;
    const before = map.blockCount;
    let left = count;
    if (map.extentCount > 0) left -= this.#extend(map, left);
    while (left > 0) {
      if (map.extentCount >= this.maxExtents) {
        this.#undo(map, before);
        return false;
      }
      left -= this.#place(map, left);
    }
    this.#topUp(map);
    return true;
  }

  takeCopy(map: BlockMap, logical: number): number {
    if (this.available() === 0) return -1;
    // The last block's copy is where the sequence goes on growing: it takes the reserve along.
    const isLast = logical === map.blockCount - 1;
    if (isLast) this.dropReserve(map);
    const start = this.#findRun(1, isLast ? this.reserveBlocks : 0);
    this.runs.takeFront(start, 1);
    this.pool.acquire(start, 1);
    if (isLast) this.#setReserve(map, start + 1);
    return start;
  }

  /** Takes a run of `count` free blocks, and a reserve for `map` if the run is to be its last; or -1. */
  takeRun(map: BlockMap, count: number, isLast: boolean): number {
    let start = isLast ? this.runs.bestFit(count + this.reserveBlocks) : -1;
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

  dropReserve(map: BlockMap): void {
    if (map.reserve === 0) return;
    this.runs.release(map.physicalEnd(), map.reserve);
    this.pool.stats.reserved -= map.reserve;
    map.reserve = 0;
  }

  /** Grows the last extent by up to `count` blocks; returns by how many. */
  #extend(map: BlockMap, count: number): number {
    const end = map.physicalEnd();
    let got = Math.min(count, map.reserve);
    map.reserve -= got;
    this.pool.stats.reserved -= got;
    if (got < count) {
      while (
        got + this.runs.roomAt(end + got) < count && this.#steal(end + got + this.runs.roomAt(end + got))
      );
      const room = Math.min(count - got, this.runs.roomAt(end + got));
      if (room > 0) this.runs.takeFront(end + got, room);
      got += room;
    }
    if (got > 0) {
      this.pool.acquire(end, got);
      map.append(end, got);
    }
    return got;
  }

  /** Evicts `block` out of turn if it is cached, old and without children. */
  #steal(block: number): boolean {
    const { pool } = this;
    if (block >= pool.numBlocks || !pool.isEvictable(block)) return false;
    if (!pool.lru.isOld(block) || !pool.index.isLeaf(block)) return false;
    pool.evictBlock(block);
    return true;
  }

  /** Maps a new extent of up to `count` blocks; returns how many, at least 1. The reserve is used up. */
  #place(map: BlockMap, count: number): number {
    const isLastChance = map.extentCount === this.maxExtents - 1;
    let start = this.#findRun(count, this.reserveBlocks);
    while (isLastChance && this.runs.lengthOf(start) < count && this.#freeMore()) {
      start = this.#findRun(count, this.reserveBlocks);
    }
    const got = Math.min(count, this.runs.lengthOf(start));
    this.runs.takeFront(start, got);
    this.pool.acquire(start, got);
    map.append(start, got);
    this.#setReserve(map, start + got);
    return got;
  }

  /** The first block of the best run for `count` blocks and `reserve` more; the longest if none fits. */
  #findRun(count: number, reserve: number): number {
    const { runs, pool } = this;
    const wanted = count + reserve;
    while (runs.free < wanted && pool.evictable > 0) pool.evict();
    while (runs.free < count && this.#reclaim());
    let start = runs.bestFit(wanted);
    if (start < 0) start = runs.bestFit(count);
    return start >= 0 ? start : runs.longest();
  }

  #freeMore(): boolean {
    if (this.pool.evictable === 0) return this.#reclaim();
    this.pool.evict();
    return true;
  }

  /** Takes back one sequence's reserve; false if nobody has one. Goes round, so that all lose alike. */
  #reclaim(): boolean {
    if (this.pool.stats.reserved === 0) return false;
    for (;;) {
      const map = this.maps[this.#victim]!;
      this.#victim = (this.#victim + 1) % this.maps.length;
      if (map.reserve === 0) continue;
      this.pool.stats.reserveReclaims += map.reserve;
      this.dropReserve(map);
      return true;
    }
  }

  /** Sets blocks from `block` on aside for `map`, which has no reserve, as far as they are free. */
  #setReserve(map: BlockMap, block: number): void {
    map.reserve = Math.min(this.reserveBlocks, this.runs.roomAt(block));
    if (map.reserve === 0) return;
    this.runs.takeFront(block, map.reserve);
    this.pool.stats.reserved += map.reserve;
  }

  /** Lengthens a reserve that is half used up. */
  #topUp(map: BlockMap): void {
    if (map.reserve * 2 > this.reserveBlocks || map.extentCount === 0) return;
    const block = map.physicalEnd() + map.reserve;
    const more = Math.min(this.reserveBlocks - map.reserve, this.runs.roomAt(block));
    if (more === 0) return;
    this.runs.takeFront(block, more);
    map.reserve += more;
    this.pool.stats.reserved += more;
  }

  #undo(map: BlockMap, blockCount: number): void {
    this.dropReserve(map);
    for (let logical = blockCount; logical < map.blockCount; logical++) {
      this.pool.discard(map.physical(logical));
    }
    map.truncate(blockCount);
  }
}
