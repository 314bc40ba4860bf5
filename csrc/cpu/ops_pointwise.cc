// Operations on single rows: embedding, normalisation, RoPE, activation, conversion.
#include <algorithm>
#include <cmath>

#include "dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/ops_pointwise.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvrm::cpu {
namespace HWY_NAMESPACE {

template <typename T>
HWY_INLINE void ToF32(const T* in, size_t count, float* out) {
  for (size_t n = 0; n < count; n += kLanes) StoreUpTo(LoadUpTo(in + n, count - n), out + n, count - n);
}

void EmbedRowImpl(const Weight& table, uint32_t row, float* out) {
  const size_t cols = table.cols;
  KVRM_WITH_DTYPE(table.dtype, ToF32(static_cast<const T*>(table.data) + row * cols, cols, out));
}

// Four accumulators, four vectors at a time: an order that depends on count alone.
HWY_INLINE float SumOfSquares(const float* x, size_t count) {
  VF sums[4];
  for (VF& sum : sums) sum = hn::Zero(DF());
  for (size_t n = 0; n < count; n += 4 * kLanes) {
    for (size_t j = 0; j < 4 && n + j * kLanes < count; ++j) {
      const VF v = LoadUpTo(x + n + j * kLanes, count - n - j * kLanes);
      sums[j] = hn::MulAdd(v, v, sums[j]);
    }
  }
  return Reduce(hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3])));
}

template <typename T>
HWY_INLINE void ScaleBy(const T* w, float scale, const float* x, size_t count, float* out) {
  const VF factor = hn::Set(DF(), scale);
  for (size_t n = 0; n < count; n += kLanes) {
    const VF v = hn::Mul(LoadUpTo(x + n, count - n), factor);
    StoreUpTo(hn::Mul(v, LoadUpTo(w + n, count - n)), out + n, count - n);
  }
}

void RmsNormImpl(const Weight& w, float eps, const float* x, uint32_t count, float* out) {
  const float scale = 1.0f / std::sqrt(SumOfSquares(x, count) / static_cast<float>(count) + eps);
  KVRM_WITH_DTYPE(w.dtype, ScaleBy(static_cast<const T*>(w.data), scale, x, count, out));
}

void RopeHeadImpl(float* x, const float* cos_table, const float* sin_table, uint32_t half) {
  for (size_t i = 0; i < half; i += kLanes) {
    const size_t left = half - i;
    const VF c = LoadUpTo(cos_table + i, left);
    const VF s = LoadUpTo(sin_table + i, left);
    const VF a = LoadUpTo(x + i, left);
    const VF b = LoadUpTo(x + half + i, left);
    StoreUpTo(hn::Sub(hn::Mul(a, c), hn::Mul(b, s)), x + i, left);
    StoreUpTo(hn::Add(hn::Mul(b, c), hn::Mul(a, s)), x + half + i, left);
  }
}

void SiluMulImpl(const float* gate, const float* up, uint32_t count, float* out) {
  const DF d;
  for (size_t n = 0; n < count; n += kLanes) {
    const VF g = LoadUpTo(gate + n, count - n);
    const VF u = LoadUpTo(up + n, count - n);
    const VF silu = hn::Div(g, hn::Add(hn::Set(d, 1.0f), Exp(hn::Neg(g))));
    StoreUpTo(hn::Mul(silu, u), out + n, count - n);
  }
}

// Bits of bf16 in the low half of each lane. Highway 1.0.3's own conversion truncates.
HWY_INLINE hn::Vec<DU> BF16Bits(VF v) {
  const DU du;
  const auto bits = hn::BitCast(du, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7fffu))));
  // Rounding could carry a NaN's payload into infinity.
  const auto quiet = hn::Or(hn::ShiftRight<16>(bits), hn::Set(du, 0x40u));
  return hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(v)), quiet, rounded);
}

// Bits of f16 in the low half of each lane, by integers, so that targets without F16C agree.
HWY_INLINE hn::Vec<DU> F16Bits(VF v) {
  const DF d;
  const DU du;
  const auto bits = hn::BitCast(du, v);
  const auto sign = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 0x8000u));
  const auto magnitude = hn::And(bits, hn::Set(du, 0x7fffffffu));
  const VF abs = hn::BitCast(d, magnitude);
  // Normal: rebias the exponent, round the 13 dropped bits to nearest even; a carry is right, too.
  const auto odd = hn::And(hn::ShiftRight<13>(magnitude), hn::Set(du, 1u));
  const auto rebias = hn::Set(du, static_cast<uint32_t>(0xfff - (112 << 23)));
  const auto normal = hn::ShiftRight<13>(hn::Add(magnitude, hn::Add(odd, rebias)));
  // Subnormal (below 2^-14): adding 0.5 makes the float adder round at 2^-24, the f16 unit.
  const auto half = hn::BitCast(du, hn::Set(d, 0.5f));
  const auto subnormal = hn::Sub(hn::BitCast(du, hn::Add(abs, hn::Set(d, 0.5f))), half);
  auto out = hn::IfThenElse(hn::RebindMask(du, hn::Lt(abs, hn::Set(d, 6.103515625e-5f))), subnormal, normal);
  // 65520 and above round to infinity.
  out = hn::IfThenElse(hn::RebindMask(du, hn::Ge(abs, hn::Set(d, 65520.0f))), hn::Set(du, 0x7c00u), out);
  out = hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(v)), hn::Set(du, 0x7e00u), out);
  return hn::Or(out, sign);
}

