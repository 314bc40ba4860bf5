/**
 * DRY, "don't repeat yourself", as llama.cpp has it: a token that would prolong a repetition of what came before gets
 * a penalty that grows with the repetition's length. Made of the known tokens, it reaches the sampler as biases.
 *
 * @module
 */
import { KVRM } from "../ffi/mod.ts";
import type { Ring } from "./ring.ts";

/** Where repetitions end: sequences of tokens that have a sequence breaker's text within them. */
export interface Breakers {
  /** Bits of the tokens that are enough alone. [ceil(vocab / 32)] */
  alone: Uint32Array;
  /** Tokens that end with a part of a breaker, and which tail each of them needs to follow. [heads] */
  heads: Int32Array;
  tailOf: Int32Array;
  /** The tails' tokens, one tail after another, and how many each of them has. */
  tailTokens: Int32Array;
  tailLengths: Int32Array;
}

/** What a request says of DRY, checked: see {@link checkDry}. */
export interface DryOptions {
  /** Penalty of a repetition of `allowedLength` tokens; not 0. */
  multiplier: number;
  /** What it is multiplied with for each token more. */
  base: number;
  /** Tokens that may come again before the next one is penalised. */
  allowedLength: number;
  /** Tokens that are looked back on at most. */
  lastTokens: number;
  breakers: Breakers;
}

/** Sequences of two tokens and more that break, of one head. */
type Tails = { from: number; length: number }[];

/** The penalties of one sequence. Allocates nothing after its making. */
export class DryPenalty {
  /** The tokens that the last {@link find} has penalised, the first `count` of them. */
  readonly tokens = new Int32Array(KVRM.MAX_BIASES);
  /** What is to be subtracted from their logits. */
  readonly penalties = new Float32Array(KVRM.MAX_BIASES);
  count = 0;
  readonly #options: DryOptions;
  readonly #maxExponent: number;
  /** Of the tokens `i` before the last one: how many, going back, are the same as those before the last. */
  readonly #same: Int32Array;
  readonly #lengths = new Int32Array(KVRM.MAX_BIASES);
  /** 1 + a token's place in `tokens`, 0: not found. */
  readonly #placeOf: Uint16Array;
  readonly #tails = new Map<number, Tails>();

  /** @param most tokens that the sequence can have */
  constructor(options: DryOptions, most: number) {
    this.#options = options;
    const { base, breakers: { alone, heads, tailOf, tailLengths } } = options;
    // As llama.cpp bounds the power, so that it stays within float32.
    this.#maxExponent = base > 1.000001 ? Math.floor(88.7228391 / Math.log(base)) : 0;
    this.#same = new Int32Array(Math.min(options.lastTokens, most));
    this.#placeOf = new Uint16Array(32 * alone.length);
    const starts = [0];
    for (const length of tailLengths) starts.push(starts.at(-1)! + length);
    heads.forEach((head, i) => {
      const tail = { from: starts[tailOf[i]!]!, length: tailLengths[tailOf[i]!]! };
      this.#tails.set(head, [...this.#tails.get(head) ?? [], tail]);
    });
  }

  /** Finds the penalties of the token that follows the first `length` of `known`. */
  find(known: Int32Array, length: number): void {
    this.count = 0;
    const { allowedLength, lastTokens } = this.#options;
    const n = Math.min(length, lastTokens);
    if (n <= allowedLength) return;
    const limit = this.#sinceBreaker(known, length, n);
    if (limit < allowedLength) return;
    // The Z-algorithm, backwards: [left, right) are known to be the same as what [0, right - left) are.
    const last = length - 1;
    const same = this.#same;
    let left = 0;
    let right = 0;
    for (let k = 1; k < n; k++) {
      let count = k < right ? Math.min(same[k - left]!, right - k) : 0;
      while (count < limit && k + count < n && known[last - count] === known[last - k - count]) count++;
      same[k] = count;
      if (k + count > right) {
        left = k;
        right = k + count;
      }
      if (count >= allowedLength) this.#found(known[last - k + 1]!, count);
    }
    for (let i = 0; i < this.count; i++) {
      this.#placeOf[this.tokens[i]!] = 0;
      this.penalties[i] = this.#penalty(this.#lengths[i]!);
    }
  }

