/**
 * An engine that computes nothing: it reads each committed descriptor, works out how long the step would take, and
 * lets that time pass on its clock. Scheduler, pager, planner and descriptors above it are the real ones.
 *
 * @module
 */
import {
  EDIT,
  GROUP,
  HEADER,
  KVRM,
  MOVE,
  type NativeEngineConfig,
  type NativeEngineInfo,
  RESULT_HEADER,
  ROW_RESULT,
  SEGMENT,
  SLOT,
  SLOT_RESULT,
  SUMMARY,
  TOP,
} from "../../ffi/mod.ts";
import type { StepEngine } from "../loop.ts";
import { type Clock, VirtualClock } from "./clock.ts";
import type { StepCost, StepWork } from "./cost.ts";
import { noWork, readWork } from "./work.ts";

/** Where the sections of the records lie, as csrc/common/layout.cc places them. Bytes. */
export function recordLayout(config: NativeEngineConfig, vocab: number): NativeEngineInfo {
  const chunk = Math.max(0, ...config.chunks);
  const align = (bytes: number) => Math.ceil(bytes / KVRM.SECTION_ALIGN) * KVRM.SECTION_ALIGN;
  let end = 0;
  const place = (count: number, words: number) => {
    const start = align(end);
    end = start + count * words * 4;
    return start;
  };
  place(1, HEADER.words);
  const slots_offset = place(config.slots, SLOT.words);
  const segments_offset = place(config.maxSegments, SEGMENT.words);
  const tokens_offset = place(chunk, 1);
  const targets_offset = place(chunk, 1);
  const groups_offset = place(config.maxGroups, GROUP.words);
  const moves_offset = place(config.maxMoves, MOVE.words);
  const edits_offset = place(config.maxEdits, EDIT.words);
  const mask_words = Math.ceil(vocab / 32);
  const masks_offset = place(config.maskRows * mask_words, 1);
  const summaries_offset = place(config.maxSummaries ?? 0, SUMMARY.words);
  const descriptor_bytes = align(end);
  end = 0;
  place(1, RESULT_HEADER.words);
  const result_slots_offset = place(config.slots, SLOT_RESULT.words);
  const result_slot_tops_offset = place(config.slots * KVRM.MAX_TOP_LOGPROBS, TOP.words);
  const result_rows_offset = place(chunk, ROW_RESULT.words);
  const result_row_tops_offset = place(chunk * KVRM.MAX_TOP_LOGPROBS, TOP.words);
  return {
    descriptor_bytes,
    slots_offset,
    segments_offset,
    tokens_offset,
    targets_offset,
    groups_offset,
    moves_offset,
    edits_offset,
    masks_offset,
    mask_words,
    summaries_offset,
    far_row_bytes: 0,
    result_bytes: align(end),
    result_slots_offset,
    result_slot_tops_offset,
    result_rows_offset,
    result_row_tops_offset,
    block_bytes: 0,
    arena_kib: 0,
    threads: 0,
    shapes: config.chunks.length + 1,
  };
}

interface Flight {
  step: number;
  start: number;
  end: number;
  /** 1 where the slot samples. [slots] */
  samples: Uint8Array;
  /** 1 where the prompt's row reports log probabilities. [chunk] */
  reports: Uint8Array;
  /** Of {@link Flight.reports}, up to the last 1. */
  reported: number;
  rows: number;
  moved: number;
}

/** How an engine is simulated, besides the cost of its steps. */
export interface SimulationOptions {
  /** Default: a {@link VirtualClock}. */
  clock?: Clock;
  /** What planning, filling and committing take of the loop's time, where the clock is not the real one. Default 0. */
  planMicros?: number;
  /** From the end of a step to the start of the next, when that is committed already. Default 0. */
  gapMicros?: number;
  /** Tokens are below this. Default 2^31, which is more than any vocabulary has. */
  tokens?: number;
}

/** The engine; times in microseconds of its clock. */
export class SimulatedEngine implements StepEngine {
  readonly info: NativeEngineInfo;
  /** Time in steps. */
  busy = 0;
  /** Of the last committed step. */
  readonly work: StepWork = noWork();
  readonly clock: Clock;
  readonly #config: NativeEngineConfig;
  readonly #cost: StepCost;
  readonly #planMicros: number;
  readonly #gapMicros: number;
  readonly #tokens: number;
  readonly #flights: Flight[];
  #first = 0;
  #count = 0;
  #lastEnd = 0;
  #step = 0;
  #rows = 0;
  #moved = 0;
  #groups = 0;
  #descriptor = new Uint32Array(0);
  #result = new Uint32Array(0);

