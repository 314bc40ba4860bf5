/**
 * Numbers that look random and are the same in each run.
 *
 * @module
 */

/** Numbers in [0, 1) of a seed: mulberry32. */
export function random(seed: number): () => number {
  let a = seed | 0;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** A whole number from a lognormal distribution of this median, 1 to `most`. */
export function lognormal(rnd: () => number, median: number, sigma: number, most: number): number {
  const normal = Math.sqrt(-2 * Math.log(1 - rnd())) * Math.cos(2 * Math.PI * rnd());
  return Math.max(1, Math.min(most, Math.round(median * Math.exp(sigma * normal))));
}

/** A time to the next event, when `mean` lies between two on average. */
export function exponential(rnd: () => number, mean: number): number {
  return -mean * Math.log(1 - rnd());
}

/** 32 bits of two numbers, well mixed (the finalizer of MurmurHash3). */
export function mix(a: number, b: number): number {
  let h = Math.imul(a, 0x9e3779b1) ^ Math.imul(b + 0x7f4a7c15, 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
