/**
 * Figures as the report writes them.
 *
 * @module
 */
import type { Spread } from "./results.ts";

/** A number with at most three digits that mean something. */
export function figure(value: number): string {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 100) return Math.round(value).toLocaleString("en-US");
  return String(Number(value.toPrecision(size >= 10 ? 3 : size >= 1 ? 3 : 2)));
}

/** A median with its least and most. */
export function withSpread({ median, low, high, count }: Spread): string {
  if (count === 0) return "–";
  if (count === 1 || figure(low) === figure(high)) return figure(median);
  return `${figure(median)} (${figure(low)}–${figure(high)})`;
}

/** A ratio with its least and most. */
export function times({ median, low, high, count }: Spread): string {
  if (count === 0) return "–";
  const fixed = (value: number) => value.toFixed(value >= 10 ? 1 : 2);
  return count === 1 || fixed(low) === fixed(high)
    ? `× ${fixed(median)}`
    : `× ${fixed(median)} (${fixed(low)}–${fixed(high)})`;
}

/** A share as per cent. */
export function percent(value: number): string {
  return Number.isFinite(value) ? `${Number((100 * value).toPrecision(2))} %` : "–";
}

/** "a, b and c" */
export function list(words: readonly string[]): string {
  return words.length < 2
    ? words.join("")
    : `${words.slice(0, -1).join(", ")} and ${words[words.length - 1]}`;
}
