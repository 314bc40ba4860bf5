// quant.h - products with weights in GGUF's block formats: activations become 8-bit integers with a scale for each 32
// of a row, integer dot products do the rest.
//
// The weights are repacked once, into groups of 16 rows whose blocks are interleaved dword by dword, so that a vector
// register holds four numbers of k for each of several rows: no sum runs across a register. The bytes are as many as
// before, the bits of the numbers are not touched:
//
//   group g: [block][dword of the block][16 rows] u32, then (all but Q4_K and Q5_K) the blocks' d: [block][16 rows] f16
//
// Q8_0's integers have their sign bit flipped, so that they are unsigned: q + 128.
//
// The arithmetic of one output is the same on every target, and so are its bits. With b counting blocks of 32 of k,
// xd[b] and xq[b] the scale and the integers of the activations, xs[b] = xd[b] * sum(xq[b]), each float operation
// rounded, fma once:
//
//   Q8_0, Q4_0   acc = fma(f32(sum(wq xq)), d xd[b], acc)
//   others, for each block of 256, S and M starting from 0:
//                S = fma(f32(sum(scale wq xq)), xd[b], S)      M = fma(m, xs[b], M)
//                acc = fma(d, S, acc)                          acc = fma(-dmin, M, acc)
//
// An output's bits therefore depend on its row of x and of w alone.
#ifndef KVRM_CPU_QUANT_H_
#define KVRM_CPU_QUANT_H_

#include <cstddef>
#include <cstdint>

#include "../common/model.h"

namespace kvrm::cpu {

inline constexpr uint32_t kGroupRows = 16;  // of a weight
inline constexpr uint32_t kQuantBlock = 32;
inline constexpr uint32_t kXRows = 4;  // of activations that lie together

// A matrix as PackGroups left it.
struct PackedMatrix {
  const uint8_t* data;  // 64-byte aligned
  uint32_t dtype;
  uint32_t rows;
  uint32_t cols;
};

// Bytes of one group of 16 rows, a multiple of 64.
uint64_t PackedGroupBytes(uint32_t dtype, uint32_t cols);

// Packs group g of w, a matrix in blocks, to `to` of PackedGroupBytes. Rows past the end are zeros.
void PackGroup(const Weight& w, uint32_t g, uint8_t* to);

// Packs groups [begin, end) of w into `packed`, which holds them all.
void PackGroups(const Weight& w, uint32_t begin, uint32_t end, uint8_t* packed);

// Bytes of four rows of activations, in the form of a target that keeps 16-bit integers as well (wide) or not. The
// same part of k of many rows is read in turn: without the odd end those would fall on the same sets of the caches.
constexpr uint64_t XGroupBytes(uint64_t cols, bool wide) {
  return kXRows * (cols / kQuantBlock) * (wide ? 128 : 64) + 2048;
}

// Bytes of m rows of activations, in any form that a target wants.
constexpr uint64_t QuantRowsBytes(uint64_t m, uint64_t cols) {
  return (m + kXRows - 1) / kXRows * XGroupBytes(cols, true);
}

struct QuantProduct {
  PackedMatrix w;
  const Weight* bias;  // null: none
  const void* x;       // what QuantizeRows made
  uint32_t m;
  float* out;  // [m, >= n_end]
  size_t out_stride;
  uint32_t n_begin;
  uint32_t n_end;
  bool add;  // out + (sum + bias)
};

struct QuantKernels;

// The product with `file`, a matrix that is not packed yet, in place of p.w: packs its groups one by one into `scratch`
// of PackedGroupBytes. The same bits.
void ProductFromFile(const QuantKernels& kernels, const Weight& file, const QuantProduct& p, uint8_t* scratch);

// One target's functions.
struct QuantKernels {
  const char* name;
  // Rows [begin, end) of x [m, cols], begin a multiple of kXRows, to their place in `out` of QuantRowsBytes, 64-byte
  // aligned. cols is a multiple of 32. A row with a NaN or an infinity gives NaN outputs.
  void (*quantize_rows)(const float* x, size_t x_stride, uint32_t cols, uint32_t begin, uint32_t end, void* out);
  void (*product)(const QuantProduct& product);
};

// All targets that this build has and this processor can run, best first; the last is scalar.
struct QuantTargets {
  const QuantKernels* kernels[6];
  size_t count;
};
QuantTargets AvailableQuantTargets();

// The best of them that KVRM_CPU_TARGET allows.
const QuantKernels& QuantKernel();

}  // namespace kvrm::cpu
#endif  // KVRM_CPU_QUANT_H_
