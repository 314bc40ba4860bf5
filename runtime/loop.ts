/**
 * The engine's loop, one turn at a time: take the finished step's results, plan the next step while one
 * runs, commit it, wait for the older one. It is always one step ahead of what it knows: the sampled token
 * of a step feeds the next inside the native library, so planning never waits for it, and an
 * end-of-sequence costs one token that is thrown away.
 *
 * @module
 */
import { KVRM, type NativeEngine, RESULT_HEADER, ROW_RESULT, SLOT_RESULT, TOP } from "../ffi/mod.ts";
import type { ChunkBudget } from "./chunk_budget.ts";
import { Descriptor } from "./descriptor.ts";
import type { MaskClient } from "./grammar/board.ts";
import type { BlockPager } from "./kv/mod.ts";
import type { LivePublisher } from "./live_publisher.ts";
import type { Scheduler } from "./scheduler.ts";
import { StepPlan } from "./step_plan.ts";
import { type Sequence, State } from "./sequence.ts";
import type { LoopMetrics } from "./telemetry/loop_metrics.ts";

/** Why a sequence ended (STUCK: no token was left that it may sample); travels over the ring as a number. */
export const Finish = { NONE: 0, STOP: 1, LENGTH: 2, CANCELLED: 3, STUCK: 4 } as const;

/** Log probabilities as they lie in a result: `count` records of kvrm_top from word `at` on. */
export interface Tops {
  readonly u32: Uint32Array;
  readonly f32: Float32Array;
}

/** Who hears what the loop finds out. Called in order; must not keep `tops`. */
export interface LoopSink {
  /** Time has passed since the last call. */
  tick?(): void;
  /** A sequence gave its slot back to others and waits again. */
  preempted?(sequence: Sequence): void;
  /** A sequence got its slot; so many of its prompt's tokens came from the prefix cache. */
  admitted(sequence: Sequence): void;
  /** A token, and how the sequence ended with it, if it did. `tops` lie at word `at`, `count` of them. */
  token(
    sequence: Sequence,
    token: number,
    finish: number,
    logprob: number,
    tops: Tops,
    at: number,
    count: number,
  ): void;
  /** The log probability of the prompt's token at `position`. */
  promptToken(
    sequence: Sequence,
    position: number,
    logprob: number,
    tops: Tops,
    at: number,
    count: number,
  ): void;
  /** A sequence ended without a token. */
  ended(sequence: Sequence, finish: number): void;
}

/** Counters and last step's timings, updated in place. */
export interface LoopStats {
  steps: number;
  mixedSteps: number;
  generatedTokens: number;
  /** Prompt tokens computed, those computed again after a preemption included. */
  promptTokens: number;
  groups: number;
  moves: number;
  /** Milliseconds. */
  lastPlanMs: number;
  lastExecMs: number;
}

/** What the loop asks of an engine; the native one, or one that only works out how long a step would take. */
export type StepEngine = Pick<NativeEngine, "info" | "commit" | "wait">;

/** What the loop is built from. */
export interface LoopParts {
  engine: StepEngine;
  pager: BlockPager;
  scheduler: Scheduler;
  descriptor: Descriptor;
  sink: LoopSink;
  slots: number;
  /** Steps in flight at most: 2 plans a step while one runs, 1 waits for each. Default 2. */
  inFlight?: number;
  /** Where to measure into. Default: nowhere. */
  metrics?: LoopMetrics | undefined;
  /** Where the masks of sequences with a grammar come from. Default: there are none. */
  masks?: MaskClient | null;
  /** What hears how long steps take. Default: nobody. */
  budget?: ChunkBudget | null;
  /** Who shows the steps to those who watch. Default: nobody. */
  live?: LivePublisher | null;
}

/** One engine's loop; whoever owns it calls {@link EngineLoop.turn} again and again. */
export class EngineLoop {
  readonly #engine: StepEngine;
  readonly #pager: BlockPager;
  readonly #scheduler: Scheduler;
  readonly #descriptor: Descriptor;
  readonly #sink: LoopSink;
  readonly #plans: StepPlan[] = [];
  readonly #result: Uint8Array<ArrayBuffer>;
  readonly #tops: Tops;
  readonly #slotsAt: number;
  readonly #topsAt: number;
  readonly #rowsAt: number;
  readonly #rowTopsAt: number;
  readonly #onAdmit: (sequence: Sequence) => void;
  readonly #inFlight: number;
  readonly #metrics: LoopMetrics | null;
  readonly #masks: MaskClient | null;
  readonly #live: LivePublisher | null;
  readonly #budget: ChunkBudget | null;
  /** The pager's counts as of the last step. */
  #groupsBefore = 0;
  #groupsAfter = 0;
  #committed = 0;
  #completed = 0;
  readonly stats: LoopStats = {
    steps: 0,
    mixedSteps: 0,
    generatedTokens: 0,
    promptTokens: 0,
    groups: 0,
    moves: 0,
    lastPlanMs: 0,
    lastExecMs: 0,
  };

