// gemm_fp8.cu - products of FP8 weights.
#include "gemm_tensor.cuh"

namespace kvrm::cuda {

bool LaunchFp8(const LaunchContext& context, const GemmArgs& args, uint32_t max_shared) {
  return args.act_dtype == KVRM_F16 ? LaunchTyped<WeightType::kFp8, f16_t>(context, args, max_shared)
                                    : LaunchTyped<WeightType::kFp8, bf16_t>(context, args, max_shared);
}

}  // namespace kvrm::cuda
