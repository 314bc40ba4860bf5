/**
 * Sequences and the prefix index: what a new prompt finds, what a running sequence adds.
 *
 * @module
 */

import type { BlockMap } from "./block_map.ts";
import type { BlockPool } from "./block_pool.ts";
import { ROOT } from "./prefix_index.ts";

/** Matches prompts against published blocks and publishes those of running sequences. */
export class PrefixCache {
  /** The blocks that match() found, in order. */
  readonly #matched: Int32Array;
  #numMatched = 0;

  /** `maxExtents`: a match stops before its blocks would need more extents than this. */
  constructor(readonly pool: BlockPool, maxBlocks: number, readonly maxExtents: number) {
    this.#matched = new Int32Array(maxBlocks);
  }

  /**
   * Looks up the longest cached prefix of tokens [0, count): full blocks, and at least one token is left
   * over. Returns the number of blocks; the methods below are about them until the next match().
   */
  match(tokens: Int32Array, count: number): number {
    const { index } = this.pool;
    const limit = Math.floor((count - 1) / index.blockTokens);
    let entry = ROOT;
    let extents = 0;
    let matched = 0;
    while (matched < limit) {
      const at = matched * index.blockTokens;
      entry = index.find(index.hash(entry, tokens, at), entry, tokens, at);
      if (entry < 0) break;
      const block = index.blockOf(entry);
      if (matched === 0 || block !== this.#matched[matched - 1]! + 1) {
        if (++extents > this.maxExtents) break;
      }
      this.#matched[matched++] = block;
    }
    this.#numMatched = matched;
    return matched;
  }

  /** Matched blocks that running sequences hold. */
  matchedActive(): number {
    let active = 0;
    for (let i = 0; i < this.#numMatched; i++) if (this.pool.refs[this.#matched[i]!]! > 0) active++;
    return active;
  }

  /** Maps the matched blocks in `map`, which is empty. */
  retain(map: BlockMap): void {
    for (let i = 0; i < this.#numMatched; i++) {
      this.pool.retain(this.#matched[i]!);
      map.append(this.#matched[i]!, 1);
    }
  }

  /** Undoes retain(), and forgets the match. */
  release(): void {
    for (let i = this.#numMatched - 1; i >= 0; i--) this.pool.release(this.#matched[i]!, 0);
    this.#numMatched = 0;
  }

  /** `map`, which begins with the matched blocks, publishes what comes after them. */
  follow(map: BlockMap): void {
    map.matchedTokens = this.#numMatched * this.pool.index.blockTokens;
    map.publishedBlocks = this.#numMatched;
    if (this.#numMatched > 0) {
      this.#setChain(map, this.pool.index.entryOf(this.#matched[this.#numMatched - 1]!));
    }
  }

  /** Publishes the first `blocks` blocks of `map`, from where the last call stopped. */
  publish(map: BlockMap, tokens: Int32Array, blocks: number): void {
    const { index } = this.pool;
    if (
      index.serialOf(map.chainEntry) !== map.chainSerial ||
      index.serialOf(map.foreignEntry) !== map.foreignSerial
    ) {
      // What this chain hangs below was evicted. Its blocks cannot be found any more: hang them up again.
      map.restartChain();
    }
    while (map.publishedBlocks < blocks) {
      const logical = map.publishedBlocks;
      const at = logical * index.blockTokens;
      const hash = index.hash(map.chainEntry, tokens, at);
      let entry = index.find(hash, map.chainEntry, tokens, at);
      if (entry < 0) {
        if (!map.has(logical)) return; // behind a window and gone: nothing to hang on to
        const block = map.physical(logical);
        if (index.entryOf(block) >= 0) index.remove(block);
        entry = index.insert(hash, map.chainEntry, block, tokens, at);
      } else if (!map.has(logical) || index.blockOf(entry) !== map.physical(logical)) {
        map.foreignEntry = entry;
        map.foreignSerial = index.serialOf(entry);
      }
      map.publishedBlocks++;
      this.#setChain(map, entry);
    }
  }

  /** Prepares the close of `map`: withdraws blocks that no look-up reaches. Returns touch()'s argument. */
  withdrawOrphans(map: BlockMap): number {
    const { index } = this.pool;
    let parent = -1;
    const afterGap = map.gapEnd > map.gapStart ? map.gapEnd : map.firstBlock;
    for (let b = map.firstBlock; b < map.blockCount; b++) {
      if (!map.has(b)) continue;
      const block = map.physical(b);
      if (index.entryOf(block) < 0) continue;
      if (index.isOrphan(block)) index.remove(block); // now its children are orphans: one pass will do
      else if (b === afterGap) parent = index.parentBlock(block);
    }
    return parent;
  }

  /**
   * Makes a cached block and its cached ancestors the youngest, parents after children. Blocks that a
   * window has passed were cached before their children; evicted first, they would strand them.
   */
  touch(block: number): void {
    const { lru, refs, index } = this.pool;
    for (let b = block; b >= 0; b = index.parentBlock(b)) {
      if (refs[b] !== 0) continue;
      lru.remove(b);
      lru.append(b);
    }
  }

  #setChain(map: BlockMap, entry: number): void {
    map.chainEntry = entry;
    map.chainSerial = this.pool.index.serialOf(entry);
  }
}
