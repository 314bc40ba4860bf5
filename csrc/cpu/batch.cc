#include "batch.h"

#include <algorithm>

namespace kvrm::cpu {
namespace {

// What the slot's groups say of its far history.
FarHistory FindFar(const DescriptorView& view, const kvrm_slot& slot, uint32_t block_tokens) {
  const kvrm_group* groups = view.groups + slot.group_first;
  for (uint32_t g = 0; g + 1 < slot.group_count; ++g) {
    if (groups[g].slot_kind >> 16 != KVRM_GROUP_FAR) continue;
    return {groups[g].count, groups[g].logical_start * block_tokens, groups[g + 1].logical_start * block_tokens};
  }
  return {};
}

}  // namespace

void Batch::Reserve(const Plan& plan, uint32_t slots, uint32_t group) {
  rows.reserve(plan.rows);
  query_position.reserve(size_t{plan.rows} * group);
  units.reserve(plan.attention.max_units);
  prompt_rows.reserve(plan.rows);
  samples.reserve(slots);
}

void Batch::AddSample(const kvrm_slot& slot, uint32_t index, uint32_t row) {
  const uint32_t tops = slot.logprobs == 0 ? 0 : slot.logprobs - 1;
  samples.push_back({row, index, -1, tops});
}

void Batch::AddDecode(const DescriptorView& view, uint32_t index, uint32_t block_tokens, int32_t last_token) {
  const kvrm_slot& slot = view.slots[index];
  const int32_t token = slot.flags & KVRM_SLOT_TOKEN_LAST ? last_token : slot.token;
  units.push_back({index, static_cast<uint32_t>(rows.size()), 1, FindFar(view, slot, block_tokens)});
  rows.push_back({token, slot.position, slot.write_block, slot.write_offset});
  AddSample(slot, index, units.back().row_first);
}

void Batch::AddSegment(const DescriptorView& view, const kvrm_segment& segment, uint32_t query_rows,
                       uint32_t block_tokens) {
  const kvrm_slot& slot = view.slots[segment.slot];
  const kvrm_group* group = view.groups + slot.group_first;
  const kvrm_group* last_group = group + slot.group_count - 1;
  const FarHistory far = FindFar(view, slot, block_tokens);
  for (uint32_t i = 0; i < segment.count; ++i) {
    const uint32_t position = segment.position + i;
    const uint32_t logical = position / block_tokens;
    while (group != last_group && group[1].logical_start <= logical) ++group;
    if (i % query_rows == 0) {
      const uint32_t count = std::min(query_rows, segment.count - i);
      units.push_back({segment.slot, static_cast<uint32_t>(rows.size()), count, far});
    }
    rows.push_back({view.tokens[segment.token_first + i], position,
                    group->physical_start + (logical - group->logical_start), position % block_tokens});
    if ((segment.flags & KVRM_SEGMENT_PROMPT_LOGPROBS) && i < segment.count - segment.padding) {
      const uint32_t chunk_row = segment.token_first + i;
      prompt_rows.push_back(
          {static_cast<uint32_t>(rows.size() - 1), chunk_row, view.targets[chunk_row], segment.top_logprobs});
    }
  }
  const uint32_t last = static_cast<uint32_t>(rows.size()) - 1 - segment.padding;
  if (slot.flags & KVRM_SLOT_SAMPLE) AddSample(slot, segment.slot, last);
}

void Batch::Build(const DescriptorView& view, const Plan& plan, uint32_t slots, uint32_t block_tokens, uint32_t group,
                  const std::vector<int32_t>& last_token) {
  rows.clear();
  query_position.clear();
  units.clear();
  prompt_rows.clear();
  samples.clear();
  for (uint32_t i = 0; i < slots; ++i) {
    if (view.slots[i].flags & KVRM_SLOT_DECODE) AddDecode(view, i, block_tokens, last_token[i]);
  }
  for (uint32_t i = 0; i < view.header->num_segments; ++i) {
    AddSegment(view, view.segments[i], plan.attention.query_rows, block_tokens);
  }
  for (const Row& row : rows) query_position.insert(query_position.end(), group, row.position);
}

}  // namespace kvrm::cpu
