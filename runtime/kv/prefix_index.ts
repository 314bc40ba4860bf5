/**
 * Finds blocks by content: a block's key is its parent's entry and its own token ids, so an entry stands
 * for everything from the first token on. Token ids are kept and compared, so a hash collision costs a
 * comparison and nothing else.
 *
 * An entry is named by its place and a serial number that comes again after 2^32 insertions at the
 * earliest, when nobody remembers the first. When a parent is evicted, its children's keys name a serial
 * that is gone: they are unreachable, never wrongly matched.
 *
 * @module
 */

/** The parent of a sequence's first block: no entry, with serial 0. */
export const ROOT = -1;

/** Entries of published blocks, at most one for each block. Allocates nothing after construction. */
export class PrefixIndex {
  readonly #entryOf: Int32Array;
  readonly #blockOf: Int32Array;
  readonly #serial: Int32Array;
  readonly #parent: Int32Array;
  /** The parent's serial when the child was inserted; another one there now means an orphan. */
  readonly #parentSerial: Int32Array;
  readonly #children: Int32Array;
  readonly #hash: Int32Array;
  readonly #tokens: Int32Array;
  readonly #freeEntries: Int32Array;
  #numFree: number;
  #serials = 0;
  /** Open addressing, linear probing, at most half full: entry + 1, 0 for empty. */
  readonly #table: Int32Array;
  readonly #mask: number;
  readonly #seed: number;

  /** `seed` keeps clients from choosing tokens that collide. */
  constructor(
    readonly numBlocks: number,
    readonly blockTokens: number,
    seed: number = Math.floor(Math.random() * 2 ** 32),
  ) {
    this.#entryOf = new Int32Array(numBlocks).fill(-1);
    this.#blockOf = new Int32Array(numBlocks);
    this.#serial = new Int32Array(numBlocks);
    this.#parent = new Int32Array(numBlocks);
    this.#parentSerial = new Int32Array(numBlocks);
    this.#children = new Int32Array(numBlocks);
    this.#hash = new Int32Array(numBlocks);
    this.#tokens = new Int32Array(numBlocks * blockTokens);
    this.#freeEntries = new Int32Array(numBlocks);
    for (let i = 0; i < numBlocks; i++) this.#freeEntries[i] = numBlocks - 1 - i;
    this.#numFree = numBlocks;
    let capacity = 16;
    while (capacity < numBlocks * 2) capacity *= 2;
    this.#table = new Int32Array(capacity);
    this.#mask = capacity - 1;
    this.#seed = seed | 0;
  }

  /** Published blocks. */
  get size(): number {
    return this.numBlocks - this.#numFree;
  }

  /** The entry of `block`, -1 if it is not published. */
  entryOf(block: number): number {
    return this.#entryOf[block]!;
  }

  /** Where the content of `entry` lies. */
  blockOf(entry: number): number {
    return this.#blockOf[entry]!;
  }

  /** The serial of `entry`; 0 for ROOT and for an entry not in use. */
  serialOf(entry: number): number {
    return entry === ROOT ? 0 : this.#serial[entry]!;
  }

  /** Hash of the block of tokens at `at` below the entry `parent`. */
  hash(parent: number, tokens: Int32Array, at: number): number {
    const serial = this.serialOf(parent);
    let h = this.#seed ^ Math.imul(serial, 0x9e3779b1);
    for (let i = at; i < at + this.blockTokens; i++) {
      h = Math.imul(h ^ tokens[i]!, 0x85ebca6b);
      h ^= h >>> 15;
    }
    h = Math.imul(h, 0xc2b2ae35);
    return h ^ (h >>> 16);
  }

  /** The entry with these tokens below `parent`, or -1. `hash` is hash() of the same. */
  find(hash: number, parent: number, tokens: Int32Array, at: number): number {
    const serial = this.serialOf(parent);
    for (let i = hash & this.#mask; this.#table[i] !== 0; i = (i + 1) & this.#mask) {
      const entry = this.#table[i]! - 1;
      if (
        this.#hash[entry] === hash && this.#parent[entry] === parent &&
        this.#parentSerial[entry] === serial &&
        this.#equal(entry, tokens, at)
      ) return entry;
    }
    return -1;
  }

