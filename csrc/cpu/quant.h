// quant.h - products with weights in GGUF's block formats: activations become 8-bit integers with a scale for each 32
// of a row, integer dot products do the rest.
//
// The weights are repacked once (packed.h): a vector register holds four numbers of k for each of several rows.
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

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "packed.h"

namespace kvrm::cpu {

inline constexpr uint32_t kQuantBlock = 32;
inline constexpr uint32_t kXRows = 4;  // of activations that lie together

// Bytes of four rows of activations, in the form of a target that keeps 16-bit integers as well (wide) or not. The
// same part of k of many rows is read in turn: without the odd end those would fall on the same sets of the caches.
constexpr uint64_t XGroupBytes(uint64_t cols, bool wide) {
  return kXRows * (cols / kQuantBlock) * (wide ? 128 : 64) + 2048;
}

// Rows of activations that lie together for a target that multiplies tiles, bytes of 32 numbers of them with their two
// floats, and bytes of whole rows; the rest keeps them off the same sets, and holds half a pair (quant_amx-inl.h).
inline constexpr uint32_t kXTileRows = 16;
inline constexpr uint64_t kXTileBlock = kXTileRows * (kQuantBlock + 8);
constexpr uint64_t XTileBytes(uint64_t cols) { return cols / kQuantBlock * kXTileBlock + 576; }

// Bytes of m rows of activations, in any form that a target wants.
constexpr uint64_t QuantRowsBytes(uint64_t m, uint64_t cols) {
  return std::max((m + kXRows - 1) / kXRows * XGroupBytes(cols, true),
                  (m + kXTileRows - 1) / kXTileRows * XTileBytes(cols));
}

// One target's functions.
struct QuantKernels {
  const char* name;
  bool flips;  // wants Q8_0 packed with its sign bits flipped
  // Rows [begin, end) of x [m, cols], begin a multiple of kXRows, to their place in `out` of QuantRowsBytes, 64-byte
  // aligned. cols is a multiple of 32. A row with a NaN or an infinity gives NaN outputs.
  void (*quantize_rows)(const float* x, size_t x_stride, uint32_t m, uint32_t cols, uint32_t begin, uint32_t end,
                        void* out);
  void (*product)(const PackedProduct& product);
};

// All targets that this build has and this processor can run, best first; the last is scalar.
struct QuantTargets {
  const QuantKernels* kernels[12];
  size_t count;
};
QuantTargets AvailableQuantTargets();

// The best of them that `wanted` allows, a value of KVRM_CPU_TARGET or null: as in dispatch.cc a name can only lower
// the target, and an unknown one changes nothing. NEON goes without the dot product, as AVX3 goes without AMX.
const QuantKernels& QuantKernelFor(const char* wanted);

// That of this process.
const QuantKernels& QuantKernel();

}  // namespace kvrm::cpu
#endif  // KVRM_CPU_QUANT_H_
