// dispatch.h - one implementation per SIMD target, picked once when the library is first used.
//
// Highway compiles each ops_*.cc once per target (foreach_target.h), but its own dispatcher lives in
// libhwy.so, which must not be needed at run time: the library is one file. So only Highway's headers
// are used, and this is the dispatcher: a table of function pointers per operation, best target first.
//
// Include before any hwy header.
#ifndef KVRM_CPU_DISPATCH_H_
#define KVRM_CPU_DISPATCH_H_

#include <cstddef>

// SSSE3 gains nothing over the scalar fallback on any machine still in use; the code keeps vectors in
// arrays, which SVE's sizeless types forbid (NEON serves those machines). AVX3_DL adds only integer
// instructions, so it is not asked for. g++ before 12.3 miscompiles EMU128, and so would 12.2 for us.
//
// KVRM_FEW_TARGETS leaves out those between the best and the fallback: sanitizers make these files so slow
// to compile that a gate cannot afford them all.
#ifdef KVRM_FEW_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX2 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#else
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#endif

namespace kvrm::cpu {

// Columns of every table of KVRM_EXPORT.
enum Target : size_t { kAvx3, kAvx2, kSse4, kNeon, kFallback, kTargets };

// The best target that this processor and KVRM_CPU_TARGET allow.
Target ChosenTarget();

// Defines the table of `function`, which exists in N_AVX3, N_AVX2, ... of this namespace.
#define KVRM_EXPORT(function)                                                                                     \
  static decltype(&HWY_STATIC_DISPATCH(function)) const function##Table[::kvrm::cpu::kTargets] = {                \
      HWY_CHOOSE_AVX3(function), HWY_CHOOSE_AVX2(function), HWY_CHOOSE_SSE4(function), HWY_CHOOSE_NEON(function), \
      HWY_CHOOSE_FALLBACK(function)}

#define KVRM_CALL(function) (*function##Table[::kvrm::cpu::ChosenTarget()])

}  // namespace kvrm::cpu

#endif  // KVRM_CPU_DISPATCH_H_
