// batch.h - the active rows of one step, as a compact list: idle slots and the unused end of the chunk
// cost nothing. Built from the descriptor at the start of the step, in memory reserved beforehand.
#ifndef KVRM_CPU_BATCH_H_
#define KVRM_CPU_BATCH_H_

#include <cstdint>
#include <vector>

#include "../common/layout.h"
#include "plan.h"

namespace kvrm::cpu {

// One token that goes through the layers.
struct Row {
  int32_t token;
  uint32_t position;
  uint32_t block;   // physical block that takes its K and V
  uint32_t offset;  // its token within the block
};

// The gap in a slot's groups: tokens that no row of the step sees, and the summary rows that it sees instead.
struct FarHistory {
  uint32_t rows = 0;
  uint32_t gap_begin = 0;  // tokens [gap_begin, gap_end); equal: no gap
  uint32_t gap_end = 0;
};

// Rows of one slot at consecutive positions that attend together.
struct AttentionUnit {
  uint32_t slot;
  uint32_t row_first;
  uint32_t rows;
  FarHistory far;
};

// A row whose distribution is wanted: a slot's sample, or a row of the prompt with its target.
struct HeadRow {
  uint32_t row;           // of the batch
  uint32_t index;         // the slot, or the row of the chunk
  int32_t target;         // prompt rows: the id to report, -1 for none
  uint32_t top_logprobs;  // alternatives to report
};

// Fixed capacity, set by Reserve: filling it never allocates.
struct Batch {
  std::vector<Row> rows;                 // [R]
  std::vector<uint32_t> query_position;  // [R * G]: of each query of one KV head
  std::vector<AttentionUnit> units;
  std::vector<HeadRow> prompt_rows;  // [C]
  std::vector<HeadRow> samples;      // [S]

  void Reserve(const Plan& plan, uint32_t slots, uint32_t group);

  // last_token [S]: each slot's last sample.
  void Build(const DescriptorView& view, const Plan& plan, uint32_t slots, uint32_t block_tokens, uint32_t group,
             const std::vector<int32_t>& last_token);

 private:
  void AddDecode(const DescriptorView& view, uint32_t index, uint32_t block_tokens, int32_t last_token);
  void AddSegment(const DescriptorView& view, const kvrm_segment& segment, uint32_t query_rows, uint32_t block_tokens);
  void AddSample(const kvrm_slot& slot, uint32_t index, uint32_t row);
};

}  // namespace kvrm::cpu
#endif  // KVRM_CPU_BATCH_H_
