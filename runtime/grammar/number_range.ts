/**
 * Numbers between bounds, as EBNF.
 *
 * @module
 */

/** Bounds in units of 10^-decimals, both included. */
export interface Bounds {
  low: bigint | null;
  high: bigint | null;
}

/** Digits before the point at most: such numbers are exact in JavaScript and Python alike. */
const MAX_DIGITS = 15;
/** Digits behind the point beyond those of the bounds. */
const FURTHER_DECIMALS = 8;

/** Range of each digit of numbers with as many digits. */
type Pattern = readonly (readonly [number, number])[];

/** The integers between the bounds, as alternatives; none is an empty list. */
export function integerRange(bounds: Bounds): string[] {
  return signed(bounds, 0, (low, high) => patterns(low, high, 0).map((pattern) => expression(pattern, 0)));
}

/** Numbers with a point between the bounds, which are in units of 10^-decimals; decimals is 1 or more. */
export function decimalRange(bounds: Bounds, decimals: number): string[] {
  return signed(bounds, decimals, (low, high, closed) => {
    const further = ` [0-9]{0,${FURTHER_DECIMALS}}`;
    // Only the last one must not grow by further digits.
    const last = closed ? high - 1n : high;
    const open = low <= last ? patterns(low, last, decimals) : [];
    const exact = closed ? patterns(high, high, decimals) : [];
    return [
      ...open.map((pattern) => expression(pattern, decimals) + further),
      ...exact.map((pattern) => expression(pattern, decimals)),
    ];
  });
}

function signed(
  { low, high }: Bounds,
  decimals: number,
  magnitudes: (low: bigint, high: bigint, closed: boolean) => string[],
): string[] {
  const most = 10n ** BigInt(MAX_DIGITS + decimals) - 1n;
  const out: string[] = [];
  const top = high ?? most;
  if (top >= 0n) {
    const from = low === null || low < 0n ? 0n : low;
    if (from <= top) out.push(...magnitudes(from, top, high !== null));
  }
  const bottom = low ?? -most;
  if (bottom < 0n) {
    const from = high === null || high >= 0n ? 1n : -high;
    if (from <= -bottom) out.push(...magnitudes(from, -bottom, low !== null).map((text) => `"-" ${text}`));
  }
  return out;
}

/** `low` and `high` are not negative. */
function patterns(low: bigint, high: bigint, decimals: number): Pattern[] {
  const out: Pattern[] = [];
  // Up to this width a number is filled up with zeros, so that one digit stands before the point.
  for (let width = decimals + 1; width <= `${high}`.length || width === decimals + 1; width++) {
    const least = width === decimals + 1 ? 0n : 10n ** BigInt(width - 1);
    const most = 10n ** BigInt(width) - 1n;
    const from = low > least ? low : least, to = high < most ? high : most;
    if (from <= to) out.push(...split(`${from}`.padStart(width, "0"), `${to}`.padStart(width, "0")));
  }
  return out;
}

/** Patterns for the numbers from `low` to `high`, which have as many digits. */
function split(low: string, high: string): Pattern[] {
  if (low === "") return [[]];
  const a = Number(low[0]), b = Number(high[0]);
  const lowRest = low.slice(1), highRest = high.slice(1);
  const after = (digit: number, rest: Pattern[]): Pattern[] => rest.map((p) => [[digit, digit], ...p]);
  if (a === b) return after(a, split(lowRest, highRest));
  const zeros = "0".repeat(lowRest.length), nines = "9".repeat(lowRest.length);
  const head = lowRest === zeros ? [] : after(a, split(lowRest, nines));
  const tail = highRest === nines ? [] : after(b, split(zeros, highRest));
  const from = head.length > 0 ? a + 1 : a, to = tail.length > 0 ? b - 1 : b;
  const middle: Pattern[] = from <= to ? [[[from, to], ...Array.from(lowRest, () => [0, 9] as const)]] : [];
  return [...head, ...middle, ...tail];
}

function expression(pattern: Pattern, decimals: number): string {
  const point = pattern.length - decimals;
  const digits = (part: Pattern) => part.map(([a, b]) => a === b ? `"${a}"` : `[${a}-${b}]`).join(" ");
  return decimals === 0
    ? digits(pattern)
    : `${digits(pattern.slice(0, point))} "." ${digits(pattern.slice(point))}`;
}
