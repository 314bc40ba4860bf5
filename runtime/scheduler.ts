/**
 * Decides who runs in the next step: continuous batching into fixed slots, prompts in chunks beside the
 * decoding slots, admission on a prompt's full need, blocks as it comes to them, preemption by recomputing.
 * It knows blocks only through the pager and steps only by number; how a step is written down and run is
 * others' business.
 *
 * @module
 */
import type { ChunkBudget } from "./chunk_budget.ts";
import type { MaskClient } from "./grammar/board.ts";
import type { BlockMap, BlockPager } from "./kv/mod.ts";
import { paddedLength } from "./padding.ts";
import { type Sequence, State } from "./sequence.ts";
import type { StepPlan } from "./step_plan.ts";

/** What the scheduler may use. */
export interface SchedulerOptions {
  slots: number;
  /** Chunk sizes of the mixed shapes, ascending, in tokens. */
  chunks: readonly number[];
  /** Prompt tokens per step at most while somebody decodes, so that a long prompt stalls nobody. */
  chunkWhileDecoding: number;
  /** Edits of token states per step at most. */
  edits: number;
  /** Widest sliding window when every layer has one, else 0: blocks behind it are let go. */
  window: number;
  /**
   * Not 0: as executors with graphs of fixed length, which have buckets up to this context, in tokens. A prompt
   * goes through whole, alone and padded to its bucket, while those who decode wait; they attend over the
   * bucket of the longest of them.
   */
  padded: number;
}

/** Queue, slots and the policy between them. */
export class Scheduler {
  readonly #pager: BlockPager;
  readonly #options: SchedulerOptions;
  readonly #freeSlots: Int32Array;
  /** Where the masks of sequences with a grammar come from; null where there is no such sequence. */
  readonly #masks: MaskClient | null;
  #freeCount: number;
  /**
   * Somebody in a slot had no block to go on with: nobody is let in, who might take what comes back. Where it made way
   * for itself, and nobody is left, all blocks have to be back, or it would get the same few pieces again.
   */
  #isShort = false;
  #arrivals = 0;
  /** Waiting to run, best first. */
  readonly waiting: Sequence[] = [];
  /** In slots, best first. */
  readonly running: Sequence[] = [];
  /** The block map in each slot. [slots] */
  readonly maps: (BlockMap | null)[];
  /** Found while planning: sequences whose rules leave no token. Whoever plans ends them. */
  readonly stuck: Sequence[] = [];
  /** Sequences that lost their blocks to others and had to be computed again. */
  preemptions = 0;
  /** Hears of each of them. */
  onPreempt: (sequence: Sequence) => void = () => {};
  /** Prompt tokens beside decoding at most; may be changed between steps. */
  chunkWhileDecoding: number;
  /** What a step's time allows; null: anything. */
  budget: ChunkBudget | null = null;
  /** Prompt tokens per step at most, whatever else runs; may be changed between steps. */
  chunkLimit: number;
  /** Edits per step at most, 1 or more; may be changed between steps. */
  editLimit: number;

  constructor(pager: BlockPager, options: SchedulerOptions, masks: MaskClient | null = null) {
    this.#pager = pager;
    this.#masks = masks;
    this.#options = options;
    this.#freeSlots = new Int32Array(options.slots);
    for (let i = 0; i < options.slots; i++) this.#freeSlots[i] = options.slots - 1 - i;
    this.#freeCount = options.slots;
    this.maps = new Array<BlockMap | null>(options.slots).fill(null);
    this.chunkWhileDecoding = options.chunkWhileDecoding;
    this.chunkLimit = options.chunks[options.chunks.length - 1]!;
    this.editLimit = options.edits;
  }

  /** Queues a sequence. */
  submit(sequence: Sequence): void {
    sequence.arrival = this.#arrivals++;
    insert(this.waiting, sequence);
  }

