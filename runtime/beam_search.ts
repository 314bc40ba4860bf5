/**
 * Beam search, as vLLM's front end has it: a layer above the engine, which computes one token's alternatives for each
 * beam and step. Prompt and beam go in as a prompt each time, and the prefix cache has all of it but its last block.
 *
 * @module
 */
import { KVRM } from "../ffi/mod.ts";
import { number } from "./checks.ts";
import { InvalidRequestError } from "./errors.ts";
import type { Choice, EngineGeneration, TokenTaker } from "./generation.ts";
import { Finish } from "./loop.ts";
import type { Submission } from "./protocol.ts";
import { UNADJUSTED } from "./adjustment.ts";
import type { GenerateRequest, SamplingParams, TokenLogprob } from "./types.ts";

/** Beams at most: a step has to report twice as many alternatives. */
export const MOST_BEAMS: number = KVRM.MAX_TOP_LOGPROBS / 2;

/** Values of the fields of sampling with which they do nothing; a temperature scales what is compared, or not. */
const NEUTRAL: readonly [param: string, field: keyof SamplingParams, values: readonly number[]][] = [
  ["temperature", "temperature", [0, 1]],
  ["top_k", "topK", [0]],
  ["top_p", "topP", [1]],
  ["min_p", "minP", [0]],
  ["presence_penalty", "presencePenalty", [0]],
  ["frequency_penalty", "frequencyPenalty", [0]],
  ["repetition_penalty", "repetitionPenalty", [1]],
  ["top_n_sigma", "topNSigma", [0, -1]],
  ["typical_p", "typicalP", [1]],
  ["xtc_probability", "xtcProbability", [0]],
  ["dynatemp_range", "dynatempRange", [0]],
  ["dry_multiplier", "dryMultiplier", [0]],
  ["mirostat", "mirostat", [0]],
];

/**
 * Checks what a search asks for; an answer has `maxTokens` tokens at most. Returns the length penalty.
 *
 * @throws {InvalidRequestError} naming the field, the value found and the value wanted
 */
export function checkBeams(request: GenerateRequest, maxTokens: number, vocab: number): number {
  const sampling = request.sampling ?? {};
  for (const [param, field, values] of NEUTRAL) {
    const value = sampling[field];
    if (value === undefined || values.includes(value as number)) continue;
    refuse(param, `is ${value}; it must be ${values.join(" or ")} or absent`);
  }
  if ((sampling.logitBias ?? []).length > 0) refuse("logit_bias", "has tokens; it must be empty or absent");
  if ((request.stop ?? []).length > 0) refuse("stop", "has texts; it must be empty or absent");
  if ((request.minTokens ?? 0) > 0) refuse("min_tokens", `is ${request.minTokens}; it must be 0 or absent`);
  if (request.allowedTokenIds !== undefined) refuse("allowed_token_ids", "has tokens; it must be absent");
  if ((request.badWords ?? []).length > 0) refuse("bad_words", "has texts; it must be empty or absent");
  if (request.constraint !== undefined) {
    refuse(request.constraintParam ?? "constraint", "is given; it must be absent");
  }
  const most = Math.min(MOST_BEAMS, Math.floor(vocab / 2));
  const n = request.n ?? 1;
  if (n > most) refuse("n", `is ${n}; it must be at most ${most}`, "invalid_value");
  if (maxTokens === 0) refuse("max_tokens", "is 0; it must be 1 or more", "invalid_value");
  return number("length_penalty", request.beamSearch?.lengthPenalty ?? 1, -10, 10);
}

function refuse(param: string, what: string, code = "unsupported_parameter"): never {
  throw new InvalidRequestError(`${param} ${what} with beam search`, param, code);
}

/** A beam: its last token, and what precedes it. The first of all, `parent` null, is the prompt. */
export interface Beam {
  readonly parent: Beam | null;
  /** Its last token's, with the alternatives that were asked for. */
  readonly last: TokenLogprob | null;
  /** Tokens beside the prompt's. */
  readonly length: number;
  /** Sum of their log probabilities. */
  readonly sum: number;
}

