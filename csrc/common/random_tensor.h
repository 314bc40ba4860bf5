// random_tensor.h - made-up weights for benchmarks: the same for the same seed, role and layer.
#ifndef KVRM_COMMON_RANDOM_TENSOR_H_
#define KVRM_COMMON_RANDOM_TENSOR_H_

#include <cstdint>

#include "shared_fn.h"

namespace kvrm {

// The key of a tensor's numbers, and number i of them before it is rounded to the tensor's type.
uint64_t NormalKey(uint64_t seed, uint32_t role, uint32_t layer);

inline constexpr uint64_t kRandomGolden = 0x9e3779b97f4a7c15u;

// The finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
KVRM_SHARED_FN uint64_t RandomMix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

KVRM_SHARED_FN float NormalAt(uint64_t key, uint64_t i) {
  // Four uniform 16-bit numbers: their sum has mean 2 * 65535 and variance 4 * 65536^2 / 12.
  const uint64_t bits = RandomMix(key + i * kRandomGolden);
  const int sum = int(bits & 0xffff) + int((bits >> 16) & 0xffff) + int((bits >> 32) & 0xffff) + int(bits >> 48);
  return RoundedMul(static_cast<float>(sum - 2 * 65535), 0.02f / 37837.2f);  // 65536 / sqrt(3)
}

// Fills [count] elements of dtype with nearly normal numbers of standard deviation 0.02.
void FillNormal(uint64_t seed, uint32_t role, uint32_t layer, uint64_t count, uint32_t dtype, void* out);

// Fills [count] elements of dtype with ones.
void FillOnes(uint64_t count, uint32_t dtype, void* out);

}  // namespace kvrm
#endif  // KVRM_COMMON_RANDOM_TENSOR_H_
