/**
 * Measures what a step of the CPU backend takes, part by part, for {@link measuredCost}. None of the workloads that
 * the simulation is then held against is run for it.
 *
 * @module
 */
import type { EngineHost } from "../../runtime/host.ts";
import type { LoopSink } from "../../runtime/loop.ts";
import { type Sequence, State } from "../../runtime/sequence.ts";
import { FragmentedEngine } from "../evaluation/fragments.ts";
import type { StepCost } from "../../runtime/sim/cost.ts";
import { noWork, readWork } from "../../runtime/sim/work.ts";
import { replay, sequenceOf } from "../evaluation/replay.ts";
import type { WorkloadRequest } from "../workloads/workload.ts";
import { type OpenSide } from "../evaluation/sides.ts";
import { median } from "../report.ts";
import { between, type Calibration, type Traffic } from "./measured_cost.ts";

const ROWS = [1, 2, 4, 8, 16, 32, 64, 128, 256];
const BATCHES = [1, 2, 4, 8, 16];
const SHORT = 16;
const LONG = 3_000;
const DECODE_STEPS = 25;
const PROMPT_STEPS = 9;
/** Of {@link ROWS}: at which attention to a long prompt is measured. */
const DEEP_ROWS = [8, 64] as const;
const MOVED_BLOCKS = 32;

/** Turns a loop until a step has completed. */
class Steps implements LoopSink {
  #completed = 0;
  constructor(readonly host: EngineHost) {}

  tick(): void {
    this.#completed++;
  }
  admitted(): void {}
  token(): void {}
  promptToken(): void {}
  ended(): void {}

  /** Microseconds that the step took, as the library measured it. */
  next(): number {
    const { loop } = this.host;
    for (const before = this.#completed; this.#completed === before;) {
      if (!loop.turn(10_000_000)) throw new Error("nothing is left to run");
    }
    return 1000 * loop.stats.lastExecMs;
  }

  end(sequences: readonly Sequence[]): void {
    const { loop } = this.host;
    for (const one of sequences) if (one.state !== State.FINISHED) loop.cancel(one);
    while (!loop.idle) loop.turn(10_000_000);
  }
}

function prompt(length: number, seed: number): Int32Array {
  return Int32Array.from({ length }, (_, i) => 3 + (seed * 977 + i * 31) % 4_000);
}

/** Steps of `batch` rows that decode over `history` tokens: what one runs, and what lies between two. */
function decode(steps: Steps, batch: number, history: number): { exec: number; gap: number } {
  const { loop, scheduler } = steps.host;
  const sequences = Array.from(
    { length: batch },
    (_, i) => sequenceOf({ promptTokens: prompt(history, i), maxTokens: 500 }),
  );
  for (const one of sequences) loop.submit(one);
  while (scheduler.running.length < batch || sequences.some(({ generated }) => generated < 2)) steps.next();
  const execs: number[] = [], gaps: number[] = [];
  for (let i = 0, last = performance.now(); i < DECODE_STEPS; i++) {
    const exec = steps.next(), now = performance.now();
    execs.push(exec);
    gaps.push(1000 * (now - last) - exec);
    last = now;
  }
  steps.end(sequences);
  return { exec: median(execs), gap: median(gaps) };
}

/** A step of a prompt's rows: what it takes, the pairs of a row and a token that it sees, and the tokens seen. */
interface PromptStep {
  micros: number;
  pairs: number;
  kv: number;
}

/** What a pair takes and what a token takes, whoever sees it: so that both steps come out, or the second alone. */
function attention([few, many]: PromptStep[]): { perPrefillPair: number; perPrefillKv: number } {
  const [a, b] = [few!, many!];
  const perPrefillPair = (b.micros * a.kv - a.micros * b.kv) / (b.pairs * a.kv - a.pairs * b.kv);
  const perPrefillKv = (a.micros - a.pairs * perPrefillPair) / a.kv;
  if (perPrefillPair > 0 && perPrefillKv > 0) return { perPrefillPair, perPrefillKv };
  return { perPrefillPair: Math.max(0, b.micros / b.pairs), perPrefillKv: 0 };
}

