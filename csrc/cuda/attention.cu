// attention.cu - which of attention's kernels a shape takes. The choice depends on the model and the type
// of KV alone, so a row's bits cannot depend on it from step to step.
#include "attention_kernels.h"
#include "kernels.h"

namespace kvrm::cuda {

uint64_t AttentionPartials(uint32_t slots, uint32_t kv_heads, uint32_t max_splits) {
  return uint64_t{slots} * kv_heads * max_splits;
}

void LaunchAttention(const LaunchContext& context, const StepView& step, const AttentionArgs& args) {
  if (step.kv_dtype != KVRM_F32 && step.heads / step.kv_heads <= kMaxTensorGroup) {
    switch (step.head_dim) {
      case 64:
        return LaunchAttention64(context, step, args);
      case 80:
        return LaunchAttention80(context, step, args);
      case 96:
        return LaunchAttention96(context, step, args);
      case 128:
        return LaunchAttention128(context, step, args);
      case 256:
        return LaunchAttention256(context, step, args);
      default:
        break;
    }
  }
  LaunchAttentionGeneric(context, step, args);
}

}  // namespace kvrm::cuda
