// attention_d256.cu - attention on tensor cores, head size 256.
#include "attention_tensor.h"

namespace kvrm::cuda {

void LaunchAttention256(const LaunchContext& context, const StepView& step, const AttentionArgs& args) {
  LaunchTensorOf<256>(context, step, args);
}

}  // namespace kvrm::cuda
