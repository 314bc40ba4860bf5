/**
 * The mirror of `csrc/kvrm.h`: constants, and for each record the index of each field in 4-byte words.
 * {@link checkLayout} holds it against what the loaded library says of itself, so that a mirror that has
 * drifted is an error at start and not a corrupt step.
 *
 * @module
 */

/** Constants of kvrm.h that the runtime needs, by their C names. */
export const KVRM = {
  ABI_VERSION: 5,
  DESCRIPTOR_MAGIC: 0x4d52564b,
  RESULT_MAGIC: 0x5352564b,
  MAX_IN_FLIGHT: 3,
  MAX_SHAPES: 8,
  MAX_TOP_LOGPROBS: 20,
  MAX_BIASES: 1024,
  MAX_COUNT: 32767,
  MAX_FAR_ROWS: 256,
  SECTION_ALIGN: 64,
  F32: 0,
  F16: 1,
  BF16: 2,
  F8_E4M3: 3,
  Q8_0: 4,
  Q4_0: 5,
  Q4_K: 6,
  Q5_K: 7,
  Q6_K: 8,
  QUANTIZE_NONE: 0,
  QUANTIZE_FP8: 1,
  QUANTIZE_INT8: 2,
  QUANTIZE_INT4: 3,
  QUANTIZE_BF16: 4,
  NO_FILE: 0xffffffff,
  ENGINE_NOOP: 1,
  SLOT_DECODE: 1,
  SLOT_PREFILL: 2,
  SLOT_TOKEN_LAST: 4,
  SLOT_SAMPLE: 8,
  SLOT_ADJUST: 16,
  SEGMENT_PROMPT_LOGPROBS: 1,
  GROUP_EXACT: 0,
  GROUP_FAR: 1,
  TIER_POOL: 0,
  TIER_HOST: 1,
  EDIT_CLEAR: 0,
  EDIT_PROMPT: 1,
  EDIT_COUNT: 2,
  EDIT_BIAS: 3,
  SUMMARY_CLEAR: 0,
  SUMMARY_BLOCK: 1,
  SUMMARY_MERGE: 2,
  RESULT_SAMPLED: 1,
} as const;

/** `kvrm_status`. */
export const Status = {
  OK: 0,
  INVALID_ARGUMENT: 1,
  INVALID_DESCRIPTOR: 2,
  INVALID_MODEL: 3,
  IO: 4,
  UNSUPPORTED: 5,
  OUT_OF_MEMORY: 6,
  TIMEOUT: 7,
  BUSY: 8,
  EMPTY: 9,
  DEVICE_LOST: 10,
  INTERNAL: 11,
} as const;

type Scalar = "u32" | "i32" | "f32";
type FieldName<F extends string> = F extends `${Scalar} ${infer Name}` ? Name : never;
type Layout<F extends readonly string[]> =
  & { readonly [K in FieldName<F[number]>]: number }
  & { readonly words: number };

const records = new Map<string, readonly string[]>();

function record<const F extends readonly `${Scalar} ${string}`[]>(name: string, fields: F): Layout<F> {
  records.set(name, fields);
  const layout: Record<string, number> = { words: fields.length };
  fields.forEach((field, word) => layout[field.slice(4)] = word);
  return Object.freeze(layout) as Layout<F>;
}

/** kvrm_model_config, in words. */
export const MODEL_CONFIG = record("model_config", [
  "u32 abi_version",
  "u32 hidden",
  "u32 intermediate",
  "u32 layers",
  "u32 heads",
  "u32 kv_heads",
  "u32 head_dim",
  "u32 vocab",
  "u32 max_position",
  "f32 rms_eps",
  "f32 attention_scale",
  "u32 random_seed",
  "u32 quantize",
  "u32 device",
  "u32 rope_interleaved",
]);

/** kvrm_tensor, in words. */
export const TENSOR = record("tensor", [
  "u32 role",
  "u32 layer",
  "u32 dtype",
  "u32 file",
  "u32 offset_lo",
  "u32 offset_hi",
  "u32 rows",
  "u32 cols",
]);

/** kvrm_engine_config, in words. */
export const ENGINE_CONFIG = record("engine_config", [
  "u32 abi_version",
  "u32 flags",
  "u32 slots",
  "u32 block_tokens",
  "u32 num_blocks",
  "u32 max_context",
  "u32 max_groups",
  "u32 max_segments",
  "u32 max_moves",
  "u32 max_edits",
  "u32 mask_rows",
  "u32 host_blocks",
  "u32 kv_dtype",
  "u32 threads",
  "u32 num_chunks",
  "u32 chunk0",
  "u32 chunk1",
  "u32 chunk2",
  "u32 chunk3",
  "u32 chunk4",
  "u32 chunk5",
  "u32 chunk6",
  "u32 max_summaries",
  "u32 far_rows",
]);

