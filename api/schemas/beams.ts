/**
 * Beam search, by vLLM's fields.
 *
 * @module
 */

import { z } from "zod";
import { InvalidRequestError } from "../../runtime/errors.ts";
import { flag, number } from "./fields.ts";

/** Of both kinds of completion. Without `use_beam_search` the penalty means nothing. */
export const beamFields = {
  use_beam_search: flag(),
  length_penalty: number(-10, 10, "a number from -10 to 10"),
};

/** The values of `beamFields`, and of those that do not go with them. */
export type BeamBody = z.output<z.ZodObject<typeof beamFields>> & {
  stream?: boolean | null | undefined;
  tools?: readonly unknown[] | null | undefined;
};

/**
 * Refuses what a search cannot have and the engine does not know of; it refuses the rest.
 *
 * @throws {InvalidRequestError} naming the field, the value found and the value wanted
 */
export function checkBeamSearch({ use_beam_search: searches, stream, tools }: BeamBody): void {
  if (!searches) return;
  if (stream) {
    throw new InvalidRequestError(
      "stream is true; it must be false or absent with use_beam_search, whose answers are known at its end alone.",
      "stream",
      "unsupported_parameter",
    );
  }
  if (tools && tools.length > 0) {
    throw new InvalidRequestError(
      `tools has ${tools.length} functions; it must be empty or absent with use_beam_search.`,
      "tools",
      "unsupported_parameter",
    );
  }
}

/** The engine's option of a checked body. */
export function beamSearchOf(
  { use_beam_search: searches, length_penalty: penalty }: BeamBody,
): { lengthPenalty?: number } | undefined {
  if (!searches) return undefined;
  return typeof penalty === "number" ? { lengthPenalty: penalty } : {};
}
