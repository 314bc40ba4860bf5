/**
 * Sets of code points, and how they are written in XGrammar's EBNF.
 *
 * @module
 */

/** Sorted, disjoint ranges of code points, both ends included. */
export type CharSet = readonly (readonly [number, number])[];

/** Every character but NUL; surrogates are none. */
export const ANY: CharSet = [[1, 0xd7ff], [0xe000, 0x10ffff]];

/** One range, or a character alone. */
export function range(low: number, high = low): CharSet {
  return [[low, high]];
}

/** Everything that is in one of them. */
export function union(...sets: readonly CharSet[]): CharSet {
  const ranges = sets.flat().sort(([a], [b]) => a - b);
  const out: [number, number][] = [];
  for (const [low, high] of ranges) {
    const last = out.at(-1);
    if (last !== undefined && low <= last[1] + 1) last[1] = Math.max(last[1], high);
    else out.push([low, high]);
  }
  return out;
}

/** What is in both. */
export function intersect(a: CharSet, b: CharSet): CharSet {
  const out: [number, number][] = [];
  for (const [low, high] of a) {
    for (const [from, to] of b) {
      if (from <= high && to >= low) out.push([Math.max(low, from), Math.min(high, to)]);
    }
  }
  return out;
}

/** Every character that is not in the set. */
export function complement(set: CharSet): CharSet {
  const out: [number, number][] = [];
  let next = 0;
  for (const [low, high] of union(set)) {
    if (low > next) out.push([next, low - 1]);
    next = high + 1;
  }
  out.push([next, 0x10ffff]);
  return intersect(out.filter(([low, high]) => low <= high), ANY);
}

/** Whether a character is in the set. */
export function has(set: CharSet, code: number): boolean {
  return set.some(([low, high]) => code >= low && code <= high);
}

const ASCII: CharSet = [[0, 0x7f]];
const BEYOND_ASCII: CharSet = [[0x80, 0xd7ff], [0xe000, 0x10ffff]];
/** Characters beyond ASCII that are written one by one, at most. */
const MOST_SINGLES = 512;

/**
 * EBNF expressions for one character of the set, one of which it matches; null where there are none. XGrammar's
 * classes know ASCII alone: a range beyond it matches the wrong characters, and a class with `^` matches everything
 * beyond it. So a set has all of those characters, or few, which are written one by one.
 */
export function oneOf(set: CharSet): string[] | null {
  const beyond = intersect(set, BEYOND_ASCII);
  if (JSON.stringify(beyond) === JSON.stringify(BEYOND_ASCII)) {
    return [`[^${ranges(complementOfAscii(set))}]`];
  }
  if (beyond.reduce((sum, [low, high]) => sum + high - low + 1, 0) > MOST_SINGLES) return null;
  const singles = beyond.flatMap(([low, high]) =>
    Array.from({ length: high - low + 1 }, (_, i) => literal(String.fromCodePoint(low + i)))
  );
  const ascii = intersect(set, ASCII);
  return [...(ascii.length > 0 ? [classOf(ascii)] : []), ...singles];
}

/** The characters of the set that are ASCII. */
export function asciiOf(set: CharSet): CharSet {
  return intersect(set, ASCII);
}

/** ASCII characters, NUL among them, that are not in the set. */
function complementOfAscii(set: CharSet): CharSet {
  return union([[0, 0]], intersect(complement(set), ASCII));
}

function classOf(set: CharSet): string {
  const [[low, high]] = set as readonly [readonly [number, number]];
  return set.length === 1 && low === high ? literal(String.fromCodePoint(low)) : `[${ranges(set)}]`;
}

function ranges(set: CharSet): string {
  return set.map(([low, high]) => low === high ? escaped(low) : `${escaped(low)}-${escaped(high)}`).join("");
}

/** A text as an EBNF literal. */
export function literal(text: string): string {
  let out = "";
  for (const char of text) {
    const code = char.codePointAt(0)!;
    out += code < 0x20 || code === 0x22 || code === 0x5c || code === 0x7f ? escaped(code) : char;
  }
  return `"${out}"`;
}

/** Letters and digits as they are, everything else by its number. */
function escaped(code: number): string {
  const char = String.fromCodePoint(code);
  if (/^[A-Za-z0-9]$/.test(char)) return char;
  const hex = code.toString(16);
  return code < 0x10000 ? `\\u${hex.padStart(4, "0")}` : `\\U${hex.padStart(8, "0")}`;
}

/** Characters that stand for themselves in a JSON string. */
export const JSON_PLAIN: CharSet = complement(union(range(0, 0x1f), range(0x22), range(0x5c)));