// Q8_0. A few numbers of each row of a step, so that one implementation does for all targets.
void QuantizeBlocks(const float* x, uint32_t count, uint8_t* out) {
  constexpr uint32_t kNumbers = 32, kBytes = 34;
  constexpr float kMost = 65504.0f * 127;  // of a scale in f16
  for (uint32_t n = 0; n < count; n += kNumbers, out += kBytes) {
    const bool finite = std::all_of(x + n, x + n + kNumbers, [](float v) { return std::fabs(v) <= kMost; });
    if (finite) {
      Quantize(KVRM_Q8_0, x + n, kNumbers, out);
      continue;
    }
    constexpr uint16_t kNan = 0x7e00;
    std::memset(out, 0, kBytes);
    std::memcpy(out, &kNan, sizeof(kNan));
  }
}

void ConvertImpl(const float* x, uint32_t count, uint32_t dtype, void* dst) {
  if (dtype == KVRM_F32) {
    std::memcpy(dst, x, count * sizeof(float));
    return;
  }
  if (dtype == KVRM_Q8_0) {
    QuantizeBlocks(x, count, static_cast<uint8_t*>(dst));
    return;
  }
  const hn::Rebind<uint16_t, DU> du16;
  uint16_t* out = static_cast<uint16_t*>(dst);
  for (size_t n = 0; n < count; n += kLanes) {
    const VF v = LoadUpTo(x + n, count - n);
    const auto bits = hn::TruncateTo(du16, dtype == KVRM_F16 ? F16Bits(v) : BF16Bits(v));
    if (count - n >= kLanes) {
      hn::StoreU(bits, du16, out + n);
    } else {
      uint16_t buffer[kLanes];
      hn::StoreU(bits, du16, buffer);
      std::memcpy(out + n, buffer, (count - n) * sizeof(uint16_t));
    }
  }
}

uint64_t ReadAllImpl(const void* data, size_t bytes) {
  const hn::ScalableTag<uint64_t> d;
  constexpr size_t kStep = HWY_LANES(uint64_t);
  const uint64_t* words = static_cast<const uint64_t*>(data);
  const size_t count = bytes / sizeof(uint64_t);
  hn::Vec<decltype(d)> sums[8];
  for (auto& sum : sums) sum = hn::Zero(d);
  // Four streams at once: one alone does not keep enough of the memory's requests in flight, and a limit
  // must not be lower than what it limits.
  constexpr size_t kStreams = 4;
  const size_t part = count / kStreams / (2 * kStep) * (2 * kStep);
  for (size_t at = 0; at < part; at += 2 * kStep) {
#pragma GCC unroll 4
    for (size_t j = 0; j < kStreams; ++j) {
      sums[2 * j] = hn::Add(sums[2 * j], hn::LoadU(d, words + j * part + at));
      sums[2 * j + 1] = hn::Add(sums[2 * j + 1], hn::LoadU(d, words + j * part + at + kStep));
    }
  }
  size_t n = kStreams * part;
  for (size_t j = 1; j < 8; ++j) sums[0] = hn::Add(sums[0], sums[j]);
  uint64_t lanes[kStep];
  hn::StoreU(sums[0], d, lanes);
  uint64_t total = 0;
  for (size_t j = 0; j < kStep; ++j) total += lanes[j];
  for (; n < count; ++n) total += words[n];
  for (size_t i = count * sizeof(uint64_t); i < bytes; ++i) total += static_cast<const uint8_t*>(data)[i];
  return total;
}

}  // namespace HWY_NAMESPACE
}  // namespace kvrm::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvrm::cpu {

KVRM_EXPORT(EmbedRowImpl);
KVRM_EXPORT(RmsNormImpl);
KVRM_EXPORT(RopeHeadImpl);
KVRM_EXPORT(SiluMulImpl);
KVRM_EXPORT(ConvertImpl);
KVRM_EXPORT(ReadAllImpl);

void EmbedRow(const Weight& table, uint32_t row, float* out) {
  if (IsBlocks(table.dtype)) {
    const uint64_t bytes = RowBytes(table.dtype, table.cols);
    return Dequantize(table.dtype, static_cast<const uint8_t*>(table.data) + row * bytes, table.cols, out);
  }
  KVRM_CALL(EmbedRowImpl)(table, row, out);
}

void RmsNorm(const Weight& w, float eps, const float* x, uint32_t count, float* out) {
  KVRM_CALL(RmsNormImpl)(w, eps, x, count, out);
}

void RopeTable(const float* inv_freq, uint32_t half, uint32_t position, float* cos_out, float* sin_out) {
  for (uint32_t i = 0; i < half; ++i) {
    const float angle = static_cast<float>(position) * inv_freq[i];
    cos_out[i] = static_cast<float>(std::cos(static_cast<double>(angle)));
    sin_out[i] = static_cast<float>(std::sin(static_cast<double>(angle)));
  }
}

void RopeHead(float* x, const float* cos_table, const float* sin_table, uint32_t half) {
  KVRM_CALL(RopeHeadImpl)(x, cos_table, sin_table, half);
}

void SiluMul(const float* gate, const float* up, uint32_t count, float* out) {
  KVRM_CALL(SiluMulImpl)(gate, up, count, out);
}

void Convert(const float* x, uint32_t count, uint32_t dtype, void* dst) {
  KVRM_CALL(ConvertImpl)(x, count, dtype, dst);
}

uint64_t ReadAll(const void* data, size_t bytes) { return KVRM_CALL(ReadAllImpl)(data, bytes); }

}  // namespace kvrm::cpu
#endif  // HWY_ONCE
