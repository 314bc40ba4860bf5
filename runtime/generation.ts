/**
 * A request in flight, on the server's side: tokens in, chunks of text out.
 *
 * @module
 */
import { EngineError } from "./errors.ts";
import type { Detokenizer } from "./model/detokenizer.ts";
import { StopMatcher } from "./model/stop.ts";
import { Finish } from "./loop.ts";
import { type GenerationTiming, newTiming, now } from "./telemetry/request_metrics.ts";
import type { FinishReason, GenerateChunk, Generation, TokenLogprob, Usage } from "./types.ts";

const FINISH_REASONS: Readonly<Record<number, FinishReason>> = {
  [Finish.STOP]: "stop",
  [Finish.LENGTH]: "length",
  [Finish.CANCELLED]: "cancelled",
};

/** A finish that came over the ring, by name. */
export function finishReasonOf(finish: number): FinishReason {
  return FINISH_REASONS[finish] ?? "cancelled";
}

/** What one choice needs to turn tokens into text. */
export interface ChoiceOptions {
  id: number;
  index: number;
  detokenizer: Detokenizer;
  stop: readonly string[];
  /** Ids that end the choice and are not part of its text. */
  stopTokens: Int32Array;
  /** Tokens within which no stop string ends the choice. Default 0. */
  minTokens?: number;
}

/** What hears of the tokens of one of the worker's sequences. */
export interface TokenTaker {
  readonly id: number;
  readonly index: number;
  readonly generation: EngineGeneration;
  /** Whether it is a choice, with a place in the queue and in what is counted. */
  readonly counts: boolean;
  readonly finished: boolean;
  /** When its last token came; 0 before the first. */
  lastToken: number;
  /** Takes a token; returns true when a stop string has just ended it. */
  token(token: number, finish: number, logprob: TokenLogprob | undefined): boolean;
  /** It ends without a token. */
  end(finish: number): void;
}

/** One choice of a generation. */
export class Choice implements TokenTaker {
  readonly counts = true;
  readonly id: number;
  readonly index: number;
  readonly generation: EngineGeneration;
  readonly #detokenizer: Detokenizer;
  readonly #stops: StopMatcher | null;
  readonly #stopTokens: Int32Array;
  readonly #minTokens: number;
  #tokens = 0;
  finished = false;
  /** When its last token came; 0 before the first. */
  lastToken = 0;

  constructor(generation: EngineGeneration, options: ChoiceOptions) {
    this.generation = generation;
    this.id = options.id;
    this.index = options.index;
    this.#detokenizer = options.detokenizer;
    this.#stops = options.stop.length > 0 ? new StopMatcher(options.stop) : null;
    this.#stopTokens = options.stopTokens;
    this.#minTokens = options.minTokens ?? 0;
  }

