// executor.h - the static graph: plans, arena, pool and threads of one engine, and the walk over them.
// Knows nothing of queues or handles; the descriptors it is given have been checked.
#ifndef KVRM_CPU_EXECUTOR_H_
#define KVRM_CPU_EXECUTOR_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "../common/layout.h"
#include "../common/memory.h"
#include "../common/model.h"
#include "../common/status.h"
#include "attention_stage.h"
#include "batch.h"
#include "plan.h"
#include "summary_store.h"
#include "thread_pool.h"
#include "token_state.h"

namespace kvrm::cpu {

class Executor {
 public:
  // The configuration has been checked. threads: at least 1.
  static kvrm_status Create(std::shared_ptr<const Model> model, const kvrm_engine_config& config, uint32_t threads,
                            std::unique_ptr<Executor>* out);

  // Runs one step and fills its result (header.moved_blocks, header.rows, header.num_rows and the
  // sections; not the timings). Allocates nothing.
  void RunStep(const DescriptorView& view, const ResultView& result);

  // Pretends to: KVRM_ENGINE_NOOP.
  void RunNoop(const DescriptorView& view, const ResultView& result);

  // The logits of a slot that sampled in the last step, or null.
  const float* Logits(uint32_t slot) const;

  uint8_t* pool() const { return pool_.data(); }
  uint64_t block_bytes() const { return block_bytes_; }
  uint64_t arena_bytes() const { return arena_.bytes(); }

 private:
  Executor(std::shared_ptr<const Model> model, const kvrm_engine_config& config, uint32_t threads);

  uint8_t* TierBlock(uint32_t tier, uint32_t block);
  void RunMoves(const DescriptorView& view);
  void RunOp(const Step& step, const Op& op, const ResultView& result);
  void BuildBatch(const DescriptorView& view, const ResultView& result);

  const std::shared_ptr<const Model> model_;
  const kvrm_engine_config config_;
  uint64_t block_bytes_ = 0;
  std::vector<Plan> plans_;  // [shapes]
  Mapping arena_;            // of the largest plan
  Mapping pool_;             // [num_blocks][layer][K|V][kv_head][token][dim]
  Mapping host_;             // [host_blocks] of the same: the host tier
  Batch batch_;
  AttentionStage attention_;
  TokenState tokens_;
  SummaryStore summaries_;
  std::vector<int32_t> last_token_;  // [S]: each slot's last sample
  uint32_t last_shape_ = 0;
  ThreadPool threads_;
};

}  // namespace kvrm::cpu
#endif  // KVRM_CPU_EXECUTOR_H_
