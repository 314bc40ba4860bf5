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
  perMovedBlock: number;
  /** From the end of one step to the start of the next. */
  gap: number;
}

/** The cost of steps from measurements, straight lines between them; the gap between two steps is not in it. */
export function measuredCost(calibration: Calibration): StepCost {
  const { body, head, perDecodeToken, perPrefillPair, perMovedBlock } = calibration;
  return ({ rows, samples, decodeKv, prefillPairs, movedBlocks }) =>
    between(body, rows) + (samples > 0 ? between(head, samples) : 0) + decodeKv * perDecodeToken +
    prefillPairs * perPrefillPair + movedBlocks * perMovedBlock;
}

/** y at x, on straight lines through ascending points; beyond the ends along the nearest line. */
export function between(points: readonly (readonly [x: number, y: number])[], x: number): number {
  if (points.length === 1) return points[0]![1];
  let i = 1;
  while (i < points.length - 1 && points[i]![0] < x) i++;
  const [x0, y0] = points[i - 1]!, [x1, y1] = points[i]!;
  return y0 + (x - x0) * (y1 - y0) / (x1 - x0);
}
