// vector-inl.h - what the operations share, compiled once per SIMD target: loads that convert to f32,
// the fixed horizontal reduction, exp.

// Included once per target, so the guard toggles.
#if defined(KVRM_CPU_VECTOR_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVRM_CPU_VECTOR_INL_H_
#undef KVRM_CPU_VECTOR_INL_H_
#else
#define KVRM_CPU_VECTOR_INL_H_
#endif

#include <cstdint>
#include <cstring>
#include <limits>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "ops.h"

HWY_BEFORE_NAMESPACE();
namespace kvrm::cpu {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::ScalableTag<float>;
using DI = hn::RebindToSigned<DF>;
using DU = hn::RebindToUnsigned<DF>;
using VF = hn::Vec<DF>;
constexpr size_t kLanes = HWY_LANES(float);  // L

// Calls body.template operator()<T>() would need templated lambdas in a target region, where g++ loses
// the target; a macro does it. `...` uses T.
#define KVRM_WITH_DTYPE(dtype, ...) \
  switch (dtype) {                  \
    case KVRM_F16: {                \
      using T = hwy::float16_t;     \
      __VA_ARGS__;                  \
      break;                        \
    }                               \
    case KVRM_BF16: {               \
      using T = hwy::bfloat16_t;    \
      __VA_ARGS__;                  \
      break;                        \
    }                               \
    default: {                      \
      using T = float;              \
      __VA_ARGS__;                  \
    }                               \
  }

// L elements as f32; p may be unaligned.
HWY_INLINE VF LoadF32(const float* p) { return hn::LoadU(DF(), p); }
template <typename T>
HWY_INLINE VF LoadF32(const T* p) {
  const hn::Rebind<T, DF> half;
  return hn::PromoteTo(DF(), hn::LoadU(half, p));
}

#if HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_SCALAR
// Highway 1.0.3's emulation makes infinity and NaN finite. Here the float multiplier rebiases the
// exponent, exactly and for subnormals too.
HWY_INLINE VF LoadF32(const hwy::float16_t* p) {
  const DF d;
  const DU du;
  const hn::Rebind<uint16_t, DF> du16;
  const auto bits = hn::PromoteTo(du, hn::LoadU(du16, reinterpret_cast<const uint16_t*>(p)));
  const auto sign = hn::ShiftLeft<16>(hn::And(bits, hn::Set(du, 0x8000u)));
  const auto magnitude = hn::ShiftLeft<13>(hn::And(bits, hn::Set(du, 0x7fffu)));
  const VF value = hn::Mul(hn::BitCast(d, magnitude), hn::Set(d, 0x1p112f));
  const VF special = hn::BitCast(d, hn::Or(magnitude, hn::Set(du, 0x7f800000u)));
  const VF absolute = hn::IfThenElse(hn::Ge(value, hn::Set(d, 65536.0f)), special, value);
  return hn::Or(absolute, hn::BitCast(d, sign));
}
#endif

// The first n < L elements as f32, zeros above. Through a buffer, so that nothing behind them is read.
template <typename T>
HWY_NOINLINE VF LoadTail(const T* p, size_t n) {
  T buffer[kLanes] = {};
  std::memcpy(buffer, p, n * sizeof(T));
  return LoadF32(buffer);
}
template <typename T>
HWY_INLINE VF LoadUpTo(const T* p, size_t n) {
  return n >= kLanes ? LoadF32(p) : LoadTail(p, n);
}

// Holds a loaded vector in its register. g++ thinks loads free and repeats them as operands of every
// FMA that uses the vector, which makes the load ports the limit: 24 loads instead of 8 in a tile.
HWY_INLINE VF InRegister(VF v) {
#if defined(__GNUC__) && HWY_ARCH_X86
  asm("" : "+v"(v.raw));
#endif
  return v;
}

HWY_INLINE void StoreUpTo(VF v, float* p, size_t n) {
  if (n >= kLanes) {
    hn::StoreU(v, DF(), p);
  } else {
    float buffer[kLanes];
    hn::StoreU(v, DF(), buffer);
    std::memcpy(p, buffer, n * sizeof(float));
  }
}

// The sum of the lanes of each of four vectors, times scale. The order within one vector is fixed by its lanes, not
// by its neighbours: (0+2) + (1+3) inside each 128-bit block, then halves of blocks onto each other.
HWY_INLINE void Reduce4(VF a, VF b, VF c, VF d, float scale, float* HWY_RESTRICT out) {
#if HWY_TARGET == HWY_SCALAR
  out[0] = hn::GetLane(a) * scale;
  out[1] = hn::GetLane(b) * scale;
  out[2] = hn::GetLane(c) * scale;
  out[3] = hn::GetLane(d) * scale;
#else
  const DF df;
  const hn::RepartitionToWide<DF> d64;
  const VF ab = hn::Add(hn::InterleaveLower(df, a, b), hn::InterleaveUpper(df, a, b));
  const VF cd = hn::Add(hn::InterleaveLower(df, c, d), hn::InterleaveUpper(df, c, d));
  const auto ab64 = hn::BitCast(d64, ab);
  const auto cd64 = hn::BitCast(d64, cd);
  const VF abcd = hn::Add(hn::BitCast(df, hn::InterleaveLower(d64, ab64, cd64)),
                          hn::BitCast(df, hn::InterleaveUpper(d64, ab64, cd64)));
#if HWY_MAX_BYTES == 64
  const hn::Half<DF> d8;
  const hn::Half<decltype(d8)> d4;
  const auto sum8 = hn::Add(hn::LowerHalf(d8, abcd), hn::UpperHalf(d8, abcd));
  const auto sum = hn::Add(hn::LowerHalf(d4, sum8), hn::UpperHalf(d4, sum8));
  hn::StoreU(hn::Mul(sum, hn::Set(d4, scale)), d4, out);
#elif HWY_MAX_BYTES == 32
  const hn::Half<DF> d4;
  const auto sum = hn::Add(hn::LowerHalf(d4, abcd), hn::UpperHalf(d4, abcd));
  hn::StoreU(hn::Mul(sum, hn::Set(d4, scale)), d4, out);
#else
  hn::StoreU(hn::Mul(abcd, hn::Set(df, scale)), df, out);
#endif
#endif
}

HWY_INLINE float Reduce(VF v) {
  float out[4];
  Reduce4(v, v, v, v, 1.0f, out);
  return out[0];
}

// exp(x) within 1 ulp or so. Results below 2^-126 are 0; x above 88 counts as 88; NaN stays NaN.
// exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= 0.347; the series to r^7 leaves 5e-9 relative.
HWY_INLINE VF Exp(VF x) {
  const DF d;
  const DI di;
  const VF lowest = hn::Set(d, -87.336544f);
  // Not Min/Max, which drop a NaN on some targets.
  const VF top = hn::Set(d, 88.0f);
  const VF capped = hn::IfThenElse(hn::Gt(x, top), top, x);
  const auto tiny = hn::Lt(capped, lowest);
  const VF safe = hn::IfThenElse(tiny, lowest, capped);

  const VF n = hn::Round(hn::Mul(safe, hn::Set(d, 1.44269504f)));
  // ln 2 in two parts; the high one has zeros at the end, so that n times it is exact without FMA too.
  const VF r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), hn::NegMulAdd(n, hn::Set(d, 0.693359375f), safe));

  VF p = hn::Set(d, 1.0f / 5040);
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 720));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 120));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 24));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 6));
  p = hn::MulAdd(p, r, hn::Set(d, 0.5f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));

  const auto exponent = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di, n), hn::Set(di, 127)));
  const VF scaled = hn::Mul(p, hn::BitCast(d, exponent));
  return hn::IfThenElse(tiny, hn::Zero(d), scaled);
}

}  // namespace HWY_NAMESPACE
}  // namespace kvrm::cpu
HWY_AFTER_NAMESPACE();

#endif  // KVRM_CPU_VECTOR_INL_H_
