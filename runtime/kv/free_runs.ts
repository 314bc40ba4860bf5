/**
 * Free blocks as maximal runs of physically adjacent ones, found by length.
 *
 * Runs carry boundary tags, so that a released block finds its free neighbours in O(1), and hang in
 * bins by length: one bin per length below 64, eight per power of two above. That is TLSF (Masmano et
 * al., 2004) over block numbers.
 *
 * @module
 */

const EXACT = 64;
const EXACT_LOG2 = 6;
const STEPS_LOG2 = 3;
const NUM_BINS = EXACT + ((32 - EXACT_LOG2) << STEPS_LOG2);
/** Runs of one bin looked at for a better fit; bins above EXACT differ by an eighth at most. */
const SCAN = 16;

function binOf(length: number): number {
  if (length < EXACT) return length;
  const log2 = 31 - Math.clz32(length);
  const step = (length >>> (log2 - STEPS_LOG2)) & ((1 << STEPS_LOG2) - 1);
  return EXACT + ((log2 - EXACT_LOG2) << STEPS_LOG2) + step;
}

/** The free runs of a pool of `numBlocks` blocks; all are taken at first. Allocates nothing later. */
export class FreeRuns {
  /** Free blocks. */
  free = 0;
  readonly #isFree: Uint8Array;
  /** At a run's first block: its length. */
  readonly #length: Int32Array;
  /** At a run's last block: its first block. */
  readonly #head: Int32Array;
  readonly #next: Int32Array;
  readonly #prev: Int32Array;
  readonly #bins = new Int32Array(NUM_BINS).fill(-1);
  readonly #occupied = new Uint32Array((NUM_BINS + 31) >>> 5);

  constructor(readonly numBlocks: number) {
    this.#isFree = new Uint8Array(numBlocks);
    this.#length = new Int32Array(numBlocks);
    this.#head = new Int32Array(numBlocks);
    this.#next = new Int32Array(numBlocks);
    this.#prev = new Int32Array(numBlocks);
  }

  /** Makes blocks [start, start + count) free, joins them with free neighbours; returns the run's first. */
  release(start: number, count: number): number {
    this.free += count;
    this.#isFree.fill(1, start, start + count);
    let first = start;
    let length = count;
    if (start > 0 && this.#isFree[start - 1] === 1) {
      first = this.#head[start - 1]!;
      length += this.#length[first]!;
      this.#unlink(first);
    }
    const after = start + count;
    if (after < this.numBlocks && this.#isFree[after] === 1) {
      length += this.#length[after]!;
      this.#unlink(after);
    }
    this.#link(first, length);
    return first;
  }

  /** Takes the first `count` blocks of the run that starts at `start`. */
  takeFront(start: number, count: number): void {
    const length = this.#length[start]!;
    this.#unlink(start);
    this.#isFree.fill(0, start, start + count);
    this.free -= count;
    if (length > count) this.#link(start + count, length - count);
  }

  /** Takes the last `count` blocks of the run that ends before `end`. */
  takeBack(end: number, count: number): void {
    const first = this.#head[end - 1]!;
    const length = this.#length[first]!;
    this.#unlink(first);
    this.#isFree.fill(0, end - count, end);
    this.free -= count;
    if (length > count) this.#link(first, length - count);
  }

  /** Free blocks from `block` on, which must not lie inside a run; 0 if it is taken or past the end. */
  roomAt(block: number): number {
    return block < this.numBlocks && this.#isFree[block] === 1 ? this.#length[block]! : 0;
  }

  /** Free blocks right before `block`, which must be taken; 0 if there are none. */
  roomBefore(block: number): number {
    return block > 0 && this.#isFree[block - 1] === 1 ? block - this.#head[block - 1]! : 0;
  }

  /** Length of the run that starts at `start`. */
  lengthOf(start: number): number {
    return this.#length[start]!;
  }

  /** First block of a run of at least `count`, as short a one as a short search finds; -1 if none. */
  bestFit(count: number): number {
    let bin = binOf(count);
    let fit = this.#shortest(bin, count);
    while (fit < 0) {
      bin = this.#nextBin(bin + 1);
      if (bin < 0) return -1;
      fit = this.#shortest(bin, count);
    }
    return fit;
  }

