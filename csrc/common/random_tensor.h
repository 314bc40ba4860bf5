// random_tensor.h - made-up weights for benchmarks: the same for the same seed, role and layer.
#ifndef KVRM_COMMON_RANDOM_TENSOR_H_
#define KVRM_COMMON_RANDOM_TENSOR_H_

#include <cstdint>

namespace kvrm {

// Fills [count] elements of dtype with nearly normal numbers of standard deviation 0.02.
void FillNormal(uint64_t seed, uint32_t role, uint32_t layer, uint64_t count, uint32_t dtype, void* out);

// Fills [count] elements of dtype with ones.
void FillOnes(uint64_t count, uint32_t dtype, void* out);

}  // namespace kvrm
#endif  // KVRM_COMMON_RANDOM_TENSOR_H_