  /**
   * Takes a sequence out of queue or slot; its blocks become reusable once `lastStep`, the last committed
   * one, has completed.
   */
  finish(sequence: Sequence, lastStep: number): void {
    if (sequence.state === State.RUNNING) {
      remove(this.running, sequence);
      this.#leaveSlot(sequence, lastStep);
    } else if (sequence.state === State.WAITING) {
      remove(this.waiting, sequence);
    }
    if (sequence.grammar > 0) this.#masks!.close(sequence);
    sequence.state = State.FINISHED;
  }

  /**
   * Sends a running sequence back to the queue; what it has computed stays findable in the prefix cache
   * for as long as nobody needs the blocks.
   */
  preempt(sequence: Sequence, lastStep: number): void {
    remove(this.running, sequence);
    this.#leaveSlot(sequence, lastStep);
    sequence.state = State.WAITING;
    sequence.scheduled = 0;
    insert(this.waiting, sequence);
    this.preemptions++;
    this.onPreempt(sequence);
  }

  /** Fills `plan` for step `step`; `plan.empty` when nobody can run. `onAdmit` hears of new runners. */
  plan(plan: StepPlan, step: number, onAdmit: (sequence: Sequence) => void): void {
    plan.clear(step);
    this.#masks?.begin();
    if (this.#options.padded > 0) {
      this.#planPadded(plan, step, onAdmit);
    } else {
      this.#isShort &&= this.running.length === 0 && this.#pager.stats.inFlight > 0;
      this.#planDecodes(plan, step);
      this.#planSegments(plan, step);
      if (!this.#isShort) this.#planWaiting(plan, step, onAdmit);
    }
    plan.summaryCount = this.#pager.summaries;
    const rows = plan.tokenCount + plan.paddingCount;
    if (rows > 0) plan.shape = 1 + this.#options.chunks.findIndex((chunk) => chunk >= rows);
  }

  /** One prompt, or else everybody who decodes. */
  #planPadded(plan: StepPlan, step: number, onAdmit: (sequence: Sequence) => void): void {
    const prompt = this.running.find(prefills);
    if (prompt !== undefined) this.#planSegment(plan, prompt);
    this.#planWaiting(plan, step, onAdmit);
    if (plan.segmentCount > 0) return;
    this.#planDecodes(plan, step);
    if (plan.decodeCount > 0) plan.paddedWindow = paddedLength(plan.longest, this.#options.padded);
  }

  /** Prompt tokens that still fit this step. */
  #room(plan: StepPlan): number {
    if (this.#options.padded > 0) return plan.segmentCount > 0 ? 0 : this.#options.padded;
    let limit = this.chunkLimit;
    if (plan.decodeCount > 0) {
      limit = Math.min(limit, this.chunkWhileDecoding);
      if (this.budget !== null) limit = Math.min(limit, this.budget.rows(plan.decodeCount));
    }
    return limit - plan.tokenCount;
  }

  #planDecodes(plan: StepPlan, step: number): void {
    // Decoding first: whoever decodes must not wait for somebody's prompt. A victim of preemption is
    // always the last in the order, so it was not planned yet.
    for (let i = 0; i < this.running.length; i++) {
      const sequence = this.running[i]!;
      if (!decodes(sequence)) continue;
      while (!this.#planDecode(plan, sequence)) {
        this.#isShort = true;
        // Blocks whose last step still runs come back by themselves: sit one step out.
        if (this.#pager.stats.inFlight > 0) break;
        const victim = this.running[this.running.length - 1]!;
        // What a prompt has not come to yet goes before what somebody has computed.
        if (victim !== sequence && this.#pager.forgo(victim.map!)) continue;
        this.preempt(victim, step - 1);
        if (victim === sequence) break;
      }
    }
  }

  #planSegments(plan: StepPlan, step: number): void {
    for (let i = 0; i < this.running.length; i++) {
      const sequence = this.running[i]!;
      if (!prefills(sequence) || this.#room(plan) <= 0) continue;
      while (!this.#planSegment(plan, sequence)) {
        this.#isShort = true;
        // It was promised all its blocks, but gives up some on its way, or had to let those before it have some.
        if (this.#pager.stats.inFlight > 0 || !this.#makeWay(plan, sequence, step)) break;
      }
    }
  }

  /** Takes blocks from those after `sequence`; false: there are none to be had before somebody ends. */
  #makeWay(plan: StepPlan, sequence: Sequence, step: number): boolean {
    const victim = this.#lastUnplanned(plan, sequence);
    if (victim !== null) {
      if (!this.#pager.forgo(victim.map!)) this.preempt(victim, step - 1);
      return true;
    }
    // Alone, and still without a place to go on in: all over again, in one piece.
    if (this.running.length === 1) this.preempt(sequence, step - 1);
    return false;
  }

  /** The last in the order, after `sequence`, that has no part in the step. */
  #lastUnplanned(plan: StepPlan, sequence: Sequence): Sequence | null {
    const victim = this.running[this.running.length - 1]!;
    return victim === sequence || plan.sequences[victim.slot] === victim ? null : victim;
  }

  #planWaiting(plan: StepPlan, step: number, onAdmit: (sequence: Sequence) => void): void {
    for (let i = 0; i < this.waiting.length && this.#freeCount > 0;) {
      const sequence = this.waiting[i]!;
      if (sequence.pending > 0 || this.#waitsForParent(sequence)) {
        i++;
        continue;
      }
      const room = this.#room(plan);
      if (room <= 0 || !this.#admit(sequence, room, step)) break;
      this.waiting.splice(i, 1);
      insert(this.running, sequence);
      onAdmit(sequence);
      if (prefills(sequence)) this.#planSegment(plan, sequence);
      else if (this.#options.padded === 0) this.#planDecode(plan, sequence);
    }
  }

  /** A choice waits until its request's first choice has computed the prompt that they share. */
  #waitsForParent(sequence: Sequence): boolean {
    const parent = sequence.parent;
    if (parent === null) return false;
    const computing = parent.state === State.WAITING
      ? parent.cachedTokens < 0
      : parent.state === State.RUNNING && parent.scheduled < sequence.promptLength;
    if (!computing && parent.map === null) sequence.parent = null;
    return computing;
  }

  /** Lets `sequence` have a slot, with blocks for the `room` tokens of its prompt that the step takes. */
  #admit(sequence: Sequence, room: number, step: number): boolean {
    const slot = this.#freeSlots[this.#freeCount - 1]!;
    const parent = sequence.parent;
    sequence.parent = null;
    if (parent?.map && sequence.promptLength > 1) {
      const shared = sequence.promptLength - 1;
      const map = this.#pager.fork(parent.map, slot, shared);
      if (map) {
        if (this.#pager.ensure(map, sequence.length, shared)) {
          this.#enterSlot(sequence, map, shared);
          return true;
        }
        this.#pager.close(map, step - 1);
      }
    }
    const reuse = sequence.promptLogprobs === 0;
    if (!this.#pager.canAdmit(sequence.tokens, sequence.length, reuse)) return false;
    const map = this.#pager.open(slot, sequence.tokens, sequence.length, reuse, room);
    if (!map) return false;
    this.#enterSlot(sequence, map, this.#pager.matchedTokens(map));
    return true;
  }

  #enterSlot(sequence: Sequence, map: BlockMap, computed: number): void {
    sequence.slot = this.#freeSlots[--this.#freeCount]!;
    sequence.map = map;
    this.maps[sequence.slot] = map;
    sequence.scheduled = computed;
    sequence.state = State.RUNNING;
    if (sequence.cachedTokens < 0) sequence.cachedTokens = computed;
    sequence.adjustment?.enter(sequence.generated);
  }

  #leaveSlot(sequence: Sequence, lastStep: number): void {
    this.#freeSlots[this.#freeCount++] = sequence.slot;
    this.#pager.close(sequence.map!, lastStep);
    this.maps[sequence.slot] = null;
    sequence.map = null;
    sequence.slot = -1;
    sequence.maskSlot = -1;
  }

