// bf16.h - products of BF16 weights with activations that are rounded to BF16, for processors that multiply pairs of
// such numbers (AVX512_BF16): twice the multiplications of f32 for an instruction. Off unless asked for
// (kvrm_quantize), for a rounded activation is off by up to 2^-9 of itself.
//
// Weights are packed (packed.h). The arithmetic of one output is a single chain in f32 from zero: of each pair of
// numbers of k, in order, first the second and then the first is multiplied and added with one rounding, subnormal
// numbers counting as zero. An output's bits therefore depend on its row of x and of w alone.
#ifndef KVRM_CPU_BF16_H_
#define KVRM_CPU_BF16_H_

#include <cstddef>
#include <cstdint>

#include "packed.h"

namespace kvrm::cpu {

inline constexpr uint32_t kBf16Step = 32;  // numbers of k; rows are whole steps

// Whether this processor has the instruction, and KVRM_CPU_TARGET allows it.
bool HasBf16Products();

// Bytes of a row of activations: rows 4 KiB apart would fall on the same sets of the caches.
constexpr uint64_t Bf16RowBytes(uint64_t cols) { return 2 * cols + 64; }

// Rows [begin, end) of x [m, cols], rounded to nearest even, to their place in `out` [m][Bf16RowBytes], 64-byte
// aligned.
void RoundRows(const float* x, size_t x_stride, uint32_t cols, uint32_t begin, uint32_t end, void* out);

// w in BF16, its cols a multiple of kBf16Step; x is what RoundRows made.
void MultiplyBf16(const PackedProduct& product);

}  // namespace kvrm::cpu
#endif  // KVRM_CPU_BF16_H_
