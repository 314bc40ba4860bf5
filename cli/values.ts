/**
 * Kinds of values that an option takes from text: each says what it wants, and reads it.
 *
 * @module
 */

/** Reads a value of type T from a flag or an environment variable. */
export interface ValueKind<T> {
  /** Completes the sentence "it must be …". */
  wanted: string;
  /** The value, or undefined when the text is not one. */
  read(text: string): T | undefined;
}

/** Any text but the empty one. */
export function text(wanted: string): ValueKind<string> {
  return { wanted, read: (found) => found === "" ? undefined : found };
}

/** Texts without spaces, separated by commas. */
export function list(wanted: string): ValueKind<string[]> {
  return {
    wanted,
    read(found) {
      const parts = found.split(",").map((part) => part.trim());
      return parts.every((part) => /^\S+$/.test(part)) ? parts : undefined;
    },
  };
}

/** A decimal integer of [min, max]. */
export function integer(min: number, max: number): ValueKind<number> {
  return {
    wanted: `an integer from ${min} to ${max}`,
    read(found) {
      const value = /^-?\d{1,15}$/.test(found) ? Number(found) : NaN;
      return value >= min && value <= max ? value : undefined;
    },
  };
}

/** A decimal number of [min, max]. */
export function number(min: number, max: number): ValueKind<number> {
  return {
    wanted: `a number from ${min} to ${max}`,
    read(found) {
      const value = /^\d+(\.\d+)?$/.test(found) ? Number(found) : NaN;
      return value >= min && value <= max ? value : undefined;
    },
  };
}

/** A number of seconds, of [0, max]. */
export function seconds(max: number): ValueKind<number> {
  return {
    wanted: `a number of seconds from 0 to ${max}`,
    read(found) {
      const value = /^\d+(\.\d+)?$/.test(found) ? Number(found) : NaN;
      return value <= max ? value : undefined;
    },
  };
}

/** One of a few words or numbers. */
export function oneOf<const T extends string | number>(...choices: readonly T[]): ValueKind<T> {
  const names = choices.map(String);
  const wanted = `${names.slice(0, -1).join(", ")} or ${names.at(-1)}`;
  return {
    wanted: names.length === 1 ? names[0]! : wanted,
    read: (found) => choices.find((choice) => String(choice) === found),
  };
}

/** Yes or no; on the command line a switch, `--name` or `--no-name`. */
export const toggle: ValueKind<boolean> = {
  wanted: "true or false",
  read: (found) => ({ true: true, "1": true, false: false, "0": false })[found],
};

const UNITS: Record<string, number> = { "": 1, b: 1 };
for (const [power, letter] of ["k", "m", "g", "t"].entries()) {
  UNITS[`${letter}b`] = 1000 ** (power + 1);
  UNITS[`${letter}ib`] = 1024 ** (power + 1);
}

/** A number of bytes, at least 1: `2GiB`, `512MiB`, `1.5GB`, `1000000`. */
export const bytes: ValueKind<number> = {
  wanted: "a size such as 512MiB, 2GiB or 2000000000",
  read(found) {
    const [, number, unit] = /^(\d+(?:\.\d+)?) ?([a-z]*)$/i.exec(found) ?? [];
    const value = Math.floor(Number(number) * (UNITS[unit?.toLowerCase() ?? ""] ?? NaN));
    return value >= 1 && Number.isSafeInteger(value) ? value : undefined;
  },
};

/** Bytes for people: 1536 MiB is `1.5 GiB`. */
export function formatBytes(value: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  for (; value >= 1024 && at < units.length - 1; at++) value /= 1024;
  return `${Number(value.toFixed(1))} ${units[at]}`;
}
