// Products with weights in BF16 in tiles.
#include "tile_matmul.h"

#if defined(__x86_64__)
#include <algorithm>
#include <cstring>

#include "../common/convert.h"
#include "amx.h"

#ifndef KVRM_EMULATE_X86
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // of the compiler's own header (g++ 12)
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,amx-tile,amx-bf16")
#endif

#ifdef KVRM_EMULATE_X86
#define KVRM_TILE_INLINE inline
#else
#define KVRM_TILE_INLINE inline __attribute__((always_inline))
#endif

#ifndef KVRM_TILE_KERNELS
#define KVRM_TILE_KERNELS kAmxTiles
#define KVRM_TILE_NAMESPACE amx_tiles
#endif

namespace kvrm::cpu {
namespace KVRM_TILE_NAMESPACE {

// Registers where there are any of 64 bytes.
typedef uint32_t Dwords __attribute__((vector_size(64)));
typedef uint16_t Words __attribute__((vector_size(64)));
typedef float Floats __attribute__((vector_size(64)));

template <typename Vector>
inline Vector Load(const void* from) {
  Vector v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}
template <typename Vector>
inline void Store(void* to, const Vector& v) {
  std::memcpy(to, &v, sizeof(v));
}

// The first `count` dwords of v.
inline void StoreFirst(void* to, Dwords v, uint32_t count) {
#ifdef KVRM_EMULATE_X86
  std::memcpy(to, &v, count * 4);
#else
  _mm512_mask_storeu_epi32(to, static_cast<__mmask16>((1u << count) - 1), (__m512i)v);
#endif
}

constexpr uint32_t kRowsOfW = 16;
constexpr uint32_t kTileBytes = 1024;
// Steps of k from the weights that are multiplied to those that are asked for meanwhile: lines of 16 rows are read
// in turn, too many for processors to see what comes next.
constexpr uint32_t kAheadSteps = 6;
// Of many rows of x: bytes of weights that stay in the first cache while x goes by, before sums go to memory; most rows
// of x at once; and bytes of x that should stay in the second cache while all weights go by.
constexpr uint32_t kPanelBytes = 32 << 10, kMostRows = 256;
constexpr uint64_t kCachedX = 1 << 20;

// [16][16] dwords, the other way round.
inline void Transpose(Dwords (&r)[16]) {
  Dwords t[16];
  for (int i = 0; i < 16; i += 4) {
    const Dwords a = __builtin_shufflevector(r[i], r[i + 1], 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
    const Dwords b =
        __builtin_shufflevector(r[i], r[i + 1], 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
    const Dwords c =
        __builtin_shufflevector(r[i + 2], r[i + 3], 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
    const Dwords d =
        __builtin_shufflevector(r[i + 2], r[i + 3], 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
    t[i] = __builtin_shufflevector(a, c, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
    t[i + 1] = __builtin_shufflevector(a, c, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    t[i + 2] = __builtin_shufflevector(b, d, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
    t[i + 3] = __builtin_shufflevector(b, d, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
  }
  // t[4 i + j] has column 4 q + j of rows 4 i to 4 i + 3 in its quarter q.
  for (int j = 0; j < 4; ++j) {
    const Dwords a = __builtin_shufflevector(t[j], t[4 + j], 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
    const Dwords b =
        __builtin_shufflevector(t[j], t[4 + j], 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
    const Dwords c =
        __builtin_shufflevector(t[8 + j], t[12 + j], 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
    const Dwords d =
        __builtin_shufflevector(t[8 + j], t[12 + j], 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
    r[j] = __builtin_shufflevector(a, c, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
    r[8 + j] = __builtin_shufflevector(a, c, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    r[4 + j] = __builtin_shufflevector(b, d, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
    r[12 + j] = __builtin_shufflevector(b, d, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  }
}

// ---- activations --------------------------------------------------------------------------------------

// The bits of v, rounded to the nearest BF16, ties to even; NaN stays NaN.
inline Dwords Rounded(Floats v) {
  const Dwords bits = (Dwords)v;
  const Dwords rounded = (bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000u;
  return (bits & 0x7fffffffu) > 0x7f800000u ? (bits | 0x00400000u) & 0xffff0000u : rounded;
}

// The upper halves of the dwords of a, and then of b.
inline Dwords UpperHalves(Dwords a, Dwords b) {
  return (Dwords)__builtin_shufflevector((Words)a, (Words)b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                                         33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63);
}

void Split(const float* x, size_t x_stride, uint32_t m, uint32_t cols, uint32_t parts, uint32_t begin, uint32_t end,
           uint8_t* out) {
  const uint64_t part_bytes = TilePartBytes(m), step_bytes = parts * part_bytes;
  const uint32_t columns = std::min(m, kTileColumns);
  for (uint32_t row = 0; row < m; row += kTileColumns, out += cols / kTileStep * step_bytes) {
    const uint32_t rows = std::min(m - row, kTileColumns);
    for (uint32_t s = begin; s < end; ++s) {
      Dwords pairs[kMostTileParts][16] = {};
      for (uint32_t r = 0; r < rows; ++r) {
        const float* from = x + (row + r) * x_stride + size_t{s} * kTileStep;
        Floats low = Load<Floats>(from), high = Load<Floats>(from + 16);
        for (uint32_t p = 0; p < parts; ++p) {
          const Dwords a = Rounded(low), b = Rounded(high);
          pairs[p][r] = UpperHalves(a, b);
          low -= (Floats)a;
          high -= (Floats)b;
        }
      }
      for (uint32_t p = 0; p < parts; ++p) {
        uint8_t* to = out + s * step_bytes + p * part_bytes;
        if (columns == 1) {  // already in order
          Store(to, pairs[p][0]);
          continue;
        }
        Transpose(pairs[p]);
        for (uint32_t pair = 0; pair < 16; ++pair) StoreFirst(to + pair * columns * 4, pairs[p][pair], columns);
      }
    }
  }
}

// ---- outputs ------------------------------------------------------------------------------------------

// Sums [rows <= 16 of w][16 of x] to their outputs.
void Put(const TileProduct& p, const float* sums, uint32_t n, uint32_t rows, uint32_t row, uint32_t count) {
  Dwords columns[16];
  for (uint32_t i = 0; i < 16; ++i) columns[i] = Load<Dwords>(sums + i * 16);
  Transpose(columns);
  float bias[16] = {};
  if (p.bias) {
    Widen(static_cast<const uint8_t*>(p.bias->data) + size_t{n} * ElementBytes(p.bias->dtype), rows, p.bias->dtype,
          bias);
  }
  const Floats biases = Load<Floats>(bias);
  for (uint32_t i = 0; i < count; ++i) {
    float* out = p.out + size_t{row + i} * p.out_stride + n;
    Floats sum = (Floats)columns[i] + biases;
    float before[16] = {};
    if (p.add) {
      std::memcpy(before, out, rows * 4);
      sum = Load<Floats>(before) + sum;
    }
    StoreFirst(out, (Dwords)sum, rows);
  }
}

// ---- few rows of x ------------------------------------------------------------------------------------

// Sums in register 0, weights in 1, x in 2 and 3. One group of 16 rows of w at a time: they are often a multiple of
// 4 KB apart, so that their lines fall on one set of the first cache, which holds not many more.
void ConfigureFew(uint32_t rows, uint32_t columns) {
  TileConfig config;
  config.Set(0, rows, columns * 4);
  config.Set(1, rows, 64);
  config.Set(2, 16, columns * 4);
  config.Set(3, 16, columns * 4);
  WrittenBeforeTiles();
  _tile_loadconfig(&config);
}

// All of k for rows [n, n + rows) of w, at most 16, and all rows of x, at most 16.
template <uint32_t Parts>
void Few(const TileProduct& p, uint32_t n, uint32_t rows) {
  const size_t row_bytes = size_t{2} * p.w.cols;
  const uint32_t steps = p.w.cols / kTileStep, ahead_steps = std::min(steps, kAheadSteps);
  const size_t part = TilePartBytes(p.m), stride = size_t{4} * p.m;
  const uint8_t* w = static_cast<const uint8_t*>(p.w.data) + n * row_bytes;
  const uint8_t* x = p.x;
  alignas(64) float sums[16 * 16];
  _tile_zero(0);
  for (uint32_t s = 0; s < steps; ++s, w += 64, x += Parts * part) {
    // The end of a row asks for the beginning of the one that comes after these.
    const uint8_t* ahead = w + (s + ahead_steps < steps ? size_t{64} * ahead_steps
                                                        : kRowsOfW * row_bytes - (steps - ahead_steps) * size_t{64});
#pragma GCC unroll 16
    for (uint32_t r = 0; r < kRowsOfW; ++r) __builtin_prefetch(ahead + r * row_bytes, 0, 2);
    WrittenBeforeTiles();
    _tile_loadd(1, w, row_bytes);
    if constexpr (Parts == 2) {
      _tile_loadd(3, x + part, stride);
      _tile_dpbf16ps(0, 1, 3);
    }
    _tile_loadd(2, x, stride);
    _tile_dpbf16ps(0, 1, 2);
  }
  _tile_stored(0, sums, 64);
  Put(p, sums, n, rows, 0, p.m);
}

template <uint32_t Parts>
void MultiplyFewRows(const TileProduct& p) {
  ConfigureFew(kRowsOfW, p.m);
  uint32_t n = p.n_begin;
  for (; p.n_end - n >= kRowsOfW; n += kRowsOfW) Few<Parts>(p, n, kRowsOfW);
  if (p.n_end == n) return;
  ConfigureFew(p.n_end - n, p.m);
  Few<Parts>(p, n, p.n_end - n);
}

// ---- many rows of x -----------------------------------------------------------------------------------

// Sums in registers 0 to 3, weights in 4 and 5, x in 6 and 7: two groups of w meet two tiles of x.
void ConfigureMany(uint32_t rows) {
  TileConfig config;
  for (uint32_t t = 0; t < 6; ++t) config.Set(t, rows, 64);
  for (uint32_t t = 6; t < 8; ++t) config.Set(t, 16, 64);
  WrittenBeforeTiles();
  _tile_loadconfig(&config);
}

template <uint32_t Groups, uint32_t Tiles>
KVRM_TILE_INLINE void MultiplyMany() {
  _tile_dpbf16ps(0, 4, 6);
  if constexpr (Tiles > 1) _tile_dpbf16ps(1, 4, 7);
  if constexpr (Groups > 1) _tile_dpbf16ps(2, 5, 6);
  if constexpr (Groups > 1 && Tiles > 1) _tile_dpbf16ps(3, 5, 7);
}
template <uint32_t Groups>
KVRM_TILE_INLINE void LoadManyWeights(const uint8_t* w) {
  _tile_loadd(4, w, 64);
  if constexpr (Groups > 1) _tile_loadd(5, w + kTileBytes, 64);
}
template <uint32_t Tiles>
KVRM_TILE_INLINE void LoadManyX(const uint8_t* x, size_t tile) {
  _tile_loadd(6, x, 64);
  if constexpr (Tiles > 1) _tile_loadd(7, x + tile, 64);
}

// The sums of a tile of x with each of two groups.
struct TileSums {
  alignas(64) float of[2][16 * 16];
};

// A step of a panel. A line that it does not need makes the lines of a row of w, one in each step, fall on different
// sets of the cache.
template <uint32_t Groups>
constexpr size_t kPanelStepBytes = Groups* kTileBytes + 64;

// Adds `steps` steps of k for one or two tiles of x, tile_bytes apart, to their sums, or starts them. panel: [step]
// [group] of tiles.
template <uint32_t Parts, uint32_t Groups, uint32_t Tiles>
void ManySteps(const uint8_t* panel, const uint8_t* x, size_t tile_bytes, uint32_t steps, bool first, TileSums* sums) {
  WrittenBeforeTiles();
  if (first) {
    _tile_zero(0);
    if constexpr (Tiles > 1) _tile_zero(1);
    if constexpr (Groups > 1) _tile_zero(2);
    if constexpr (Groups > 1 && Tiles > 1) _tile_zero(3);
  } else {
    _tile_loadd(0, sums[0].of[0], 64);
    if constexpr (Tiles > 1) _tile_loadd(1, sums[1].of[0], 64);
    if constexpr (Groups > 1) _tile_loadd(2, sums[0].of[1], 64);
    if constexpr (Groups > 1 && Tiles > 1) _tile_loadd(3, sums[1].of[1], 64);
  }
  for (uint32_t s = 0; s < steps; ++s, panel += kPanelStepBytes<Groups>, x += Parts * kTileBytes) {
    LoadManyWeights<Groups>(panel);
    if constexpr (Parts == 2) {
      LoadManyX<Tiles>(x + kTileBytes, tile_bytes);
      MultiplyMany<Groups, Tiles>();
    }
    LoadManyX<Tiles>(x, tile_bytes);
    MultiplyMany<Groups, Tiles>();
  }
  _tile_stored(0, sums[0].of[0], 64);
  if constexpr (Tiles > 1) _tile_stored(1, sums[1].of[0], 64);
  if constexpr (Groups > 1) _tile_stored(2, sums[0].of[1], 64);
  if constexpr (Groups > 1 && Tiles > 1) _tile_stored(3, sums[1].of[1], 64);
}

// All of k for Groups groups from n on, the last of `rows`, and rows [row, row + count) of x, row a multiple of 16.
template <uint32_t Parts, uint32_t Groups>
void Many(const TileProduct& p, uint32_t n, uint32_t rows, uint32_t row, uint32_t count) {
  const size_t row_bytes = size_t{2} * p.w.cols;
  const uint32_t steps = p.w.cols / kTileStep, tiles = (count + kTileColumns - 1) / kTileColumns;
  const uint32_t lines = (Groups - 1) * kRowsOfW + rows;
  const size_t tile_bytes = size_t{steps} * Parts * kTileBytes;
  const uint8_t* w = static_cast<const uint8_t*>(p.w.data) + n * row_bytes;
  const uint8_t* x = p.x + row / kTileColumns * tile_bytes;
  constexpr uint32_t kBlockSteps = kPanelBytes / (2 * kTileBytes);
  constexpr size_t kStepBytes = kPanelStepBytes<Groups>;
  alignas(64) uint8_t panel[kBlockSteps * kStepBytes];
  TileSums sums[kMostRows / kTileColumns];
  for (uint32_t k = 0; k < steps; k += kBlockSteps) {
    const uint32_t block = std::min(kBlockSteps, steps - k);
    const uint8_t* at = w + k * size_t{64};
    for (uint32_t r = 0; r < lines; ++r) {
      for (uint32_t s = 0; s < block; ++s) {
        const uint8_t* line = at + r * row_bytes + s * 64;
        uint8_t* to = panel + s * kStepBytes + r * 64;
        Store(to, Load<Dwords>(line));
      }
    }
    // What comes next is asked for bit by bit.
    const uint8_t* next = k + block < steps ? at + block * 64 : w + Groups * kRowsOfW * row_bytes;
    uint32_t line = 0;
    for (uint32_t tile = 0; tile < tiles; tile += 2) {
      const uint8_t* from_x = x + tile * tile_bytes + size_t{k} * Parts * kTileBytes;
      const auto multiply = tile + 1 < tiles ? ManySteps<Parts, Groups, 2> : ManySteps<Parts, Groups, 1>;
      multiply(panel, from_x, tile_bytes, block, k == 0, sums + tile);
      for (const uint32_t until = lines * std::min(tile + 2, tiles) / tiles; line < until; ++line) {
        for (uint32_t s = 0; s < block; ++s) __builtin_prefetch(next + line * row_bytes + s * 64, 0, 2);
      }
    }
  }
  for (uint32_t g = 0; g < Groups; ++g) {
    for (uint32_t tile = 0; tile < tiles; ++tile) {
      Put(p, sums[tile].of[g], n + g * kRowsOfW, g + 1 < Groups ? kRowsOfW : rows, row + tile * kTileColumns,
          std::min(kTileColumns, count - tile * kTileColumns));
    }
  }
}

template <uint32_t Parts>
void MultiplyManyRows(const TileProduct& p) {
  const uint64_t cached = kCachedX / (uint64_t{2} * Parts * p.w.cols) / 32 * 32;
  const uint32_t most = static_cast<uint32_t>(std::clamp<uint64_t>(cached, 32, kMostRows));
  const uint32_t passes = (p.m + most - 1) / most;
  for (uint32_t pass = 0, row = 0; pass < passes; ++pass) {
    // Whole pairs of tiles, and passes of about the same length.
    const uint32_t count = std::min(p.m - row, ((p.m - row) / (passes - pass) + 31) / 32 * 32);
    ConfigureMany(kRowsOfW);
    uint32_t n = p.n_begin;
    for (; p.n_end - n >= 32; n += 32) Many<Parts, 2>(p, n, kRowsOfW, row, count);
    if (p.n_end - n >= 16) Many<Parts, 1>(p, n, kRowsOfW, row, count), n += 16;
    if (p.n_end != n) {
      ConfigureMany(p.n_end - n);
      Many<Parts, 1>(p, n, p.n_end - n, row, count);
    }
    row += count;
  }
}

void Product(const TileProduct& p) {
  if (p.m == 0 || p.n_begin >= p.n_end) return;
  const bool few = p.m <= kTileColumns;
  if (p.parts == 1) {
    (few ? MultiplyFewRows<1> : MultiplyManyRows<1>)(p);
  } else {
    (few ? MultiplyFewRows<2> : MultiplyManyRows<2>)(p);
  }
  _tile_release();
}

}  // namespace KVRM_TILE_NAMESPACE

extern const TileKernels KVRM_TILE_KERNELS;
const TileKernels KVRM_TILE_KERNELS = {KVRM_TILE_NAMESPACE::Split, KVRM_TILE_NAMESPACE::Product};

#ifndef KVRM_EMULATE_X86
const TileKernels* TileKernel() { return HasAmx() ? &kAmxTiles : nullptr; }
#endif

}  // namespace kvrm::cpu

#ifndef KVRM_EMULATE_X86
#pragma GCC pop_options
#endif

#else

namespace kvrm::cpu {
const TileKernels* TileKernel() { return nullptr; }
}  // namespace kvrm::cpu
#endif
