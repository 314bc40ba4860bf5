/**
 * From a replay to a few numbers.
 *
 * @module
 */
import { quantile } from "../report.ts";
import type { Replay } from "./replay.ts";
import { round } from "./results.ts";

/** What a user is taken to be content with. */
export interface Slo {
  /** Milliseconds to the first token. */
  ttftMs: number;
  /** Milliseconds per token after it, on average over the answer. */
  tpotMs: number;
}

/** Quantiles that figures of latency show. */
export const QUANTILES = [0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 1];

/** Times between tokens of the same request, in milliseconds, of all requests. */
export function interTokenMs(replay: Replay): Float64Array {
  const gaps: number[] = [];
  for (const { tokenMs, tokens } of replay.requests) {
    for (let i = 1; i < tokens; i++) gaps.push(tokenMs[i]! - tokenMs[i - 1]!);
  }
  return Float64Array.from(gaps);
}

/**
 * The measurements of a replay as numbers: times in milliseconds, rates per second, KV in tokens. `blockTokens` and
 * `rowBytes` (K of one token in one layer) are for the sizes of transfers.
 */
export function summarise(
  replay: Replay,
  slo: Slo,
  { blockTokens, rowBytes }: { blockTokens: number; rowBytes: number },
): Record<string, number> {
  const { requests, steps, seconds } = replay;
  const gaps = interTokenMs(replay).sort();
  const started = requests.filter(({ tokens }) => tokens > 0);
  const finished = requests.filter((one) => one.finished);
  const ttft = started.map(({ tokenMs, arrivalMs }) => tokenMs[0]! - arrivalMs);
  const e2e = finished.map(({ tokenMs, tokens, arrivalMs }) => tokenMs[tokens - 1]! - arrivalMs);
  const good = finished.filter(({ tokenMs, tokens, arrivalMs }) =>
    tokenMs[0]! - arrivalMs <= slo.ttftMs &&
    (tokens < 2 || (tokenMs[tokens - 1]! - tokenMs[0]!) / (tokens - 1) <= slo.tpotMs)
  );
  const sum = (values: ArrayLike<number>) => {
    let total = 0;
    for (let i = 0; i < values.length; i++) total += values[i]!;
    return total;
  };
  const generated = sum(requests.map(({ tokens }) => tokens));
  const execs = (mixed: number) => steps.execMs.filter((_, i) => steps.mixed[i] === mixed);
  const slotSteps = sum(steps.slots), live = sum(steps.liveTokens), held = sum(steps.heldTokens);
  const before = sum(steps.groupsBefore), after = sum(steps.groupsAfter);
  const prompts = sum(requests.map(({ promptTokens }) => promptTokens));
  const values: Record<string, number> = {
    seconds,
    requests: requests.length,
    finished: finished.length,
    "tokens/s": generated / seconds,
    "requests/s": finished.length / seconds,
    "prompt tokens/s": sum(started.map(({ promptTokens }) => promptTokens)) / seconds,
    "ttft p50": quantile(ttft, 0.5),
    "ttft p99": quantile(ttft, 0.99),
    "itl p50": quantile(gaps, 0.5),
    "itl p90": quantile(gaps, 0.9),
    "itl p99": quantile(gaps, 0.99),
    "itl max": quantile(gaps, 1),
    "itl p99/p50": quantile(gaps, 0.99) / quantile(gaps, 0.5),
    "itl max/p50": quantile(gaps, 1) / quantile(gaps, 0.5),
    "e2e p50": quantile(e2e, 0.5),
    "e2e p99": quantile(e2e, 0.99),
    goodput: good.length / seconds,
    "goodput share": good.length / requests.length,
    steps: steps.execMs.length,
    "step p50": quantile(steps.execMs, 0.5),
    "step p99": quantile(steps.execMs, 0.99),
    "decode step p50": quantile(execs(0), 0.5),
    "mixed step p50": quantile(execs(1), 0.5),
    "mixed step p99": quantile(execs(1), 0.99),
    "mixed share": execs(1).length / steps.execMs.length,
    "plan p50 us": quantile(steps.planMs, 0.5) * 1000,
    "plan p99 us": quantile(steps.planMs, 0.99) * 1000,
    running: slotSteps / steps.slots.length,
    "groups/slot unmerged": before / slotSteps,
    "groups/slot": after / slotSteps,
    "KiB/transfer unmerged": blockTokens * rowBytes / 1024,
    "KiB/transfer": before / after * blockTokens * rowBytes / 1024,
    "moved blocks/step": replay.movedBlocks / steps.execMs.length,
    "staged blocks/1k tokens": replay.stagedBlocks / generated * 1000,
    preemptions: replay.preemptions,
    "live tokens": live / steps.liveTokens.length,
    "held tokens": held / steps.heldTokens.length,
    "held/live": held / live,
    "soft/live": sum(steps.softTokens) / live,
    "peak held": quantile(steps.heldTokens, 1),
    "prefix hits": prompts === 0 ? 0 : sum(requests.map(({ cachedTokens }) => cachedTokens)) / prompts,
  };
  for (const key of Object.keys(values)) values[key] = round(values[key]!);
  return values;
}

/** At most `count` values that stand for `values` in a figure: the mean of each stretch. */
export function thin(values: readonly number[], count = 120): number[] {
  if (values.length <= count) return values.map(round);
  return Array.from({ length: count }, (_, i) => {
    const from = Math.floor(i * values.length / count), to = Math.floor((i + 1) * values.length / count);
    let sum = 0;
    for (let k = from; k < to; k++) sum += values[k]!;
    return round(sum / (to - from));
  });
}

/** The {@link QUANTILES} of values. */
export function curve(values: ArrayLike<number>): number[] {
  return QUANTILES.map((q) => round(quantile(values, q)));
}
