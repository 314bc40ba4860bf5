// attention_kernels.h - the kernels that LaunchAttention chooses from.
#ifndef KVRM_CUDA_ATTENTION_KERNELS_H_
#define KVRM_CUDA_ATTENTION_KERNELS_H_

#include "kernels.h"

namespace kvrm::cuda {

// Any head_dim up to 512, any G, every type of KV.
void LaunchAttentionGeneric(const LaunchContext& context, const StepView& step, const AttentionArgs& args);

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_ATTENTION_KERNELS_H_
