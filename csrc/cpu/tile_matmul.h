// tile_matmul.h - products with weights in BF16, read as they lie, in tiles (amx.h): sixteen rows of w by 32 of k are
// one tile, and up to sixteen rows of x, their numbers in pairs of k, another.
//
// An activation is taken as a sum of two numbers that BF16 holds, the nearest, and the nearest to what that leaves, so
// that 2^-18 of it are lost, as a sum of thousands of f32 loses anyway. With one part it is rounded. The arithmetic of
// one output, with T(w, x) what the instruction does in f32 for each step of 32 of k, subnormal numbers counting as
// zero: acc + (a chain over the even numbers + a chain over the odd ones):
//
//   one part    T(w, x0)
//   two parts   T(w, x1), T(w, x0)
//
// An output's bits therefore depend on its row of x and of w alone.
#ifndef KVRM_CPU_TILE_MATMUL_H_
#define KVRM_CPU_TILE_MATMUL_H_

#include <cstddef>
#include <cstdint>

#include "../common/model.h"

namespace kvrm::cpu {

inline constexpr uint32_t kTileStep = 32;     // numbers of k; rows are whole steps
inline constexpr uint32_t kTileColumns = 16;  // rows of x in a tile
inline constexpr uint32_t kMostTileParts = 2;

// Bytes of a part of a step of m rows of x.
constexpr uint64_t TilePartBytes(uint64_t m) { return (m < kTileColumns ? m : kTileColumns) * 64; }

// Bytes of m rows of x in `parts` parts.
constexpr uint64_t TileRowsBytes(uint64_t m, uint64_t cols, uint64_t parts) {
  return (m + kTileColumns - 1) / kTileColumns * (cols / kTileStep) * parts * TilePartBytes(m);
}

struct TileProduct {
  const Weight& w;     // in BF16; cols a multiple of kTileStep; rows in order
  const Weight* bias;  // null: none
  const uint8_t* x;    // what split left
  uint32_t parts;      // 1 or 2
  uint32_t m;
  float* out;  // [m, >= n_end]
  size_t out_stride;
  uint32_t n_begin;
  uint32_t n_end;
  bool add;  // out + (sum + bias)
};

struct TileKernels {
  // Steps [begin, end) of x [m, cols], to their place in `out` of TileRowsBytes, 64-byte aligned.
  void (*split)(const float* x, size_t x_stride, uint32_t m, uint32_t cols, uint32_t parts, uint32_t begin,
                uint32_t end, uint8_t* out);
  void (*product)(const TileProduct& product);
};

// Those of this processor, or null where it has no tiles (HasAmx).
const TileKernels* TileKernel();

}  // namespace kvrm::cpu
#endif  // KVRM_CPU_TILE_MATMUL_H_
