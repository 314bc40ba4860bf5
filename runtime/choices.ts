/**
 * The choices that the worker works on: what its events tell of them, and how fast they end.
 *
 * @module
 */
import { InvalidRequestError } from "./errors.ts";
import { finishReasonOf, type TokenTaker } from "./generation.ts";
import { Finish } from "./loop.ts";
import type { ModelTokenizer } from "./model/tokenizer.ts";
import { Event, takeTime } from "./protocol.ts";
import type { Ring } from "./ring.ts";
import type { RequestMetrics } from "./telemetry/request_metrics.ts";
import type { TokenLogprob } from "./types.ts";

/** How much a finished choice counts in the mean time between two. */
const PACE_WEIGHT = 0.1;

/** Choices by id, from their submission until they end or are cancelled. */
export class Choices {
  readonly #byId = new Map<number, TokenTaker>();
  readonly #events: Ring;
  readonly #tokenizer: ModelTokenizer;
  readonly #requests: RequestMetrics;
  readonly #onStopped: (choice: TokenTaker) => void;
  /** Of those in `#byId`, those that count. */
  #places = 0;
  /** Milliseconds between two ends of choices, of late; 0 before the second. */
  #pace = 0;
  #lastEnd = 0;
  /** The worker's time of the events being taken. */
  #eventTime = 0;

  /** @param onStopped hears of a choice that a text has stopped, which the worker does not know yet */
  constructor(
    events: Ring,
    tokenizer: ModelTokenizer,
    requests: RequestMetrics,
    onStopped: (choice: TokenTaker) => void,
  ) {
    this.#events = events;
    this.#tokenizer = tokenizer;
    this.#requests = requests;
    this.#onStopped = onStopped;
  }

  /** Places of the queue that are taken. */
  get size(): number {
    return this.#places;
  }

  get(id: number): TokenTaker | undefined {
    return this.#byId.get(id);
  }

  add(choice: TokenTaker): void {
    this.#byId.set(choice.id, choice);
    if (choice.counts) this.#places++;
  }

  all(): TokenTaker[] {
    return [...this.#byId.values()];
  }

  clear(): void {
    this.#byId.clear();
    this.#places = 0;
  }

  /** Seconds until `places` of the queue are free, by the pace at which choices ended of late. */
  retryAfter(places: number): number {
    // A pace that has dried up since is no estimate: nothing has ended for longer than that.
    const pace = Math.max(this.#pace, this.#lastEnd === 0 ? 1000 : performance.now() - this.#lastEnd);
    return Math.min(3600, Math.max(1, Math.ceil(places * pace / 1000)));
  }

  /** A choice has left the queue. */
  forget(choice: TokenTaker): void {
    if (!this.#byId.delete(choice.id) || !choice.counts) return;
    this.#places--;
    const time = performance.now();
    if (this.#lastEnd > 0) {
      const since = time - this.#lastEnd;
      this.#pace = this.#pace === 0 ? since : (1 - PACE_WEIGHT) * this.#pace + PACE_WEIGHT * since;
    }
    this.#lastEnd = time;
  }

  /** A choice has its answer from elsewhere than the ring. */
  answered(choice: TokenTaker): void {
    this.forget(choice);
    const reason = choice.generation.timing.finishReasons.at(-1);
    if (reason !== undefined) this.#requests.finished[reason]++;
  }

  /** Takes the next event off the ring, where there must be one. */
  takeEvent(): void {
    const ring = this.#events;
    const tag = ring.take();
    if (tag === Event.TIME) {
      this.#eventTime = takeTime(ring);
      return;
    }
    const choice = this.#byId.get(ring.take());
    switch (tag) {
      case Event.ADMITTED: {
        const cached = ring.take();
        if (choice === undefined) break;
        const { timing, usage } = choice.generation;
        if (choice.index === 0) usage.cachedTokens = cached;
        if (timing.admitted === 0) timing.admitted = this.#eventTime;
        break;
      }
      case Event.PREEMPTED:
        choice?.generation.timing.preempted.push(this.#eventTime);
        break;
      case Event.TOKEN: {
        const token = ring.take();
        const finish = ring.take();
        const logprob = this.#takeLogprob(token, choice);
        if (!choice) break;
        this.#timeToken(choice);
        const stopped = choice.token(token, finish, logprob);
        if (stopped && finish === 0) this.#onStopped(choice);
        else if (finish !== 0) this.forget(choice);
        if (choice.finished) this.#requests.finished[stopped ? "stop" : finishReasonOf(finish)]++;
        break;
      }
      case Event.PROMPT_TOKEN: {
        const position = ring.take();
        const { promptTokenIds, rankedTops = null } = choice?.generation ?? {};
        const logprob = this.#takeLogprob(promptTokenIds?.[position] ?? 0, choice, rankedTops);
        if (choice && logprob) choice.generation.promptToken(position, logprob);
        break;
      }
      case Event.ENDED: {
        const finish = ring.take();
        if (!choice) break;
        if (finish === Finish.STUCK) {
          choice.generation.cancel(noTokenLeft());
          break;
        }
        this.forget(choice);
        if (choice.counts) this.#requests.finished[finishReasonOf(finish)]++;
        choice.end(finish);
        break;
      }
    }
  }

  #timeToken(choice: TokenTaker): void {
    const time = this.#eventTime;
    const { timing } = choice.generation;
    if (timing.firstToken === 0) timing.firstToken = time;
    timing.lastToken = time;
    if (choice.lastToken > 0) this.#requests.interToken.observe((time - choice.lastToken) / 1000);
    choice.lastToken = time;
  }

  /**
   * Takes log probability and alternatives; NaN says that none were asked for. `ranked`: so many alternatives were,
   * and the rank; null: no rank.
   */
  #takeLogprob(
    token: number,
    choice: TokenTaker | undefined,
    ranked: number | null = null,
  ): TokenLogprob | undefined {
    const ring = this.#events;
    const logprob = ring.takeFloat();
    const count = ring.take();
    if (!choice || Number.isNaN(logprob)) {
      for (let i = 0; i < 2 * count; i++) ring.take();
      return undefined;
    }
    const tokenizer = this.#tokenizer;
    const top: TokenLogprob["top"][number][] = [];
    let rank: number | null = null;
    for (let i = 0; i < count; i++) {
      const id = ring.take();
      const logprob = ring.takeFloat();
      if (id === token) rank = i + 1;
      if (i < (ranked ?? count)) top.push({ token: id, bytes: tokenizer.tokenBytes(id), logprob });
    }
    const taken = { token, bytes: tokenizer.tokenBytes(token), logprob, top };
    return ranked === null ? taken : { ...taken, rank };
  }
}

function noTokenLeft(): InvalidRequestError {
  return new InvalidRequestError(
    "the answer cannot go on: allowed_token_ids, bad_words and the grammar together leave no token",
    null,
    "no_token_left",
  );
}
