/**
 * What a committed descriptor has the engine do, in the terms of a {@link StepCost}.
 *
 * @module
 */
import { HEADER, KVRM, MOVE, type NativeEngineInfo, SLOT } from "../../ffi/mod.ts";
import type { StepWork } from "./cost.ts";

/** A step that does nothing. */
export function noWork(): StepWork {
  return { rows: 0, samples: 0, decodeKv: 0, prefillKv: 0, prefillPairs: 0, groups: 0, movedBlocks: 0 };
}

/**
 * Reads a descriptor's words into `work`.
 *
 * @param sampling where given, gets 1 for each slot that samples, else 0. [slots]
 */
export function readWork(
  u32: Uint32Array,
  info: Pick<NativeEngineInfo, "slots_offset" | "moves_offset">,
  slots: number,
  work: StepWork,
  sampling?: Uint8Array,
): void {
  const padded = u32[HEADER.padded_window]!;
  work.rows = u32[HEADER.num_decode]! + u32[HEADER.num_tokens]!;
  work.groups = u32[HEADER.num_groups]!;
  work.samples =
    work.decodeKv =
    work.prefillKv =
    work.prefillPairs =
    work.movedBlocks =
      0;
  for (let slot = 0; slot < slots; slot++) {
    const at = info.slots_offset / 4 + slot * SLOT.words;
    const flags = u32[at + SLOT.flags]!;
    const length = u32[at + SLOT.kv_len]!;
    let samples = flags & KVRM.SLOT_SAMPLE;
    if (flags & KVRM.SLOT_DECODE) {
      samples = 1;
      work.decodeKv += padded > 0 ? padded : length;
    } else if (flags & KVRM.SLOT_PREFILL) {
      const position = u32[at + SLOT.position]!;
      const count = length - position;
      work.prefillKv += length;
      work.prefillPairs += count * position + count * (count + 1) / 2;
    }
    if (samples !== 0) work.samples++;
    if (sampling) sampling[slot] = samples === 0 ? 0 : 1;
  }
  for (let i = 0; i < u32[HEADER.num_moves]!; i++) {
    work.movedBlocks += u32[info.moves_offset / 4 + i * MOVE.words + MOVE.count]!;
  }
}
