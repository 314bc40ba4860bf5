/**
 * Which tokens a request's own rules leave to the sampler: allowed ids, no end before so many tokens, and no bad
 * words. They reach it as a grammar does, by a row of the descriptor's masks.
 *
 * @module
 */
import type { Sequence } from "./sequence.ts";

/** A request's rules, checked: see {@link checkRules}. */
export interface RuleOptions {
  /** Ids that the model knows. */
  vocab: number;
  /** Bits of the tokens that may be sampled at all [ceil(vocab / 32)], those beyond the vocabulary 0; empty: all. */
  allowed: Uint32Array;
  /** Tokens of the answer before which none of `endTokens` may come. */
  minTokens: number;
  /** Different ids that end an answer: the model's own, whether it ends at them or not, and the request's. */
  endTokens: Int32Array;
  /** Sequences of two tokens or more, none of which the answer may have: tokens one after another. */
  badTokens: Int32Array;
  /** How many tokens each of them has. */
  badLengths: Int32Array;
}

/** The rules of one sequence, and the mask of the token that it samples next. Allocates nothing after its making. */
export class TokenRules {
  /** Whether a mask depends on the token before it, so that the sequence cannot run a step ahead. */
  readonly waits: boolean;
  readonly #allowed: Uint32Array;
  /** Whether `#allowed` leaves anything out. */
  readonly #restricts: boolean;
  readonly #minTokens: number;
  readonly #endTokens: Int32Array;
  readonly #badTokens: Int32Array;
  readonly #badLengths: Int32Array;
  readonly #scratch: Uint32Array;
  #mask: Uint32Array | null = null;

  constructor({ vocab, allowed, minTokens, endTokens, badTokens, badLengths }: RuleOptions) {
    this.#restricts = allowed.length > 0;
    this.#allowed = this.#restricts ? allowed : everyToken(vocab);
    this.#minTokens = minTokens;
    this.#endTokens = endTokens;
    this.#badTokens = badTokens;
    this.#badLengths = badLengths;
    this.#scratch = new Uint32Array(this.#allowed.length);
    this.waits = badLengths.length > 0;
  }

  /** What {@link prepare} made: the bits of the tokens that may come; null where all may. */
  get mask(): Uint32Array | null {
    return this.#mask;
  }

  /**
   * Makes the mask of the next token that `sequence` samples, within its grammar's where it has one. With
   * {@link waits} all of its tokens have to be known. False: no token is left.
   */
  prepare(sequence: Sequence, grammar: Uint32Array | null): boolean {
    const early = sequence.nextSample < this.#minTokens;
    if (grammar === null && !early && !this.waits) {
      this.#mask = this.#restricts ? this.#allowed : null;
      return true;
    }
    const mask = this.#scratch;
    mask.set(this.#allowed);
    if (grammar !== null) and(mask, grammar);
    const banned = this.waits && this.#banWords(mask, sequence);
    if (early) { for (let i = 0; i < this.#endTokens.length; i++) clear(mask, this.#endTokens[i]!); }
    this.#mask = grammar !== null || this.#restricts || early || banned ? mask : null;
    return anyOf(mask) || (grammar !== null && this.#endWith(mask, grammar));
  }

  /** Takes the last token of each bad word out whose others are the answer's last; whether there was one. */
  #banWords(mask: Uint32Array, { tokens, length, generated }: Sequence): boolean {
    const words = this.#badTokens;
    let found = false;
    for (let i = 0, end = 0; i < this.#badLengths.length; i++) {
      const before = this.#badLengths[i]! - 1;
      end += before + 1;
      if (generated < before) continue;
      let same = 0;
      while (same < before && tokens[length - 1 - same] === words[end - 2 - same]) same++;
      if (same < before) continue;
      clear(mask, words[end - 1]!);
      found = true;
    }
    return found;
  }

  /** A text that is whole by its grammar may end, since it cannot go on. */
  #endWith(mask: Uint32Array, grammar: Uint32Array): boolean {
    for (let i = 0; i < this.#endTokens.length; i++) {
      const token = this.#endTokens[i]!;
      mask[token >> 5]! |= grammar[token >> 5]! & 1 << (token & 31);
    }
    return anyOf(mask);
  }
}

/** The mask [ceil(vocab / 32)] of all tokens, without a bit beyond them. */
export function everyToken(vocab: number): Uint32Array {
  const mask = new Uint32Array(Math.ceil(vocab / 32)).fill(-1);
  if (vocab % 32 !== 0) mask[mask.length - 1] = 2 ** (vocab % 32) - 1;
  return mask;
}

/** Whether a mask leaves a token. */
export function anyOf(mask: Uint32Array): boolean {
  for (let i = 0; i < mask.length; i++) if (mask[i] !== 0) return true;
  return false;
}

/** Whether a mask leaves this token. */
export function has(mask: Uint32Array, token: number): boolean {
  return (mask[token >> 5]! >>> (token & 31) & 1) !== 0;
}

/** Takes a token out of a mask. */
export function clear(mask: Uint32Array, token: number): void {
  mask[token >> 5]! &= ~(1 << (token & 31));
}

function and(mask: Uint32Array, other: Uint32Array): void {
  for (let i = 0; i < mask.length; i++) mask[i]! &= other[i]!;
}
