/**
 * Bounds of a request's numbers.
 *
 * @module
 */
import { InvalidRequestError } from "./errors.ts";

/**
 * An integer of [low, high].
 *
 * @throws {InvalidRequestError} naming the field, the value found and the value wanted
 */
export function integer(name: string, value: number, low: number, high: number): number {
  if (Number.isInteger(value) && value >= low && value <= high) return value;
  throw new InvalidRequestError(`${name} is ${value}, wanted an integer from ${low} to ${high}`, name);
}

/**
 * A number of [low, high]; `Number.MIN_VALUE` as the lower bound says more than 0.
 *
 * @throws {InvalidRequestError} naming the field, the value found and the value wanted
 */
export function number(name: string, value: number, low: number, high: number, param = name): number {
  if (value >= low && value <= high) return value;
  const from = low === Number.MIN_VALUE ? "more than 0" : `${low}`;
  throw new InvalidRequestError(`${name} is ${value}, wanted a number from ${from} to ${high}`, param);
}
