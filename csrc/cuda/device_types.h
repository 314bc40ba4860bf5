// device_types.h - numbers of the kernels: 16-bit and 8-bit storage types, their conversions, arithmetic
// that is rounded once per operation, and the exponential. Same bits on the GPU and in the emulator.
#ifndef KVRM_CUDA_DEVICE_TYPES_H_
#define KVRM_CUDA_DEVICE_TYPES_H_

#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef KVRM_EMULATOR
#define KVRM_HD inline __attribute__((always_inline))
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#define KVRM_HD __host__ __device__ __forceinline__
#endif

// Loops over registers; the emulator's compiler has none to index.
#ifdef KVRM_EMULATOR
#define KVRM_UNROLL
#else
#define KVRM_UNROLL _Pragma("unroll")
#endif

namespace kvrm::cuda {

// Storage only: raw bits, to be converted before anything is computed.
struct bf16_t {
  uint16_t bits;
};
struct f16_t {
  uint16_t bits;
};
struct fp8_t {
  uint8_t bits;  // E4M3: sign, 4 bits of exponent (bias 7), 3 of mantissa; 0x7f and 0xff are NaN
};
static_assert(sizeof(bf16_t) == 2 && sizeof(f16_t) == 2 && sizeof(fp8_t) == 1);

// The bits of a value as another type of the same size.
template <class To, class From>
KVRM_HD To BitsAs(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof(to));
  return to;
}

// ---- arithmetic in f32, each operation rounded to nearest even and never contracted -------------------

#ifdef __CUDA_ARCH__
KVRM_HD float Fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }  // a b + c, rounded once
KVRM_HD float Mul(float a, float b) { return __fmul_rn(a, b); }
KVRM_HD float Add(float a, float b) { return __fadd_rn(a, b); }
KVRM_HD float Sub(float a, float b) { return __fsub_rn(a, b); }
KVRM_HD float Div(float a, float b) { return __fdiv_rn(a, b); }
KVRM_HD float Sqrt(float a) { return __fsqrt_rn(a); }
#else  // compiled with -ffp-contract=off
KVRM_HD float Fma(float a, float b, float c) { return std::fma(a, b, c); }
KVRM_HD float Mul(float a, float b) { return a * b; }
KVRM_HD float Add(float a, float b) { return a + b; }
KVRM_HD float Sub(float a, float b) { return a - b; }
KVRM_HD float Div(float a, float b) { return a / b; }
KVRM_HD float Sqrt(float a) { return std::sqrt(a); }
#endif

// exp(x), step by step as Exp() of csrc/cpu/vector-inl.h where that has fused multiply-add: 0 below
// 2^-126, x above 88 counts as 88, NaN stays NaN.
KVRM_HD float ExpF(float x) {
  const float lowest = -87.336544f;
  const float capped = x > 88.0f ? 88.0f : x;
  if (capped < lowest) return 0.0f;
  if (capped != capped) return capped;
  const float n = rintf(Mul(capped, 1.44269504f));
  const float r = Fma(-n, -2.12194440e-4f, Fma(-n, 0.693359375f, capped));
  float p = 1.0f / 5040;
  p = Fma(p, r, 1.0f / 720);
  p = Fma(p, r, 1.0f / 120);
  p = Fma(p, r, 1.0f / 24);
  p = Fma(p, r, 1.0f / 6);
  p = Fma(p, r, 0.5f);
  p = Fma(p, r, 1.0f);
  p = Fma(p, r, 1.0f);
  return Mul(p, BitsAs<float>(static_cast<uint32_t>(static_cast<int32_t>(n) + 127) << 23));
}

// ---- conversions --------------------------------------------------------------------------------------

KVRM_HD float ToFloat(float x) { return x; }
KVRM_HD float ToFloat(bf16_t x) { return BitsAs<float>(static_cast<uint32_t>(x.bits) << 16); }

