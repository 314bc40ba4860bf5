/**
 * Runs sequences through a real engine loop in the calling thread, and collects what comes out.
 *
 * @module
 */
import type { BoardMemory } from "../runtime/grammar/board.ts";
import { EngineHost } from "../runtime/host.ts";
import type { PagerOptions } from "../runtime/kv/mod.ts";
import type { LoopSink, Tops } from "../runtime/loop.ts";
import type { ModelTables } from "../runtime/model/folder.ts";
import { type EngineOptions, type EngineSizes, engineSizes } from "../runtime/options.ts";
import { greedyOptions, Sequence, type SequenceOptions } from "../runtime/sequence.ts";

/** What a sequence gave. */
export interface Outcome {
  tokens: number[];
  /** Of each token, as the bits that came. */
  logprobs: number[];
  /** [token][rank] ids and log probabilities, flat. */
  tops: number[];
  promptLogprobs: Map<number, number>;
  cachedTokens: number;
  /** 0 while running; see Finish. */
  finish: number;
}

/** Collects events by sequence id. */
export class CollectingSink implements LoopSink {
  readonly outcomes = new Map<number, Outcome>();

  of(id: number): Outcome {
    let outcome = this.outcomes.get(id);
    if (!outcome) {
      outcome = {
        tokens: [],
        logprobs: [],
        tops: [],
        promptLogprobs: new Map(),
        cachedTokens: -1,
        finish: 0,
      };
      this.outcomes.set(id, outcome);
    }
    return outcome;
  }

  admitted(sequence: Sequence): void {
    this.of(sequence.id).cachedTokens = sequence.cachedTokens;
  }

  token(
    sequence: Sequence,
    token: number,
    finish: number,
    logprob: number,
    tops: Tops,
    at: number,
    count: number,
  ) {
    const outcome = this.of(sequence.id);
    outcome.tokens.push(token);
    outcome.logprobs.push(logprob);
    for (let i = 0; i < count; i++) outcome.tops.push(tops.u32[at + 2 * i]!, tops.f32[at + 2 * i + 1]!);
    outcome.finish = finish;
  }

  promptToken(sequence: Sequence, position: number, logprob: number): void {
    this.of(sequence.id).promptLogprobs.set(position, logprob);
  }

  ended(sequence: Sequence, finish: number): void {
    this.of(sequence.id).finish = finish;
  }
}

/** What an engine is made of, and what of its pager no option changes. */
export type BenchOptions = Omit<EngineOptions, "model"> & { pager?: Partial<PagerOptions> };

/** Whether the library under test is that of GPUs, or its emulator: some of what the CPU has is refused there. */
export const ON_GPU = /cuda|emulator/.test(Deno.env.get("KVRM_LIB") ?? "");

/** A loop in this thread. */
export class Bench implements Disposable {
  readonly sink = new CollectingSink();
  readonly host: EngineHost;
  readonly sizes: EngineSizes;
  #nextId = 1;

  /**
   * @param extraMaps block maps beyond the slots', with slot numbers behind theirs: to hold blocks with
   * @param board where masks of sequences with a grammar come from
   */
  constructor(
    tables: ModelTables,
    dtype: string,
    { pager, ...options }: BenchOptions,
    extraMaps = 0,
    board?: BoardMemory,
  ) {
    this.sizes = engineSizes({ model: "", ...options }, tables, dtype);
    Object.assign(this.sizes.pager, pager);
    this.sizes.pager.slots += extraMaps;
    this.host = new EngineHost(tables, this.sizes, this.sink, options.libraryPath, { board });
  }

  /** A sequence with defaults: greedy, all logprobs, no stop tokens. */
  sequence(prompt: readonly number[], maxTokens: number, options: Partial<SequenceOptions> = {}): Sequence {
    return new Sequence({
      ...greedyOptions(this.#nextId++, Int32Array.from(prompt), maxTokens),
      seedLo: 0,
      logprobs: 1,
      ...options,
    });
  }

  /** Turns the loop until nothing is left; `between` runs before each turn. */
  drain(between?: (turn: number) => void): void {
    for (let turn = 0; !this.host.loop.idle; turn++) {
      if (turn > 1_000_000) throw new Error("the loop does not come to rest");
      between?.(turn);
      this.host.loop.turn(1_000_000);
    }
  }

  /** The same, with the last runner preempted every so many turns, 40 times; 0: never. Returns how often. */
  drainPreempting(every: number): number {
    const { scheduler, loop } = this.host;
    let preempted = 0;
    this.drain((turn) => {
      const victim = scheduler.running.at(-1);
      if (every === 0 || turn % every !== 0 || victim === undefined || preempted > 40) return;
      scheduler.preempt(victim, loop.lastStep);
      preempted++;
    });
    return preempted;
  }

  /** Runs one prompt alone. */
  run(prompt: readonly number[], maxTokens: number, options: Partial<SequenceOptions> = {}): Outcome {
    const sequence = this.sequence(prompt, maxTokens, options);
    this.host.loop.submit(sequence);
    this.drain();
    return this.sink.of(sequence.id);
  }

  [Symbol.dispose](): void {
    this.host[Symbol.dispose]();
  }
}
