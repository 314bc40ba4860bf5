/**
 * The fields of both kinds of completion that say which tokens may come, and what is told of them: vLLM's.
 *
 * @module
 */

import { z } from "zod";
import { flag, integer, list } from "./fields.ts";

const idsWanted = "an array of token ids (integers, 0 or more), at least one";
const wordsWanted = "an array of at most 1024 texts, none of them empty";

/** More ids than any model has: what keeps a body from naming each a hundred times. */
const MOST_IDS = 2 ** 20;

/** `allowed_token_ids`. Checked by hand up to its first fault, since an array would make an issue of each. */
function allowedIds(): z.ZodType<readonly number[] | null | undefined> {
  return z.any().superRefine((ids, context) => {
    if (ids === null || ids === undefined) return;
    const isList = Array.isArray(ids) && ids.length > 0 && ids.length <= MOST_IDS;
    const bad = isList ? ids.findIndex((id) => !Number.isSafeInteger(id) || id < 0) : -1;
    if (isList && bad < 0) return;
    context.addIssue({ code: "custom", path: isList ? [bad] : [], message: idsWanted });
  }).meta({
    type: ["array", "null"],
    items: { type: "integer", minimum: 0 },
    minItems: 1,
    maxItems: MOST_IDS,
  }).optional();
}

/** Rules of the sampler. */
export const tokenRules = {
  min_tokens: integer(0, 2 ** 31 - 1, "an integer, 0 or more"),
  allowed_token_ids: allowedIds(),
  bad_words: list(z.string(wordsWanted).min(1, wordsWanted), { max: 1024, wanted: wordsWanted }).nullish(),
};

/** These, log probabilities of the prompt, and names of tokens. */
export const ruleFields = {
  ...tokenRules,
  prompt_logprobs: integer(0, 20, "an integer from 0 to 20"),
  return_tokens_as_token_ids: flag(),
};

/** The values of `ruleFields`. */
export type RuleBody = z.output<z.ZodObject<typeof ruleFields>>;