/** kvrm_engine_info, in words. */
export const ENGINE_INFO = record("engine_info", [
  "u32 descriptor_bytes",
  "u32 slots_offset",
  "u32 segments_offset",
  "u32 tokens_offset",
  "u32 targets_offset",
  "u32 groups_offset",
  "u32 moves_offset",
  "u32 edits_offset",
  "u32 masks_offset",
  "u32 mask_words",
  "u32 result_bytes",
  "u32 result_slots_offset",
  "u32 result_slot_tops_offset",
  "u32 result_rows_offset",
  "u32 result_row_tops_offset",
  "u32 block_bytes",
  "u32 arena_kib",
  "u32 threads",
  "u32 shapes",
  "u32 summaries_offset",
  "u32 far_row_bytes",
]);

/** kvrm_header, in words. */
export const HEADER = record("header", [
  "u32 magic",
  "u32 abi_version",
  "u32 step",
  "u32 shape",
  "u32 flags",
  "u32 num_decode",
  "u32 num_segments",
  "u32 num_tokens",
  "u32 num_groups",
  "u32 num_moves",
  "u32 num_edits",
  "u32 num_masks",
  "u32 padded_window",
  "u32 num_summaries",
  "u32 reserved2",
  "u32 reserved3",
]);

/** kvrm_slot, in words. */
export const SLOT = record("slot", [
  "u32 flags",
  "i32 token",
  "u32 position",
  "u32 kv_len",
  "u32 write_block",
  "u32 write_offset",
  "u32 group_first",
  "u32 group_count",
  "f32 temperature",
  "u32 top_k",
  "f32 top_p",
  "f32 min_p",
  "u32 seed_lo",
  "u32 seed_hi",
  "u32 counter",
  "u32 logprobs",
  "f32 repetition_penalty",
  "f32 presence_penalty",
  "f32 frequency_penalty",
  "u32 mask",
  "f32 top_n_sigma",
  "f32 typical_p",
  "f32 xtc_probability",
  "f32 xtc_threshold",
  "f32 dynatemp_range",
  "f32 dynatemp_exponent",
  "u32 mirostat",
  "f32 mirostat_mu",
]);

/** kvrm_segment, in words. */
export const SEGMENT = record("segment", [
  "u32 slot",
  "u32 token_first",
  "u32 count",
  "u32 position",
  "u32 flags",
  "u32 top_logprobs",
  "u32 padding",
  "u32 reserved1",
]);

/** kvrm_group, in words. */
export const GROUP = record("group", [
  "u32 slot_kind",
  "u32 logical_start",
  "u32 physical_start",
  "u32 count",
]);

/** kvrm_move, in words. */
export const MOVE = record("move", ["u32 tiers", "u32 from", "u32 to", "u32 count"]);

/** kvrm_edit, in words. */
export const EDIT = record("edit", ["u32 slot_kind", "i32 token", "u32 value", "u32 reserved0"]);

/** kvrm_summary, in words. */
export const SUMMARY = record("summary", ["u32 slot_kind", "u32 row", "u32 source", "u32 tokens"]);

/** kvrm_result_header, in words. */
export const RESULT_HEADER = record("result_header", [
  "u32 magic",
  "u32 step",
  "u32 status",
  "u32 exec_us",
  "u32 wait_us",
  "u32 num_rows",
  "u32 moved_blocks",
  "u32 rows",
]);

/** kvrm_slot_result, in words. */
export const SLOT_RESULT = record("slot_result", [
  "u32 flags",
  "i32 token",
  "f32 logprob",
  "u32 num_tops",
  "f32 surprise",
]);

/** kvrm_row_result, in words. */
export const ROW_RESULT = record("row_result", ["u32 flags", "f32 logprob", "u32 num_tops", "u32 reserved0"]);

/** kvrm_top, in words. */
export const TOP = record("top", ["i32 token", "f32 logprob"]);

/**
 * Compares this mirror with the text of `kvrm_layout()`.
 *
 * @throws {Error} naming each record and constant that differs, what the library says and what is here.
 */
export function checkLayout(text: string): void {
  const found = new Map<string, string>();
  for (const line of text.split("\n")) {
    const constant = /^(?:KVRM_)?(\w+) = (\w+)$/.exec(line);
    const size = /^(\w+) size (\d+)$/.exec(line);
    const field = /^(\w+\.\w+) (\d+) (\w+)$/.exec(line);
    if (constant) found.set(constant[1]!, String(Number(constant[2])));
    else if (size) found.set(`${size[1]} size`, size[2]!);
    else if (field) found.set(field[1]!, `${field[2]} ${field[3]}`);
  }
  const wrong: string[] = [];
  const expect = (name: string, wanted: string) => {
    const value = found.get(name);
    if (value !== wanted) wrong.push(`${name}: library says ${value ?? "nothing"}, this program ${wanted}`);
  };
  for (const [name, value] of Object.entries(KVRM)) expect(name, String(value));
  for (const [name, value] of Object.entries(Status)) expect(name, String(value));
  for (const [name, fields] of records) {
    expect(`${name} size`, String(fields.length * 4));
    fields.forEach((field, word) => expect(`${name}.${field.slice(4)}`, `${word * 4} ${field.slice(0, 3)}`));
  }
  if (wrong.length > 0) {
    throw new Error(
      `the native library's records differ from this program's (rebuild it with \`make\`): ${
        wrong.join("; ")
      }`,
    );
  }
}
