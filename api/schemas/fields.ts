/**
 * Building blocks of the schemas. `wanted` completes the sentence "it must be …".
 *
 * @module
 */

import { z } from "zod";

/** A number of [min, max]; null is the same as absent. */
export function number(min: number, max: number, wanted: string) {
  return z.number(wanted).min(min, wanted).max(max, wanted).nullish();
}

/** An integer of [min, max]; null is the same as absent. */
export function integer(min: number, max: number, wanted: string) {
  return z.int(wanted).min(min, wanted).max(max, wanted).nullish();
}

/** True or false; null is the same as absent. */
export function flag() {
  return z.boolean("true or false").nullish();
}

/**
 * An array of `min` to `max` elements. Its length is checked first: otherwise a body of millions of wrong
 * elements would become as many issues.
 */
export function list<S extends z.ZodType>(
  element: S,
  { min = 0, max, wanted }: { min?: number; max: number; wanted: string },
) {
  const bounds = { minItems: min, maxItems: max };
  return z.array(z.unknown(), wanted).min(min, wanted).max(max, wanted).pipe(z.array(element, wanted))
    .meta(bounds);
}

/** A field that is not supported yet: accepted only with a value that asks for nothing. */
export function neutral(...values: readonly unknown[]) {
  return refused("anything else is not supported yet", ...values);
}

/** A field that is not supported, and why: accepted only with a value that asks for nothing. */
export function refused(why: string, ...values: readonly unknown[]) {
  const asksForNothing = values.map((value) => JSON.stringify(value));
  const wanted = [...asksForNothing, "absent"].join(" or ");
  return z.unknown().refine((value) => isNeutral(value, asksForNothing), {
    error: `${wanted}, because ${why}`,
    params: { code: "unsupported_parameter" },
  }).meta({ enum: [...values, null], description: `not supported: ${wanted}` }).optional();
}

function isNeutral(value: unknown, asksForNothing: readonly string[]): boolean {
  if (value === null || value === undefined) return true;
  if (typeof value === "object" && Object.keys(value).length > 1) return false;
  return asksForNothing.includes(JSON.stringify(value));
}