  /** Takes a token; returns true when a stop string has just ended the choice. */
  token(token: number, finish: number, logprob: TokenLogprob | undefined): boolean {
    const endsHere = finish === Finish.STOP && this.#stopTokens.includes(token);
    let text = endsHere ? "" : this.#detokenizer.push(token);
    if (finish !== Finish.NONE) text += this.#detokenizer.finish();
    if (this.#stops) {
      text = this.#stops.push(text, ++this.#tokens > this.#minTokens);
      if (this.#stops.matched === null && finish !== Finish.NONE) text += this.#stops.finish();
    }
    const matched = this.#stops?.matched ?? null;
    const reason = matched !== null ? "stop" : FINISH_REASONS[finish] ?? null;
    const chunk: GenerateChunk = { index: this.index, text, tokenIds: [token], finishReason: reason };
    if (logprob) chunk.logprobs = [logprob];
    if (matched !== null) chunk.stopReason = matched;
    else if (endsHere) chunk.stopReason = token;
    if (reason !== null) this.finished = true;
    this.generation.push(chunk);
    return matched !== null;
  }

  /** Ends the choice without a token. */
  end(finish: number): void {
    if (this.finished) return;
    this.finished = true;
    let text = this.#detokenizer.finish();
    if (this.#stops) text = this.#stops.push(text, this.#tokens > this.#minTokens) + this.#stops.finish();
    this.generation.push({
      index: this.index,
      text,
      tokenIds: [],
      finishReason: finishReasonOf(finish),
    });
  }
}

/** What a chunk that waits costs, in tokens: a log probability weighs as much as a token, so does each rival. */
function weight({ tokenIds, logprobs }: GenerateChunk): number {
  if (logprobs === undefined) return tokenIds.length;
  return logprobs.reduce((sum, { top }) => sum + 2 + top.length, 0);
}

/** The engine's implementation of a request in flight. */
export class EngineGeneration implements Generation {
  readonly promptTokenIds: readonly number[];
  readonly promptLogprobs: Promise<readonly (TokenLogprob | null)[] | null>;
  readonly usage: Usage;
  readonly choices: Choice[] = [];
  readonly timing: GenerationTiming = newTiming();
  /** Rivals of each of the prompt's tokens that were asked for, where there are more for the sake of ranks. */
  readonly rankedTops: number | null;
  accepted: Promise<void> = Promise.resolve();
  readonly #onCancel: (generation: EngineGeneration, reason?: Error) => void;
  readonly #onEnd: (generation: EngineGeneration) => void;
  readonly #maxBacklog: number;
  /** What waits to be read, as weighed by {@link weight}. */
  #backlog = 0;
  readonly #scored: (TokenLogprob | null)[] | null;
  #scoredCount = 0;
  #resolveScored: (value: readonly (TokenLogprob | null)[] | null) => void = () => {};
  #rejectScored: (error: Error) => void = () => {};
  #queue: GenerateChunk[] = [];
  #read = 0;
  #open = 0;
  #error: Error | null = null;
  #wake: (() => void) | null = null;

  constructor(
    promptTokenIds: readonly number[],
    options: {
      promptLogprobs: boolean;
      rankedTops?: number | null;
      maxBacklog: number;
      onCancel: (generation: EngineGeneration, reason?: Error) => void;
      onEnd: (generation: EngineGeneration) => void;
    },
  ) {
    this.promptTokenIds = promptTokenIds;
    this.usage = { promptTokens: promptTokenIds.length, cachedTokens: 0, completionTokens: 0 };
    this.#onCancel = options.onCancel;
    this.#onEnd = options.onEnd;
    this.#maxBacklog = options.maxBacklog;
    this.rankedTops = options.rankedTops ?? null;
    if (options.promptLogprobs) {
      this.#scored = new Array<TokenLogprob | null>(promptTokenIds.length).fill(null);
      this.promptLogprobs = new Promise((resolve, reject) => {
        this.#resolveScored = resolve;
        this.#rejectScored = reject;
      });
      // Whoever does not ask for them must not die of an unhandled rejection.
      this.promptLogprobs.catch(() => {});
      if (promptTokenIds.length <= 1) this.#resolveScored(this.#scored);
    } else {
      this.#scored = null;
      this.promptLogprobs = Promise.resolve(null);
    }
  }

  addChoice(options: ChoiceOptions): Choice {
    const choice = new Choice(this, options);
    this.choices.push(choice);
    this.#open++;
    return choice;
  }

  get finished(): boolean {
    return this.#open === 0 || this.#error !== null;
  }

  push(chunk: GenerateChunk): void {
    this.usage.completionTokens += chunk.tokenIds.length;
    this.#backlog += weight(chunk);
    if (!this.#joins(chunk)) this.#queue.push(chunk);
    if (chunk.finishReason !== null) {
      this.timing.finishReasons.push(chunk.finishReason);
      this.#finish(--this.#open === 0);
    }
    this.#wake?.();
    if (this.#backlog > this.#maxBacklog && !this.finished) {
      this.cancel(
        new EngineError(
          `the client reads too slowly: ${this.#backlog} tokens wait for it, of at most ${this.#maxBacklog}`,
          "slow_reader",
        ),
      );
    }
  }

  /** Adds a chunk to the last one that waits, if it is the same choice's and just text: fewer, longer events. */
  #joins(chunk: GenerateChunk): boolean {
    const last = this.#read < this.#queue.length ? this.#queue[this.#queue.length - 1]! : undefined;
    if (last === undefined || last.index !== chunk.index || last.finishReason !== null) return false;
    if (last.logprobs !== undefined || chunk.logprobs !== undefined || chunk.finishReason !== null) {
      return false;
    }
    last.text += chunk.text;
    (last.tokenIds as number[]).push(...chunk.tokenIds);
    return true;
  }

  #finish(all: boolean): void {
    if (!all || this.timing.ended > 0) return;
    this.timing.ended = now();
    this.#onEnd(this);
  }

  promptToken(position: number, logprob: TokenLogprob): void {
    const scored = this.#scored;
    // After a preemption the prompt is computed again.
    if (!scored || scored[position] !== null) return;
    scored[position] = logprob;
    if (++this.#scoredCount === scored.length - 1) this.#resolveScored(scored);
  }

  fail(error: Error): void {
    if (this.finished) return;
    this.#error = error;
    this.timing.error = error instanceof EngineError ? error.code : "failed";
    this.#finish(true);
    this.#rejectScored(error);
    this.#wake?.();
  }

  cancel(reason?: Error): void {
    if (this.finished) return;
    this.#onCancel(this, reason);
    if (reason !== undefined) {
      for (const choice of this.choices) choice.finished = true;
      return this.fail(reason);
    }
    for (const choice of this.choices) choice.end(Finish.CANCELLED);
    this.#rejectScored(new EngineError("the request was cancelled", "closed"));
  }

  [Symbol.asyncIterator](): AsyncIterator<GenerateChunk> {
    return {
      next: async () => {
        while (this.#read === this.#queue.length) {
          if (this.#error) throw this.#error;
          if (this.#open === 0) return { value: undefined, done: true };
          await new Promise<void>((resolve) => this.#wake = resolve);
          this.#wake = null;
        }
        const value = this.#queue[this.#read++]!;
        this.#backlog -= weight(value);
        if (this.#read === this.#queue.length) {
          this.#queue.length = 0;
          this.#read = 0;
        }
        return { value, done: false };
      },
      return: () => {
        this.cancel();
        return Promise.resolve({ value: undefined, done: true });
      },
    };
  }
}
