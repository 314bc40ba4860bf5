/**
 * How long a step takes, by what its descriptor asks for: from figures of a card and a model, or from measurements.
 *
 * @module
 */

/** What one step computes and moves. */
export interface StepWork {
  /** Rows through the layers: tokens that decode, and those of prompts, padding included. */
  rows: number;
  /** Rows that sample. */
  samples: number;
  /** Tokens of KV that decoding rows read, all slots together. */
  decodeKv: number;
  /** Tokens of KV that segments of prompts read, each segment once. */
  prefillKv: number;
  /** Pairs of a prompt's row and a token that it sees. */
  prefillPairs: number;
  groups: number;
  movedBlocks: number;
}

/** Microseconds of a step. */
export type StepCost = (work: StepWork) => number;

/** A Llama shape. */
export interface Shape {
  hidden: number;
  intermediate: number;
  layers: number;
  heads: number;
  kvHeads: number;
  vocab: number;
}

/** A card, several of which may share a model's layers by tensor parallelism. */
export interface Card {
  name: string;
  /** Bytes a second that a copy reaches. */
  bandwidth: number;
  /** Multiplications and additions a second of dense 16-bit products. */
  flops: number;
  memory: number;
  /** Of the bandwidth, reading weights and reading KV. */
  weightShare: number;
  kvShare: number;
  /** Of the rate of products. */
  flopShare: number;
  /** Microseconds of a step whatever it does: launch, descriptor, result. */
  stepMicros: number;
  /** Microseconds of each kernel of a graph, and kernels of a layer. */
  kernelMicros: number;
  kernelsPerLayer: number;
  /** Between cards: bytes a second of each, and microseconds of one all-reduce. */
  linkBandwidth: number;
  linkMicros: number;
}

/**
 * An NVIDIA H200. The copy's bandwidth was measured; the shares are the aims that the CUDA backend was given, not
 * measurements of it.
 */
export const H200: Card = {
  name: "H200",
  bandwidth: 4.3e12,
  flops: 9.9e14,
  memory: 139 * 2 ** 30,
  weightShare: 0.85,
  kvShare: 0.9,
  flopShare: 0.6,
  stepMicros: 30,
  kernelMicros: 1.3,
  kernelsPerLayer: 7,
  linkBandwidth: 4.5e11,
  linkMicros: 12,
};

const BYTES = 2;

/** Weights of the layers and the head, which a step reads whole. */
export function weightBytes({ hidden, intermediate, layers, heads, kvHeads, vocab }: Shape): number {
  const layer = hidden * hidden * 2 + 2 * hidden * (hidden / heads) * kvHeads + 3 * hidden * intermediate;
  return BYTES * (layers * layer + vocab * hidden);
}

/** K and V of one token, all layers. */
export function kvBytes({ hidden, layers, heads, kvHeads }: Shape): number {
  return BYTES * 2 * layers * kvHeads * (hidden / heads);
}

/**
 * A roofline: weights are read once, or products take longer; KV is read on top; copies and all-reduces are paid in
 * full, nothing overlaps. `cards` share weights and KV heads evenly.
 */
export function rooflineCost(shape: Shape, card: Card, cards: number, blockTokens: number): StepCost {
  const { hidden, layers, heads, vocab } = shape;
  const head = BYTES * vocab * hidden;
  const body = weightBytes(shape) - head;
  const kv = kvBytes(shape);
  const weightRate = cards * card.bandwidth * card.weightShare / 1e6;
  const kvRate = cards * card.bandwidth * card.kvShare / 1e6;
  const flopRate = cards * card.flops * card.flopShare / 1e6;
  const fixed = card.stepMicros + card.kernelMicros * card.kernelsPerLayer * layers;
  const pairFlops = 4 * hidden / heads * heads * layers;
  const reduces = cards > 1 ? 2 * layers : 0;
  return ({ rows, samples, decodeKv, prefillKv, prefillPairs, movedBlocks }) => {
    const product = Math.max(body / weightRate, rows * body / flopRate);
    const logits = samples > 0 ? Math.max(head / weightRate, samples * head / flopRate) : 0;
    const attention = Math.max((decodeKv + prefillKv) * kv / kvRate, prefillPairs * pairFlops / flopRate);
    const moves = 2 * movedBlocks * blockTokens * kv / kvRate;
    const ring = 2 * (cards - 1) / cards * rows * hidden * BYTES / card.linkBandwidth * 1e6;
    return fixed + product + logits + attention + moves + reduces * (card.linkMicros + ring);
  };
}

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