/** Steps of `rows` rows at the beginning of prompts, the second of each: the first may find threads asleep. */
function begin(steps: Steps, rows: number): PromptStep {
  const { loop, scheduler } = steps.host;
  const limit = scheduler.chunkLimit;
  scheduler.chunkLimit = rows;
  const execs = Array.from({ length: PROMPT_STEPS }, (_, i) => {
    const sequence = sequenceOf({ promptTokens: prompt(4 * rows, 100 * rows + i), maxTokens: 1 });
    loop.submit(sequence);
    steps.next();
    const exec = steps.next();
    steps.end([sequence]);
    return exec;
  });
  scheduler.chunkLimit = limit;
  return { micros: median(execs), pairs: rows * 1.5 * rows, kv: 2 * rows };
}

/** Steps of `rows` rows of a prompt from `position` on. */
function goOn(steps: Steps, rows: number, position: number): PromptStep {
  const { loop, scheduler } = steps.host;
  const limit = scheduler.chunkLimit;
  const sequence = sequenceOf({
    promptTokens: prompt(position + 3 * limit + rows * (PROMPT_STEPS + 4), rows),
    maxTokens: 1,
  });
  loop.submit(sequence);
  while (sequence.scheduled < position) steps.next();
  scheduler.chunkLimit = rows;
  // Steps of `limit` rows lead there, two of them at once.
  const begin = sequence.scheduled;
  // What was planned before the limit changed, and the first steps of their kind.
  for (let i = 0; i < 3; i++) steps.next();
  const execs = Array.from({ length: PROMPT_STEPS }, () => steps.next());
  scheduler.chunkLimit = limit;
  steps.end([sequence]);
  const middle = begin + rows * (3 + PROMPT_STEPS / 2);
  return { micros: median(execs), pairs: rows * middle, kv: middle + rows / 2 };
}

/** Measures an engine with slots for {@link BATCHES} and a context of more than {@link LONG} tokens; a few seconds. */
export function calibrate(open: OpenSide): Calibration {
  const steps = new Steps(open.host);
  open.sink.to = steps;
  open.host.pager.dropCache();
  const fresh = ROWS.map((rows) => ({ rows, ...begin(steps, rows) }));
  const { perPrefillPair, perPrefillKv } = attention(DEEP_ROWS.map((rows) => {
    const near = fresh.find((one) => one.rows === rows)!, deep = goOn(steps, rows, LONG / 2);
    return { micros: deep.micros - near.micros, pairs: deep.pairs - near.pairs, kv: deep.kv - near.kv };
  }));
  // Without the attention that was in it.
  const body = fresh.map(({ rows, micros, pairs, kv }) =>
    [rows, Math.max(0, micros - pairs * perPrefillPair - kv * perPrefillKv)] as const
  );
  const short = BATCHES.map((batch) => ({ batch, ...decode(steps, batch, SHORT) }));
  const head = short.map(({ batch, exec }) => [batch, Math.max(0, exec - between(body, batch))] as const);
  const many = short[short.length - 2]!;
  const long = decode(steps, many.batch, LONG);
  const perDecodeToken = Math.max(0, long.exec - many.exec) / (many.batch * (LONG - SHORT));
  open.sink.to = null;
  return {
    body,
    head,
    perDecodeToken,
    perPrefillPair,
    perPrefillKv,
    perMovedBlock: movedBlock(),
    gap: Math.max(0, median(short.map(({ gap }) => gap))),
  };
}

/** Replays `requests` and holds each step against `cost`. */
export function traffic(open: OpenSide, requests: readonly WorkloadRequest[], cost: StepCost): Traffic {
  const { host, sink } = open;
  const { engine: { info }, sizes: { native: { slots } } } = host;
  const u32 = new Uint32Array(host.descriptor.bytes.buffer);
  const work = noWork(), promised: number[] = [];
  const onCommit = () => {
    readWork(u32, info, slots, work);
    promised.push((work.prefillPairs > 0 ? -1 : 1) * cost(work));
  };
  const { steps: { execMs } } = replay(host, sink, requests, { onCommit });
  const decode: number[] = [], mixed: number[] = [];
  execMs.forEach((ms, i) => {
    const micros = promised[i]!;
    (micros < 0 ? mixed : decode).push(1000 * ms / Math.abs(micros));
  });
  return { decode, mixed };
}

function movedBlock(): number {
  using engine = new FragmentedEngine({ slots: 2, tokens: 2_048, blockTokens: 32, steps: 100 }, 4);
  const before = median(Array.from({ length: DECODE_STEPS }, () => engine.step()));
  engine.moveBeside(MOVED_BLOCKS / 4, 4);
  const after = median(Array.from({ length: DECODE_STEPS }, () => engine.step()));
  return 1000 * Math.max(0, after - before) / MOVED_BLOCKS;
}
