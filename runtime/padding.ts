/**
 * Length buckets: what an executor with graphs of fixed length rounds a prompt, or the window that it attends
 * over, up to. Mode `static-padded` alone has them.
 *
 * @module
 */

/** Tokens of the smallest bucket. */
const SMALLEST = 64;

/** The bucket of `tokens`, 1 or more: a power of two, at least 64 and at most `longest`, a context in tokens. */
export function paddedLength(tokens: number, longest: number): number {
  let bucket = SMALLEST;
  while (bucket < tokens) bucket *= 2;
  return Math.min(bucket, longest);
}

/** The `most` longest buckets of a context of `longest` tokens, ascending. */
export function longestBuckets(longest: number, most: number): number[] {
  const buckets = [longest];
  for (let tokens = longest - 1; buckets.length < most && tokens >= SMALLEST;) {
    const bucket = 2 ** Math.floor(Math.log2(tokens));
    buckets.unshift(bucket);
    tokens = bucket - 1;
  }
  return buckets;
}
