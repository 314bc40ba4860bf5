/**
 * Quantiles of more values than one would keep.
 *
 * @module
 */

/** Buckets 1 % wide. */
const WIDTH = Math.log(1.01);
const LEAST = 1e-3;
const BUCKETS = 2_400;

/** Counts values of {@link LEAST} and more; a quantile is right to half a per cent. */
export class Histogram {
  readonly #counts = new Float64Array(BUCKETS);
  count = 0;
  max = 0;

  add(value: number): void {
    const bucket = Math.floor(Math.log(Math.max(value, LEAST) / LEAST) / WIDTH);
    this.#counts[Math.min(BUCKETS - 1, bucket)]!++;
    this.count++;
    if (value > this.max) this.max = value;
  }

  /** The q-quantile, 0 to 1, by nearest rank. NaN of none. */
  quantile(q: number): number {
    if (this.count === 0) return NaN;
    let left = Math.max(1, Math.ceil(q * this.count));
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      left -= this.#counts[bucket]!;
      if (left <= 0) return Math.min(this.max, LEAST * Math.exp((bucket + 0.5) * WIDTH));
    }
    return this.max;
  }
}
