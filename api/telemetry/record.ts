/**
 * What is known of one request while it is answered: for its line in the log, its spans and its time limit.
 *
 * @module
 */

import { EngineError } from "../../runtime/errors.ts";
import { now } from "../../runtime/telemetry/request_metrics.ts";
import type { GenerateRequest, Generation } from "../../runtime/types.ts";
import type { LogFields } from "../log.ts";
import type { EventStream } from "../sse.ts";

/** How long a stream that ran out of time has for its last event, in milliseconds. */
const LAST_EVENT_MS = 2000;

const records = new WeakMap<AbortSignal, RequestRecord>();

/** The record of the HTTP request that aborts with this signal. */
export function recordOf(signal: AbortSignal | undefined): RequestRecord | undefined {
  return signal && records.get(signal);
}

/** A request from its arrival to its last byte. */
export class RequestRecord {
  /** Milliseconds since the epoch. */
  readonly started = now();
  readonly id: string;
  /** Method and path. */
  readonly route: string;
  readonly #signal: AbortSignal;
  readonly #onEnd: (record: RequestRecord) => void;
  /** What the engine was asked; empty for requests that generate nothing. */
  requests: readonly GenerateRequest[] = [];
  generations: readonly Generation[] = [];
  /** When the engine was asked; 0: never. */
  asked = 0;
  /** Of the answer, where it has one. */
  responseId: string | null = null;
  status = 0;
  /** The code of the error that ended it. */
  error: string | null = null;
  /** When it ended; 0 before. */
  ended = 0;
  #stream: EventStream | null = null;
  /** What the request ends with, once its time is over. */
  #late: EngineError | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @param onEnd called once, with everything known */
  constructor(request: Request, id: string, route: string, onEnd: (record: RequestRecord) => void) {
    this.id = id;
    this.route = route;
    this.#signal = request.signal;
    this.#onEnd = onEnd;
    records.set(request.signal, this);
  }

  /** Whether the client left before the end. */
  get clientGone(): boolean {
    return this.#signal.aborted || (this.#stream?.left ?? false);
  }

  /** Whether the answer is a stream of events. */
  get streams(): boolean {
    return this.#stream !== null;
  }

  /** Ends the request with an error after so many seconds. */
  limit(seconds: number): void {
    this.#timer = setTimeout(() => {
      const error = this.#late = new EngineError(`the request took longer than ${seconds} s`, "timeout");
      for (const generation of this.generations) generation.cancel(error);
      // Whoever does not even read the error is cut off.
      this.#timer = setTimeout(() => {
        this.error ??= error.code;
        this.#stream?.abort(error);
      }, LAST_EVENT_MS);
    }, Math.max(0, seconds * 1000 - (now() - this.started)));
  }

  /** The engine was asked, from the time `asked` on. */
  begin(requests: readonly GenerateRequest[], generations: readonly Generation[], asked: number): void {
    this.asked = asked;
    this.requests = requests;
    this.generations = generations;
    // The body took all of the time.
    if (this.#late !== null) { for (const generation of generations) generation.cancel(this.#late); }
  }

  /** The answer is a stream; it has ended when `written` resolves. */
  follow(stream: EventStream, written: Promise<void>): void {
    this.#stream = stream;
    written.then(() => this.end());
  }

  /** All is answered. */
  end(): void {
    if (this.ended > 0) return;
    this.ended = now();
    // A client that left before it could be told of an error had one all the same.
    this.error ??= this.generations.find(({ timing }) => timing.error !== null)?.timing.error ?? null;
    clearTimeout(this.#timer);
    this.#onEnd(this);
  }

  /** Finish reasons of all choices: the client's leaving shows as "cancelled". */
  get finishReasons(): string[] {
    return this.generations.flatMap(({ timing }) => timing.finishReasons);
  }

  /** Token counts over all prompts. */
  get tokens(): { prompt: number; cached: number; completion: number } {
    const sum = { prompt: 0, cached: 0, completion: 0 };
    for (const { usage } of this.generations) {
      sum.prompt += usage.promptTokens;
      sum.cached += usage.cachedTokens;
      sum.completion += usage.completionTokens;
    }
    return sum;
  }

  /** When the first of all prompts got its slot, and gave its first token; 0: never. */
  get firsts(): { admitted: number; firstToken: number } {
    const first = (times: number[]) => Math.min(...times.filter((time) => time > 0), Infinity);
    const known = (time: number) => time === Infinity ? 0 : time;
    const timings = this.generations.map(({ timing }) => timing);
    return {
      admitted: known(first(timings.map(({ admitted }) => admitted))),
      firstToken: known(first(timings.map(({ firstToken }) => firstToken))),
    };
  }

  /** The request's line in the log. */
  logFields(model: string): LogFields {
    const base = { id: this.id, route: this.route, status: this.status };
    const end = { total_ms: round(this.ended - this.started), client_gone: this.clientGone };
    if (this.generations.length === 0) return { ...base, error: this.error ?? undefined, ...end };
    const { prompt, cached, completion } = this.tokens;
    const { admitted, firstToken } = this.firsts;
    return {
      ...base,
      model,
      stream: this.streams,
      prompt_tokens: prompt,
      cached_tokens: cached,
      completion_tokens: completion,
      queue_ms: admitted > 0 ? round(admitted - this.asked) : undefined,
      ttft_ms: firstToken > 0 ? round(firstToken - this.started) : undefined,
      ...end,
      finish_reason: [...new Set(this.finishReasons)].join(",") || undefined,
      error: this.error ?? undefined,
    };
  }
}

function round(milliseconds: number): number {
  return Math.round(Math.max(0, milliseconds) * 100) / 100;
}
