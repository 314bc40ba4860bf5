// summary_store.h - the summary rows of every slot, and the operations on them.
#ifndef KVRM_CPU_SUMMARY_STORE_H_
#define KVRM_CPU_SUMMARY_STORE_H_

#include <cstdint>

#include "../common/far_summary.h"
#include "../common/memory.h"
#include "../common/model.h"
#include "../common/status.h"
#include "ops.h"
#include "step.h"

namespace kvrm::cpu {

// [slot][layer][kv_head] FarRows. Memory is taken as rows come into use.
class SummaryStore {
 public:
  // Bytes for a checked configuration; 0 without far history.
  static uint64_t Bytes(const kvrm_model_config& model, const kvrm_engine_config& config);

  kvrm_status Reserve(const kvrm_model_config& model, const kvrm_engine_config& config);

  // Carries out summaries[], which have been checked; blocks are read from the pool.
  void Run(const Step& step);

  // One layer and KV head of a slot, `rows` of its rows.
  FarView View(uint32_t slot, uint32_t layer, uint32_t kv_head, uint32_t rows) const;

 private:
  FarRows Rows(uint32_t slot, uint32_t layer, uint32_t kv_head) const;

  Mapping store_;
  uint32_t layers_ = 0, kv_heads_ = 0, head_dim_ = 0, far_rows_ = 0;
};

}  // namespace kvrm::cpu
#endif  // KVRM_CPU_SUMMARY_STORE_H_
