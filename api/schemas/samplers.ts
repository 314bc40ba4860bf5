/**
 * The samplers of llama.cpp that both kinds of completion take, by its names and with its ranges.
 *
 * @module
 */

import { z } from "zod";
import { number } from "./fields.ts";

const share = "a number from 0 to 1";

/** What shapes the distribution that a token is drawn from, beside OpenAI's and vLLM's fields. */
export const samplerFields = {
  typical_p: number(0, 1, share),
  top_n_sigma: number(-1, 1000, "a number from -1 to 1000, of which -1 and 0 are off"),
  xtc_probability: number(0, 1, share),
  xtc_threshold: number(0, 1, share),
  dynatemp_range: number(0, 100, "a number from 0 to 100"),
  dynatemp_exponent: number(0, 100, "a number from 0 to 100"),
};

/** The values of `samplerFields`. */
export type SamplerBody = z.output<z.ZodObject<typeof samplerFields>>;
