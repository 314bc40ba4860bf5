/**
 * What a step moves before it reads: copies on write, and *staging*, the relocation of short runs into one
 * contiguous extent where merging neighbours was not enough.
 *
 * A relocation takes away at least one extent of its map and adds none to any other, so staging ends: the
 * number of extents falls with every move and grows only when sequences do.
 *
 * @module
 */

import type { BlockMap } from "./block_map.ts";
import type { BlockPool } from "./block_pool.ts";
import type { FreeRuns } from "./free_runs.ts";
import type { ExtentPlacement } from "./placement.ts";

/** Words of a move in the descriptor: tiers, from, to, count. */
export const MOVE_WORDS = 4;

/** The moves of the step being planned. */
export class MoveList {
  /** Moves pending, adjacent ones merged. */
  length = 0;
  readonly #from: Int32Array;
  readonly #to: Int32Array;
  readonly #count: Int32Array;

  /** `isSummarised`: whether the step being planned reads a block that has no reader any more. */
  constructor(
    readonly pool: BlockPool,
    readonly capacity: number,
    readonly isSummarised: (block: number) => boolean = () => false,
  ) {
    this.#from = new Int32Array(capacity);
    this.#to = new Int32Array(capacity);
    this.#count = new Int32Array(capacity);
  }

  /** Copies `count` blocks; there must be room(). Both ends are kept from reuse until the step is done. */
  add(from: number, to: number, count: number): void {
    const { pool } = this;
    // All copies of a step happen at once: what a pending move will bring to `from` is still at its source.
    if (count === 1 && pool.isPinned(from)) from = this.#origin(from);
    for (let i = 0; i < count; i++) {
      pool.pin(from + i);
      pool.pin(to + i);
    }
    const last = this.length - 1;
    if (
      last >= 0 && this.#from[last]! + this.#count[last]! === from &&
      this.#to[last]! + this.#count[last]! === to
    ) {
      this.#count[last]! += count;
      return;
    }
    this.#from[this.length] = from;
    this.#to[this.length] = to;
    this.#count[this.length++] = count;
  }

  /**
   * Forgets moves that nobody will read, because their sequences have ended since; no step after `step`
   * was planned. Without this a planner that cannot go on would wait for a step that it cannot plan.
   */
  dropUnread(step: number): void {
    const { pool } = this;
    let kept = 0;
    for (let i = 0; i < this.length; i++) {
      const from = this.#from[i]!, to = this.#to[i]!, count = this.#count[i]!;
      if (this.#isRead(i)) {
        this.#from[kept] = from;
        this.#to[kept] = to;
        this.#count[kept++] = count;
        continue;
      }
      for (let k = 0; k < count; k++) {
        pool.withdraw(to + k); // a relocated block that is published: its content never arrives
        pool.unpin(from + k, step);
        pool.unpin(to + k, step);
      }
    }
    if (kept === this.length) return;
    this.length = kept;
    for (let i = 0; i < kept; i++) for (let k = 0; k < this.#count[i]!; k++) pool.pin(this.#from[i]! + k);
    pool.completed(pool.done);
  }

  /** Moves that can still be added. */
  room(): number {
    return this.capacity - this.length;
  }

  /** Writes `{tiers, from, to, count}` from word `at` of `out` on, as moves of `step`; returns how many. */
  write(out: Uint32Array, at: number, room: number, step: number): number {
    const moves = this.length;
    if (moves > room) {
      throw new RangeError(`Cannot write ${moves} moves: the descriptor has room for ${room}`);
    }
    for (let i = 0; i < moves; i++) {
      const from = this.#from[i]!, to = this.#to[i]!, count = this.#count[i]!;
      const word = at + i * MOVE_WORDS;
      out[word] = 0;
      out[word + 1] = from;
      out[word + 2] = to;
      out[word + 3] = count;
      for (let k = 0; k < count; k++) {
        this.pool.unpin(from + k, step);
        this.pool.unpin(to + k, step);
      }
      this.pool.stats.blocksMoved += count;
    }
    this.pool.stats.movesPlanned += moves;
    this.length = 0;
    return moves;
  }

  #isRead(move: number): boolean {
    const to = this.#to[move]!;
    for (let k = 0; k < this.#count[move]!; k++) {
      if (this.pool.refs[to + k]! > 0 || this.isSummarised(to + k)) return true;
    }
    return false;
  }

  #origin(block: number): number {
    for (let i = 0; i < this.length; i++) {
      const offset = block - this.#to[i]!;
      if (offset >= 0 && offset < this.#count[i]!) return this.#from[i]! + offset;
    }
    return block;
  }
}

/** What a relocation would do. Filled in by Stager.#choose(). */
interface Plan {
  /** First and last extent to move. */
  first: number;
  last: number;
  /** Blocks to move. */
  blocks: number;
  /** Where to; -1: into a new run. */
  to: number;
}

/** Relocates runs. */
export class Stager {
  readonly #plan: Plan = { first: 0, last: 0, blocks: 0, to: -1 };
  #next = 0;

  constructor(
    readonly pool: BlockPool,
    readonly runs: FreeRuns,
    readonly placement: ExtentPlacement,
    readonly moves: MoveList,
    readonly maxExtents: number,
    /** Runs below this many blocks are staged. */
    readonly minRunBlocks: number,
  ) {}

