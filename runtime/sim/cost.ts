/**
 * How long a step takes on a card, by what its descriptor asks for.
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
