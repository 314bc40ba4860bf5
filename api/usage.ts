/**
 * Token counts as OpenAI reports them.
 *
 * @module
 */

import type { Engine, Usage } from "../runtime/types.ts";

/** A response's `usage`. */
export interface UsageBody {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
}

/** The sum over the prompts of a request. A prompt counts once, however many choices it has. */
export function usageBody(usages: readonly Usage[]): UsageBody {
  let prompt = 0, completion = 0, cached = 0;
  for (const usage of usages) {
    prompt += usage.promptTokens;
    completion += usage.completionTokens;
    cached += usage.cachedTokens;
  }
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: cached },
  };
}

/** Tokens of a text that a model wrote, encoded again: near to what it took, and always the same. */
export function countTokens(engine: Engine, text: string): number {
  return text === "" ? 0 : engine.encode(text, { addSpecialTokens: false }).length;
}
