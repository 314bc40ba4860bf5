// layout.h - where the sections of an engine's descriptor and result lie, from its configuration.
// Shared by all backends.
#ifndef KVRM_COMMON_LAYOUT_H_
#define KVRM_COMMON_LAYOUT_H_

#include <cstdint>

#include "../kvrm.h"

namespace kvrm {

inline uint64_t AlignUp(uint64_t value, uint64_t align) { return (value + align - 1) / align * align; }

// The chunk sizes C of the mixed shapes, as an array: chunks[i] belongs to shape i + 1.
inline const uint32_t* Chunks(const kvrm_engine_config& config) { return &config.chunk0; }

// Rows of the largest chunk; 0 when there is no mixed shape.
inline uint32_t MaxChunk(const kvrm_engine_config& config) {
  return config.num_chunks == 0 ? 0 : Chunks(config)[config.num_chunks - 1];
}

// Byte offsets; 64 bits so that absurd configurations are refused instead of wrapped.
struct RecordLayout {
  uint64_t slots, segments, tokens, targets, groups, moves, edits, masks, summaries, descriptor_bytes;
  uint64_t mask_words;  // of one row of masks
  uint64_t result_slots, result_slot_tops, result_rows, result_row_tops, result_bytes;
};

// num_chunks must be at most KVRM_MAX_SHAPES - 1. vocab: the model's.
RecordLayout LayOutRecords(const kvrm_engine_config& config, uint32_t vocab);

// Views of the sections of one descriptor.
struct DescriptorView {
  const kvrm_header* header;
  const kvrm_slot* slots;         // [S]
  const kvrm_segment* segments;   // [num_segments]
  const int32_t* tokens;          // [num_tokens]
  const int32_t* targets;         // [num_tokens]
  const kvrm_group* groups;       // [num_groups]
  const kvrm_move* moves;         // [num_moves]
  const kvrm_edit* edits;         // [num_edits]
  const uint32_t* masks;          // [num_masks][mask_words]
  const kvrm_summary* summaries;  // [num_summaries]
};

inline DescriptorView ViewDescriptor(const RecordLayout& at, const uint8_t* bytes) {
  return {reinterpret_cast<const kvrm_header*>(bytes),
          reinterpret_cast<const kvrm_slot*>(bytes + at.slots),
          reinterpret_cast<const kvrm_segment*>(bytes + at.segments),
          reinterpret_cast<const int32_t*>(bytes + at.tokens),
          reinterpret_cast<const int32_t*>(bytes + at.targets),
          reinterpret_cast<const kvrm_group*>(bytes + at.groups),
          reinterpret_cast<const kvrm_move*>(bytes + at.moves),
          reinterpret_cast<const kvrm_edit*>(bytes + at.edits),
          reinterpret_cast<const uint32_t*>(bytes + at.masks),
          reinterpret_cast<const kvrm_summary*>(bytes + at.summaries)};
}

// Views of the sections of one result.
struct ResultView {
  kvrm_result_header* header;
  kvrm_slot_result* slots;  // [S]
  kvrm_top* slot_tops;      // [S][KVRM_MAX_TOP_LOGPROBS]
  kvrm_row_result* rows;    // [max chunk]
  kvrm_top* row_tops;       // [max chunk][KVRM_MAX_TOP_LOGPROBS]
};

inline ResultView ViewResult(const RecordLayout& at, uint8_t* bytes) {
  return {reinterpret_cast<kvrm_result_header*>(bytes), reinterpret_cast<kvrm_slot_result*>(bytes + at.result_slots),
          reinterpret_cast<kvrm_top*>(bytes + at.result_slot_tops),
          reinterpret_cast<kvrm_row_result*>(bytes + at.result_rows),
          reinterpret_cast<kvrm_top*>(bytes + at.result_row_tops)};
}

}  // namespace kvrm
#endif  // KVRM_COMMON_LAYOUT_H_
