/**
 * The bounds that a schema sets to numbers.
 *
 * @module
 */
import type { Bounds } from "./number_range.ts";
import { describe, SchemaError, type SchemaObject } from "./schema_merge.ts";

/** Decimals of a bound at most. */
const MAX_DECIMALS = 6;

/** A bound in units of 10^-decimals. */
export interface Bound {
  value: bigint;
  decimals: number;
  /** -1 or 1: how a bound that excludes itself moves, in the unit that is used; 0 for one that does not. */
  step: number;
}

/** A bound that a keyword sets, or its exclusive form, in either draft's way; null for none. */
export function bound(
  schema: SchemaObject,
  keyword: string,
  exclusive: string,
  stricter: (a: number, b: number) => number,
  place: string,
): Bound | null {
  const including = schema[keyword] === undefined ? null : finite(schema, keyword, place);
  const older = typeof schema[exclusive] === "boolean";
  const excluding = older || schema[exclusive] === undefined ? null : finite(schema, exclusive, place);
  if (including === null && excluding === null) return null;
  const value = including === null
    ? excluding!
    : excluding === null
    ? including
    : stricter(including, excluding);
  const excludes = value === excluding || (older && schema[exclusive] === true);
  for (let decimals = 0; decimals <= MAX_DECIMALS; decimals++) {
    const units = Math.round(value * 10 ** decimals);
    if (units / 10 ** decimals !== value) continue;
    return { value: BigInt(units), decimals, step: !excludes ? 0 : keyword === "minimum" ? 1 : -1 };
  }
  throw new SchemaError(`${keyword} is ${value}, wanted at most ${MAX_DECIMALS} decimals`, place);
}

function finite(schema: SchemaObject, keyword: string, place: string): number {
  const value = schema[keyword];
  if (typeof value === "number" && Math.abs(value) <= 1e15) return value;
  throw new SchemaError(`${keyword} is ${describe(value)}, wanted a number from -1e15 to 1e15`, place);
}

/** Both bounds in units of 10^-decimals, rounded inwards. */
export function scaled(low: Bound | null, high: Bound | null, decimals: number): Bounds {
  const inUnits = (bound: Bound | null, up: boolean): bigint | null => {
    if (bound === null) return null;
    if (decimals >= bound.decimals) {
      return bound.value * 10n ** BigInt(decimals - bound.decimals) + BigInt(bound.step);
    }
    const unit = 10n ** BigInt(bound.decimals - decimals);
    const down = bound.value / unit - (bound.value % unit < 0n ? 1n : 0n);
    if (bound.value % unit === 0n) return down + BigInt(bound.step);
    return up ? down + 1n : down;
  };
  return { low: inUnits(low, true), high: inUnits(high, false) };
}
