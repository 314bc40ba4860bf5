// attention_kernels.h - the kernels that LaunchAttention chooses from.
#ifndef KVRM_CUDA_ATTENTION_KERNELS_H_
#define KVRM_CUDA_ATTENTION_KERNELS_H_

#include "kernels.h"

namespace kvrm::cuda {

// Any head_dim up to 512, any G, every type of KV.
void LaunchAttentionGeneric(const LaunchContext& context, const StepView& step, const AttentionArgs& args);

// On tensor cores: KV of 16 bits or FP8, head_dim D, G up to kMaxTensorGroup.
inline constexpr uint32_t kMaxTensorGroup = kUnitRows;
void LaunchAttention64(const LaunchContext& context, const StepView& step, const AttentionArgs& args);
void LaunchAttention80(const LaunchContext& context, const StepView& step, const AttentionArgs& args);
void LaunchAttention96(const LaunchContext& context, const StepView& step, const AttentionArgs& args);
void LaunchAttention128(const LaunchContext& context, const StepView& step, const AttentionArgs& args);
void LaunchAttention256(const LaunchContext& context, const StepView& step, const AttentionArgs& args);

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_ATTENTION_KERNELS_H_
