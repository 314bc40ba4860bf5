/**
 * What a sequence with penalties or biases wants its slot's token state to be, as a list of edits that is
 * sent over as many steps as it takes. docs/descriptor.md explains token states.
 *
 * @module
 */
import { EDIT, KVRM } from "../ffi/mod.ts";
import { type DryOptions, DryPenalty } from "./dry.ts";

/** The options that change logits. */
export interface AdjustmentOptions {
  prompt: Int32Array;
  maxTokens: number;
  presencePenalty: number;
  frequencyPenalty: number;
  repetitionPenalty: number;
  /** Tokens of prompt and answer, the last ones, that the penalties look at; 0: as docs/descriptor.md has it, at all. */
  penaltyLastN: number;
  biasTokens: Int32Array;
  biasValues: Float32Array;
  dry: DryOptions | null;
}

/** Options that change no logit, rule no token out, and shape no distribution. */
export const UNADJUSTED = {
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
  penaltyLastN: 0,
  biasTokens: new Int32Array(0),
  biasValues: new Float32Array(0),
  rules: null,
  dry: null,
  samplers: null,
  mirostat: null,
} as const;

/** Tokens at most that penalties look back on where they do not look at all: each is an edit of each step. */
export const MOST_WINDOW = 1024;

/** Values of a CLEAR: what the slot forgets. */
const EVERYTHING = 0;
const BIASES = 1;

/**
 * The edits of one sequence. When it enters a slot: CLEAR, its prompt's tokens, the tokens of the answer that it has
 * by then, and its biases; from then on the engine counts what it samples. With DRY the biases change from token to
 * token, and are sent anew where they do; penalties of the last tokens alone have everything sent anew.
 */
export class Adjustment {
  /** The prompt's different tokens, where a penalty looks at them. */
  readonly #promptTokens: Int32Array;
  /** The request's own biases, and their values' bits. */
  readonly #ownTokens: Int32Array;
  readonly #ownValues: Float32Array;
  /** Those that are sent, the first `#biasCount`: the request's own, and with DRY its penalties too. */
  readonly #biasTokens: Int32Array;
  readonly #biasValues: Float32Array;
  readonly #biasBits: Uint32Array;
  /** Whether a penalty looks at the answer. */
  readonly #counts: boolean;
  readonly #dry: DryPenalty | null;
  /** Tokens that penalties look at, prompt and answer alike; 0: the prompt's and the answer's, each in its way. */
  readonly #window: number;
  /** Tokens that the sequence had when DRY, or the window, looked at it last; -1: not in this slot. */
  #lookedAt = -1;
  /** Whether the slot's biases are others than the request's own. */
  #penalised = false;
  // The list that is being sent: one CLEAR or none, prompt, answer, biases; and how much of it was.
  #clears = 0;
  #clearValue = EVERYTHING;
  #promptCount = 0;
  #answerCount = 0;
  /** The first token to count, by its place in the window's text. */
  #answerFirst = 0;
  #biasCount = 0;
  #sent = 0;

  private constructor(options: AdjustmentOptions, penalised: boolean) {
    this.#promptTokens = options.repetitionPenalty === 1
      ? new Int32Array(0)
      : Int32Array.from(new Set(options.prompt));
    this.#ownTokens = options.biasTokens;
    this.#ownValues = options.biasValues;
    const { dry } = options;
    this.#dry = dry === null ? null : new DryPenalty(dry, options.prompt.length + options.maxTokens);
    this.#biasTokens = dry === null ? this.#ownTokens : new Int32Array(KVRM.MAX_BIASES);
    this.#biasValues = dry === null ? this.#ownValues.slice() : new Float32Array(KVRM.MAX_BIASES);
    this.#biasTokens.set(this.#ownTokens);
    this.#biasBits = new Uint32Array(this.#biasValues.buffer);
    this.#counts = penalised;
    this.#window = penalised ? options.penaltyLastN : 0;
  }

  /** Null when the options change no logit, or nothing is sampled. */
  static of(options: AdjustmentOptions): Adjustment | null {
    const penalised = options.presencePenalty !== 0 || options.frequencyPenalty !== 0 ||
      options.repetitionPenalty !== 1;
    const biased = options.biasTokens.length > 0 || options.dry !== null;
    if (options.maxTokens === 0 || (!penalised && !biased)) return null;
    return new Adjustment(options, penalised);
  }

