// ops_test_util.h - random inputs and plain float64 arithmetic for the tests of the operations.
#ifndef KVRM_CPU_OPS_TEST_UTIL_H_
#define KVRM_CPU_OPS_TEST_UTIL_H_

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "ops.h"

namespace kvrm::cpu {

using Random = std::mt19937;

inline uint32_t Between(Random& random, uint32_t low, uint32_t high) {
  return std::uniform_int_distribution<uint32_t>(low, high)(random);
}

inline std::vector<float> Normals(Random& random, size_t count, float scale = 1.0f) {
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> out(count);
  for (float& x : out) x = normal(random);
  return out;
}

inline double Bf16Value(uint16_t bits) {
  const uint32_t wide = uint32_t{bits} << 16;
  float value;
  std::memcpy(&value, &wide, 4);
  return value;
}

inline double F16Value(uint16_t bits) {
  const int exponent = (bits >> 10) & 31, mantissa = bits & 1023;
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == 31) return mantissa != 0 ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(1024 + mantissa, exponent - 25);
}

inline double ValueAt(const void* data, uint32_t dtype, size_t i) {
  if (IsBlocks(dtype)) {
    float block[32];
    Dequantize(dtype, static_cast<const uint8_t*>(data) + RowBytes(dtype, i / 32 * 32), 32, block);
    return block[i % 32];
  }
  if (dtype == KVRM_F32) return static_cast<const float*>(data)[i];
  const uint16_t bits = static_cast<const uint16_t*>(data)[i];
  return dtype == KVRM_F16 ? F16Value(bits) : Bf16Value(bits);
}

// A tensor in the dtype, exactly as large as it is, so that AddressSanitizer sees reads past its end.
struct Tensor {
  Tensor(Random& random, uint32_t dtype, uint32_t rows, uint32_t cols, float scale = 1.0f) {
    const std::vector<float> values = Normals(random, size_t{rows} * cols, scale);
    bytes.resize(RowBytes(dtype, values.size()));
    Convert(values.data(), static_cast<uint32_t>(values.size()), dtype, bytes.data());
    weight = {bytes.data(), dtype, rows, cols};
  }
  double At(size_t row, size_t col) const { return ValueAt(bytes.data(), weight.dtype, row * weight.cols + col); }

  std::vector<uint8_t> bytes;
  Weight weight;
};

// Memory on a cache line's boundary.
struct Free {
  void operator()(uint8_t* p) const { std::free(p); }
};
using Aligned = std::unique_ptr<uint8_t[], Free>;
inline Aligned Allocate(size_t bytes) {
  return Aligned(static_cast<uint8_t*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64)));
}

inline bool SameBits(const float* a, const float* b, size_t count) { return std::memcmp(a, b, count * 4) == 0; }

}  // namespace kvrm::cpu

#endif  // KVRM_CPU_OPS_TEST_UTIL_H_
