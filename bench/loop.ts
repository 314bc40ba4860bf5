/**
 * What the suites that turn the loop themselves share.
 *
 * @module
 */
import { UNADJUSTED } from "../runtime/adjustment.ts";
import type { LoopSink } from "../runtime/loop.ts";
import { Sequence } from "../runtime/sequence.ts";

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
    id,
    prompt: Int32Array.from({ length: promptLength }, (_, i) => token(i)),
    maxTokens,
    temperature: 0,
    topK: 0,
    topP: 1,
    minP: 0,
    ...UNADJUSTED,
    seedLo: id,
    seedHi: 0,
    logprobs: 0,
    promptLogprobs: 0,
    // Never sampled: it ends by its length, and the search for stop tokens is paid for.
    stopTokens: Int32Array.of(-1),
    grammar: 0,
    priority: 0,
    parent: null,
  });
}
