#include "random_tensor.h"

#include <algorithm>

#include "convert.h"

namespace kvrm {
namespace {

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

uint64_t NormalKey(uint64_t seed, uint32_t role, uint32_t layer) {
  return RandomMix(RandomMix(seed * kRandomGolden + role) + layer * kRandomGolden);
}

void FillNormal(uint64_t seed, uint32_t role, uint32_t layer, uint64_t count, uint32_t dtype, void* out) {
  const uint64_t key = NormalKey(seed, role, layer);
  InPieces(count, dtype, out, [key](uint64_t first, uint32_t n, float* values) {
    for (uint32_t i = 0; i < n; ++i) values[i] = NormalAt(key, first + i);
  });
}

void FillOnes(uint64_t count, uint32_t dtype, void* out) {
  InPieces(count, dtype, out, [](uint64_t, uint32_t n, float* values) { std::fill_n(values, n, 1.0f); });
}

}  // namespace kvrm
