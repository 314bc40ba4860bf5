/**
 * How long a step of a backend takes, from measurements of single steps.
 *
 * @module
 */
import type { StepCost } from "../../runtime/sim/cost.ts";

/** What {@link calibrate} measures of a backend. Microseconds. */
export interface Calibration {
  /** A step of so many rows over short histories, none of which samples. */
  body: readonly (readonly [rows: number, micros: number])[];
  /** What it takes longer when so many rows sample. */
  head: readonly (readonly [samples: number, micros: number])[];
  perDecodeToken: number;
  perPrefillPair: number;
  perPrefillKv: number;
  perMovedBlock: number;
  /** From the end of one step to the start of the next. */
  gap: number;
}

/**
 * The cost of steps from measurements, straight lines between them; the gap between two steps is not in it.
 */
export function measuredCost(calibration: Calibration): StepCost {
  const { body, head, perDecodeToken, perPrefillPair, perPrefillKv, perMovedBlock } = calibration;
  return ({ rows, samples, decodeKv, prefillKv, prefillPairs, movedBlocks }) =>
    between(body, rows) + (samples > 0 ? between(head, samples) : 0) + decodeKv * perDecodeToken +
    prefillPairs * perPrefillPair + prefillKv * perPrefillKv + movedBlocks * perMovedBlock;
}

/** Steps of traffic beside what single steps promised: what each took, over that. */
export interface Traffic {
  /** Of steps that only decode, and of those with prompts. */
  decode: readonly number[];
  mixed: readonly number[];
}

/**
 * A cost that is off as much as steps of traffic were: caches that others used meanwhile, threads that slept, whoever
 * else is on the machine. The seed decides which step is off by how much.
 */
export function inTraffic(cost: StepCost, { decode, mixed }: Traffic, seed: number): StepCost {
  const next = { decode: drawFrom(decode, seed), mixed: drawFrom(mixed, ~seed) };
  return (work) => cost(work) * (work.prefillPairs > 0 ? next.mixed() : next.decode());
}

/** One of the values at a time, in an order that the seed decides. */
function drawFrom(values: readonly number[], seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let x = Math.imul(state ^ state >>> 15, 1 | state);
    x = x + Math.imul(x ^ x >>> 7, 61 | x) ^ x;
    return values[((x ^ x >>> 14) >>> 0) % values.length]!;
  };
}

/** What lies half way between two calibrations, and how far they are apart: the most of any step's ratio, 1 or more. */
export function halfWay(a: Calibration, b: Calibration): { calibration: Calibration; apart: number } {
  const mean = (x: number, y: number) => (x + y) / 2;
  const lines = (of: "body" | "head") => a[of].map(([x, y], i) => [x, mean(y, b[of][i]![1])] as const);
  return {
    calibration: {
      body: lines("body"),
      head: lines("head"),
      perDecodeToken: mean(a.perDecodeToken, b.perDecodeToken),
      perPrefillPair: mean(a.perPrefillPair, b.perPrefillPair),
      perPrefillKv: mean(a.perPrefillKv, b.perPrefillKv),
      perMovedBlock: mean(a.perMovedBlock, b.perMovedBlock),
      gap: mean(a.gap, b.gap),
    },
    apart: Math.max(...a.body.map(([, y], i) => Math.max(y / b.body[i]![1], b.body[i]![1] / y))),
  };
}

/** y at x, on straight lines through ascending points; beyond the ends along the nearest line. */
export function between(points: readonly (readonly [x: number, y: number])[], x: number): number {
  if (points.length === 1) return points[0]![1];
  let i = 1;
  while (i < points.length - 1 && points[i]![0] < x) i++;
  const [x0, y0] = points[i - 1]!, [x1, y1] = points[i]!;
  return y0 + (x - x0) * (y1 - y0) / (x1 - x0);
}
