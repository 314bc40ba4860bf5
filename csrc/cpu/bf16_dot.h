// bf16_dot.h - products with BF16 weights on processors with AVX512_BF16.
#ifndef KVRM_CPU_BF16_DOT_H_
#define KVRM_CPU_BF16_DOT_H_

#include <cstdint>

#include "../common/model.h"

namespace kvrm::cpu {

// Whether this processor has it and KVRM_CPU_TARGET does not ask for a lower target.
bool HasBf16Dot();

// Whether MatMul multiplies by it: of a weight alone, so that an output's bits depend on nothing else.
bool TakesBf16Dot(const Weight& w);

// As MatMul of ops.h, for weights that TakesBf16Dot says.
void MatMulBf16(const Weight& w, const Weight* bias, const float* x, size_t x_stride, uint32_t m, float* out,
                size_t out_stride, uint32_t n_begin, uint32_t n_end, bool add);

}  // namespace kvrm::cpu
#endif  // KVRM_CPU_BF16_DOT_H_
