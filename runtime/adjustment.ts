/**
 * What a sequence with penalties or biases wants its slot's token state to be, as a list of edits that is
 * sent over as many steps as it takes. docs/descriptor.md explains token states.
 *
 * @module
 */
import { EDIT, KVRM } from "../ffi/mod.ts";

/** The options that change logits. */
export interface AdjustmentOptions {
  prompt: Int32Array;
  maxTokens: number;
  presencePenalty: number;
  frequencyPenalty: number;
  repetitionPenalty: number;
  biasTokens: Int32Array;
  biasValues: Float32Array;
}

/** Options that change no logit, rule no token out, and shape no distribution. */
export const UNADJUSTED = {
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
  biasTokens: new Int32Array(0),
  biasValues: new Float32Array(0),
  rules: null,
  samplers: null,
} as const;

/**
 * The edits of one sequence: CLEAR, its prompt's tokens, its biases, and the tokens of the answer that it
 * had when it got its slot. From then on the engine counts what it samples.
 */
export class Adjustment {
  /** The prompt's different tokens, where a penalty looks at them. */
  readonly #promptTokens: Int32Array;
  readonly #biasTokens: Int32Array;
  /** The biases' bits. */
  readonly #biasBits: Uint32Array;
  /** Whether a penalty looks at the answer. */
  readonly #counts: boolean;
  #all = 0;
  /** Edits sent since the slot was entered. */
  #sent = 0;

  private constructor(options: AdjustmentOptions, penalised: boolean) {
    this.#promptTokens = options.repetitionPenalty === 1
      ? new Int32Array(0)
      : Int32Array.from(new Set(options.prompt));
    this.#biasTokens = options.biasTokens;
    this.#biasBits = new Uint32Array(options.biasValues.slice().buffer);
    this.#counts = penalised;
  }

  /** Null when the options change no logit, or nothing is sampled. */
  static of(options: AdjustmentOptions): Adjustment | null {
    const penalised = options.presencePenalty !== 0 || options.frequencyPenalty !== 0 ||
      options.repetitionPenalty !== 1;
    if (options.maxTokens === 0 || (!penalised && options.biasTokens.length === 0)) return null;
    return new Adjustment(options, penalised);
  }

  /** The sequence has entered a slot with so many tokens of its answer: everything is to be sent. */
  enter(generated: number): void {
    this.#all = 1 + this.#promptTokens.length + this.#biasTokens.length + (this.#counts ? generated : 0);
    this.#sent = 0;
  }

  /** Edits that are still to be sent before the slot may sample. */
  get left(): number {
    return this.#all - this.#sent;
  }

  /** The next `count` edits are on their way. */
  advance(count: number): void {
    this.#sent += count;
  }

  /** Writes the next `count` edits of `slot` from word `at` on. `answer`: the tokens generated so far. */
  write(u32: Uint32Array, at: number, slot: number, count: number, answer: Int32Array, first: number): void {
    const prompt = 1;
    const biases = prompt + this.#promptTokens.length;
    const counts = biases + this.#biasTokens.length;
    for (let i = this.#sent; i < this.#sent + count; i++, at += EDIT.words) {
      let kind: number = KVRM.EDIT_CLEAR;
      let token = 0;
      let value = 0;
      if (i >= counts) {
        kind = KVRM.EDIT_COUNT;
        token = answer[first + i - counts]!;
        value = 1;
      } else if (i >= biases) {
        kind = KVRM.EDIT_BIAS;
        token = this.#biasTokens[i - biases]!;
        value = this.#biasBits[i - biases]!;
      } else if (i >= prompt) {
        kind = KVRM.EDIT_PROMPT;
        token = this.#promptTokens[i - prompt]!;
      }
      u32[at + EDIT.slot_kind] = (slot | kind << 16) >>> 0;
      u32[at + EDIT.token] = token;
      u32[at + EDIT.value] = value;
      u32[at + EDIT.reserved0] = 0;
    }
  }
}