/** What a search decides, without an engine. */
export class BeamSelection {
  readonly #width: number;
  readonly #promptLength: number;
  readonly #maxTokens: number;
  readonly #lengthPenalty: number;
  readonly #endTokens: Int32Array;
  readonly #rivals: number;
  /** Beams that end with an end token, in the order of their ends. */
  readonly #ended: { beam: Beam; score: number }[] = [];
  /** Beams that may go on, best first. */
  live: Beam[] = [{ parent: null, last: null, length: 0, sum: 0 }];

  /** @param options `rivals`: alternatives of each token that the answer shall have */
  constructor(options: {
    width: number;
    promptLength: number;
    maxTokens: number;
    lengthPenalty: number;
    endTokens: Int32Array;
    rivals: number;
  }) {
    this.#width = options.width;
    this.#promptLength = options.promptLength;
    this.#maxTokens = options.maxTokens;
    this.#lengthPenalty = options.lengthPenalty;
    this.#endTokens = options.endTokens;
    this.#rivals = options.rivals;
  }

  /** As vLLM has it, the prompt counts, and the token that ends a beam does not. */
  #score(sum: number, length: number): number {
    return sum / (this.#promptLength + length) ** this.#lengthPenalty;
  }

  /**
   * Takes what may follow each live beam: its best tokens, best first, twice as many as there are beams. Those that
   * end a beam end it however little probable; of the others the best go on. Returns whether the search does.
   */
  advance(tops: readonly TokenLogprob["top"][]): boolean {
    const next: Beam[] = [];
    for (const [i, parent] of this.live.entries()) {
      const all = tops[i]!;
      const top = all.slice(0, this.#rivals);
      for (const one of all.slice(0, 2 * this.#width)) {
        const sum = parent.sum + one.logprob;
        const beam = { parent, last: { ...one, top }, length: parent.length + 1, sum };
        if (!this.#endTokens.includes(one.token)) next.push(beam);
        else this.#ended.push({ beam, score: this.#score(sum, parent.length) });
      }
    }
    this.live = next.sort((a, b) => b.sum - a.sum).slice(0, this.#width);
    return this.live.length > 0 && this.live[0]!.length < this.#maxTokens && !this.#decided();
  }

  /**
   * Whether nothing that may still come is better than what has ended. Sums only fall; the score of one is highest
   * where it falls no more, at the length that the penalty favours. (vLLM goes on to the last token, to the same end.)
   */
  #decided(): boolean {
    if (this.#ended.length < this.#width) return false;
    const { sum, length } = this.live[0]!;
    const highest = this.#score(sum, this.#lengthPenalty >= 0 ? this.#maxTokens : length);
    const scores = this.#ended.map(({ score }) => score).sort((a, b) => b - a);
    // A margin for what powers are rounded by.
    return scores[this.#width - 1]! > highest * (1 - 1e-12);
  }

  /** The best beams, best first, and whether an end token ended them. */
  best(): { beam: Beam; ended: boolean }[] {
    const all = [
      ...this.#ended.map((one) => ({ ...one, ended: true })),
      ...this.live.map((beam) => ({ beam, score: this.#score(beam.sum, beam.length), ended: false })),
    ];
    return all.sort((a, b) => b.score - a.score).slice(0, this.#width);
  }
}

/** The tokens of a beam, first to last. */
export function tokensOf(beam: Beam): TokenLogprob[] {
  const tokens: TokenLogprob[] = [];
  for (let at: Beam = beam; at.parent !== null; at = at.parent) tokens.push(at.last!);
  return tokens.reverse();
}

/** An engine that computes nothing has no alternatives either. */
function noAlternatives(): InvalidRequestError {
  return new InvalidRequestError(
    "use_beam_search cannot be had: this engine tells no log probabilities",
    "use_beam_search",
    "unsupported_parameter",
  );
}

/** What a search needs of its engine. */
export interface BeamHost {
  newId(): number;
  /** Has the worker compute these. Each of `steps` hears of its token. */
  run(steps: readonly BeamStep[], submissions: Submission[]): void;
  /** Nobody wants to know any more. */
  drop(step: BeamStep): void;
  /** A choice has its whole answer. */
  answered(choice: Choice): void;
}

/** Takes the one token of one beam's step. It is no choice of its own, and ends silently. */
export class BeamStep implements TokenTaker {
  readonly counts = false;
  readonly finished = false;
  lastToken = 0;

  /** @param index 0 for the search's first step, whose cached tokens are the request's; -1 for others */
  constructor(
    readonly id: number,
    readonly index: number,
    readonly generation: EngineGeneration,
    readonly onToken: (logprob: TokenLogprob) => void,
  ) {}

  token(_token: number, _finish: number, logprob: TokenLogprob | undefined): boolean {
    this.onToken(logprob!);
    return false;
  }

  end(): void {
    this.generation.cancel();
  }
}

/** A search in flight. Its generation's choices get their tokens all at once, when it is over. */
export class BeamSearch {
  readonly #generation: EngineGeneration;
  readonly #base: Submission;
  readonly #host: BeamHost;
  readonly #selection: BeamSelection;
  /** Alternatives that the engine reports; and whether the caller hears of any. */
  readonly #tops: number;
  readonly #reports: boolean;
  #steps: BeamStep[] = [];
  #found: TokenLogprob["top"][] = [];
  #missing = 0;

  /** @param base the checked request, with the log probabilities that the caller wants */
  constructor(generation: EngineGeneration, base: Submission, lengthPenalty: number, host: BeamHost) {
    const width = generation.choices.length;
    this.#generation = generation;
    this.#base = base;
    this.#host = host;
    this.#reports = base.logprobs > 0;
    this.#tops = Math.max(2 * width, base.logprobs - 1);
    this.#selection = new BeamSelection({
      width,
      promptLength: base.prompt.length,
      maxTokens: base.maxTokens,
      lengthPenalty,
      endTokens: base.stopTokens,
      rivals: Math.max(0, base.logprobs - 1),
    });
  }

  /** Goes one token on. */
  step(): void {
    const { live } = this.#selection;
    const first = live[0]!.length === 0;
    this.#found = new Array(live.length);
    this.#missing = live.length;
    this.#steps = live.map((_, i) =>
      new BeamStep(this.#host.newId(), first ? 0 : -1, this.#generation, ({ top }) => this.#take(i, top))
    );
    this.#host.run(this.#steps, live.map((beam, i) => this.#submission(beam, this.#steps[i]!.id, first)));
  }

  #submission(beam: Beam, id: number, first: boolean): Submission {
    const { prompt, promptLogprobs, priority } = this.#base;
    const tokens = new Int32Array(prompt.length + beam.length);
    tokens.set(prompt);
    tokens.set(tokensOf(beam).map(({ token }) => token), prompt.length);
    return {
      ...UNADJUSTED,
      id,
      parent: -1,
      prompt: tokens,
      maxTokens: 1,
      temperature: 0,
      topK: 0,
      topP: 1,
      minP: 0,
      seedLo: 0,
      seedHi: 0,
      logprobs: 1 + this.#tops,
      promptLogprobs: first ? promptLogprobs : 0,
      stopTokens: new Int32Array(0),
      grammar: 0,
      priority,
    };
  }

  #take(i: number, top: TokenLogprob["top"]): void {
    if (top.length === 0) return this.#generation.cancel(noAlternatives());
    this.#found[i] = top;
    if (--this.#missing > 0) return;
    this.#steps = [];
    if (this.#generation.finished) return;
    if (this.#selection.advance(this.#found)) this.step();
    else this.#answer();
  }

  #answer(): void {
    for (const [i, { beam, ended }] of this.#selection.best().entries()) {
      const choice = this.#generation.choices[i]!;
      const tokens = tokensOf(beam);
      for (const [j, one] of tokens.entries()) {
        const finish = j < tokens.length - 1 ? Finish.NONE : ended ? Finish.STOP : Finish.LENGTH;
        choice.token(one.token, finish, this.#reports ? one : undefined);
      }
      this.#host.answered(choice);
    }
  }

  /** Ends what runs for it; its generation has ended. */
  stop(): void {
    for (const step of this.#steps) this.#host.drop(step);
    this.#steps = [];
  }
}
