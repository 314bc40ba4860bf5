// quant_neon.h - the NEON intrinsics: the compiler's, or, with KVRM_EMULATE_NEON, SIMDe's plain C++ for each of them,
// so that a test runs a kernel's own source on machines without its instructions.
#ifndef KVRM_CPU_QUANT_NEON_H_
#define KVRM_CPU_QUANT_NEON_H_

#ifndef KVRM_EMULATE_NEON
#include <arm_neon.h>
#else
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/arm/neon.h>

#include <cmath>
#include <cstdint>
#include <cstring>

// What SIMDe 0.7.4 lacks.
inline int32x4_t EmulateCvtn(float32x4_t v) {
  float in[4];
  int32_t out[4];
  std::memcpy(in, &v, 16);
  for (int i = 0; i < 4; ++i) out[i] = std::fabs(in[i]) < 0x1p31f ? static_cast<int32_t>(std::lrintf(in[i])) : 0;
  return vld1q_s32(out);
}
#define vcvtnq_s32_f32(v) EmulateCvtn(v)
// SIMDe's may round twice.
inline float32x4_t EmulateFma(float32x4_t c, float32x4_t a, float32x4_t b) {
  float x[4], y[4], z[4];
  std::memcpy(x, &a, 16);
  std::memcpy(y, &b, 16);
  std::memcpy(z, &c, 16);
  for (int i = 0; i < 4; ++i) z[i] = std::fma(x[i], y[i], z[i]);
  return vld1q_f32(z);
}
#undef vfmaq_f32
#define vfmaq_f32(c, a, b) EmulateFma(c, a, b)
#endif

#endif  // KVRM_CPU_QUANT_NEON_H_