  constructor(parts: LoopParts) {
    this.#engine = parts.engine;
    this.#pager = parts.pager;
    this.#scheduler = parts.scheduler;
    this.#descriptor = parts.descriptor;
    this.#sink = parts.sink;
    this.#inFlight = parts.inFlight ?? 2;
    this.#metrics = parts.metrics ?? null;
    this.#masks = parts.masks ?? null;
    this.#live = parts.live ?? null;
    this.#budget = parts.budget ?? null;
    this.#scheduler.onPreempt = (sequence) => this.#sink.preempted?.(sequence);
    for (let i = 0; i < this.#inFlight; i++) this.#plans.push(new StepPlan(parts.slots));
    const info = parts.engine.info;
    this.#result = new Uint8Array(info.result_bytes);
    const buffer = this.#result.buffer;
    this.#tops = { u32: new Uint32Array(buffer), f32: new Float32Array(buffer) };
    this.#slotsAt = info.result_slots_offset / 4;
    this.#topsAt = info.result_slot_tops_offset / 4;
    this.#rowsAt = info.result_rows_offset / 4;
    this.#rowTopsAt = info.result_row_tops_offset / 4;
    this.#onAdmit = (sequence) => this.#sink.admitted(sequence);
  }

  /** Whether nothing runs and nothing waits. */
  get idle(): boolean {
    return this.#committed === this.#completed && this.#scheduler.running.length === 0 &&
      this.#scheduler.waiting.length === 0;
  }

  /** The last committed step. */
  get lastStep(): number {
    return this.#committed;
  }

  /** Queues a sequence. */
  submit(sequence: Sequence): void {
    this.#scheduler.submit(sequence);
  }

  /** Ends a sequence now: its slot is free for the next step, its blocks once the running ones are done. */
  cancel(sequence: Sequence): void {
    if (sequence.state === State.FINISHED) return;
    this.#scheduler.finish(sequence, this.#committed);
    this.#sink.ended(sequence, Finish.CANCELLED);
  }

  /**
   * One turn. Returns false when there was nothing to do at all, or the step in flight did not finish
   * within `timeoutUs`.
   *
   * @throws {NativeError} when the library refuses a descriptor or a step fails: the engine is lost
   */
  turn(timeoutUs: number): boolean {
    let committed = false;
    if (this.#committed - this.#completed < this.#inFlight) committed = this.#commitNext();
    const inFlight = this.#committed - this.#completed;
    // With one step in flight and a next one just planned behind it, wait; with only a first one
    // committed, go round again and plan behind it.
    if (inFlight === 0) {
      // Somebody waits for a mask: it comes, or a command does.
      if (this.#scheduler.running.length > 0) this.#masks?.wait(timeoutUs / 1000);
      return false;
    }
    if (committed && inFlight < this.#inFlight) return true;
    if (!this.#engine.wait(timeoutUs, this.#result)) return committed;
    this.#completed++;
    this.#sink.tick?.();
    this.#pager.completed(this.#completed);
    this.#apply(this.#plans[this.#completed % this.#inFlight]!);
    return true;
  }

  #commitNext(): boolean {
    const start = performance.now();
    const step = this.#committed + 1;
    const plan = this.#plans[step % this.#inFlight]!;
    this.#scheduler.plan(plan, step, this.#onAdmit);
    if (plan.empty) {
      this.#endStuck();
      return false;
    }
    this.#pager.planMoves(this.#scheduler.maps, step);
    this.#descriptor.fill(plan, this.#pager);
    const planned = performance.now();
    this.stats.lastPlanMs = planned - start;
    this.#engine.commit(this.#descriptor.bytes);
    this.#measure(plan, planned);
    this.#live?.committed(plan, this.stats.lastPlanMs, this.#descriptor);
    this.#committed = step;
    this.#advance(plan);
    this.#endStuck();
    return true;
  }

  /** Ends those that no token is left for. Their part in the step, a prompt's rows, is computed in vain. */
  #endStuck(): void {
    const { stuck } = this.#scheduler;
    if (stuck.length === 0) return;
    for (let i = 0; i < stuck.length; i++) this.#end(stuck[i]!, Finish.STUCK);
    stuck.length = 0;
  }

  #measure(plan: StepPlan, planned: number): void {
    const metrics = this.#metrics;
    if (metrics === null) return;
    metrics.plan.observe(this.stats.lastPlanMs / 1000);
    metrics.commit.observe((performance.now() - planned) / 1000);
    const slots = plan.decodeCount + plan.segmentCount;
    const { groupsBeforeMerge, groupsAfterMerge } = this.#pager.stats;
    if (slots > 0) {
      metrics.groupsBefore.observe((groupsBeforeMerge - this.#groupsBefore) / slots);
      metrics.groupsAfter.observe((groupsAfterMerge - this.#groupsAfter) / slots);
    }
    this.#groupsBefore = groupsBeforeMerge;
    this.#groupsAfter = groupsAfterMerge;
  }

  /** Books what the committed step will have done. */
  #advance(plan: StepPlan): void {
    for (let i = 0; i < plan.decodeCount; i++) {
      const sequence = plan.sequences[plan.decodeSlots[i]!]!;
      sequence.scheduled++;
      sequence.pending++;
    }
    for (let i = 0; i < plan.segmentCount; i++) {
      const slot = plan.segmentSlots[i]!;
      const sequence = plan.sequences[slot]!;
      sequence.scheduled += plan.segmentCounts[i]!;
      sequence.pending += plan.samples[slot]!;
      this.#publish(sequence);
    }
    if (plan.editCount > 0) {
      for (let slot = 0; slot < plan.edits.length; slot++) {
        if (plan.edits[slot]! > 0) plan.sequences[slot]!.adjustment!.advance(plan.edits[slot]!);
      }
    }
    this.stats.steps++;
    if (plan.shape > 0) this.stats.mixedSteps++;
    this.stats.promptTokens += plan.tokenCount;
    this.stats.groups += this.#descriptor.groups;
    this.stats.moves += this.#descriptor.moves;
  }

  #apply(plan: StepPlan): void {
    const u32 = this.#tops.u32;
    this.stats.lastExecMs = u32[RESULT_HEADER.exec_us]! / 1000;
    this.#metrics?.step[plan.shape]?.observe(this.stats.lastExecMs / 1000);
    this.#budget?.observe(plan.decodeCount, plan.tokenCount, this.stats.lastExecMs);
    this.#live?.completed(plan.step, u32[RESULT_HEADER.exec_us]!);
    if (u32[RESULT_HEADER.num_rows]! > 0) this.#applyRows(plan);
    for (let slot = 0; slot < plan.sequences.length; slot++) {
      if (plan.samples[slot] === 1) this.#applySample(plan.sequences[slot]!, slot);
    }
    for (let i = 0; i < plan.segmentCount; i++) {
      const sequence = plan.sequences[plan.segmentSlots[i]!]!;
      const end = plan.segmentPositions[i]! + plan.segmentCounts[i]!;
      if (sequence.maxTokens === 0 && end === sequence.length) this.#end(sequence, Finish.LENGTH);
    }
  }

  #applySample(sequence: Sequence, slot: number): void {
    sequence.pending--;
    if (sequence.state === State.FINISHED) return;
    const at = this.#slotsAt + slot * SLOT_RESULT.words;
    const token = this.#tops.u32[at + SLOT_RESULT.token]! | 0;
    sequence.tokens[sequence.length++] = token;
    sequence.mirostat?.drawn(this.#tops.f32[at + SLOT_RESULT.surprise]!);
    this.stats.generatedTokens++;
    if (sequence.grammar > 0) this.#tell(sequence);
    const finish = sequence.stopsAt(token)
      ? Finish.STOP
      : sequence.generated === sequence.maxTokens
      ? Finish.LENGTH
      : Finish.NONE;
    this.#sink.token(
      sequence,
      token,
      finish,
      this.#tops.f32[at + SLOT_RESULT.logprob]!,
      this.#tops,
      this.#topsAt + slot * KVRM.MAX_TOP_LOGPROBS * TOP.words,
      this.#tops.u32[at + SLOT_RESULT.num_tops]!,
    );
    if (sequence.state === State.RUNNING) this.#publish(sequence);
    if (finish !== Finish.NONE) this.#scheduler.finish(sequence, this.#committed);
  }

  /** The sooner the grammar worker knows a token, the sooner the next mask is there. */
  #tell(sequence: Sequence): void {
    const goesOn = sequence.state === State.RUNNING && sequence.generated < sequence.maxTokens;
    if (goesOn) this.#masks!.tell(sequence);
  }

  #applyRows(plan: StepPlan): void {
    let row = 0;
    for (let i = 0; i < plan.segmentCount; i++) {
      const sequence = plan.sequences[plan.segmentSlots[i]!]!;
      const position = plan.segmentPositions[i]!;
      for (let j = 0; j < plan.segmentCounts[i]!; j++, row++) {
        if (sequence.state === State.FINISHED) continue;
        const at = this.#rowsAt + row * ROW_RESULT.words;
        if ((this.#tops.u32[at + ROW_RESULT.flags]! & KVRM.RESULT_SAMPLED) === 0) continue;
        this.#sink.promptToken(
          sequence,
          position + j + 1,
          this.#tops.f32[at + ROW_RESULT.logprob]!,
          this.#tops,
          this.#rowTopsAt + row * KVRM.MAX_TOP_LOGPROBS * TOP.words,
          this.#tops.u32[at + ROW_RESULT.num_tops]!,
        );
      }
      row += plan.segmentPadding[i]!;
    }
  }

  /** Ends a sequence that wants no token, or can have none. */
  #end(sequence: Sequence, finish: number): void {
    if (sequence.state === State.FINISHED) return;
    this.#scheduler.finish(sequence, this.#committed);
    this.#sink.ended(sequence, finish);
  }

  /** Makes what is known and written findable for other prompts. */
  #publish(sequence: Sequence): void {
    const known = Math.min(sequence.length, sequence.scheduled);
    this.#pager.publish(sequence.map!, sequence.tokens, known);
  }
}
