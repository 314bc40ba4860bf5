/**
 * A histogram in a fixed array, which may lie in shared memory: one thread observes, any thread reads.
 *
 * @module
 */

/** What a histogram holds at one moment. */
export interface HistogramSnapshot {
  /** Upper bounds, ascending; a last bucket without one follows. */
  bounds: readonly number[];
  /** Observations in each bucket, not cumulative. [bounds.length + 1] */
  counts: readonly number[];
  sum: number;
  count: number;
}

/** Counts observations by upper bound. Observing allocates nothing. */
export class Histogram {
  readonly #bounds: readonly number[];
  /** [bounds + 1] counts, then the sum. */
  readonly #cells: Float64Array<ArrayBufferLike>;

  /** @param cells at least {@link Histogram.cells} of them; default: an array of its own */
  constructor(
    bounds: readonly number[],
    cells: Float64Array<ArrayBufferLike> = new Float64Array(Histogram.cells(bounds)),
  ) {
    this.#bounds = bounds;
    this.#cells = cells;
  }

  /** Numbers that a histogram with these bounds takes. */
  static cells(bounds: readonly number[]): number {
    return bounds.length + 2;
  }

  /** Counts a value `weight` times. */
  observe(value: number, weight = 1): void {
    const bounds = this.#bounds;
    let low = 0, high = bounds.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (value <= bounds[middle]!) high = middle;
      else low = middle + 1;
    }
    this.#cells[low]! += weight;
    this.#cells[bounds.length + 1]! += value * weight;
  }

  /** A copy; from another thread it may lack the newest observations. */
  snapshot(): HistogramSnapshot {
    const buckets = this.#bounds.length + 1;
    const counts = Array.from(this.#cells.subarray(0, buckets));
    return {
      bounds: this.#bounds,
      counts,
      sum: this.#cells[buckets]!,
      count: counts.reduce((total, count) => total + count, 0),
    };
  }
}
