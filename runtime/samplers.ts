/**
 * llama.cpp's samplers: what a request wants of them, and how it gets to the library. `csrc/kvrm.h` says what
 * they do.
 *
 * @module
 */
import { SLOT } from "../ffi/mod.ts";
import { number } from "./checks.ts";
import type { Ring } from "./ring.ts";
import type { SamplingParams } from "./types.ts";

/** As the descriptor has them: 0 is off. */
export interface SamplerOptions {
  topNSigma: number;
  typicalP: number;
  xtcProbability: number;
  xtcThreshold: number;
  dynatempRange: number;
  dynatempExponent: number;
}

/** Each of them, with the field of a slot that it becomes. */
const FIELDS: readonly [keyof SamplerOptions, number][] = [
  ["topNSigma", SLOT.top_n_sigma],
  ["typicalP", SLOT.typical_p],
  ["xtcProbability", SLOT.xtc_probability],
  ["xtcThreshold", SLOT.xtc_threshold],
  ["dynatempRange", SLOT.dynatemp_range],
  ["dynatempExponent", SLOT.dynatemp_exponent],
];

/** Words of all of them on the ring. */
export const SAMPLER_WORDS = FIELDS.length;

/** The library takes float32, and 0 for off. */
const LEAST = 1e-30;

/**
 * The samplers of a request; null where none of them would do anything.
 *
 * @throws {InvalidRequestError} naming the field, the value found and the value wanted
 */
export function checkSamplers(sampling: SamplingParams): SamplerOptions | null {
  const sigmas = number("top_n_sigma", sampling.topNSigma ?? -1, -1, 1000);
  const typical = number("typical_p", sampling.typicalP ?? 1, 0, 1);
  const options = {
    topNSigma: sigmas > 0 ? Math.max(LEAST, sigmas) : 0,
    typicalP: typical < 1 ? Math.max(LEAST, typical) : 0,
    xtcProbability: number("xtc_probability", sampling.xtcProbability ?? 0, 0, 1),
    xtcThreshold: number("xtc_threshold", sampling.xtcThreshold ?? 0.1, 0, 1),
    dynatempRange: number("dynatemp_range", sampling.dynatempRange ?? 0, 0, 100),
    dynatempExponent: number("dynatemp_exponent", sampling.dynatempExponent ?? 1, 0, 100),
  };
  const { topNSigma, typicalP, xtcProbability, dynatempRange } = options;
  return topNSigma + typicalP + xtcProbability + dynatempRange > 0 ? options : null;
}

/** Writes them into the slot whose record begins at word `at`. */
export function writeSamplers(f32: Float32Array, at: number, options: SamplerOptions): void {
  for (let i = 0; i < FIELDS.length; i++) f32[at + FIELDS[i]![1]] = options[FIELDS[i]![0]];
}

/** Puts them on the ring; {@link takeSamplers} takes them. */
export function putSamplers(ring: Ring, options: SamplerOptions): void {
  for (const [name] of FIELDS) ring.putFloat(options[name]);
}

/** Takes what {@link putSamplers} has put. */
export function takeSamplers(ring: Ring): SamplerOptions {
  return Object.fromEntries(FIELDS.map(([name]) => [name, ring.takeFloat()])) as unknown as SamplerOptions;
}