  constructor(config: NativeEngineConfig, vocab: number, cost: StepCost, options: SimulationOptions = {}) {
    this.clock = options.clock ?? new VirtualClock();
    this.#planMicros = options.planMicros ?? 0;
    this.#gapMicros = options.gapMicros ?? 0;
    this.#tokens = options.tokens ?? 2 ** 31;
    this.#config = config;
    this.#cost = cost;
    this.info = recordLayout(config, vocab);
    this.#flights = Array.from({ length: KVRM.MAX_IN_FLIGHT }, () => ({
      step: 0,
      start: 0,
      end: 0,
      samples: new Uint8Array(config.slots),
      reports: new Uint8Array(Math.max(0, ...config.chunks)),
      reported: 0,
      rows: 0,
      moved: 0,
    }));
  }

  commit(descriptor: Uint8Array<ArrayBuffer>): void {
    if (this.#descriptor.buffer !== descriptor.buffer) this.#descriptor = new Uint32Array(descriptor.buffer);
    if (this.#count === KVRM.MAX_IN_FLIGHT) throw new Error(`${this.#count} steps are in flight already`);
    const u32 = this.#descriptor;
    const step = u32[HEADER.step]!;
    if (u32[HEADER.magic] !== KVRM.DESCRIPTOR_MAGIC || step !== this.#step + 1) {
      throw new Error(`the descriptor is of step ${step}, wanted ${this.#step + 1}`);
    }
    const flight = this.#flights[(this.#first + this.#count) % KVRM.MAX_IN_FLIGHT]!;
    this.#read(u32, flight);
    this.clock.spend(this.#planMicros);
    flight.step = this.#step = step;
    flight.start = Math.max(this.clock.now, this.#lastEnd + this.#gapMicros);
    const micros = this.#cost(this.work);
    flight.end = this.#lastEnd = flight.start + micros;
    this.busy += micros;
    this.#count++;
  }

  #read(u32: Uint32Array, flight: Flight): void {
    const { work } = this;
    readWork(u32, this.info, this.#config.slots, work, flight.samples);
    this.#readSegments(u32, flight);
    this.#rows += work.rows;
    this.#moved += work.movedBlocks;
    this.#groups += work.groups;
    flight.rows = work.rows;
    flight.moved = work.movedBlocks;
  }

  #readSegments(u32: Uint32Array, flight: Flight): void {
    flight.reported = 0;
    let row = 0;
    for (let i = 0; i < u32[HEADER.num_segments]!; i++) {
      const at = this.info.segments_offset / 4 + i * SEGMENT.words;
      const count = u32[at + SEGMENT.count]!;
      const reports = u32[at + SEGMENT.flags]! & KVRM.SEGMENT_PROMPT_LOGPROBS;
      flight.reports.fill(reports, row, row + count);
      row += count;
      if (reports > 0) flight.reported = row;
    }
  }

  /** As {@link NativeEngine.counters}. */
  counters(out: Float64Array<ArrayBuffer>): void {
    out.set([this.#step, this.#rows, this.#moved, this.busy, 0, this.#groups].slice(0, out.length));
  }

  wait(timeoutUs: number, result: Uint8Array<ArrayBuffer>): boolean {
    if (this.#count === 0) throw new Error("no step is in flight");
    if (this.#result.buffer !== result.buffer) this.#result = new Uint32Array(result.buffer);
    const flight = this.#flights[this.#first]!;
    if (!this.clock.until(flight.end, timeoutUs)) return false;
    this.#first = (this.#first + 1) % KVRM.MAX_IN_FLIGHT;
    this.#count--;
    const u32 = this.#result;
    u32[RESULT_HEADER.magic] = KVRM.RESULT_MAGIC;
    u32[RESULT_HEADER.step] = flight.step;
    u32[RESULT_HEADER.exec_us] = flight.end - flight.start;
    u32[RESULT_HEADER.rows] = flight.rows;
    u32[RESULT_HEADER.moved_blocks] = flight.moved;
    u32[RESULT_HEADER.num_rows] = flight.reported;
    for (let row = 0; row < flight.reported; row++) {
      const at = this.info.result_rows_offset / 4 + row * ROW_RESULT.words;
      u32[at + ROW_RESULT.flags] = flight.reports[row]! * KVRM.RESULT_SAMPLED;
    }
    for (let slot = 0; slot < this.#config.slots; slot++) {
      const at = this.info.result_slots_offset / 4 + slot * SLOT_RESULT.words;
      u32[at + SLOT_RESULT.flags] = flight.samples[slot]! === 1 ? KVRM.RESULT_SAMPLED : 0;
      // No two slots of a step say the same, so that nothing is found in the prefix cache by accident.
      u32[at + SLOT_RESULT.token] = (flight.step * 256 + slot) % this.#tokens;
    }
    return true;
  }
}
