#include "convert.h"

#include <bit>
#include <cstring>

namespace kvrm {
namespace {

uint16_t ToBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if (value != value) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

uint16_t ToF16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00);
  if (magnitude >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);  // from 65,520 on: infinity
  if (magnitude < 0x38800000) {
    // Below 2^-14 a unit is 2^-24: adding 0.5 makes it the last bit of the sum, rounded by the machine.
    const float sum = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(sum) - 0x3f000000));
  }
  const uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
  return static_cast<uint16_t>(sign | (rounded - 0x38000000) >> 13);
}

float FromF16(uint16_t half) {
  const uint32_t sign = uint32_t(half & 0x8000) << 16, magnitude = half & 0x7fff;
  if (magnitude >= 0x7c00) return std::bit_cast<float>(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
  if (magnitude < 0x400) {
    const float value = static_cast<float>(magnitude) * 0x1p-24f;
    return sign ? -value : value;
  }
  return std::bit_cast<float>(sign | ((magnitude << 13) + 0x38000000));
}

}  // namespace

void Narrow(const float* x, uint64_t count, uint32_t dtype, void* out) {
  if (dtype == KVRM_F32) {
    std::memcpy(out, x, count * sizeof(float));
    return;
  }
  uint16_t* halves = static_cast<uint16_t*>(out);
  for (uint64_t i = 0; i < count; ++i) halves[i] = dtype == KVRM_BF16 ? ToBf16(x[i]) : ToF16(x[i]);
}

void Widen(const void* x, uint64_t count, uint32_t dtype, float* out) {
  if (dtype == KVRM_F32) {
    std::memcpy(out, x, count * sizeof(float));
    return;
  }
  const uint16_t* halves = static_cast<const uint16_t*>(x);
  for (uint64_t i = 0; i < count; ++i) {
    out[i] = dtype == KVRM_BF16 ? std::bit_cast<float>(uint32_t{halves[i]} << 16) : FromF16(halves[i]);
  }
}

}  // namespace kvrm
