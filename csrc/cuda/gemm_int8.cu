// gemm_int8.cu - products of INT8 weights.
#include "gemm_tensor.cuh"

namespace kvrm::cuda {

bool LaunchInt8(const LaunchContext& context, const GemmArgs& args, uint32_t max_shared) {
  return args.act_dtype == KVRM_F16 ? LaunchTyped<WeightType::kInt8, f16_t>(context, args, max_shared)
                                    : LaunchTyped<WeightType::kInt8, bf16_t>(context, args, max_shared);
}

}  // namespace kvrm::cuda
