/**
 * When things happened to a request, and the histograms over all of them.
 *
 * @module
 */
import type { FinishReason, Usage } from "../types.ts";
import { Histogram } from "./histogram.ts";

/** Milliseconds since the epoch, as of the engine's clock; 0 until it happens. */
export interface GenerationTiming {
  /** The request was handed to the engine. */
  submitted: number;
  /** Its first choice got a slot. */
  admitted: number;
  /** Its first token was known to the worker. */
  firstToken: number;
  /** Its last token, so far. */
  lastToken: number;
  /** No choice goes on. */
  ended: number;
  /** When a choice had to give its blocks back. */
  preempted: number[];
  /** How choices ended, in the order of their ends; those of a request that broke off are missing. */
  finishReasons: FinishReason[];
  /** The code of the error that it ended with, if it did. */
  error: string | null;
}

/** A request that is handed over now. */
export function newTiming(): GenerationTiming {
  return {
    submitted: now(),
    admitted: 0,
    firstToken: 0,
    lastToken: 0,
    ended: 0,
    preempted: [],
    finishReasons: [],
    error: null,
  };
}

/** Now, in milliseconds since the epoch, with fractions. The same clock in every thread. */
export function now(): number {
  return performance.timeOrigin + performance.now();
}

/** vLLM's buckets with finer ones below 10 ms, so that its dashboards work. Seconds. */
const FIRST_TOKEN_BOUNDS = [
  ...[0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75],
  ...[1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560],
];
const INTER_TOKEN_BOUNDS = [
  ...[0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15],
  ...[0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80],
];
const REQUEST_BOUNDS = [
  ...[0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60],
  ...[120, 240, 480, 960, 1920, 7680],
];
const TOKEN_BOUNDS = [
  ...[1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000],
];

/** Over all requests since the start. Seconds, unless they are tokens. */
export class RequestMetrics {
  readonly firstToken: Histogram = new Histogram(FIRST_TOKEN_BOUNDS);
  readonly interToken: Histogram = new Histogram(INTER_TOKEN_BOUNDS);
  readonly endToEnd: Histogram = new Histogram(REQUEST_BOUNDS);
  readonly queue: Histogram = new Histogram(REQUEST_BOUNDS);
  readonly prefill: Histogram = new Histogram(REQUEST_BOUNDS);
  readonly decode: Histogram = new Histogram(REQUEST_BOUNDS);
  readonly promptTokens: Histogram = new Histogram(TOKEN_BOUNDS);
  readonly generationTokens: Histogram = new Histogram(TOKEN_BOUNDS);
  /** Choices that ended, by how. */
  readonly finished: Record<FinishReason | "error", number> = { stop: 0, length: 0, cancelled: 0, error: 0 };

  /** Books a request that has ended. */
  ended({ submitted, admitted, firstToken, lastToken, ended }: GenerationTiming, usage: Usage): void {
    this.endToEnd.observe((ended - submitted) / 1000);
    this.promptTokens.observe(usage.promptTokens);
    this.generationTokens.observe(usage.completionTokens);
    if (admitted === 0) return;
    this.queue.observe(Math.max(0, admitted - submitted) / 1000);
    if (firstToken === 0) return;
    this.firstToken.observe((firstToken - submitted) / 1000);
    this.prefill.observe(Math.max(0, firstToken - admitted) / 1000);
    this.decode.observe((lastToken - firstToken) / 1000);
  }
}
