/**
 * Writes a step's plan down as the one record that is committed. Everything is written in place into one
 * buffer made at start: no allocation, no string, no bigint. docs/descriptor.md explains the record.
 *
 * @module
 */
import { EDIT, GROUP, HEADER, KVRM, type NativeEngineInfo, SEGMENT, SLOT, SUMMARY } from "../ffi/mod.ts";
import type { MaskClient } from "./grammar/board.ts";
import type { BlockPager } from "./kv/mod.ts";
import type { StepPlan } from "./step_plan.ts";
import { writeSamplers } from "./samplers.ts";
import type { Sequence } from "./sequence.ts";

/** Capacities that the engine was created with. */
export interface DescriptorLimits {
  slots: number;
  blockTokens: number;
  maxGroups: number;
  maxMoves: number;
  maxSummaries?: number;
}

/** The record under construction. */
export class Descriptor {
  /** What is committed. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #u32: Uint32Array;
  readonly #f32: Float32Array;
  readonly #limits: DescriptorLimits;
  readonly #slots: number;
  readonly #segments: number;
  readonly #tokens: number;
  readonly #targets: number;
  readonly #groups: number;
  readonly #moves: number;
  readonly #edits: number;
  readonly #masks: number;
  readonly #summaries: number;
  readonly #maskWords: number;
  readonly #maskSource: MaskClient | null;
  // What the last fill used of each section, so that only that much must be zeroed again.
  #usedSegments = 0;
  #usedTokens = 0;
  #usedGroups = 0;
  #usedMoves = 0;
  #usedEdits = 0;
  #usedMasks = 0;
  #usedSummaries = 0;

  /**
   * @param info where the engine wants the sections
   * @param masks where the masks of sequences with a grammar are
   */
  constructor(info: NativeEngineInfo, limits: DescriptorLimits, masks: MaskClient | null = null) {
    const buffer = new ArrayBuffer(info.descriptor_bytes);
    this.bytes = new Uint8Array(buffer);
    this.#u32 = new Uint32Array(buffer);
    this.#f32 = new Float32Array(buffer);
    this.#limits = limits;
    this.#slots = info.slots_offset / 4;
    this.#segments = info.segments_offset / 4;
    this.#tokens = info.tokens_offset / 4;
    this.#targets = info.targets_offset / 4;
    this.#groups = info.groups_offset / 4;
    this.#moves = info.moves_offset / 4;
    this.#edits = info.edits_offset / 4;
    this.#masks = info.masks_offset / 4;
    this.#summaries = info.summaries_offset / 4;
    this.#maskWords = info.mask_words;
    this.#maskSource = masks;
  }

  /** Groups written by the last fill. */
  get groups(): number {
    return this.#usedGroups;
  }

  /** Moves written by the last fill. */
  get moves(): number {
    return this.#usedMoves;
  }

  /** Its words, and the first of the moves among them. */
  get words(): Uint32Array {
    return this.#u32;
  }

  get movesAt(): number {
    return this.#moves;
  }

  /**
   * Writes `plan`; takes the pending moves and summaries out of `pager`.
   *
   * @throws {RangeError} when the groups exceed their capacity: the pager broke its promise
   */
  fill(plan: StepPlan, pager: BlockPager): void {
    const u32 = this.#u32;
    this.#clear();
    this.#usedMoves = pager.writeMoves(u32, this.#moves, this.#limits.maxMoves);
    this.#usedSummaries = pager.writeSummaries(u32, this.#summaries, this.#limits.maxSummaries ?? 0);
    for (let i = 0; i < plan.decodeCount; i++) {
      const slot = plan.decodeSlots[i]!;
      this.#writeDecode(slot, plan.sequences[slot]!, plan.paddedWindow);
    }
    for (let i = 0; i < plan.segmentCount; i++) this.#writeSegment(plan, i);
    if (plan.editCount > 0) this.#writeEdits(plan);

    u32[HEADER.magic] = KVRM.DESCRIPTOR_MAGIC;
    u32[HEADER.abi_version] = KVRM.ABI_VERSION;
    u32[HEADER.step] = plan.step;
    u32[HEADER.shape] = plan.shape;
    u32[HEADER.num_decode] = plan.decodeCount;
    u32[HEADER.num_segments] = plan.segmentCount;
    u32[HEADER.num_tokens] = plan.tokenCount + plan.paddingCount;
    u32[HEADER.padded_window] = plan.paddedWindow;
    u32[HEADER.num_groups] = this.#usedGroups;
    u32[HEADER.num_moves] = this.#usedMoves;
    u32[HEADER.num_edits] = this.#usedEdits;
    u32[HEADER.num_masks] = this.#usedMasks;
    u32[HEADER.num_summaries] = this.#usedSummaries;
  }

