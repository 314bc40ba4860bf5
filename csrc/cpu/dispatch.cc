#include "dispatch.h"

#include <cstdlib>
#include <cstring>

#include "ops.h"

namespace kvrm::cpu {
namespace {

constexpr const char* kNames[kTargets] = {"AVX3", "AVX2", "SSE4", "NEON", "SCALAR"};

// What Highway's headers assume of each target (set_macros-inl.h). __builtin_cpu_supports also asks
// whether the operating system saves the registers.
Target Detect() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool sse4 =
      __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("aes");
  const bool avx2 = sse4 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("f16c");
  const bool avx3 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
#ifdef KVRM_FEW_TARGETS
  return avx3 ? kAvx3 : kFallback;
#endif
  return avx3 ? kAvx3 : avx2 ? kAvx2 : sse4 ? kSse4 : kFallback;
#elif defined(__aarch64__)
  return kNeon;
#else
  return kFallback;
#endif
}

// KVRM_CPU_TARGET can only lower the target: a name above the detected one, or an unknown one, changes
// nothing. A target of another architecture is never compiled, so it cannot be chosen.
Target Choose() {
  const Target detected = Detect();
  const char* wanted = std::getenv("KVRM_CPU_TARGET");
  if (wanted == nullptr) return detected;
  for (size_t target = detected; target < kTargets; ++target) {
    bool compiled = target == kFallback || (target == kNeon) == (detected == kNeon);
#ifdef KVRM_FEW_TARGETS
    compiled = target == detected || target == kFallback;
#endif
    if (compiled && std::strcmp(wanted, kNames[target]) == 0) return static_cast<Target>(target);
  }
  return detected;
}

}  // namespace

Target ChosenTarget() {
  static const Target target = Choose();
  return target;
}

const char* TargetName() { return kNames[ChosenTarget()]; }

}  // namespace kvrm::cpu
