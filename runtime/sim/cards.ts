/**
 * Cards and models whose steps can be worked out: what `--backend sim` knows by name.
 *
 * @module
 */
import { InvalidRequestError } from "../errors.ts";
import type { Card, Shape } from "./cost.ts";

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

/** Cards by name. */
export const CARDS: Readonly<Record<string, Card>> = { h200: H200 };

/** Llama 3.1 8B and 70B: shapes by name. */
export const SHAPES: Readonly<Record<string, Shape & { maxPosition: number }>> = {
  "8b": {
    hidden: 4096,
    intermediate: 14_336,
    layers: 32,
    heads: 32,
    kvHeads: 8,
    vocab: 128_256,
    maxPosition: 131_072,
  },
  "70b": {
    hidden: 8192,
    intermediate: 28_672,
    layers: 80,
    heads: 64,
    kvHeads: 8,
    vocab: 128_256,
    maxPosition: 131_072,
  },
};

/**
 * A card by its name, or from a JSON file with the fields of {@link Card}; those that it leaves out are the H200's.
 *
 * @throws {InvalidRequestError} naming the field, the value found and the value wanted
 */
export function readCard(name: string): Card {
  const known = CARDS[name];
  if (known !== undefined) return known;
  const refuse = (why: string, cause?: unknown): never => {
    throw new InvalidRequestError(
      `simCard is ${name}, wanted one of ${Object.keys(CARDS).join(", ")} or a JSON file: ${why}`,
      "simCard",
      null,
      { cause },
    );
  };
  let read: unknown;
  try {
    read = JSON.parse(Deno.readTextFileSync(name));
  } catch (error) {
    return refuse((error as Error).message, error);
  }
  if (typeof read !== "object" || read === null || Array.isArray(read)) return refuse("it holds no object");
  for (const [field, value] of Object.entries(read)) {
    if (!(field in H200)) {
      return refuse(`it has a field ${field}, and there are ${Object.keys(H200).join(", ")}`);
    }
    if (field === "name") {
      if (typeof value !== "string") return refuse(`name is ${JSON.stringify(value)}, wanted a string`);
    } else if (typeof value !== "number" || !(value >= 0) || (NOT_ZERO.has(field) && value === 0)) {
      return refuse(`${field} is ${JSON.stringify(value)}, wanted a number above 0`);
    }
  }
  return { ...H200, name, ...read };
}

/** What is divided by. */
const NOT_ZERO = new Set([
  "bandwidth",
  "flops",
  "memory",
  "weightShare",
  "kvShare",
  "flopShare",
  "linkBandwidth",
]);