#ifdef __CUDA_ARCH__
KVRM_HD float ToFloat(f16_t x) { return __half2float(__ushort_as_half(x.bits)); }
KVRM_HD float ToFloat(fp8_t x) { return __half2float(__half(__nv_cvt_fp8_to_halfraw(x.bits, __NV_E4M3))); }
#else
KVRM_HD float ToFloat(f16_t x) {
  const uint32_t magnitude = (x.bits & 0x7fffu) << 13;
  // The product moves the exponent to f32's bias, exactly, and makes subnormals normal.
  const uint32_t absolute =
      magnitude >= 0x7c00u << 13 ? magnitude | 0x7f800000u : BitsAs<uint32_t>(BitsAs<float>(magnitude) * 0x1p112f);
  return BitsAs<float>(absolute | (x.bits & 0x8000u) << 16);
}
KVRM_HD float ToFloat(fp8_t x) {
  const uint32_t magnitude = (x.bits & 0x7fu) << 20;
  const uint32_t absolute =
      magnitude == 0x7fu << 20 ? 0x7fffffffu : BitsAs<uint32_t>(BitsAs<float>(magnitude) * 0x1p120f);
  return BitsAs<float>(absolute | (x.bits & 0x80u) << 24);
}
#endif

namespace internal {

KVRM_HD void Convert(float x, float& to) { to = x; }

#ifdef __CUDA_ARCH__
KVRM_HD void Convert(float x, bf16_t& to) { to.bits = __bfloat16_as_ushort(__float2bfloat16_rn(x)); }
KVRM_HD void Convert(float x, f16_t& to) { to.bits = __half_as_ushort(__float2half_rn(x)); }
KVRM_HD void Convert(float x, fp8_t& to) { to.bits = __nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3); }
#else
KVRM_HD void Convert(float x, bf16_t& to) {
  const uint32_t bits = BitsAs<uint32_t>(x);
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  to.bits = nan ? 0x7fffu : static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
KVRM_HD void Convert(float x, f16_t& to) {
  const uint32_t bits = BitsAs<uint32_t>(x);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const uint32_t absolute = bits & 0x7fffffffu;
  uint32_t half;
  if (absolute > 0x7f800000u) {
    to.bits = 0x7fffu;
    return;
  }
  if (absolute >= 0x477ff000u) {  // 65520 and above round to infinity
    half = 0x7c00u;
  } else if (absolute < 0x38800000u) {  // subnormal: 0.5 has the unit that is wanted, 2^-24
    half = BitsAs<uint32_t>(BitsAs<float>(absolute) + 0.5f) - 0x3f000000u;
  } else {
    half = (absolute + 0xfffu + (absolute >> 13 & 1u) - (112u << 23)) >> 13;
  }
  to.bits = static_cast<uint16_t>(sign | half);
}
KVRM_HD void Convert(float x, fp8_t& to) {
  const uint32_t bits = BitsAs<uint32_t>(x);
  const uint32_t sign = bits >> 24 & 0x80u;
  const uint32_t absolute = bits & 0x7fffffffu;
  uint32_t code;
  if (absolute > 0x7f800000u) {
    to.bits = 0x7fu;
    return;
  }
  if (absolute >= 0x43e00000u) {  // 448
    code = 0x7eu;
  } else if (absolute < 0x3c800000u) {  // subnormal: 2^14 has the unit that is wanted, 2^-9
    code = BitsAs<uint32_t>(BitsAs<float>(absolute) + 16384.0f) - 0x46800000u;
  } else {
    code = (absolute + 0x7ffffu + (absolute >> 20 & 1u) - (120u << 23)) >> 20;
  }
  to.bits = static_cast<uint8_t>(sign | code);
}
#endif

}  // namespace internal

// The nearest T, ties to even. f16_t overflows to infinity, fp8_t saturates to +-448; NaN stays NaN.
template <class T>
KVRM_HD T FromFloat(float x) {
  T to;
  internal::Convert(x, to);
  return to;
}

// Two T (f16_t or bf16_t) in a register, lo in the low half.
template <class T>
KVRM_HD uint32_t Pack2(float lo, float hi) {
  return FromFloat<T>(lo).bits | static_cast<uint32_t>(FromFloat<T>(hi).bits) << 16;
}

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_DEVICE_TYPES_H_
