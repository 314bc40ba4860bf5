/**
 * Answers that end with the stop text that ended them, which the engine leaves out.
 *
 * @module
 */

import type { GenerateChunk, Generation } from "../runtime/types.ts";

/** The same generation with the stop text as the end of each choice's text. */
export function withStopText(generation: Generation): Generation {
  return {
    promptTokenIds: generation.promptTokenIds,
    promptLogprobs: generation.promptLogprobs,
    usage: generation.usage,
    timing: generation.timing,
    cancel: () => generation.cancel(),
    async *[Symbol.asyncIterator]() {
      for await (const chunk of generation) yield withStop(chunk);
    },
  };
}

function withStop(chunk: GenerateChunk): GenerateChunk {
  const { stopReason } = chunk;
  return typeof stopReason === "string" ? { ...chunk, text: chunk.text + stopReason } : chunk;
}