  #clear(): void {
    const u32 = this.#u32;
    u32.fill(0, this.#slots, this.#slots + this.#limits.slots * SLOT.words);
    u32.fill(0, this.#segments, this.#segments + this.#usedSegments * SEGMENT.words);
    u32.fill(0, this.#tokens, this.#tokens + this.#usedTokens);
    u32.fill(0, this.#targets, this.#targets + this.#usedTokens);
    u32.fill(0, this.#groups, this.#groups + this.#usedGroups * GROUP.words);
    u32.fill(0, this.#moves, this.#moves + this.#usedMoves * 4);
    u32.fill(0, this.#edits, this.#edits + this.#usedEdits * EDIT.words);
    u32.fill(0, this.#summaries, this.#summaries + this.#usedSummaries * SUMMARY.words);
    this.#usedSegments =
      this.#usedTokens =
      this.#usedGroups =
      this.#usedMoves =
      this.#usedEdits =
      this.#usedMasks =
      this.#usedSummaries =
        0;
  }

  #writeDecode(slot: number, sequence: Sequence, paddedWindow: number): void {
    const position = sequence.scheduled;
    const at = this.#writeSlot(slot, sequence, position, 1, paddedWindow);
    const inFlight = position >= sequence.length;
    this.#u32[at + SLOT.flags] = inFlight ? KVRM.SLOT_DECODE | KVRM.SLOT_TOKEN_LAST : KVRM.SLOT_DECODE;
    this.#u32[at + SLOT.token] = inFlight ? 0 : sequence.tokens[position]!;
    this.#writeSampling(at, sequence);
  }

  #writeSegment(plan: StepPlan, index: number): void {
    const u32 = this.#u32;
    const slot = plan.segmentSlots[index]!;
    const position = plan.segmentPositions[index]!;
    const count = plan.segmentCounts[index]!;
    const padding = plan.segmentPadding[index]!;
    const sequence = plan.sequences[slot]!;
    const samples = plan.samples[slot] === 1;

    const at = this.#writeSlot(slot, sequence, position, count, position + count + padding);
    u32[at + SLOT.flags] = samples ? KVRM.SLOT_PREFILL | KVRM.SLOT_SAMPLE : KVRM.SLOT_PREFILL;
    if (samples) this.#writeSampling(at, sequence);

    const first = this.#usedTokens;
    const tokens = this.#tokens + first;
    const targets = this.#targets + first;
    const scored = sequence.promptLogprobs > 0;
    for (let i = 0; i < count; i++) {
      const next = position + i + 1;
      u32[tokens + i] = sequence.tokens[position + i]!;
      u32[targets + i] = scored && next < sequence.promptLength ? sequence.tokens[next]! : -1;
    }
    u32.fill(-1, targets + count, targets + count + padding);
    this.#usedTokens += count + padding;

    const record = this.#segments + this.#usedSegments++ * SEGMENT.words;
    u32[record + SEGMENT.slot] = slot;
    u32[record + SEGMENT.token_first] = first;
    u32[record + SEGMENT.count] = count + padding;
    u32[record + SEGMENT.padding] = padding;
    u32[record + SEGMENT.position] = position;
    u32[record + SEGMENT.flags] = scored ? KVRM.SEGMENT_PROMPT_LOGPROBS : 0;
    u32[record + SEGMENT.top_logprobs] = scored ? sequence.promptLogprobs - 1 : 0;
  }

  /**
   * Position, length and groups of a slot; returns the record's first word. `reach`: the end of its padding, in
   * tokens, which lies in the slot's own reservation, behind the blocks that the map has.
   */
  #writeSlot(slot: number, sequence: Sequence, position: number, count: number, reach: number): number {
    const u32 = this.#u32;
    const { blockTokens, maxGroups } = this.#limits;
    const map = sequence.map!;
    const kvLength = position + count;
    const blocks = Math.ceil(kvLength / blockTokens);
    const groups = map.writeGroups(
      u32,
      this.#groups + this.#usedGroups * GROUP.words,
      slot,
      blocks,
      maxGroups - this.#usedGroups,
    );
    if (groups < 0) {
      throw new RangeError(
        `slot ${slot} needs more groups than the ${maxGroups - this.#usedGroups} left of ${maxGroups}`,
      );
    }
    const padding = Math.ceil(reach / blockTokens) - blocks;
    if (padding > 0) {
      u32[this.#groups + (this.#usedGroups + groups - 1) * GROUP.words + GROUP.count]! += padding;
    }
    const at = this.#slots + slot * SLOT.words;
    u32[at + SLOT.position] = position;
    u32[at + SLOT.kv_len] = kvLength;
    u32[at + SLOT.write_block] = map.physical(Math.floor(position / blockTokens));
    u32[at + SLOT.write_offset] = position % blockTokens;
    u32[at + SLOT.group_first] = this.#usedGroups;
    u32[at + SLOT.group_count] = groups;
    this.#usedGroups += groups;
    return at;
  }

  /** Slot by slot, as the record wants them. */
  #writeEdits(plan: StepPlan): void {
    for (let slot = 0; slot < plan.edits.length; slot++) {
      const count = plan.edits[slot]!;
      if (count === 0) continue;
      const sequence = plan.sequences[slot]!;
      const at = this.#edits + this.#usedEdits * EDIT.words;
      sequence.adjustment!.write(this.#u32, at, slot, count, sequence.tokens, sequence.promptLength);
      this.#usedEdits += count;
    }
  }

  /** Everything about the sample of a slot whose flags are set. */
  #writeSampling(at: number, sequence: Sequence): void {
    const u32 = this.#u32;
    this.#f32[at + SLOT.temperature] = sequence.temperature;
    u32[at + SLOT.top_k] = sequence.topK;
    this.#f32[at + SLOT.top_p] = sequence.topP;
    this.#f32[at + SLOT.min_p] = sequence.minP;
    if (sequence.samplers !== null) writeSamplers(this.#f32, at, sequence.samplers);
    sequence.mirostat?.write(u32, this.#f32, at);
    u32[at + SLOT.seed_lo] = sequence.seedLo;
    u32[at + SLOT.seed_hi] = sequence.seedHi;
    u32[at + SLOT.counter] = sequence.nextSample;
    u32[at + SLOT.logprobs] = sequence.logprobs;
    const mask = sequence.rules !== null
      ? sequence.rules.mask
      : sequence.grammar > 0
      ? this.#maskSource!.mask(sequence)
      : null;
    if (mask !== null) {
      u32.set(mask, this.#masks + this.#usedMasks * this.#maskWords);
      u32[at + SLOT.mask] = ++this.#usedMasks;
    }
    if (sequence.adjustment === null) return;
    u32[at + SLOT.flags]! |= KVRM.SLOT_ADJUST;
    this.#f32[at + SLOT.repetition_penalty] = sequence.repetitionPenalty;
    this.#f32[at + SLOT.presence_penalty] = sequence.presencePenalty;
    this.#f32[at + SLOT.frequency_penalty] = sequence.frequencyPenalty;
  }
}
