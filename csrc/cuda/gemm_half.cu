// gemm_half.cu - products of F16 and BF16 weights.
#include "gemm_tensor.cuh"

namespace kvrm::cuda {

bool LaunchHalf(const LaunchContext& context, const GemmArgs& args, uint32_t max_shared) {
  // How 16 bits are read does not depend on what they mean; only the product does.
  return args.act_dtype == KVRM_F16 ? LaunchTyped<WeightType::kF16, f16_t>(context, args, max_shared)
                                    : LaunchTyped<WeightType::kBf16, bf16_t>(context, args, max_shared);
}

}  // namespace kvrm::cuda