  /** Stages within `budget` blocks: maps that have no extent to spare first, then those that look bad. */
  stage(maps: readonly (BlockMap | null)[], budget: number, headroom: number): void {
    let left = budget;
    for (let i = 0; i < maps.length && left > 0; i++) {
      const map = maps[i];
      if (map && map.extentCount >= this.maxExtents) left -= this.relieve(map, left);
    }
    // Go on where the last step ran out of budget, so that every map gets its turn.
    const start = this.#next < maps.length ? this.#next : 0;
    for (let i = 0; i < maps.length && left > 0; i++) {
      const at = start + i < maps.length ? start + i : start + i - maps.length;
      const map = maps[at];
      if (!map || map.extentCount < 2) continue;
      const isMany = map.extentCount * 2 > this.maxExtents;
      if (!isMany && !this.#hasShortRun(map)) continue;
      const limit = Math.min(left, this.runs.free - headroom);
      if (limit <= 0) return;
      if (!this.#choose(map, limit, this.runs.longestLength(), !isMany)) continue;
      left -= this.#relocate(map);
      this.#next = at + 1;
    }
  }

  /**
   * Makes `map` have fewer extents by moving at most `limit` blocks, evicting cached ones and taking
   * reserves to make room. Returns the number of blocks moved; 0: nothing can be done.
   */
  relieve(map: BlockMap, limit: number): number {
    const { runs, placement } = this;
    if (!this.#choose(map, limit, runs.longestLength(), false)) {
      if (!this.#choose(map, limit, Infinity, false)) return 0;
      const wanted = this.#plan.blocks;
      while (runs.longestLength() < wanted && placement.makeRoom(wanted));
      if (!this.#choose(map, limit, runs.longestLength(), false)) return 0;
    }
    return this.#relocate(map);
  }

  /** Carries out the plan for `map`; returns the number of blocks moved. */
  #relocate(map: BlockMap): number {
    const plan = this.#plan;
    const { pool, placement, moves } = this;
    const isLast = plan.last === map.extentCount - 1;
    const logical = map.logicalStart[plan.first]!;
    const extents = map.extentCount;
    let to = plan.to;
    if (to < 0) {
      to = placement.takeRun(map, plan.blocks, isLast);
    } else {
      if (isLast) placement.dropReserve(map);
      if (plan.first > 0 && to === map.physicalStart[plan.first - 1]! + map.count[plan.first - 1]!) {
        this.runs.takeFront(to, plan.blocks);
      } else this.runs.takeBack(to + plan.blocks, plan.blocks);
      pool.acquire(to, plan.blocks);
    }
    let at = to;
    for (let i = plan.first; i <= plan.last; i++) {
      const from = map.physicalStart[i]!, count = map.count[i]!;
      moves.add(from, at, count);
      for (let k = 0; k < count; k++) {
        if (pool.index.entryOf(from + k) >= 0) pool.index.relocate(from + k, at + k);
        pool.release(from + k, 0); // pinned: it stays until the step that copies it is done
      }
      at += count;
    }
    map.remap(logical, plan.blocks, to);
    pool.stats.stagedBlocks += plan.blocks;
    pool.stats.groupsStaged += extents - map.extentCount;
    return plan.blocks;
  }

  /** A run that will not grow any more and is short; the last one still grows. */
  #hasShortRun(map: BlockMap): boolean {
    for (let i = 0; i < map.extentCount - 1; i++) {
      // What lies before a gap stays as short as it is.
      if (map.count[i]! < this.minRunBlocks && map.isFollowed(i)) return true;
    }
    return false;
  }

  /**
   * Plans the relocation that moves the fewest blocks, `limit` at most, per extent it takes away.
   * `longestRun`: free blocks that lie together. onlyShort: some run below the minimum has to go.
   */
  #choose(map: BlockMap, limit: number, longestRun: number, onlyShort: boolean): boolean {
    const { runs } = this;
    const plan = this.#plan;
    const last = map.extentCount - 1;
    let best = Infinity;
    for (let i = 0; i <= last; i++) {
      const count = map.count[i]!;
      const isShort = count < this.minRunBlocks && i < last;
      if (count > limit || !this.#isMovable(map, i)) continue;
      if (count < best && (isShort || !onlyShort) && this.moves.room() > 0) {
        const before = i === 0 || !map.isFollowed(i - 1) ? -1 : map.physicalStart[i - 1]! + map.count[i - 1]!;
        const after = i === last || !map.isFollowed(i) ? -1 : map.physicalStart[i + 1]!;
        const to = before >= 0 && runs.roomAt(before) >= count
          ? before
          : after >= 0 && runs.roomBefore(after) >= count
          ? after - count
          : -1;
        if (to >= 0) {
          best = count;
          plan.first = plan.last = i;
          plan.blocks = count;
          plan.to = to;
        }
      }
      let total = count;
      let anyShort = isShort;
      for (let j = i + 1; j <= last; j++) {
        total += map.count[j]!;
        if (!map.isFollowed(j - 1) || total > limit || total > longestRun || j - i >= this.moves.room()) {
          break;
        }
        if (!this.#isMovable(map, j)) break;
        anyShort ||= map.count[j]! < this.minRunBlocks && j < last;
        const cost = total / (j - i);
        if (cost >= best || (onlyShort && !anyShort)) continue;
        best = cost;
        plan.first = i;
        plan.last = j;
        plan.blocks = total;
        plan.to = -1;
      }
    }
    return best < Infinity;
  }

  #isMovable(map: BlockMap, extent: number): boolean {
    const start = map.physicalStart[extent]!;
    const end = start + map.count[extent]!;
    for (let block = start; block < end; block++) if (!this.pool.isMovable(block)) return false;
    return true;
  }
}
