/**
 * The worker's side of the live view: notes steps and moves as they are committed, and makes a picture now and
 * then. While nobody watches each call is one look at a word; while somebody does, nothing is allocated either.
 *
 * @module
 */
import type { Descriptor } from "./descriptor.ts";
import { type BlockPager, MOVE_WORDS, type PagerStats } from "./kv/mod.ts";
import {
  Head,
  LIVE_INTERVAL_MS,
  type LiveMemory,
  MOVE_RING,
  MoveField,
  rankOf,
  SlotField,
  STEP_RING,
  StepField,
} from "./live.ts";
import type { Scheduler } from "./scheduler.ts";
import type { StepPlan } from "./step_plan.ts";

/** A picture's share of the worker's time, at most, as one in so many. */
const REST = 100;

/** What a picture is made of. */
export interface LiveParts {
  pager: BlockPager;
  scheduler: Scheduler;
  /** As the pool has it. */
  blocks: number;
  /** Whether a group is a single block. */
  paged: boolean;
}

/** Writes the shared memory. */
export class LivePublisher {
  readonly #memory: LiveMemory;
  readonly #parts: LiveParts;
  /** Of each block; made when somebody watches for the first time. */
  #owners: Uint16Array | null = null;
  /** When the next picture is due. */
  #due = 0;
  /** Milliseconds that the last one took. */
  #cost = 0;
  /** The pager's counts as of the last step. */
  #blocks = 0;
  #groups = 0;
  #copied = 0;
  #staged = 0;
  #watching = false;

  constructor(memory: LiveMemory, parts: LiveParts) {
    this.#memory = memory;
    this.#parts = parts;
  }

  /** A step was committed; `descriptor` still has its moves. */
  committed(plan: StepPlan, planMs: number, descriptor: Descriptor): void {
    if (!this.#watching) return;
    const { head, steps } = this.#memory;
    const { stats } = this.#parts.pager;
    const number = head[Head.STEPS]!;
    const word = (number >>> 0) % STEP_RING * StepField.WORDS;
    steps[word + StepField.STEP] = plan.step;
    steps[word + StepField.DECODE] = plan.decodeCount;
    steps[word + StepField.PROMPT] = plan.tokenCount;
    steps[word + StepField.BLOCKS] = stats.groupsBeforeMerge - this.#blocks;
    steps[word + StepField.GROUPS] = stats.groupsAfterMerge - this.#groups;
    steps[word + StepField.COPIED] = stats.cowBlocks - this.#copied;
    steps[word + StepField.STAGED] = stats.stagedBlocks - this.#staged;
    steps[word + StepField.PLAN_US] = planMs * 1000;
    steps[word + StepField.EXEC_US] = -1;
    head[Head.STEPS] = number + 1;
    this.#remember(stats);
    const { moves, movesAt, words } = descriptor;
    for (let i = 0; i < moves; i++) this.#noteMove(words, movesAt + i * MOVE_WORDS);
  }

  /** A step has completed. */
  completed(step: number, execUs: number): void {
    if (!this.#watching) return;
    const { head, steps } = this.#memory;
    const end = head[Head.STEPS]!;
    // It is one of the newest: few are in flight.
    for (let back = 1; back <= 4; back++) {
      const word = ((end - back) >>> 0) % STEP_RING * StepField.WORDS;
      if (steps[word + StepField.STEP] !== step) continue;
      steps[word + StepField.EXEC_US] = execUs;
      return;
    }
  }

  /** Makes a picture if one is due. */
  tick(): void {
    const { head } = this.#memory;
    const watched = Atomics.load(head, Head.WATCHED) !== 0;
    if (watched !== this.#watching) {
      this.#watching = watched;
      // What came before nobody saw: the next step's counts begin here.
      this.#remember(this.#parts.pager.stats);
    }
    if (!watched) return;
    const start = performance.now();
    if (start < this.#due) return;
    Atomics.add(head, Head.VERSION, 1);
    this.#writeCells();
    this.#writeSlots();
    Atomics.add(head, Head.VERSION, 1);
    // A large pool is looked at less often, that the loop never feels it; a single slow look says nothing.
    const cost = performance.now() - start;
    this.#due = start + Math.max(LIVE_INTERVAL_MS, Math.min(cost, this.#cost) * REST);
    this.#cost = cost;
  }

  #remember(stats: PagerStats): void {
    this.#blocks = stats.groupsBeforeMerge;
    this.#groups = stats.groupsAfterMerge;
    this.#copied = stats.cowBlocks;
    this.#staged = stats.stagedBlocks;
  }

  #noteMove(words: Uint32Array, at: number): void {
    const { head, moves } = this.#memory;
    const number = head[Head.MOVES]!;
    const word = (number >>> 0) % MOVE_RING * MoveField.WORDS;
    moves[word + MoveField.FROM] = words[at + 1]!;
    moves[word + MoveField.TO] = words[at + 2]!;
    moves[word + MoveField.COUNT] = words[at + 3]!;
    head[Head.MOVES] = number + 1;
  }

  #writeCells(): void {
    const { cells, blocksPerCell } = this.#memory;
    const { pager, blocks } = this.#parts;
    const owners = this.#owners ??= new Uint16Array(blocks);
    pager.writeOwners(owners);
    if (blocksPerCell === 1) return cells.set(owners);
    for (let cell = 0, block = 0; cell < cells.length; cell++) {
      let owner = owners[block]!;
      const end = Math.min(block + blocksPerCell, blocks);
      for (block++; block < end; block++) {
        if (rankOf(owners[block]!) > rankOf(owner)) owner = owners[block]!;
      }
      cells[cell] = owner;
    }
  }

  #writeSlots(): void {
    const { slots } = this.#memory;
    const { scheduler, paged } = this.#parts;
    slots.fill(0);
    for (let i = 0; i < scheduler.running.length; i++) {
      const sequence = scheduler.running[i]!;
      const map = sequence.map!;
      const at = sequence.slot * SlotField.WORDS;
      const blocks = map.mappedBlocks;
      slots[at + SlotField.ID] = sequence.id;
      slots[at + SlotField.TOKENS] = sequence.scheduled;
      slots[at + SlotField.PROMPT] = sequence.promptLength;
      slots[at + SlotField.GENERATED] = sequence.generated;
      slots[at + SlotField.MAX] = sequence.maxTokens;
      slots[at + SlotField.BLOCKS] = blocks;
      slots[at + SlotField.GROUPS] = paged ? blocks : map.extentCount;
      slots[at + SlotField.CACHED] = sequence.cachedTokens;
    }
  }
}
