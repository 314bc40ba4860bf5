/**
 * The physical blocks: who reads them, which steps still touch them, what becomes of them afterwards.
 *
 *   free ── take ──▶ active ── last reader gone ──▶ in flight ── its step completed ──▶ free
 *                      ▲                     └────▶ cached (published) ── evicted ──▶ free
 *                      └──────── matched ─────────────┘
 *
 * A step is in flight from its planning until completed() names it. Whatever it touches is not handed out
 * before that, as a destination of a move neither.
 *
 * @module
 */

import { LruList } from "./lru_list.ts";
import { PrefixIndex } from "./prefix_index.ts";
import type { PagerStats } from "./stats.ts";

/** What a pool takes free blocks from and gives them back to: FreeRuns or FreeStack. */
export interface FreeBlocks {
  readonly free: number;
  /** Returns the first block of the run that they are now part of. */
  release(start: number, count: number): number;
  has(block: number): boolean;
}

/** A step that is not known yet: the moves of the step being planned are not written. */
const PLANNED = Infinity;
/** Cached blocks looked at for one without children before a parent is evicted. */
const LEAF_SCAN = 8;

/** Reference counts, the prefix index, the LRU order and the blocks in flight. */
export class BlockPool {
  readonly index: PrefixIndex;
  readonly lru: LruList;
  /** Cached blocks that no step in flight touches. */
  evictable = 0;
  /** Last step known to have completed. */
  done = 0;
  /** Maps that read a block. */
  readonly refs: Int32Array;
  /** Last step that touches a block; PLANNED while a move of the step being planned does. */
  readonly #lastUse: Float64Array;
  /** Blocks without readers whose last step had not completed, and who is listed already. */
  readonly #pending: Int32Array;
  readonly #isPending: Uint8Array;
  #numPending = 0;

  constructor(
    readonly numBlocks: number,
    blockTokens: number,
    readonly free: FreeBlocks,
    readonly stats: PagerStats,
  ) {
    this.index = new PrefixIndex(numBlocks, blockTokens);
    this.lru = new LruList(numBlocks);
    this.refs = new Int32Array(numBlocks);
    this.#lastUse = new Float64Array(numBlocks);
    this.#pending = new Int32Array(numBlocks);
    this.#isPending = new Uint8Array(numBlocks);
  }

  /** Whether a sequence that reads `block` may write into it: nobody else does, and no look-up finds it. */
  isWritable(block: number): boolean {
    return this.refs[block] === 1 && this.index.entryOf(block) < 0;
  }

  /** Whether the content of `block`, which has one reader, may be moved elsewhere in this step. */
  isMovable(block: number): boolean {
    return this.refs[block] === 1 && this.#lastUse[block] !== PLANNED;
  }

  /** Whether `block` is cached and may be evicted now. */
  isEvictable(block: number): boolean {
    return this.refs[block] === 0 && this.index.entryOf(block) >= 0 && this.#lastUse[block]! <= this.done;
  }

  /** Whether `block`, which nobody reads or finds, waits for a step that touches it. */
  isLeaving(block: number): boolean {
    return this.#lastUse[block]! > this.done;
  }

  /** Gives blocks that were just taken from the free ones their first reader. */
  acquire(start: number, count: number): void {
    this.refs.fill(1, start, start + count);
    this.stats.active += count;
  }

  /** Undoes acquire(): no step has seen the block. */
  discard(block: number): void {
    this.refs[block] = 0;
    this.stats.active--;
    this.free.release(block, 1);
  }

