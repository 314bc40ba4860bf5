/**
 * The samplers of llama.cpp that both kinds of completion take, by its names and with its ranges.
 *
 * @module
 */

import { z } from "zod";
import { integer, list, number } from "./fields.ts";

const share = "a number from 0 to 1";
const percent = "a number from 0 to 100";
const breakersWanted = "an array of 1 to 64 texts, none of them empty";
const breaker = z.string(breakersWanted).min(1, breakersWanted);

/** What changes logits, and shapes the distribution that a token is drawn from, beside OpenAI's and vLLM's fields. */
export const samplerFields = {
  typical_p: number(0, 1, share),
  top_n_sigma: number(-1, 1000, "a number from -1 to 1000, of which -1 and 0 are off"),
  xtc_probability: number(0, 1, share),
  xtc_threshold: number(0, 1, share),
  dynatemp_range: number(0, 100, percent),
  dynatemp_exponent: number(0, 100, percent),
  mirostat: integer(0, 2, "0, 1 or 2"),
  mirostat_tau: number(0, 100, percent),
  mirostat_eta: number(0, 10, "a number from 0 to 10"),
  dry_multiplier: number(0, 100, percent),
  dry_base: number(0, 100, percent),
  dry_allowed_length: integer(0, 2 ** 31 - 1, "an integer, 0 or more"),
  dry_penalty_last_n: integer(-1, 2 ** 31 - 1, "an integer, -1 or more"),
  dry_sequence_breakers: list(breaker, { min: 1, max: 64, wanted: breakersWanted }).nullish(),
};

/** The values of `samplerFields`. */
export type SamplerBody = z.output<z.ZodObject<typeof samplerFields>>;