  #penalty(length: number): number {
    let exponent = length - this.#options.allowedLength;
    if (this.#maxExponent > 0) exponent = Math.min(exponent, this.#maxExponent);
    return Math.min(3e38, this.#options.multiplier * this.#options.base ** exponent);
  }

  /** `token` would prolong a repetition of `length` tokens. */
  #found(token: number, length: number): void {
    if (this.#breaksAlone(token)) return;
    const place = this.#placeOf[token]!;
    if (place > 0) {
      this.#lengths[place - 1] = Math.max(this.#lengths[place - 1]!, length);
    } else if (this.count < this.tokens.length) { // else there were as many that are more recent
      this.tokens[this.count] = token;
      this.#lengths[this.count] = length;
      this.#placeOf[token] = ++this.count;
    }
  }

  /** How many of the last `n` tokens come after the last breaker. */
  #sinceBreaker(known: Int32Array, length: number, n: number): number {
    for (let i = 0; i < n; i++) {
      const token = known[length - 1 - i]!;
      let longest = this.#breaksAlone(token) ? 0 : -1;
      const tails = this.#tails.get(token);
      if (tails !== undefined) {
        for (let t = 0; t < tails.length; t++) {
          const tail = tails[t]!;
          if (
            tail.length > longest && tail.length <= i &&
            this.#follows(tail.from, tail.length, known, length - i)
          ) {
            longest = tail.length;
          }
        }
      }
      if (longest >= 0) return i - longest;
    }
    return n;
  }

  #follows(from: number, count: number, known: Int32Array, at: number): boolean {
    const { tailTokens } = this.#options.breakers;
    for (let i = 0; i < count; i++) if (tailTokens[from + i] !== known[at + i]) return false;
    return true;
  }

  #breaksAlone(token: number): boolean {
    return (this.#options.breakers.alone[token >> 5]! >>> (token & 31) & 1) !== 0;
  }
}

/** The parts of {@link Breakers}, in the order in which they are on the ring. */
function parts({ alone, heads, tailOf, tailTokens, tailLengths }: Breakers): (Int32Array | Uint32Array)[] {
  return [alone, heads, tailOf, tailTokens, tailLengths];
}

/** Words that they take on the ring. */
export function dryWords(options: DryOptions | null): number {
  if (options === null) return 0;
  return 4 + parts(options.breakers).reduce((sum, { length }) => sum + 1 + length, 0);
}

/** Puts them on the ring; {@link takeDry} takes them. */
export function putDry(ring: Ring, options: DryOptions): void {
  ring.putFloat(options.multiplier);
  ring.putFloat(options.base);
  ring.put(options.allowedLength);
  ring.put(options.lastTokens);
  for (const array of parts(options.breakers)) {
    ring.put(array.length);
    for (let i = 0; i < array.length; i++) ring.put(array[i]!);
  }
}

/** Takes what {@link putDry} has put. */
export function takeDry(ring: Ring): DryOptions {
  const multiplier = ring.takeFloat();
  const base = ring.takeFloat();
  const allowedLength = ring.take();
  const lastTokens = ring.take();
  const array = <A extends Int32Array | Uint32Array>(make: new (length: number) => A) => {
    const taken = new make(ring.take());
    for (let i = 0; i < taken.length; i++) taken[i] = ring.take();
    return taken;
  };
  const breakers = {
    alone: array(Uint32Array),
    heads: array(Int32Array),
    tailOf: array(Int32Array),
    tailTokens: array(Int32Array),
    tailLengths: array(Int32Array),
  };
  return { multiplier, base, allowedLength, lastTokens, breakers };
}
