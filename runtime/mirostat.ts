/**
 * Mirostat: keeps the surprise of an answer's tokens near a target, as llama.cpp has it. The sampler cuts the
 * distribution by a number of bits, mu, and tells how much the drawn token surprised; mu follows from that here.
 *
 * @module
 */
import { SLOT } from "../ffi/mod.ts";
import { number } from "./checks.ts";
import { InvalidRequestError } from "./errors.ts";
import type { Ring } from "./ring.ts";
import type { SamplingParams } from "./types.ts";

/** What a request wants of it. */
export interface MirostatOptions {
  version: 1 | 2;
  /** The surprise that is aimed at, in bits. */
  tau: number;
  /** How much of its error each token corrects. */
  eta: number;
}

/** Words on the ring. */
export const MIROSTAT_WORDS = 3;

/** Bits that mu stays within: far beyond what any distribution has, and finite in float32. */
const MOST_BITS = 1e30;

/**
 * A request's mirostat; null without it.
 *
 * @throws {InvalidRequestError} naming the field, the value found and the value wanted
 */
export function checkMirostat(sampling: SamplingParams): MirostatOptions | null {
  const version = sampling.mirostat ?? 0;
  const tau = number("mirostat_tau", sampling.mirostatTau ?? 5, 0, 100);
  const eta = number("mirostat_eta", sampling.mirostatEta ?? 0.1, 0, 10);
  if (version !== 0 && version !== 1 && version !== 2) {
    throw new InvalidRequestError(`mirostat is ${version}, wanted 0, 1 or 2`, "mirostat");
  }
  return version === 0 ? null : { version, tau: Math.fround(tau), eta: Math.fround(eta) };
}

/** Puts it on the ring; {@link takeMirostat} takes it. */
export function putMirostat(ring: Ring, options: MirostatOptions | null): void {
  ring.put(options?.version ?? 0);
  ring.putFloat(options?.tau ?? 0);
  ring.putFloat(options?.eta ?? 0);
}

/** Takes what {@link putMirostat} has put. */
export function takeMirostat(ring: Ring): MirostatOptions | null {
  const version = ring.take();
  const tau = ring.takeFloat();
  const eta = ring.takeFloat();
  return version === 0 ? null : { version: version as 1 | 2, tau, eta };
}

/** The state of one sequence: its next token waits for the surprise of the last. Allocates nothing. */
export class Mirostat {
  readonly #version: 1 | 2;
  readonly #tau: number;
  readonly #eta: number;
  #mu: number;

  constructor({ version, tau, eta }: MirostatOptions) {
    this.#version = version;
    this.#tau = tau;
    this.#eta = eta;
    this.#mu = 2 * tau;
  }

  /** The bits by which the next token's distribution is cut. */
  get mu(): number {
    return this.#mu;
  }

  /** A token was drawn that surprised by so many bits. */
  drawn(surprise: number): void {
    this.#mu = Math.max(-MOST_BITS, this.#mu - this.#eta * (surprise - this.#tau));
  }

  /** Writes it into the slot whose record begins at word `at`. */
  write(u32: Uint32Array, f32: Float32Array, at: number): void {
    u32[at + SLOT.mirostat] = this.#version;
    f32[at + SLOT.mirostat_mu] = Math.min(MOST_BITS, this.#mu);
  }
}
