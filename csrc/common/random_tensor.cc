#include "random_tensor.h"

#include <algorithm>

#include "convert.h"

namespace kvrm {
namespace {

constexpr uint64_t kGolden = 0x9e3779b97f4a7c15u;

// The finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
uint64_t Mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// Calls fill(first, n, values) piece by piece and converts what it left in values.
template <typename Fill>
void InPieces(uint64_t count, uint32_t dtype, void* out, Fill fill) {
  constexpr uint64_t kPiece = 4096;
  float values[kPiece];
  for (uint64_t first = 0; first < count; first += kPiece) {
    const uint32_t n = static_cast<uint32_t>(std::min(kPiece, count - first));
    fill(first, n, values);
    Narrow(values, n, dtype, static_cast<uint8_t*>(out) + first * ElementBytes(dtype));
  }
}

}  // namespace

void FillNormal(uint64_t seed, uint32_t role, uint32_t layer, uint64_t count, uint32_t dtype, void* out) {
  const uint64_t key = Mix(Mix(seed * kGolden + role) + layer * kGolden);
  InPieces(count, dtype, out, [key](uint64_t first, uint32_t n, float* values) {
    for (uint32_t i = 0; i < n; ++i) {
      // Four uniform 16-bit numbers: their sum has mean 2 * 65535 and variance 4 * 65536^2 / 12.
      const uint64_t bits = Mix(key + (first + i) * kGolden);
      const int sum = int(bits & 0xffff) + int((bits >> 16) & 0xffff) + int((bits >> 32) & 0xffff) + int(bits >> 48);
      values[i] = static_cast<float>(sum - 2 * 65535) * (0.02f / 37837.2f);  // 65536 / sqrt(3)
    }
  });
}

void FillOnes(uint64_t count, uint32_t dtype, void* out) {
  InPieces(count, dtype, out, [](uint64_t, uint32_t n, float* values) { std::fill_n(values, n, 1.0f); });
}

}  // namespace kvrm
