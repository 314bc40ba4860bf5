// bf16.h - products of BF16 weights with activations that are rounded to BF16, for processors that multiply pairs of
// such numbers (AVX512_BF16): twice the multiplications of f32 for an instruction. Off unless asked for
// (kvrm_quantize), for a rounded activation is off by up to 2^-9 of itself.
//
// The arithmetic of one output: 16 lanes of f32 start from zero; of each 32 numbers of k, lane l takes numbers 2l + 1
// and then 2l, each multiplied and added with one rounding, subnormal numbers counting as zero; in the end the lanes
// are added as a tree of halves. An output's bits therefore depend on its row of x and of w alone.
#ifndef KVRM_CPU_BF16_H_
#define KVRM_CPU_BF16_H_

#include <cstddef>
#include <cstdint>

#include "../common/model.h"

namespace kvrm::cpu {

inline constexpr uint32_t kBf16Step = 32;  // numbers of k; rows are whole steps

// Whether this processor has the instruction, and KVRM_CPU_TARGET allows it.
bool HasBf16Products();

// Bytes of a row of activations: rows 4 KiB apart would fall on the same sets of the caches.
constexpr uint64_t Bf16RowBytes(uint64_t cols) { return 2 * cols + 64; }

// Rows [begin, end) of x [m, cols], rounded to nearest even, to their place in `out` [m][Bf16RowBytes], 64-byte
// aligned.
void RoundRows(const float* x, size_t x_stride, uint32_t cols, uint32_t begin, uint32_t end, void* out);

struct Bf16Product {
  const Weight& w;     // KVRM_BF16, cols a multiple of kBf16Step
  const Weight* bias;  // null: none
  const void* x;       // what RoundRows made
  uint32_t m;
  float* out;  // [m, >= n_end]
  size_t out_stride;
  uint32_t n_begin;
  uint32_t n_end;
  bool add;  // out + (sum + bias)
};
void MultiplyBf16(const Bf16Product& product);

}  // namespace kvrm::cpu
#endif  // KVRM_CPU_BF16_H_
