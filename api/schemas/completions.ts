/**
 * The body of `POST /v1/completions`.
 *
 * @module
 */

import { z } from "zod";
import { InvalidRequestError } from "../../runtime/errors.ts";
import { aliasFields, checkAliases } from "./aliases.ts";
import { beamFields, checkBeamSearch } from "./beams.ts";
import { unsupportedFields } from "./extras.ts";
import { flag, integer, refused } from "./fields.ts";
import { ruleFields } from "./rules.ts";
import { samplerFields } from "./samplers.ts";
import { checkStreamOptions, samplingFields, tokenCount } from "./sampling.ts";

/** Text, or the ids of its tokens. */
export type Prompt = string | readonly number[];

/** Prompts of one request at most. */
export const MAX_PROMPTS = 1024;

const idWanted = "a token id (an integer, 0 or more)";

/** What is wrong with a `prompt`, and where; null for a good one. Stops at the first fault. */
export function promptFault(prompt: unknown): { path: number[]; wanted: string } | null {
  if (typeof prompt === "string") return null;
  if (!Array.isArray(prompt) || prompt.length === 0) {
    return {
      path: [],
      wanted: "a text, an array of token ids, or an array of texts or of arrays of token ids",
    };
  }
  if (typeof prompt[0] === "number") return idsFault(prompt, []);
  if (prompt.length > MAX_PROMPTS) return { path: [], wanted: `an array of at most ${MAX_PROMPTS} prompts` };
  const kind = typeof prompt[0] === "string" ? "a text" : "an array of token ids, at least one";
  for (const [i, one] of prompt.entries()) {
    if (kind === "a text") {
      if (typeof one !== "string") return { path: [i], wanted: `${kind}, as prompt[0] is` };
    } else if (!Array.isArray(one) || one.length === 0) {
      return { path: [i], wanted: i === 0 ? `a text, a token id or ${kind}` : kind };
    } else {
      const fault = idsFault(one, [i]);
      if (fault !== null) return fault;
    }
  }
  return null;
}

function idsFault(ids: readonly unknown[], path: number[]): { path: number[]; wanted: string } | null {
  const bad = ids.findIndex((id) => !Number.isSafeInteger(id) || (id as number) < 0);
  return bad < 0 ? null : { path: [...path, bad], wanted: idWanted };
}

const tokenIds = { type: "array", items: { type: "integer", minimum: 0 }, minItems: 1 };

// Checked by hand: a union of arrays would visit and report every element once per alternative.
const prompt: z.ZodType<Prompt | readonly Prompt[]> = z.any().superRefine((value, context) => {
  const fault = promptFault(value);
  if (fault !== null) context.addIssue({ code: "custom", path: fault.path, message: fault.wanted });
}).meta({
  anyOf: [
    { type: "string" },
    { type: "array", items: { type: "string" }, minItems: 1, maxItems: MAX_PROMPTS },
    tokenIds,
    { type: "array", items: tokenIds, minItems: 1, maxItems: MAX_PROMPTS },
  ],
});

/** The body of `POST /v1/completions`. */
export const completionBody = z.object({
  ...samplingFields,
  ...samplerFields,
  ...aliasFields(0),
  ...beamFields,
  ...ruleFields,
  prompt,
  max_tokens: tokenCount(0),
  logprobs: integer(0, 20, "an integer from 0 to 20"),
  echo: flag(),
  best_of: integer(1, 128, "the same as n"),
  suffix: refused("no supported model fills in the middle", ""),
  add_special_tokens: flag(),
  return_token_ids: flag(),
  ...unsupportedFields,
}, "a JSON object");

/** A checked body of `POST /v1/completions`. */
export type CompletionBody = z.output<typeof completionBody>;

/** Refuses fields that contradict each other. */
export function checkCompletion(body: CompletionBody): void {
  const n = body.n ?? 1;
  if (typeof body.best_of === "number" && body.best_of !== n) {
    throw new InvalidRequestError(
      `best_of is ${body.best_of}; it must be the same as n, which is ${n}: ranking choices is not supported yet.`,
      "best_of",
      "unsupported_parameter",
    );
  }
  checkAliases(body);
  checkBeamSearch(body);
  checkStreamOptions(body);
}
