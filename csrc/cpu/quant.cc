#include "quant.h"

#include <cstdlib>
#include <cstring>

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

#include "amx.h"
#include "quant_targets.h"

namespace kvrm::cpu {

QuantTargets AvailableQuantTargets() {
  QuantTargets targets = {};
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vnni");
  if (avx512 && HasAmx()) targets.kernels[targets.count++] = &kQuantAmx;
  if (avx512) targets.kernels[targets.count++] = &kQuantAvx512;
  if (avx2) targets.kernels[targets.count++] = &kQuantAvx2;
#elif defined(__aarch64__)
#ifdef __linux__
  if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) targets.kernels[targets.count++] = &kQuantNeonDotprod;
#endif
  targets.kernels[targets.count++] = &kQuantNeon;  // part of the architecture
#endif
  targets.kernels[targets.count++] = &kQuantScalar;
  return targets;
}

const QuantKernels& QuantKernelFor(const char* wanted) {
  const QuantTargets targets = AvailableQuantTargets();
  if (wanted == nullptr) return *targets.kernels[0];
#if defined(__x86_64__)
  if (std::strcmp(wanted, "SSE4") == 0) return kQuantScalar;
#endif
  for (size_t t = 0; t < targets.count; ++t) {
    if (std::strcmp(wanted, targets.kernels[t]->name) == 0) return *targets.kernels[t];
  }
  return *targets.kernels[0];
}

const QuantKernels& QuantKernel() {
  static const QuantKernels& chosen = QuantKernelFor(std::getenv("KVRM_CPU_TARGET"));
  return chosen;
}

}  // namespace kvrm::cpu
