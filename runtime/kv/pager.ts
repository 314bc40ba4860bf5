/**
 * The block pager: gives sequences blocks, shares them, copies them on write, remembers their content and
 * takes them back when the last step that reads them has completed.
 *
 * Per step, in this order: completed(); close() and open(); publish(), giveUp() and ensure() for each sequence;
 * planMoves(); BlockMap.writeGroups(); writeMoves() and writeSummaries(). Nothing here allocates memory after construction.
 *
 * @module
 */

import { BlockMap } from "./block_map.ts";
import { BlockPool } from "./block_pool.ts";
import { FarHistory, SUMMARIES_PER_BLOCK, SummaryList } from "./far_history.ts";
import { FreeRuns } from "./free_runs.ts";
import { FreeStack } from "./free_stack.ts";
import { MOVE_BUDGET_BLOCKS, type PagerOptions, reservesSlots } from "./options.ts";
import { writeOwners } from "./owners.ts";
import { ExtentPlacement, PagedPlacement, type Placement } from "./placement.ts";
import { PrefixCache } from "./prefix_cache.ts";
import { PagerStats } from "./stats.ts";
import { MoveList, Stager } from "./transport.ts";

/** Owns the pool of physical blocks and the block map of every slot. */
export class BlockPager {
  readonly stats = new PagerStats();
  /** Which blocks a token sees as they are; null: all. */
  readonly far: FarHistory | null;
  readonly #summaries: SummaryList;
  readonly #blockTokens: number;
  /** Each slot has a reservation of its own. */
  readonly #reserved: boolean;
  readonly #maxBlocks: number;
  readonly #maxGroups: number;
  readonly #mostExtents: number;
  readonly #moveBudget: number;
  readonly #maps: BlockMap[] = [];
  readonly #pool: BlockPool;
  readonly #placement: Placement;
  readonly #moves: MoveList;
  readonly #prefix: PrefixCache | null;
  /** In kv-rm mode. */
  readonly #runs: FreeRuns | null = null;
  readonly #stager: Stager | null = null;
  /** The step that planMoves() was last called for. */
  #step = 0;

  constructor(options: PagerOptions) {
    const { numBlocks, blockTokens, mode, slots, maxBlocksPerSequence, maxGroupsPerSlot } = options;
    const isStatic = reservesSlots(mode);
    if (isStatic && numBlocks < slots * maxBlocksPerSequence) {
      throw new RangeError(
        `Cannot reserve ${maxBlocksPerSequence} blocks for each of ${slots} slots: ` +
          `the pool has ${numBlocks}, wanted ${slots * maxBlocksPerSequence}`,
      );
    }
    const isExtents = mode === "kv-rm";
    this.#reserved = isStatic;
    const far = isStatic ? undefined : options.far;
    this.far = far ? new FarHistory(far, blockTokens) : null;
    this.#summaries = new SummaryList(far?.maxSummaries ?? 0);
    this.#blockTokens = blockTokens;
    this.#maxBlocks = maxBlocksPerSequence;
    this.#maxGroups = isExtents ? maxGroupsPerSlot : Infinity;
    // A gap cuts an extent in two.
    this.#mostExtents = this.#maxGroups + (far ? 1 : 0);
    this.#moveBudget = options.moveBudgetBlocks ?? MOVE_BUDGET_BLOCKS;

    // A remap needs two extents more for a moment, until neighbours are merged.
    const extents = isExtents ? this.#mostExtents + 2 : isStatic ? 1 : maxBlocksPerSequence;
    const merge = options.merge ?? mode !== "paged";
    for (let slot = 0; slot < slots; slot++) {
      this.#maps.push(new BlockMap(slot, extents, merge, this.stats));
    }
    const runs = new FreeRuns(numBlocks);
    const stack = new FreeStack(numBlocks);
    this.#pool = new BlockPool(numBlocks, blockTokens, isExtents ? runs : stack, this.stats);
    this.#moves = new MoveList(
      this.#pool,
      options.maxMoves ?? slots + 64,
      (block) => this.#summaries.reads(block),
    );
    if (isExtents) {
      const placement = new ExtentPlacement(
        this.#pool,
        runs,
        this.#maps,
        maxGroupsPerSlot,
        options.reserveBlocks ?? 4,
      );
      const minRun = options.minRunBlocks ?? 4;
      this.#runs = runs;
      this.#placement = placement;
      this.#stager = new Stager(this.#pool, runs, placement, this.#moves, maxGroupsPerSlot, minRun);
    } else {
      this.#placement = new PagedPlacement(this.#pool, stack);
    }
    // Half of the groups at most for a prefix that others placed; the rest is for the sequence's own.
    const maxPrefixExtents = isExtents ? maxGroupsPerSlot >>> 1 : maxBlocksPerSequence;
    this.#prefix = options.prefixCache && !isStatic
      ? new PrefixCache(this.#pool, maxBlocksPerSequence, maxPrefixExtents)
      : null;
    this.#pool.free.release(0, numBlocks);
    this.stats.total = this.stats.free = numBlocks;
  }

