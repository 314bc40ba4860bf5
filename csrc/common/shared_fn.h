// shared_fn.h - for arithmetic that the host and a device do with the same bits: each operation rounded to
// its type, nearest even, never contracted.
#ifndef KVRM_COMMON_SHARED_FN_H_
#define KVRM_COMMON_SHARED_FN_H_

#ifdef __CUDACC__
#define KVRM_SHARED_FN __host__ __device__ __forceinline__
#else
#define KVRM_SHARED_FN inline
#endif

namespace kvrm {

#ifdef __CUDA_ARCH__
KVRM_SHARED_FN float RoundedAdd(float a, float b) { return __fadd_rn(a, b); }
KVRM_SHARED_FN float RoundedSub(float a, float b) { return __fsub_rn(a, b); }
KVRM_SHARED_FN float RoundedMul(float a, float b) { return __fmul_rn(a, b); }
KVRM_SHARED_FN float RoundedDiv(float a, float b) { return __fdiv_rn(a, b); }
KVRM_SHARED_FN double RoundedAdd(double a, double b) { return __dadd_rn(a, b); }
KVRM_SHARED_FN double RoundedSub(double a, double b) { return __dsub_rn(a, b); }
KVRM_SHARED_FN double RoundedMul(double a, double b) { return __dmul_rn(a, b); }
KVRM_SHARED_FN double RoundedDiv(double a, double b) { return __ddiv_rn(a, b); }
#else  // compiled with -ffp-contract=off
KVRM_SHARED_FN float RoundedAdd(float a, float b) { return a + b; }
KVRM_SHARED_FN float RoundedSub(float a, float b) { return a - b; }
KVRM_SHARED_FN float RoundedMul(float a, float b) { return a * b; }
KVRM_SHARED_FN float RoundedDiv(float a, float b) { return a / b; }
KVRM_SHARED_FN double RoundedAdd(double a, double b) { return a + b; }
KVRM_SHARED_FN double RoundedSub(double a, double b) { return a - b; }
KVRM_SHARED_FN double RoundedMul(double a, double b) { return a * b; }
KVRM_SHARED_FN double RoundedDiv(double a, double b) { return a / b; }
#endif

}  // namespace kvrm
#endif  // KVRM_COMMON_SHARED_FN_H_
