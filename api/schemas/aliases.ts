/**
 * llama.cpp's names of what has another one here, and what they come to.
 *
 * @module
 */

import { z } from "zod";
import { MOST_WINDOW } from "../../runtime/adjustment.ts";
import { InvalidRequestError } from "../../runtime/errors.ts";
import { integer, number } from "./fields.ts";

/** Largest number of tokens that is understood; the model's context is the real bound. */
const MOST_TOKENS = 2 ** 31 - 1;

/** Of the penalties alone. */
export const penaltyAliases = {
  repeat_penalty: number(Number.MIN_VALUE, 10, "a number of more than 0 and at most 10"),
  repeat_last_n: integer(-1, MOST_TOKENS, "an integer, -1 or more"),
};

/** The names, in a body whose answer has `min` tokens at least. */
export function aliasFields(min: number) {
  const predictWanted = `an integer, ${min} or more, or -1 for what the context has left`;
  return {
    n_predict: z.int(predictWanted).min(-1, predictWanted).max(MOST_TOKENS, predictWanted)
      .refine((count) => count === -1 || count >= min, predictWanted).nullish(),
    n_probs: integer(0, 20, "an integer from 0 to 20"),
    ...penaltyAliases,
  };
}

/** The values of `aliasFields`, and of those that they come to. */
export type AliasBody = z.output<z.ZodObject<ReturnType<typeof aliasFields>>> & PenaltyBody;

/** The values of `penaltyAliases`, and of those that they come to. */
export type PenaltyBody = z.output<z.ZodObject<typeof penaltyAliases>> & {
  repetition_penalty?: number | null | undefined;
  presence_penalty?: number | null | undefined;
  frequency_penalty?: number | null | undefined;
};

/**
 * Refuses what has no exact counterpart.
 *
 * @throws {InvalidRequestError} naming the field, the value found and the value wanted
 */
export function checkAliases(body: PenaltyBody): void {
  const { repeat_penalty: theirs, repetition_penalty: ours, repeat_last_n: last } = body;
  if (typeof theirs === "number" && typeof ours === "number" && theirs !== ours) {
    throw new InvalidRequestError(
      `repeat_penalty is ${theirs}; it must be the same as repetition_penalty, which is ${ours}, or absent.`,
      "repeat_penalty",
      "invalid_value",
    );
  }
  if (typeof last === "number" && last > MOST_WINDOW && penalises(body)) {
    throw new InvalidRequestError(
      `repeat_last_n is ${last}; it must be at most ${MOST_WINDOW}, or -1 for the whole text, where there is a penalty.`,
      "repeat_last_n",
      "unsupported_parameter",
    );
  }
}

/** Whether a penalty asks for anything. */
function penalises(body: Partial<PenaltyBody>): boolean {
  return (body.repeat_penalty ?? body.repetition_penalty ?? 1) !== 1 || (body.presence_penalty ?? 0) !== 0 ||
    (body.frequency_penalty ?? 0) !== 0;
}

/** The penalties that a checked body asks for; a `repeat_last_n` of 0 has them look at nothing. */
export function penaltiesOf(body: Partial<PenaltyBody>): {
  repetitionPenalty: number | null | undefined;
  presencePenalty: number | null | undefined;
  frequencyPenalty: number | null | undefined;
  penaltyLastN?: number | null | undefined;
} {
  const { repetition_penalty, repeat_penalty, presence_penalty, frequency_penalty } = body;
  if (body.repeat_last_n === 0) {
    return { repetitionPenalty: null, presencePenalty: null, frequencyPenalty: null };
  }
  return {
    repetitionPenalty: repetition_penalty ?? repeat_penalty,
    presencePenalty: presence_penalty,
    frequencyPenalty: frequency_penalty,
    penaltyLastN: body.repeat_last_n === -1 || !penalises(body) ? undefined : body.repeat_last_n,
  };
}

/** The tokens that `n_predict` asks for, which goes before `max_tokens`, as llama.cpp's server has it; else those. */
export function answerTokens(
  { n_predict: count }: Partial<AliasBody>,
  maxTokens: number | null | undefined,
): number | null | undefined {
  if (typeof count !== "number") return maxTokens;
  return count === -1 ? MOST_TOKENS : count;
}