  /** Tokens of the prompt that open() found in the prefix cache, a multiple of the block's tokens. */
  matchedTokens(map: BlockMap): number {
    return map.matchedTokens;
  }

  /**
   * Whether open() has blocks enough for the whole prompt (with far history as much as is mapped at once), and one
   * more is left for each open sequence. In static mode: whether a slot is free.
   */
  canAdmit(tokens: Int32Array, count: number, reuse: boolean): boolean {
    if (this.#reserved) return this.stats.sequences < this.#maps.length;
    const need = Math.min(this.#blocksFor(count), this.far?.maxBlocks ?? Infinity);
    const available = this.#available() - this.stats.sequences;
    if (need <= available) return true;
    const prefix = reuse ? this.#prefix : null;
    if (prefix === null || need > available + this.stats.active) return false;
    // Only blocks that running sequences hold make a difference: cached ones count as available already.
    prefix.match(tokens, count);
    return need - prefix.matchedActive() <= available;
  }

  /**
   * Starts a sequence in `slot` that needs blocks for all `count` tokens (with far history up to where it first gives
   * up some), in as few extents as possible. Those of the first `ahead` tokens behind the cached prefix are mapped;
   * what remains is promised: nobody else is admitted on it, ensure() maps it bit by bit, and forgo() lets those who
   * decode have it. The longest cached prefix is shared: full blocks only, and at least one token is left to compute.
   * `reuse` false: no look-up. null: not enough blocks, or only in too many pieces; no map changed.
   */
  open(
    slot: number,
    tokens: Int32Array,
    count: number,
    reuse: boolean,
    ahead = Infinity,
  ): BlockMap | null {
    const map = this.#freeMap(slot);
    const all = this.#blocksFor(count);
    if (this.#reserved) return this.#openStatic(map, all);
    const prefix = reuse ? this.#prefix : null;
    const matched = prefix === null ? 0 : prefix.match(tokens, count);
    prefix?.retain(map); // first, so that nobody evicts them
    if (!this.#begin(map, count, ahead)) {
      prefix?.release();
      map.reset();
      // What was matched may lie in the way of the rest: without it there may be room.
      if (matched === 0 || !this.#begin(map, count, ahead)) {
        this.#countFree();
        return null;
      }
    }
    this.#start(map);
    if (prefix !== null) {
      prefix.follow(map);
      this.stats.prefixQueries += count;
      this.stats.prefixHits += map.matchedTokens;
    }
    return map;
  }

  /**
   * Makes sure that blocks for tokens [0, tokenCount) are mapped and that those that hold tokens
   * [writeFrom, tokenCount) may be written: grows in place if possible, copies shared blocks (a move).
   * false: out of blocks or moves, or no way to stay within G groups now. What the map reads is unchanged
   * then, and somebody has to be preempted.
   */
  ensure(map: BlockMap, tokenCount: number, writeFrom: number): boolean {
    const blocks = this.#blocksFor(tokenCount);
    const more = blocks - map.blockCount;
    if (this.#reserved) {
      if (more > 0) this.#growStatic(map, more);
      return true;
    }
    const first = Math.max(map.firstBlock, Math.floor(writeFrom / this.#blockTokens));
    const end = Math.min(blocks, map.blockCount);
    let copies = 0;
    for (let b = first; b < end; b++) if (!this.#pool.isWritable(map.physical(b))) copies++;
    if (more <= 0 && copies === 0) return true;
    const needed = copies + Math.max(more - map.promised, 0);
    if (needed > this.#available()) return false;
    const done = (copies === 0 || this.#copyOnWrite(map, first, end, copies, needed)) &&
      (more <= 0 || this.#grow(map, more));
    this.#countFree();
    return done;
  }

  /**
   * A second reader of the blocks of `map`'s first `tokenCount` tokens, the partial one included. The first
   * who writes into a shared block copies it. null: no extent to spare for that copy, static mode, or summary
   * rows, which are the slot's own.
   */
  fork(map: BlockMap, slot: number, tokenCount: number): BlockMap | null {
    const child = this.#freeMap(slot);
    const blocks = Math.min(this.#blocksFor(tokenCount), map.blockCount);
    if (this.#reserved || blocks <= map.firstBlock || map.gapEnd > map.gapStart) return null;
    child.copyFrom(map, blocks);
    if (child.extentCount >= this.#maxGroups) {
      child.reset();
      return null;
    }
    for (let b = child.firstBlock; b < blocks; b++) this.#pool.retain(child.physical(b));
    this.#start(child);
    return child;
  }

  /**
   * Takes back one of the blocks that `map` was promised and has not mapped yet, for whoever asks next. false: there
   * is none.
   */
  forgo(map: BlockMap): boolean {
    if (map.promised === 0) return false;
    this.#promise(map, map.promised - 1);
    return true;
  }

  /**
   * Tokens [0, count) of `map` are known, and committed steps write their KV: makes full blocks findable.
   * `tokens` holds the sequence from its first token on. Where an equal block is published already, that
   * one stays.
   */
  publish(map: BlockMap, tokens: Int32Array, count: number): void {
    const blocks = Math.min(Math.floor(count / this.#blockTokens), map.blockCount);
    if (blocks > map.publishedBlocks) this.#prefix?.publish(map, tokens, blocks);
  }

  /** Lets go of blocks wholly before token `from`: no step planned from now on reads them. */
  releaseBefore(map: BlockMap, from: number): void {
    const first = Math.min(Math.floor(from / this.#blockTokens), map.blockCount - 1);
    if (first <= map.firstBlock || this.#reserved) return;
    for (let b = first - 1; b >= map.firstBlock; b--) this.#pool.release(map.physical(b), this.#step);
    map.trimFront(first);
    this.#countFree();
  }

  /**
   * Gives up the blocks that the token at `position`, whose row is planned for `step`, does not see as they are;
   * that step makes them summary rows first. false: it has no room for all of that, and the row must wait.
   */
  giveUp(map: BlockMap, position: number, step: number): boolean {
    const { far } = this;
    if (far === null) return true;
    const wanted = far.farBlocks(position);
    const had = map.gapEnd - map.gapStart;
    let count = had;
    for (; count < wanted && (far.rows === 0 || this.#summaries.room() > SUMMARIES_PER_BLOCK); count++) {
      this.#summaries.add(far, map.slot, count, map.physical(far.sinks + count), this.#blockTokens);
    }
    if (count === had) return count >= wanted;
    // The last block first, so that children are evicted before their parents.
    for (let i = count - 1; i >= had; i--) this.#pool.release(map.physical(far.sinks + i), step);
    map.widenGap(far.sinks, far.sinks + count);
    map.farRows = far.rowsInUse(count);
    this.stats.farBlocks += count - had;
    this.#countFree();
    return count === wanted;
  }

  /** Operations on summary rows that the step being planned has so far. */
  get summaries(): number {
    return this.#summaries.length;
  }

  /** Writes these operations from word `at` of `out` on, and forgets them. Returns how many. */
  writeSummaries(out: Uint32Array, at: number, room: number): number {
    return this.#summaries.write(out, at, room);
  }

  /**
   * Ends the sequence, whose last step is `lastStep`. Published blocks stay cached; the others are free
   * once that step has completed.
   */
  close(map: BlockMap, lastStep: number): void {
    this.stats.sequences--;
    if (this.#reserved) return this.#closeStatic(map);
    this.#promise(map, 0);
    this.#placement.dropReserve(map);
    const parent = this.#prefix === null ? -1 : this.#prefix.withdrawOrphans(map);
    // The last block first, so that children are evicted before their parents.
    for (let b = map.blockCount - 1; b >= map.firstBlock; b--) {
      if (map.has(b)) this.#pool.release(map.physical(b), lastStep);
    }
    if (map.firstBlock > 0 || map.gapEnd > 0) this.#prefix?.touch(parent);
    map.reset();
    if (this.#moves.length > 0) this.#moves.dropUnread(this.#step);
    this.#countFree();
  }

  /** Steps up to `step` have completed: blocks whose last reader was one of them can be handed out. */
  completed(step: number): void {
    this.#pool.completed(step);
    this.#countFree();
  }

  /** Plans staging for `step` within the budget. Once per step, after every ensure() of it. */
  planMoves(maps: readonly (BlockMap | null)[], step: number): void {
    this.#step = step;
    if (this.#moveBudget > 0) this.#stager?.stage(maps, this.#moveBudget, this.stats.sequences);
    let extents = 0;
    for (let i = 0; i < this.#maps.length; i++) extents += this.#maps[i]!.extentCount;
    this.stats.extents = extents;
    if (this.#runs !== null) this.stats.largestFreeRun = this.#runs.longestLength();
    this.#countFree();
  }

  /**
   * Writes the moves of the step that planMoves() was called for as `{tiers, from, to, count}` from word
   * `at` of `out` on, and forgets them. Returns how many. Throws a RangeError if they exceed `room`.
   */
  writeMoves(out: Uint32Array, at: number, room: number): number {
    return this.#moves.write(out, at, room, this.#step);
  }

  /** Forgets every cached block. */
  dropCache(): void {
    this.#pool.dropCache();
    this.#countFree();
  }

  /** Writes whose each block is, as {@link Owner} says. O(numBlocks). */
  writeOwners(owners: Uint16Array): void {
    writeOwners(owners, this.#maps, this.#reserved ? null : this.#pool, this.#maxBlocks);
  }

  /** Throws if an invariant is broken: a block owned twice or by nobody, a wrong count. O(numBlocks). */
  checkInvariants(): void {
    if (this.#reserved) return;
    const readers = new Int32Array(this.stats.total);
    let reserved = 0;
    let promised = 0;
    for (const map of this.#maps) {
      if (!map.open && (map.blockCount > 0 || map.reserve > 0 || map.promised > 0)) {
        throw new Error(`slot ${map.slot} leaks blocks`);
      }
      if (map.extentCount > this.#mostExtents) {
        throw new Error(
          `slot ${map.slot} has ${map.extentCount} extents, wanted ${this.#mostExtents} at most`,
        );
      }
      for (let b = map.firstBlock; b < map.blockCount; b++) if (map.has(b)) readers[map.physical(b)]!++;
      for (let k = 0; k < map.reserve; k++) {
        const block = map.physicalEnd() + k;
        if (this.#pool.refs[block] !== 0 || this.#runs?.has(block)) {
          throw new Error(`block ${block} is reserved twice`);
        }
      }
      reserved += map.reserve;
      promised += map.promised;
    }
    if (promised !== this.stats.promised) {
      throw new Error(`${this.stats.promised} blocks counted as promised, found ${promised}`);
    }
    if (reserved !== this.stats.reserved) {
      throw new Error(`${this.stats.reserved} blocks counted as reserved, found ${reserved}`);
    }
    this.#pool.checkInvariants(readers);
    this.#runs?.checkInvariants();
  }

  #blocksFor(tokens: number): number {
    const blocks = Math.ceil(tokens / this.#blockTokens);
    if (blocks > this.#maxBlocks) {
      throw new RangeError(`Cannot map ${blocks} blocks for a sequence: the limit is ${this.#maxBlocks}`);
    }
    return blocks;
  }

  #freeMap(slot: number): BlockMap {
    const map = this.#maps[slot];
    if (map === undefined) {
      throw new RangeError(`Cannot open slot ${slot}: there are ${this.#maps.length}`);
    }
    if (map.open) throw new RangeError(`Cannot open slot ${slot}: it is in use`);
    return map;
  }

  /** Blocks that could be handed out now without breaking a promise. */
  #available(): number {
    return this.#placement.available() - this.stats.promised;
  }

  #promise(map: BlockMap, blocks: number): void {
    this.stats.promised += blocks - map.promised;
    map.promised = blocks;
  }

  /** Maps blocks for the `ahead` tokens behind what `map` shares, and promises those up to `count` tokens. */
  #begin(map: BlockMap, count: number, ahead: number): boolean {
    const computed = map.blockCount * this.#blockTokens;
    const { far } = this;
    const all = far === null ? this.#blocksFor(count) : far.blocksAhead(computed, count);
    const now = far === null ? this.#blocksFor(Math.min(count, computed + ahead)) : all;
    if (all - map.blockCount > this.#available()) return false;
    if (!this.#placement.grow(map, now - map.blockCount, all - now)) return false;
    this.#promise(map, all - map.blockCount);
    return true;
  }

  #start(map: BlockMap): void {
    map.open = true;
    this.stats.sequences++;
    this.#countFree();
  }

  #grow(map: BlockMap, count: number): boolean {
    const kept = Math.min(map.promised, count);
    this.#promise(map, map.promised - kept);
    while (count > this.#available() || !this.#placement.grow(map, count)) {
      // G groups and no room behind the last: join some, whatever it costs; preemption costs more.
      if (count <= this.#available() && this.#relieve(map, count)) continue;
      this.#promise(map, map.promised + kept);
      return false;
    }
    return true;
  }

  /** Makes `map` have fewer extents if it can, and leaves `needed` blocks to take. */
  #relieve(map: BlockMap, needed: number): boolean {
    if (this.#stager === null || this.#moveBudget === 0) return false;
    // What is moved away from comes back only after this step.
    const limit = this.#available() - needed;
    return limit > 0 && this.#stager.relieve(map, limit) > 0;
  }

  #copyOnWrite(map: BlockMap, first: number, end: number, copies: number, needed: number): boolean {
    // A copy may cut an extent in three; the usual one, of the last block, in two.
    const cuts = copies === 1 && first + 1 === map.blockCount ? 1 : copies * 2;
    while (map.extentCount + cuts > this.#maxGroups) if (!this.#relieve(map, needed)) return false;
    if (copies > this.#moves.room()) return false;
    for (let b = first; b < end; b++) {
      const from = map.physical(b);
      if (this.#pool.isWritable(from)) continue;
      const to = this.#placement.takeCopy(map, b);
      if (to < 0) return false;
      this.#moves.add(from, to, 1);
      this.#pool.release(from, 0); // pinned: it stays until the step that copies it is done
      map.remap(b, 1, to);
      this.stats.cowBlocks++;
    }
    return true;
  }

  // Static mode: the slot's own reservation. Steps run in commit order and nobody else touches it, so a
  // new sequence may be placed where the one before is still being read.

  #openStatic(map: BlockMap, blocks: number): BlockMap {
    this.#start(map);
    this.stats.reserved += this.#maxBlocks;
    this.stats.free -= this.#maxBlocks;
    this.#growStatic(map, blocks);
    return map;
  }

  #growStatic(map: BlockMap, count: number): void {
    map.append(map.slot * this.#maxBlocks + map.blockCount, count);
    this.stats.active += count;
    this.stats.reserved -= count;
  }

  #closeStatic(map: BlockMap): void {
    this.stats.active -= map.blockCount;
    this.stats.reserved -= this.#maxBlocks - map.blockCount;
    this.stats.free += this.#maxBlocks;
    map.reset();
  }

  #countFree(): void {
    if (!this.#reserved) this.stats.free = this.#pool.free.free;
  }
}
