/**
 * Checks what a request says of DRY, and finds the tokens of its sequence breakers.
 *
 * @module
 */
import { integer, number } from "./checks.ts";
import type { Breakers, DryOptions } from "./dry.ts";
import { InvalidRequestError } from "./errors.ts";
import type { SamplingParams } from "./types.ts";

/** What DRY's fields are held against. */
export interface DryLimits {
  /** Tokens of a sequence at most. */
  maxContext: number;
  /** Tokens of the breakers' texts. */
  breakers: (texts: readonly string[]) => Breakers;
}

/** llama.cpp's. */
const DEFAULT_BREAKERS = ["\n", ":", '"', "*"];
const DEFAULT_BASE = 1.75;

/** Breakers of a request at most, and bytes of one that are looked at; the latter as llama.cpp has it. */
const MOST_BREAKERS = 64;
const MOST_BYTES = 40;

/** Tokens of a breaker's rest that have to follow, at most; as llama.cpp has it. */
const MOST_TAIL = 20;

/** Tokens that begin a breaker at most, of all breakers, and tokens of all tails. */
const MOST_HEADS = 32768;
const MOST_TAIL_TOKENS = MOST_BREAKERS * MOST_BYTES * MOST_TAIL;

/** Words on the ring that DRY takes at most, beside a bit for each token. */
export const MOST_DRY_WORDS = 2 * MOST_HEADS + MOST_TAIL_TOKENS + MOST_BREAKERS * MOST_BYTES + 16;

/**
 * What a request says of DRY; null where it does nothing.
 *
 * @throws {InvalidRequestError} naming the field, the value found and the value wanted
 */
export function checkDry(sampling: SamplingParams, limits: DryLimits): DryOptions | null {
  const multiplier = number("dry_multiplier", sampling.dryMultiplier ?? 0, 0, 100);
  const base = number("dry_base", sampling.dryBase ?? DEFAULT_BASE, 0, 100);
  const allowed = integer("dry_allowed_length", sampling.dryAllowedLength ?? 2, 0, 2 ** 31 - 1);
  const last = integer("dry_penalty_last_n", sampling.dryPenaltyLastN ?? -1, -1, 2 ** 31 - 1);
  const texts = sampling.drySequenceBreakers ?? DEFAULT_BREAKERS;
  if (texts.length > MOST_BREAKERS || texts.includes("")) {
    throw new InvalidRequestError(
      `dry_sequence_breakers has ${texts.includes("") ? "an empty text" : `${texts.length} texts`}, ` +
        `wanted at most ${MOST_BREAKERS}, none of them empty`,
      "dry_sequence_breakers",
    );
  }
  if (Math.fround(multiplier) === 0 || last === 0) return null;
  return {
    multiplier,
    // A power of less than 1 would fall with the repetition's length: as llama.cpp's server has it, the default instead.
    base: base < 1 ? DEFAULT_BASE : base,
    allowedLength: allowed,
    lastTokens: last === -1 ? limits.maxContext : last,
    breakers: limits.breakers(texts),
  };
}

/** A vocabulary, as breakers are looked for in it. */
export interface BreakerVocabulary {
  /** Ids that the model knows. */
  size: number;
  /** A token's own bytes within a text. */
  bytes: (token: number) => Uint8Array;
  /** Tokens of a text, without any that a prompt would begin with. */
  encode: (text: string) => readonly number[];
}

/** How many sets of breakers are kept: clients have one each, as a rule. */
const KEPT = 16;

/** Finds breakers' tokens, and keeps what it has found: a walk through the vocabulary takes a while. */
export class BreakerIndex {
  readonly #vocabulary: BreakerVocabulary;
  readonly #kept = new Map<string, Breakers>();

  constructor(vocabulary: BreakerVocabulary) {
    this.#vocabulary = vocabulary;
  }

  /**
   * The tokens of the breakers `texts`.
   *
   * @throws {InvalidRequestError} when too many tokens begin one
   */
  of(texts: readonly string[]): Breakers {
    const key = JSON.stringify(texts);
    const known = this.#kept.get(key);
    if (known !== undefined) return known;
    const found = findBreakers(texts, this.#vocabulary);
    const oldest = this.#kept.keys().next();
    if (this.#kept.size >= KEPT && !oldest.done) this.#kept.delete(oldest.value);
    this.#kept.set(key, found);
    return found;
  }
}

const utf8 = new TextEncoder();

/** Bytes as a text of as many letters, in which bytes can be looked for. */
function letters(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}

function findBreakers(texts: readonly string[], { size, bytes, encode }: BreakerVocabulary): Breakers {
  const alone = new Uint32Array(Math.ceil(size / 32));
  const heads: number[] = [];
  const tailOf: number[] = [];
  const tails: (readonly number[])[] = [];
  const tailAt = new Map<string, number>();
  const byFirst: string[][] = [];
  for (const text of new Set(texts)) {
    const breaker = letters(utf8.encode(text).subarray(0, MOST_BYTES));
    (byFirst[breaker.charCodeAt(0)] ??= []).push(breaker);
  }
  const tail = (rest: string): number => {
    const at = tailAt.get(rest);
    if (at !== undefined) return at;
    const text = new TextDecoder().decode(Uint8Array.from(rest, (letter) => letter.charCodeAt(0)));
    tailAt.set(rest, tails.length);
    return tails.push(encode(text).slice(0, MOST_TAIL)) - 1;
  };
  for (let token = 0; token < size; token++) {
    const own = letters(bytes(token));
    for (let at = 0; at < own.length; at++) {
      for (const breaker of byFirst[own.charCodeAt(at)] ?? []) {
        if (own.includes(breaker)) {
          alone[token >> 5]! |= 1 << (token & 31);
        } else if (breaker.startsWith(own.slice(at))) { // the rest has to follow
          heads.push(token);
          tailOf.push(tail(breaker.slice(own.length - at)));
        }
      }
    }
    if (heads.length > MOST_HEADS) {
      throw new InvalidRequestError(
        `dry_sequence_breakers begin in more than ${MOST_HEADS} ways, wanted at most as many`,
        "dry_sequence_breakers",
      );
    }
  }
  return {
    alone,
    heads: Int32Array.from(heads),
    tailOf: Int32Array.from(tailOf),
    tailTokens: Int32Array.from(tails.flat()),
    tailLengths: Int32Array.from(tails, ({ length }) => length),
  };
}
