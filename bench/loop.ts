/**
 * What the suites that turn the loop themselves share.
 *
 * @module
 */
import type { LoopSink } from "../runtime/loop.ts";
import { greedyOptions, Sequence } from "../runtime/sequence.ts";

/** Hears everything and keeps nothing. */
export const silent: LoopSink = { admitted() {}, token() {}, promptToken() {}, ended() {} };

/** A greedy sequence that ends by its length; `token` gives its prompt's id at a position. */
export function greedy(
  id: number,
  promptLength: number,
  maxTokens: number,
  token: (position: number) => number,
): Sequence {
  return new Sequence({
    ...greedyOptions(id, Int32Array.from({ length: promptLength }, (_, i) => token(i)), maxTokens),
    // Never sampled, but the search for stop tokens is paid for.
    stopTokens: Int32Array.of(-1),
  });
}
