// convert.h - between f32 and the 16-bit types, one number at a time: for what is no part of a step.
#ifndef KVRM_COMMON_CONVERT_H_
#define KVRM_COMMON_CONVERT_H_

#include <cstdint>

#include "../kvrm.h"

namespace kvrm {

// Bytes of one element of a kvrm_dtype.
inline uint32_t ElementBytes(uint32_t dtype) { return dtype == KVRM_F32 ? 4 : dtype == KVRM_F8_E4M3 ? 1 : 2; }

// out[n] = x[n] rounded to dtype (F32, F16 or BF16; nearest even; NaN stays NaN), n < count.
void Narrow(const float* x, uint64_t count, uint32_t dtype, void* out);

// out[n] = x[n] of dtype (F32, F16 or BF16), exactly.
void Widen(const void* x, uint64_t count, uint32_t dtype, float* out);

}  // namespace kvrm
#endif  // KVRM_COMMON_CONVERT_H_
