/**
 * The fields that both kinds of completion take.
 *
 * @module
 */

import { z } from "zod";
import { InvalidRequestError } from "../../runtime/errors.ts";
import { flag, integer, list, number } from "./fields.ts";
import { logitBias } from "./logit_bias.ts";
import { structuredFields } from "./structured.ts";

const stopWanted = "a text or an array of at most 16 texts, none of them empty";
const stopText = z.string(stopWanted).min(1, stopWanted);
const idsWanted = "an array of at most 1024 token ids (integers, 0 or more)";
const seedWanted = `an integer from 0 to ${Number.MAX_SAFE_INTEGER}`;
const priorityWanted = `an integer from ${-(2 ** 31)} to ${2 ** 31 - 1}`;

/** Largest `max_tokens` that is understood; the model's context is the real bound. */
const MOST_TOKENS = 2 ** 31 - 1;

/** `max_tokens` and its newer name. */
export function tokenCount(min: number) {
  return integer(min, MOST_TOKENS, `an integer, ${min} or more`);
}

/** Sampling, stopping, scheduling and streaming; OpenAI's names, then vLLM's. */
export const samplingFields = {
  model: z.string("the name of the served model").nullish(),
  temperature: number(0, 100, "a number from 0 to 100"),
  top_p: number(0, 1, "a number from 0 to 1"),
  seed: integer(0, Number.MAX_SAFE_INTEGER, seedWanted),
  stop: z.union([stopText, list(stopText, { max: 16, wanted: stopWanted })], stopWanted).nullish(),
  n: integer(1, 128, "an integer from 1 to 128"),
  stream: flag(),
  stream_options: z.object({ include_usage: flag() }, 'an object such as {"include_usage": true}').nullish(),
  user: z.string("a text").nullish(),
  metadata: z.record(z.string(), z.unknown(), "an object").nullish(),

  top_k: integer(-1, MOST_TOKENS, "an integer, 1 or more, or 0 or -1 for all tokens"),
  min_p: number(0, 1, "a number from 0 to 1"),
  stop_token_ids: list(z.int(idsWanted).min(0, idsWanted), { max: 1024, wanted: idsWanted }).nullish(),
  ignore_eos: flag(),
  skip_special_tokens: flag(),
  include_stop_str_in_output: flag(),
  truncate_prompt_tokens: integer(1, MOST_TOKENS, "an integer, 1 or more"),
  priority: integer(-(2 ** 31), 2 ** 31 - 1, priorityWanted),

  presence_penalty: number(-2, 2, "a number from -2 to 2"),
  frequency_penalty: number(-2, 2, "a number from -2 to 2"),
  repetition_penalty: number(Number.MIN_VALUE, 10, "a number of more than 0 and at most 10"),
  logit_bias: logitBias(),
  ...structuredFields,
};

/** The values of `samplingFields`. */
export type SamplingBody = z.output<z.ZodObject<typeof samplingFields>>;

/** Refuses `stream_options` without `stream`. */
export function checkStreamOptions({ stream, stream_options }: {
  stream?: boolean | null | undefined;
  stream_options?: object | null | undefined;
}): void {
  if (!stream_options || stream) return;
  throw new InvalidRequestError(
    "stream_options is an object; it must be absent unless stream is true.",
    "stream_options",
    "invalid_value",
  );
}
