#include "amx.h"

#if defined(__x86_64__)
#include <cpuid.h>

#include <cstdlib>
#include <cstring>

#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace kvrm::cpu {
namespace {

// Linux saves the eight kilobytes of a thread's tiles only for processes that asked (arch_prctl(2)).
bool Permitted() {
#ifdef __linux__
  constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILE_DATA
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
#else
  return false;
#endif
}

// With what of AVX-512 the kernels' other instructions are.
bool InProcessor() {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512vl") ||
      !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512dq")) {
    return false;
  }
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24, kInt8 = 1u << 25, kAll = kBf16 | kTile | kInt8;
  unsigned a, b, c, d;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & kAll) == kAll;
}

}  // namespace

bool HasAmx() {
  static const bool has = [] {
    const char* wanted = std::getenv("KVRM_CPU_TARGET");
    return (wanted == nullptr || *wanted == 0 || std::strcmp(wanted, "AMX") == 0) && InProcessor() && Permitted();
  }();
  return has;
}

}  // namespace kvrm::cpu
#endif  // __x86_64__
