// attention_d80.cu - attention on tensor cores, head size 80.
#include "attention_tensor.h"

namespace kvrm::cuda {

void LaunchAttention80(const LaunchContext& context, const StepView& step, const AttentionArgs& args) {
  LaunchTensorOf<80>(context, step, args);
}

}  // namespace kvrm::cuda
