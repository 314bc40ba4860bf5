// quant_targets.h - what the targets of quant.h share. Included before a target's instructions are switched on.
#ifndef KVRM_CPU_QUANT_TARGETS_H_
#define KVRM_CPU_QUANT_TARGETS_H_

#include <cstring>

#include "quant.h"

// Emulation is thousands of lines for each instruction: calls compile in a fraction of the time.
#if defined(KVRM_EMULATE_X86) || defined(KVRM_EMULATE_NEON)
#define KVRM_INLINE inline
#define KVRM_LAMBDA
#else
#define KVRM_INLINE inline __attribute__((always_inline))
#define KVRM_LAMBDA __attribute__((always_inline))
#endif
#define KVRM_NOINLINE __attribute__((noinline))

namespace kvrm::cpu {

// The scale of 32 activations: d, and what they are multiplied with.
struct QuantScale {
  float d;
  float inverse;
};

// most_bits: the largest of the activations' bits without their signs, which orders infinities and NaN last. Below
// 2^-100 all count as zero; with an infinity or a NaN d is NaN and the integers are zeros.
KVRM_INLINE QuantScale ScaleOf(int32_t most_bits) {
  float most;
  std::memcpy(&most, &most_bits, 4);
  if (most_bits >= 0x7f800000) return {__builtin_nanf(""), 0};
  if (most < 0x1p-100f) return {0, 0};
  return {most / 127, 127 / most};
}

extern const QuantKernels kQuantScalar;
#if defined(__x86_64__)
extern const QuantKernels kQuantAvx2;
extern const QuantKernels kQuantAvx512;
extern const QuantKernels kQuantAmx;
#elif defined(__aarch64__)
extern const QuantKernels kQuantNeonDotprod;
extern const QuantKernels kQuantNeon;
#endif

}  // namespace kvrm::cpu
#endif  // KVRM_CPU_QUANT_TARGETS_H_