  /** Adds a reader to an active or cached block. */
  retain(block: number): void {
    const refs = ++this.refs[block]!;
    if (refs === 2) this.stats.shared++;
    if (refs > 1) return;
    this.lru.remove(block);
    this.stats.cached--;
    this.stats.active++;
    if (this.#lastUse[block]! <= this.done) this.evictable--;
  }

  /** Removes a reader, whose last step is `step`. */
  release(block: number, step: number): void {
    if (this.#lastUse[block]! < step) this.#lastUse[block] = step;
    const refs = --this.refs[block]!;
    if (refs === 1) this.stats.shared--;
    if (refs > 0) return;
    this.stats.active--;
    const published = this.index.entryOf(block) >= 0;
    if (published) {
      this.lru.append(block);
      this.stats.cached++;
    }
    if (this.#lastUse[block]! > this.done) {
      if (!published) this.#countWaiting(block, 1);
      this.#defer(block);
    } else if (published) this.evictable++;
    else this.free.release(block, 1);
  }

  /** A move of the step being planned reads or writes `block`. */
  pin(block: number): void {
    this.#setLastUse(block, PLANNED);
  }

  /** Whether a move of the step being planned reads or writes `block`. */
  isPinned(block: number): boolean {
    return this.#lastUse[block] === PLANNED;
  }

  /** Those moves belong to `step`. */
  unpin(block: number, step: number): void {
    this.#setLastUse(block, step);
  }

  /** Steps up to `step` have completed. O(blocks in flight). */
  completed(step: number): void {
    if (step > this.done) this.done = step;
    let kept = 0;
    for (let i = 0; i < this.#numPending; i++) {
      const block = this.#pending[i]!;
      if (this.refs[block] === 0 && this.#lastUse[block]! > this.done) {
        this.#pending[kept++] = block;
        continue;
      }
      this.#isPending[block] = 0;
      if (this.refs[block]! > 0) continue; // matched again meanwhile
      if (this.index.entryOf(block) >= 0) this.evictable++;
      else {
        this.stats.inFlight--;
        this.free.release(block, 1);
      }
    }
    this.#numPending = kept;
  }

  /** The cached block to evict next; there must be an evictable one. */
  oldest(): number {
    // Children are released no later than their parents, so leaves come first by themselves, except
    // where a running sequence hangs below a duplicate or a window: then look a little further.
    let victim = -1;
    let looks = 0;
    for (let block = this.lru.head; block >= 0 && looks < LEAF_SCAN; block = this.lru.next(block)) {
      if (!this.isEvictable(block)) continue;
      if (this.index.isLeaf(block)) return block;
      if (looks++ === 0) victim = block;
    }
    return victim;
  }

  /** Makes `block`, which must be evictable, free; returns the first block of its free run. */
  evict(block: number): number {
    this.index.remove(block);
    this.lru.remove(block);
    this.stats.cached--;
    this.stats.evictions++;
    this.evictable--;
    return this.free.release(block, 1);
  }

  /** Makes `block`, which a step in flight touches, unfindable if it is cached. */
  withdraw(block: number): void {
    if (this.refs[block] !== 0 || this.index.entryOf(block) < 0) return;
    this.index.remove(block);
    this.lru.remove(block);
    this.stats.cached--;
    this.#countWaiting(block, 1);
  }

  /** Withdraws every cached block; those in flight become free when their steps complete. */
  dropCache(): void {
    for (let block = this.lru.head; block >= 0;) {
      const next = this.lru.next(block);
      if (this.isEvictable(block)) this.evict(block);
      else this.withdraw(block);
      block = next;
    }
  }

  /** Throws if counts, lists and flags disagree. `readers` are the maps that list each block. O(numBlocks). */
  checkInvariants(readers: Int32Array): void {
    const { stats } = this;
    let active = 0, shared = 0, cached = 0, evictable = 0, inFlight = 0, moving = 0;
    for (let block = 0; block < this.numBlocks; block++) {
      const refs = this.refs[block]!;
      if (refs !== readers[block]) {
        throw new Error(`block ${block} counts ${refs} readers, found ${readers[block]}`);
      }
      if (refs > 0) active++;
      if (refs > 1) shared++;
      if (refs === 0 && this.index.entryOf(block) >= 0) cached++;
      if (this.isEvictable(block)) evictable++;
      const pending = this.#lastUse[block]! > this.done && this.#isPending[block] === 1;
      if (refs === 0 && this.index.entryOf(block) < 0 && pending) {
        if (this.isPinned(block)) moving++;
        else inFlight++;
      }
      if ((refs > 0 || pending || this.index.entryOf(block) >= 0) && this.free.has(block)) {
        throw new Error(`block ${block} is in use and free`);
      }
    }
    let listed = 0;
    for (let block = this.lru.head; block >= 0; block = this.lru.next(block)) {
      if (this.refs[block] !== 0 || this.index.entryOf(block) < 0) {
        throw new Error(`block ${block} is listed as cached, but has ${this.refs[block]} readers`);
      }
      listed++;
    }
    equal("active", stats.active, active);
    equal("shared", stats.shared, shared);
    equal("cached", stats.cached, cached);
    equal("listed as cached", listed, cached);
    equal("evictable", this.evictable, evictable);
    equal("in flight", stats.inFlight, inFlight);
    equal("moving", stats.moving, moving);
    equal(
      "total",
      stats.active + stats.cached + inFlight + moving + stats.reserved + this.free.free,
      this.numBlocks,
    );
    this.index.checkInvariants();
  }

  #setLastUse(block: number, step: number): void {
    const isWaiting = this.refs[block] === 0 && this.index.entryOf(block) < 0;
    if (isWaiting) this.#countWaiting(block, -1);
    this.#lastUse[block] = step;
    if (isWaiting) this.#countWaiting(block, 1);
  }

  /** Counts a block without readers whose last step has not completed. */
  #countWaiting(block: number, by: number): void {
    if (this.#lastUse[block] === PLANNED) this.stats.moving += by;
    else this.stats.inFlight += by;
  }

  #defer(block: number): void {
    if (this.#isPending[block] === 1) return;
    this.#isPending[block] = 1;
    this.#pending[this.#numPending++] = block;
  }
}

function equal(what: string, counted: number, found: number): void {
  if (counted !== found) throw new Error(`${counted} blocks counted as ${what}, found ${found}`);
}