  /** Publishes `block`, which must not be published, below `parent`; returns its entry. */
  insert(hash: number, parent: number, block: number, tokens: Int32Array, at: number): number {
    const entry = this.#freeEntries[--this.#numFree]!;
    this.#parent[entry] = parent;
    this.#parentSerial[entry] = this.serialOf(parent);
    if (parent !== ROOT) this.#children[parent]!++;
    this.#hash[entry] = hash;
    this.#children[entry] = 0;
    this.#blockOf[entry] = block;
    this.#entryOf[block] = entry;
    this.#serials = (this.#serials + 1) | 0 || 1;
    this.#serial[entry] = this.#serials;
    const base = entry * this.blockTokens;
    for (let i = 0; i < this.blockTokens; i++) this.#tokens[base + i] = tokens[at + i]!;
    let i = hash & this.#mask;
    while (this.#table[i] !== 0) i = (i + 1) & this.#mask;
    this.#table[i] = entry + 1;
    return entry;
  }

  /** Withdraws `block`, which must be published. Its children become orphans. */
  remove(block: number): void {
    const entry = this.#entryOf[block]!;
    const parent = this.#parent[entry]!;
    if (parent !== ROOT && this.#serial[parent] === this.#parentSerial[entry]) this.#children[parent]!--;
    this.#clearTable(entry);
    this.#entryOf[block] = -1;
    this.#serial[entry] = 0;
    this.#freeEntries[this.#numFree++] = entry;
  }

  /** The content of `from`, published, now lies in `to`, unpublished. Children stay below it. */
  relocate(from: number, to: number): void {
    const entry = this.#entryOf[from]!;
    this.#entryOf[from] = -1;
    this.#entryOf[to] = entry;
    this.#blockOf[entry] = to;
  }

  /** Whether nothing is published below `block`, which must be published. */
  isLeaf(block: number): boolean {
    return this.#children[this.#entryOf[block]!] === 0;
  }

  /** Whether the parent of `block`, which must be published, was withdrawn: no look-up can reach it. */
  isOrphan(block: number): boolean {
    const entry = this.#entryOf[block]!;
    const parent = this.#parent[entry]!;
    return parent !== ROOT && this.#serial[parent] !== this.#parentSerial[entry];
  }

  /** The block that holds the parent of `block`'s entry; -1 at the root and for an orphan. */
  parentBlock(block: number): number {
    const parent = this.#parent[this.#entryOf[block]!]!;
    return parent === ROOT || this.isOrphan(block) ? -1 : this.#blockOf[parent]!;
  }

  /** Throws if the table and the entries disagree. O(numBlocks). */
  checkInvariants(): void {
    let listed = 0;
    for (const slot of this.#table) if (slot !== 0) listed++;
    if (listed !== this.size) {
      throw new Error(`the prefix table lists ${listed} entries, wanted ${this.size}`);
    }
    let published = 0;
    const children = new Int32Array(this.numBlocks);
    for (let block = 0; block < this.numBlocks; block++) {
      const entry = this.#entryOf[block]!;
      if (entry < 0) continue;
      published++;
      if (this.#blockOf[entry] !== block) throw new Error(`entry ${entry} does not name block ${block}`);
      let i = this.#hash[entry]! & this.#mask;
      while (this.#table[i] !== entry + 1) {
        if (this.#table[i] === 0) throw new Error(`block ${block} is published, but cannot be found`);
        i = (i + 1) & this.#mask;
      }
      const parent = this.#parent[entry]!;
      if (parent !== ROOT && !this.isOrphan(block)) children[parent]!++;
    }
    if (published !== this.size) throw new Error(`${published} blocks published, wanted ${this.size}`);
    for (let block = 0; block < this.numBlocks; block++) {
      const entry = this.#entryOf[block]!;
      if (entry >= 0 && children[entry] !== this.#children[entry]) {
        throw new Error(`block ${block} counts ${this.#children[entry]} children, found ${children[entry]}`);
      }
    }
  }

  #equal(entry: number, tokens: Int32Array, at: number): boolean {
    const base = entry * this.blockTokens;
    for (let i = 0; i < this.blockTokens; i++) {
      if (this.#tokens[base + i] !== tokens[at + i]) return false;
    }
    return true;
  }

  /** Removes from the table by shifting back what the gap would cut off (Knuth 6.4, algorithm R). */
  #clearTable(entry: number): void {
    let gap = this.#hash[entry]! & this.#mask;
    while (this.#table[gap] !== entry + 1) gap = (gap + 1) & this.#mask;
    for (let i = (gap + 1) & this.#mask; this.#table[i] !== 0; i = (i + 1) & this.#mask) {
      const home = this.#hash[this.#table[i]! - 1]! & this.#mask;
      if (((i - home) & this.#mask) < ((i - gap) & this.#mask)) continue;
      this.#table[gap] = this.#table[i]!;
      gap = i;
    }
    this.#table[gap] = 0;
  }
}