  /** Length of the longest run. */
  longestLength(): number {
    const start = this.longest();
    return start < 0 ? 0 : this.#length[start]!;
  }

  /** First block of the longest run; -1 if nothing is free. */
  longest(): number {
    for (let word = this.#occupied.length - 1; word >= 0; word--) {
      const bits = this.#occupied[word]!;
      if (bits === 0) continue;
      let best = this.#bins[(word << 5) + 31 - Math.clz32(bits)]!;
      for (let run = this.#next[best]!; run >= 0; run = this.#next[run]!) {
        if (this.#length[run]! > this.#length[best]!) best = run;
      }
      return best;
    }
    return -1;
  }

  /** Whether `block` is free. */
  has(block: number): boolean {
    return this.#isFree[block] === 1;
  }

  /** Throws if tags, bins and flags disagree. O(numBlocks). */
  checkInvariants(): void {
    let free = 0;
    let runs = 0;
    for (let block = 0; block < this.numBlocks; block++) {
      if (this.#isFree[block] === 0) continue;
      const length = this.#length[block]!;
      for (let i = 0; i < length; i++) {
        if (this.#isFree[block + i] !== 1) throw new Error(`free run ${block}+${length} has a taken block`);
      }
      if (this.#isFree[block + length] === 1) throw new Error(`free run ${block}+${length} is not maximal`);
      if (this.#head[block + length - 1] !== block) throw new Error(`free run ${block} has a wrong end tag`);
      free += length;
      runs++;
      block += length;
    }
    let listed = 0;
    for (let bin = 0; bin < NUM_BINS; bin++) {
      const occupied = (this.#occupied[bin >>> 5]! >>> (bin & 31)) & 1;
      if ((occupied === 1) !== (this.#bins[bin]! >= 0)) throw new Error(`bin ${bin} has a wrong bit`);
      for (let run = this.#bins[bin]!; run >= 0; run = this.#next[run]!) {
        if (binOf(this.#length[run]!) !== bin) throw new Error(`free run ${run} hangs in a wrong bin`);
        listed++;
      }
    }
    if (listed !== runs) throw new Error(`bins list ${listed} runs, wanted ${runs}`);
    if (free !== this.free) throw new Error(`${this.free} blocks counted as free, found ${free}`);
  }

  #shortest(bin: number, count: number): number {
    let best = -1;
    let run = this.#bins[bin]!;
    for (let i = 0; run >= 0 && i < SCAN; i++) {
      const length = this.#length[run]!;
      if (length >= count && (best < 0 || length < this.#length[best]!)) best = run;
      if (bin < EXACT && best >= 0) return best;
      run = this.#next[run]!;
    }
    // Only the own bin of `count` can hold runs that are too short: look on there until one fits.
    while (best < 0 && run >= 0) {
      if (this.#length[run]! >= count) best = run;
      run = this.#next[run]!;
    }
    return best;
  }

  #nextBin(from: number): number {
    let word = from >>> 5;
    if (word >= this.#occupied.length) return -1;
    let bits = this.#occupied[word]! & (0xffffffff << (from & 31));
    while (bits === 0) {
      if (++word >= this.#occupied.length) return -1;
      bits = this.#occupied[word]!;
    }
    return (word << 5) + 31 - Math.clz32(bits & -bits);
  }

  #link(start: number, length: number): void {
    this.#length[start] = length;
    this.#head[start + length - 1] = start;
    const bin = binOf(length);
    const first = this.#bins[bin]!;
    this.#next[start] = first;
    this.#prev[start] = -1;
    if (first >= 0) this.#prev[first] = start;
    else this.#occupied[bin >>> 5]! |= 1 << (bin & 31);
    this.#bins[bin] = start;
  }

  #unlink(start: number): void {
    const next = this.#next[start]!;
    const prev = this.#prev[start]!;
    if (next >= 0) this.#prev[next] = prev;
    if (prev >= 0) {
      this.#next[prev] = next;
      return;
    }
    const bin = binOf(this.#length[start]!);
    this.#bins[bin] = next;
    if (next < 0) this.#occupied[bin >>> 5]! &= ~(1 << (bin & 31));
  }
}
