// attention_d128.cu - attention on tensor cores, head size 128.
#include "attention_tensor.h"

namespace kvrm::cuda {

void LaunchAttention128(const LaunchContext& context, const StepView& step, const AttentionArgs& args) {
  LaunchTensorOf<128>(context, step, args);
}

}  // namespace kvrm::cuda