  /** Whether the edits depend on the token before, so that the sequence cannot run a step ahead. */
  get waits(): boolean {
    return this.#dry !== null || this.#window > 0;
  }

  /** The sequence has entered a slot with so many tokens of its answer: everything is to be sent. */
  enter(generated: number): void {
    this.#clears = 1;
    this.#clearValue = EVERYTHING;
    this.#promptCount = this.#promptTokens.length;
    this.#answerCount = this.#counts ? generated : 0;
    this.#biasCount = this.#ownTokens.length;
    this.#biasValues.set(this.#ownValues);
    this.#sent = 0;
    this.#lookedAt = -1;
    this.#penalised = false;
  }

  /**
   * Before the edits of the token that follows the first `length` of `known` are sent: makes what depends on these.
   * All tokens have to be known where {@link waits}; nothing happens elsewhere.
   */
  prepare(known: Int32Array, length: number): void {
    if (!this.waits || this.#lookedAt === length) return;
    const entered = this.#lookedAt < 0;
    this.#lookedAt = length;
    const dry = this.#dry;
    dry?.find(known, length);
    const penalised = dry !== null && dry.count > 0;
    if (this.#window > 0) {
      this.#restart(EVERYTHING);
      this.#answerCount = Math.min(this.#window, length);
      this.#answerFirst = length - this.#answerCount;
    } else if (!entered) {
      if (!penalised && !this.#penalised) return;
      this.#restart(BIASES);
    }
    this.#penalised = penalised;
    this.#biasValues.set(this.#ownValues);
    this.#biasCount = this.#ownTokens.length;
    if (dry !== null) this.#addPenalties(dry);
  }

  /** Begins a list anew: with nothing but what the slot is to forget. */
  #restart(clearValue: number): void {
    this.#clears = 1;
    this.#clearValue = clearValue;
    this.#promptCount = this.#answerCount = this.#sent = 0;
  }

  /** To the request's own biases, the penalties: for as many tokens as a slot can have biases of. */
  #addPenalties({ tokens, penalties, count }: DryPenalty): void {
    const own = this.#ownTokens.length;
    for (let i = 0; i < count; i++) {
      let at = 0;
      while (at < own && this.#ownTokens[at] !== tokens[i]) at++;
      if (at < own) {
        this.#biasValues[at]! -= penalties[i]!;
      } else if (this.#biasCount < this.#biasTokens.length) {
        this.#biasTokens[this.#biasCount] = tokens[i]!;
        this.#biasValues[this.#biasCount++] = -penalties[i]!;
      }
    }
  }

  /** Edits that are still to be sent before the slot may sample. */
  get left(): number {
    return this.#clears + this.#promptCount + this.#answerCount + this.#biasCount - this.#sent;
  }

  /** The next `count` edits are on their way. */
  advance(count: number): void {
    this.#sent += count;
  }

  /** Writes the next `count` edits of `slot` from word `at` on. `known`: all tokens, the answer's from `first` on. */
  write(u32: Uint32Array, at: number, slot: number, count: number, known: Int32Array, first: number): void {
    const from = this.#window > 0 ? this.#answerFirst : first;
    const prompt = this.#clears;
    const counts = prompt + this.#promptCount;
    const biases = counts + this.#answerCount;
    for (let i = this.#sent; i < this.#sent + count; i++, at += EDIT.words) {
      let kind: number = KVRM.EDIT_CLEAR;
      let token = 0;
      let value = this.#clearValue;
      if (i >= biases) {
        kind = KVRM.EDIT_BIAS;
        token = this.#biasTokens[i - biases]!;
        value = this.#biasBits[i - biases]!;
      } else if (i >= counts) {
        kind = KVRM.EDIT_COUNT;
        token = known[from + i - counts]!;
        value = 1;
      } else if (i >= prompt) {
        kind = KVRM.EDIT_PROMPT;
        token = this.#promptTokens[i - prompt]!;
        value = 0;
      }
      u32[at + EDIT.slot_kind] = (slot | kind << 16) >>> 0;
      u32[at + EDIT.token] = token;
      u32[at + EDIT.value] = value;
      u32[at + EDIT.reserved0] = 0;
    }
  }
}
