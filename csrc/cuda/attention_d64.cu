// attention_d64.cu - attention on tensor cores, head size 64.
#include "attention_tensor.h"

namespace kvrm::cuda {

void LaunchAttention64(const LaunchContext& context, const StepView& step, const AttentionArgs& args) {
  LaunchTensorOf<64>(context, step, args);
}

}  // namespace kvrm::cuda
