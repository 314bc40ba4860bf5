#include "layout.h"

namespace kvrm {
namespace {

// Places one section after another, each on a multiple of KVRM_SECTION_ALIGN.
struct Cursor {
  uint64_t end = 0;
  uint64_t Place(uint64_t count, uint64_t size) {
    const uint64_t start = AlignUp(end, KVRM_SECTION_ALIGN);
    end = start + count * size;
    return start;
  }
  uint64_t Total() const { return AlignUp(end, KVRM_SECTION_ALIGN); }
};

}  // namespace

RecordLayout LayOutRecords(const kvrm_engine_config& config, uint32_t vocab) {
  const uint64_t slots = config.slots;
  const uint64_t chunk = MaxChunk(config);
  RecordLayout at;
  Cursor descriptor;
  descriptor.Place(1, sizeof(kvrm_header));
  at.slots = descriptor.Place(slots, sizeof(kvrm_slot));
  at.segments = descriptor.Place(config.max_segments, sizeof(kvrm_segment));
  at.tokens = descriptor.Place(chunk, sizeof(int32_t));
  at.targets = descriptor.Place(chunk, sizeof(int32_t));
  at.groups = descriptor.Place(config.max_groups, sizeof(kvrm_group));
  at.moves = descriptor.Place(config.max_moves, sizeof(kvrm_move));
  at.edits = descriptor.Place(config.max_edits, sizeof(kvrm_edit));
  at.mask_words = (uint64_t{vocab} + 31) / 32;
  at.masks = descriptor.Place(config.mask_rows * at.mask_words, sizeof(uint32_t));
  at.summaries = descriptor.Place(config.max_summaries, sizeof(kvrm_summary));
  at.descriptor_bytes = descriptor.Total();

  Cursor result;
  result.Place(1, sizeof(kvrm_result_header));
  at.result_slots = result.Place(slots, sizeof(kvrm_slot_result));
  at.result_slot_tops = result.Place(slots * KVRM_MAX_TOP_LOGPROBS, sizeof(kvrm_top));
  at.result_rows = result.Place(chunk, sizeof(kvrm_row_result));
  at.result_row_tops = result.Place(chunk * KVRM_MAX_TOP_LOGPROBS, sizeof(kvrm_top));
  at.result_bytes = result.Total();
  return at;
}

}  // namespace kvrm
