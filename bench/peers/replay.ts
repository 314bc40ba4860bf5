/**
 * A workload over HTTP against any OpenAI-compatible server: an open loop, so a server that falls behind does not slow
 * the arrivals. The clients are a process of their own (replay_client.ts); this module is what both sides share.
 *
 * @module
 */
import { quantile } from "../report.ts";
import { outputOf } from "./process.ts";

/** What the client's process is told. */
export interface ReplayPlan {
  /** Of the server, without a slash at its end. */
  address: string;
  /** The name that the server knows the model by. */
  model: string;
  requests: readonly { arrivalMs: number; prompt: readonly number[]; maxTokens: number }[];
  /** Milliseconds after which what still runs is given up. */
  limitMs: number;
}

/** What became of one request; times in milliseconds from the replay's start. */
export interface ReplayedRequest {
  arrivalMs: number;
  /** When it left: later than it arrived only where the client itself was late. */
  sentMs: number;
  /** When each event with text came. One may carry several tokens. */
  eventMs: number[];
  /** Tokens of the answer, as the server counts them, else its events. */
  tokens: number;
  /** Undefined for a whole answer. */
  error?: string;
}

/** Runs the plan. @throws {Error} when the client's process fails */
export async function replayOverHttp(plan: ReplayPlan): Promise<ReplayedRequest[]> {
  const client = `${import.meta.dirname}/replay_client.ts`;
  const args = ["run", "--no-prompt", "--no-check", "--allow-net", client];
  return JSON.parse(await outputOf(Deno.execPath(), args, JSON.stringify(plan)));
}

/**
 * The measurements of a replay: times in milliseconds. TTFT is from the arrival, so it has the wait in the queue. ITL
 * is the time between events with text: where a server puts two tokens in one event, it counts once.
 */
export function summariseReplay(requests: readonly ReplayedRequest[]): Record<string, number> {
  const whole = requests.filter(({ error }) => error === undefined);
  const gaps: number[] = [], ttft: number[] = [];
  let tokens = 0, events = 0, last = 0;
  for (const { eventMs, arrivalMs, tokens: count } of whole) {
    tokens += count;
    events += eventMs.length;
    ttft.push(eventMs[0]! - arrivalMs);
    last = Math.max(last, eventMs.at(-1)!);
    for (let i = 1; i < eventMs.length; i++) gaps.push(eventMs[i]! - eventMs[i - 1]!);
  }
  const seconds = (last - (requests[0]?.arrivalMs ?? 0)) / 1000;
  return {
    seconds,
    requests: requests.length,
    failed: requests.length - whole.length,
    "tokens/s": tokens / seconds,
    "tokens/event": tokens / events,
    "ttft p50": quantile(ttft, 0.5),
    "ttft p99": quantile(ttft, 0.99),
    "itl p50": quantile(gaps, 0.5),
    "itl p99": quantile(gaps, 0.99),
    "itl max": quantile(gaps, 1),
    "client late ms": quantile(requests.map(({ sentMs, arrivalMs }) => sentMs - arrivalMs), 0.99),
  };
}
