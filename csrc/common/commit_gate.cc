#include "commit_gate.h"

#include <cstring>

namespace kvrm {

CommitGate::CommitGate(const kvrm_engine_config& config, uint32_t vocab, uint32_t widest_window)
    : at_(LayOutRecords(config, vocab)),
      limits_(LimitsOf(config, vocab, widest_window)),
      shadow_(limits_),
      scratch_(limits_) {}

kvrm_status CommitGate::Refuse(const Refusal& refusal) const {
  char text[256];
  DescribeRefusal(refusal, text, sizeof(text));
  return Fail(KVRM_INVALID_DESCRIPTOR, "commit step %u: %s", next_step(), text);
}

void CommitGate::CopySections(const uint8_t* from, const kvrm_header& header, uint8_t* to) const {
  auto copy = [&](uint64_t offset, size_t count, size_t size) {
    std::memcpy(to + offset, from + offset, count * size);
  };
  copy(at_.slots, limits_.slots, sizeof(kvrm_slot));
  copy(at_.segments, header.num_segments, sizeof(kvrm_segment));
  copy(at_.tokens, header.num_tokens, sizeof(int32_t));
  copy(at_.targets, header.num_tokens, sizeof(int32_t));
  copy(at_.groups, header.num_groups, sizeof(kvrm_group));
  copy(at_.moves, header.num_moves, sizeof(kvrm_move));
  copy(at_.edits, header.num_edits, sizeof(kvrm_edit));
  copy(at_.masks, header.num_masks * at_.mask_words, sizeof(uint32_t));
  copy(at_.summaries, header.num_summaries, sizeof(kvrm_summary));
}

kvrm_status CommitGate::Accept(const uint8_t* descriptor, uint32_t bytes, uint8_t* copy) {
  if (bytes != at_.descriptor_bytes) {
    return Fail(KVRM_INVALID_ARGUMENT, "commit step %u: the descriptor has %u bytes, wanted %u", next_step(), bytes,
                static_cast<uint32_t>(at_.descriptor_bytes));
  }
  // The copy is what is checked, so that a caller who writes at the same time cannot change what has
  // been found good.
  const DescriptorView view = ViewDescriptor(at_, copy);
  std::memcpy(copy, descriptor, sizeof(kvrm_header));
  Refusal refusal;
  if (!CheckHeader(limits_, shadow_, *view.header, &refusal)) return Refuse(refusal);
  CopySections(descriptor, *view.header, copy);
  if (!CheckSections(limits_, shadow_, view, scratch_, &refusal)) return Refuse(refusal);
  ApplyToShadow(limits_, view, shadow_);
  return KVRM_OK;
}

void CommitGate::FillInfo(kvrm_engine_info* info) const {
  info->descriptor_bytes = static_cast<uint32_t>(at_.descriptor_bytes);
  info->slots_offset = static_cast<uint32_t>(at_.slots);
  info->segments_offset = static_cast<uint32_t>(at_.segments);
  info->tokens_offset = static_cast<uint32_t>(at_.tokens);
  info->targets_offset = static_cast<uint32_t>(at_.targets);
  info->groups_offset = static_cast<uint32_t>(at_.groups);
  info->moves_offset = static_cast<uint32_t>(at_.moves);
  info->edits_offset = static_cast<uint32_t>(at_.edits);
  info->masks_offset = static_cast<uint32_t>(at_.masks);
  info->mask_words = static_cast<uint32_t>(at_.mask_words);
  info->result_bytes = static_cast<uint32_t>(at_.result_bytes);
  info->result_slots_offset = static_cast<uint32_t>(at_.result_slots);
  info->result_slot_tops_offset = static_cast<uint32_t>(at_.result_slot_tops);
  info->result_rows_offset = static_cast<uint32_t>(at_.result_rows);
  info->result_row_tops_offset = static_cast<uint32_t>(at_.result_row_tops);
  info->summaries_offset = static_cast<uint32_t>(at_.summaries);
  info->shapes = limits_.shapes;
}

void CopyResult(const RecordLayout& at, uint32_t num_slots, const uint8_t* from, uint8_t* to) {
  auto copy = [&](uint64_t offset, size_t bytes) { std::memcpy(to + offset, from + offset, bytes); };
  const auto* header = reinterpret_cast<const kvrm_result_header*>(from);
  const auto* slots = reinterpret_cast<const kvrm_slot_result*>(from + at.result_slots);
  const auto* rows = reinterpret_cast<const kvrm_row_result*>(from + at.result_rows);
  constexpr size_t kTops = KVRM_MAX_TOP_LOGPROBS * sizeof(kvrm_top);
  copy(0, sizeof(kvrm_result_header));
  copy(at.result_slots, num_slots * sizeof(kvrm_slot_result));
  for (uint32_t i = 0; i < num_slots; ++i) {
    if (slots[i].num_tops != 0) copy(at.result_slot_tops + i * kTops, slots[i].num_tops * sizeof(kvrm_top));
  }
  copy(at.result_rows, header->num_rows * sizeof(kvrm_row_result));
  for (uint32_t i = 0; i < header->num_rows; ++i) {
    if (rows[i].num_tops != 0) copy(at.result_row_tops + i * kTops, rows[i].num_tops * sizeof(kvrm_top));
  }
}

}  // namespace kvrm
