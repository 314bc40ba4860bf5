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
import { sequenceOf } from "../evaluation/replay.ts";
import { type OpenSide } from "../evaluation/sides.ts";
import { median } from "../report.ts";
import { between, type Calibration } from "./measured_cost.ts";

const ROWS = [1, 2, 4, 8, 16, 32, 64, 128, 256];
const BATCHES = [1, 2, 4, 8, 16];
const SHORT = 16;
const LONG = 3_000;
const DECODE_STEPS = 25;
const PROMPT_STEPS = 9;
/** Of {@link ROWS}: at which attention to a long prompt is measured. */
const DEEP_ROWS = 64;
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

/** Steps of `batch` rows that decode over `history` tokens: what one runs, and what one takes with what is between. */
function decode(steps: Steps, batch: number, history: number): { exec: number; all: number } {
  const { loop, scheduler } = steps.host;
  const sequences = Array.from(
    { length: batch },
    (_, i) => sequenceOf({ promptTokens: prompt(history, i), maxTokens: 500 }),
  );
  for (const one of sequences) loop.submit(one);
  while (scheduler.running.length < batch || sequences.some(({ generated }) => generated < 2)) steps.next();
  const execs: number[] = [];
  const start = performance.now();
  for (let i = 0; i < DECODE_STEPS; i++) execs.push(steps.next());
  const all = 1000 * (performance.now() - start) / DECODE_STEPS;
  steps.end(sequences);
  return { exec: median(execs), all };
}

/** A step of so many rows of a prompt: what it takes, and the pairs of a row and a token that it sees. */
interface PromptStep {
  micros: number;
  pairs: number;
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
  return { micros: median(execs), pairs: rows * 1.5 * rows };
}

/** Steps of `rows` rows of a prompt from `position` on. */
function goOn(steps: Steps, rows: number, position: number): PromptStep {
  const { loop, scheduler } = steps.host;
  const limit = scheduler.chunkLimit;
  const sequence = sequenceOf({
    promptTokens: prompt(position + rows * (PROMPT_STEPS + 4) + 1, rows),
    maxTokens: 1,
  });
  loop.submit(sequence);
  while (sequence.scheduled < position) steps.next();
  scheduler.chunkLimit = rows;
  // What was planned before the limit changed, and the first steps of their kind.
  for (let i = 0; i < 3; i++) steps.next();
  const execs = Array.from({ length: PROMPT_STEPS }, () => steps.next());
  scheduler.chunkLimit = limit;
  steps.end([sequence]);
  return { micros: median(execs), pairs: rows * (position + rows * (3 + PROMPT_STEPS / 2)) };
}

/** Measures an engine with slots for {@link BATCHES} and a context of more than {@link LONG} tokens; a few seconds. */
export function calibrate(open: OpenSide): Calibration {
  const steps = new Steps(open.host);
  open.sink.to = steps;
  open.host.pager.dropCache();
  const fresh = ROWS.map((rows) => ({ rows, ...begin(steps, rows) }));
  const near = fresh.find(({ rows }) => rows === DEEP_ROWS)!, deep = goOn(steps, DEEP_ROWS, LONG / 2);
  const perPrefillPair = Math.max(0, (deep.micros - near.micros) / (deep.pairs - near.pairs));
  // Without the attention that was in it.
  const body = fresh.map(({ rows, micros, pairs }) =>
    [rows, Math.max(0, micros - pairs * perPrefillPair)] as const
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
    perMovedBlock: movedBlock(),
    gap: Math.max(0, median(short.map(({ exec, all }) => all - exec))),
  };
}

function movedBlock(): number {
  using engine = new FragmentedEngine({ slots: 2, tokens: 2_048, blockTokens: 32, steps: 100 }, 4);
  const before = median(Array.from({ length: DECODE_STEPS }, () => engine.step()));
  engine.moveBeside(MOVED_BLOCKS / 4, 4);
  const after = median(Array.from({ length: DECODE_STEPS }, () => engine.step()));
  return 1000 * Math.max(0, after - before) / MOVED_BLOCKS;
}