  #planDecode(plan: StepPlan, sequence: Sequence): boolean {
    if (!this.#maySample(sequence)) return true; // until its mask is there
    const position = sequence.scheduled;
    const map = sequence.map!;
    if (!this.#pager.giveUp(map, position, plan.step)) return true; // until the rows are made
    if (!this.#pager.ensure(map, position + 1, position)) return false;
    this.#passWindow(sequence, position);
    if (!this.#planEdits(plan, sequence)) return true; // its token has to wait for them
    plan.sequences[sequence.slot] = sequence;
    plan.samples[sequence.slot] = 1;
    plan.decodeSlots[plan.decodeCount++] = sequence.slot;
    plan.longest = Math.max(plan.longest, position + 1);
    return true;
  }

  /** False: the sequence has no blocks for what comes next. */
  #planSegment(plan: StepPlan, sequence: Sequence): boolean {
    const position = sequence.scheduled;
    const { far } = this.#pager;
    if (!this.#pager.giveUp(sequence.map!, position, plan.step)) return true;
    const left = sequence.length - position;
    let count = Math.min(left, this.#room(plan));
    // All rows of a step see the same summary rows.
    if (far !== null) count = Math.min(count, far.nextStride(position) - position);
    // Without all its edits, or its mask, it may not sample: the last token stays behind, to become a row of its own.
    const ready = this.#planEdits(plan, sequence) && this.#maySample(sequence);
    if (!ready && count === left && sequence.maxTokens > 0) count--;
    if (!this.#pager.ensure(sequence.map!, position + count, position)) return false;
    this.#passWindow(sequence, position);
    const i = plan.segmentCount++;
    plan.sequences[sequence.slot] = sequence;
    plan.samples[sequence.slot] = count === left && sequence.maxTokens > 0 ? 1 : 0;
    plan.segmentSlots[i] = sequence.slot;
    plan.segmentPositions[i] = position;
    plan.segmentCounts[i] = count;
    plan.tokenCount += count;
    const { padded } = this.#options;
    plan.segmentPadding[i] = padded > 0
      ? Math.min(paddedLength(count, padded), padded - position) - count
      : 0;
    plan.paddingCount += plan.segmentPadding[i]!;
    return true;
  }

  /** Whether the sequence needs no mask, or its mask is there. Asking for it has it made. */
  #maySample(sequence: Sequence): boolean {
    if (sequence.grammar > 0 && !this.#masks!.ready(sequence)) return false;
    if (sequence.waits && sequence.pending > 0) return false;
    const { rules } = sequence;
    if (rules === null) return true;
    if (rules.prepare(sequence, sequence.grammar > 0 ? this.#masks!.mask(sequence) : null)) return true;
    this.stuck.push(sequence);
    return false;
  }

  /** Lets the step send what it can of the sequence's edits; whether they are all in with it. */
  #planEdits(plan: StepPlan, sequence: Sequence): boolean {
    sequence.adjustment?.prepare(sequence.tokens, sequence.length);
    const left = sequence.adjustment?.left ?? 0;
    const count = Math.min(left, this.editLimit - plan.editCount);
    if (count > 0) {
      plan.sequences[sequence.slot] = sequence;
      plan.edits[sequence.slot] = count;
      plan.editCount += count;
    }
    return count === left;
  }

  #passWindow(sequence: Sequence, position: number): void {
    const window = this.#options.window;
    if (window > 0 && position >= window) this.#pager.releaseBefore(sequence.map!, position - window + 1);
  }
}

/** One token is left to feed, and its answer is wanted: a row of its own, even for a prompt's last token. */
function decodes(sequence: Sequence): boolean {
  return sequence.unscheduled === 1 && sequence.nextSample < sequence.maxTokens;
}

function prefills(sequence: Sequence): boolean {
  return sequence.pending === 0 && sequence.unscheduled > (sequence.maxTokens > 0 ? 1 : 0);
}

function insert(queue: Sequence[], sequence: Sequence): void {
  let i = queue.length;
  while (i > 0 && sequence.before(queue[i - 1]!)) i--;
  queue.splice(i, 0, sequence);
}

function remove(queue: Sequence[], sequence: Sequence): void {
  const i = queue.indexOf(sequence);
  if (i >= 0) queue.splice(i, 1);
}
