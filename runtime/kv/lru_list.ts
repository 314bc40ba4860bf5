/**
 * A doubly linked list of blocks in two typed arrays, oldest first.
 *
 * @module
 */

/** Blocks in the order of their last use. */
export class LruList {
  /** The oldest block, -1 if the list is empty. */
  head = -1;
  #tail = -1;
  #clock = 0;
  readonly #next: Int32Array;
  readonly #prev: Int32Array;
  /** When a block was appended, on a clock that ticks with every append. */
  readonly #stamp: Float64Array;

  constructor(numBlocks: number) {
    this.#next = new Int32Array(numBlocks).fill(-1);
    this.#prev = new Int32Array(numBlocks).fill(-1);
    this.#stamp = new Float64Array(numBlocks);
  }

  /** The block used next after `block`, -1 at the end. */
  next(block: number): number {
    return this.#next[block]!;
  }

  /** Adds `block`, which must not be in the list, as the youngest. */
  append(block: number): void {
    this.#next[block] = -1;
    this.#prev[block] = this.#tail;
    if (this.#tail >= 0) this.#next[this.#tail] = block;
    else this.head = block;
    this.#tail = block;
    this.#stamp[block] = ++this.#clock;
  }

  /** Takes out `block`, which must be in the list. */
  remove(block: number): void {
    const next = this.#next[block]!;
    const prev = this.#prev[block]!;
    if (next >= 0) this.#prev[next] = prev;
    else this.#tail = prev;
    if (prev >= 0) this.#next[prev] = next;
    else this.head = next;
  }

  /** Whether `block`, in the list, is nearer in age to the oldest block than to the youngest. */
  isOld(block: number): boolean {
    return this.#stamp[block]! * 2 <= this.#stamp[this.head]! + this.#stamp[this.#tail]!;
  }
}
