// attention_d96.cu - attention on tensor cores, head size 96.
#include "attention_tensor.h"

namespace kvrm::cuda {

void LaunchAttention96(const LaunchContext& context, const StepView& step, const AttentionArgs& args) {
  LaunchTensorOf<96>(context, step, args);
}

}  // namespace kvrm::cuda
