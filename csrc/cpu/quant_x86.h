// quant_x86.h - the x86 intrinsics: the compiler's, or, with KVRM_EMULATE_X86, SIMDe's plain C++ for each of them, so
// that a test runs a kernel's own source on machines without its instructions.
#ifndef KVRM_CPU_QUANT_X86_H_
#define KVRM_CPU_QUANT_X86_H_

#ifndef KVRM_EMULATE_X86
#include <immintrin.h>
#else
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx2.h>
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>

#include <cmath>
#include <cstring>

// What SIMDe 0.7.4 lacks.
template <typename To, typename From, typename Element>
inline void EmulateLanes(const From& from, To* to, Element (*of)(int32_t)) {
  int32_t in[16];
  Element out[16];
  std::memcpy(in, &from, sizeof(in));
  for (int i = 0; i < 16; ++i) out[i] = of(in[i]);
  std::memcpy(to, out, sizeof(out));
}
inline __m256i EmulateCvtepi32Epi16(__m512i v) {
  __m256i out;
  EmulateLanes(
      v, &out, +[](int32_t x) { return static_cast<int16_t>(x); });
  return out;
}
inline __m512 EmulateCvtepi32Ps(__m512i v) {
  __m512 out;
  EmulateLanes(
      v, &out, +[](int32_t x) { return static_cast<float>(x); });
  return out;
}
inline __m512i EmulateCvtpsEpi32(__m512 v) {
  __m512i out;
  EmulateLanes(
      v, &out, +[](int32_t x) {
        float value;
        std::memcpy(&value, &x, 4);
        return std::fabs(value) < 0x1p31f ? static_cast<int32_t>(std::lrintf(value)) : INT32_MIN;
      });
  return out;
}
template <int n>
inline __m512i EmulateSrai(__m512i v) {
  __m512i out;
  EmulateLanes(
      v, &out, +[](int32_t x) { return x >> n; });
  return out;
}
#define _mm512_cvtepi32_epi16(v) EmulateCvtepi32Epi16(v)
#define _mm512_cvtepi32_ps(v) EmulateCvtepi32Ps(v)
#define _mm512_cvtps_epi32(v) EmulateCvtpsEpi32(v)
#define _mm512_srai_epi32(v, n) EmulateSrai<n>(v)
// SIMDe's may round twice.
inline __m512 EmulateFmadd(__m512 a, __m512 b, __m512 c) {
  float x[16], y[16], z[16];
  std::memcpy(x, &a, 64);
  std::memcpy(y, &b, 64);
  std::memcpy(z, &c, 64);
  for (int i = 0; i < 16; ++i) z[i] = std::fma(x[i], y[i], z[i]);
  std::memcpy(&c, z, 64);
  return c;
}
#undef _mm512_fmadd_ps
#define _mm512_fmadd_ps(a, b, c) EmulateFmadd(a, b, c)
#endif

#endif  // KVRM_CPU_QUANT_X86_H_
