// gemm_int4.cu - products of INT4 weights.
#include "gemm_tensor.cuh"

namespace kvrm::cuda {

bool LaunchInt4(const LaunchContext& context, const GemmArgs& args, uint32_t max_shared) {
  return args.act_dtype == KVRM_F16 ? LaunchTyped<WeightType::kInt4, f16_t>(context, args, max_shared)
                                    : LaunchTyped<WeightType::kInt4, bf16_t>(context, args, max_shared);
}

}  // namespace kvrm::cuda
