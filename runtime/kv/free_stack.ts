/**
 * Free blocks as a stack: the last one released is the first one taken, wherever it lies. The baseline
 * that paged mode measures placement against.
 *
 * @module
 */

/** A LIFO of free blocks; all `numBlocks` are taken at first. */
export class FreeStack {
  /** Free blocks. */
  free = 0;
  readonly #blocks: Int32Array;

  constructor(numBlocks: number) {
    this.#blocks = new Int32Array(numBlocks);
  }

  /** Makes blocks [start, start + count) free; the lowest is taken first. Returns it. */
  release(start: number, count: number): number {
    for (let block = start + count - 1; block >= start; block--) this.#blocks[this.free++] = block;
    return start;
  }

  /** Takes a block; there must be one. */
  take(): number {
    return this.#blocks[--this.free]!;
  }

  /** Whether `block` is free. O(free). */
  has(block: number): boolean {
    return this.#blocks.subarray(0, this.free).includes(block);
  }
}
