// attention.cu - which of attention's kernels a shape takes. The choice depends on the model and the type
// of KV alone, so a row's bits cannot depend on it from step to step.
#include "attention_kernels.h"
#include "kernels.h"

namespace kvrm::cuda {

uint64_t AttentionPartials(uint32_t slots, uint32_t kv_heads, uint32_t max_splits) {
  return uint64_t{slots} * kv_heads * max_splits;
}

void LaunchAttention(const LaunchContext& context, const StepView& step, const AttentionArgs& args) {
  LaunchAttentionGeneric(context, step, args);
}

}  // namespace kvrm::cuda
