#include "quant.h"

#include <cstdlib>
#include <cstring>

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
#endif
  targets.kernels[targets.count++] = &kQuantScalar;
  return targets;
}

const QuantKernels& QuantKernel() {
  static const QuantKernels& chosen = [&]() -> const QuantKernels& {
    const QuantTargets targets = AvailableQuantTargets();
    const char* wanted = std::getenv("KVRM_CPU_TARGET");
    size_t t = 0;
    if (wanted && std::strcmp(wanted, "AVX2") == 0) {
      while (t + 1 < targets.count && std::strcmp(targets.kernels[t]->name, "AVX2") != 0) ++t;
    } else if (wanted && (std::strcmp(wanted, "SSE4") == 0 || std::strcmp(wanted, "SCALAR") == 0)) {
      t = targets.count - 1;
    }
    return *targets.kernels[t];
  }();
  return chosen;
}

}  // namespace kvrm::cpu
