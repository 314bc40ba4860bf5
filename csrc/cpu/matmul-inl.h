// matmul-inl.h - the inner loops of MatMul, compiled once per SIMD target.
//
// Every output element is one chain: a single vector accumulator of L lanes walks k in ascending steps
// of L (zeros beyond cols), then Reduce4's fixed order adds the lanes. All loops below, whatever their
// tile, compute that chain, so a row's bits do not depend on m or on how n is cut.

#if defined(KVRM_CPU_MATMUL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVRM_CPU_MATMUL_INL_H_
#undef KVRM_CPU_MATMUL_INL_H_
#else
#define KVRM_CPU_MATMUL_INL_H_
#endif

#include <algorithm>

#include "vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvrm::cpu {
namespace HWY_NAMESPACE {

// The register tile: kTileRows rows of x by kTileCols rows of w. One FMA unit pair needs 8 chains; 24
// accumulators + 3 of x + 1 of w fit 32 registers, 12 + 3 + 1 fit 16.
constexpr size_t kTileRows = 3;
constexpr size_t kTileCols = (HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON) ? 8 : 4;

// Where the sums of a tile go.
struct MatMulOut {
  const Weight* bias;  // null: none
  float* out;          // [m, >= n_end]
  size_t stride;
  bool add;
};

HWY_INLINE float BiasAt(const Weight& bias, size_t n) {
  float value = 0;
  KVRM_WITH_DTYPE(bias.dtype, value = hn::GetLane(LoadTail(static_cast<const T*>(bias.data) + n, 1)));
  return value;
}

HWY_INLINE void Emit(const MatMulOut& to, size_t row, size_t n, const float* sums, size_t count) {
  float* out = to.out + row * to.stride + n;
  for (size_t j = 0; j < count; ++j) {
    const float sum = to.bias == nullptr ? sums[j] : sums[j] + BiasAt(*to.bias, n + j);
    out[j] = to.add ? out[j] + sum : sum;
  }
}

// Reduces one row's accumulators [Nr] and writes the first count of them.
template <size_t Nr>
HWY_INLINE void ReduceRow(const MatMulOut& to, size_t row, size_t n, const VF* acc, size_t count) {
  float sums[Nr];
  for (size_t j = 0; j < Nr; j += 4) Reduce4(acc[j], acc[j + 1], acc[j + 2], acc[j + 3], sums + j);
  Emit(to, row, n, sums, count);
}

// A few rows of x against Nr rows of w as they lie in memory, all of k: for small m, where w comes from
// memory once and converting it in registers costs less than the wait for it.
//   x [Mr, cols], w [Nr] pointers to rows of cols
template <size_t Mr, size_t Nr, typename T>
HWY_INLINE void DirectTile(const float* x, size_t x_stride, const T* const* w, size_t cols, VF (&acc)[Mr][Nr]) {
  const DF d;
  for (size_t i = 0; i < Mr; ++i) {
    for (size_t j = 0; j < Nr; ++j) acc[i][j] = hn::Zero(d);
  }
  size_t k = 0;
  for (; k + kLanes <= cols; k += kLanes) {
    VF xv[Mr];
#pragma GCC unroll 8
    for (size_t i = 0; i < Mr; ++i) xv[i] = hn::LoadU(d, x + i * x_stride + k);
#pragma GCC unroll 8
    for (size_t j = 0; j < Nr; ++j) {
      const VF wv = LoadF32(w[j] + k);
#pragma GCC unroll 8
      for (size_t i = 0; i < Mr; ++i) acc[i][j] = hn::MulAdd(xv[i], wv, acc[i][j]);
    }
  }
  if (k == cols) return;
  for (size_t j = 0; j < Nr; ++j) {
    const VF wv = LoadTail(w[j] + k, cols - k);
    for (size_t i = 0; i < Mr; ++i) {
      acc[i][j] = hn::MulAdd(LoadTail(x + i * x_stride + k, cols - k), wv, acc[i][j]);
    }
  }
}

// m = Mr <= kTileRows rows against all columns of [n_begin, n_end).
template <size_t Mr, typename T>
HWY_INLINE void DirectRows(const T* w, size_t cols, const float* x, size_t x_stride, size_t n_begin, size_t n_end,
                           const MatMulOut& to) {
  constexpr size_t Nr = kTileCols;
  for (size_t n = n_begin; n < n_end; n += Nr) {
    const size_t count = std::min(Nr, n_end - n);
    // Columns past the end repeat the last one and are not written.
    const T* rows[Nr];
    for (size_t j = 0; j < Nr; ++j) rows[j] = w + (n + std::min(j, count - 1)) * cols;
    VF acc[Mr][Nr];
    DirectTile<Mr, Nr>(x, x_stride, rows, cols, acc);
    for (size_t i = 0; i < Mr; ++i) ReduceRow<Nr>(to, i, n, acc[i], count);
  }
}

// ---- larger m: convert a panel of w once, use it for every row ---------------------------------

// k is walked in blocks, so that a panel [kBlock / L][Nr][L] of f32 stays in L1 (24 KiB) while the rows
// of x stream past it. Accumulators wait in memory between blocks, as vectors: the chain is unbroken.
constexpr size_t kBlock = 768;
// Rows of x per pass over w: bounded by the accumulators' buffer, and by x staying in L2.
constexpr size_t kMaxPassRows = 96;
constexpr size_t kPassBytes = 1 << 20;

// w rows [k, k + depth) of Nr columns to panel [ceil(depth / L)][Nr][L], zeros beyond depth.
template <size_t Nr, typename T>
HWY_INLINE void PackPanel(const T* const* w, size_t k, size_t depth, float* HWY_RESTRICT panel) {
  const DF d;
  size_t at = 0;
  for (; at + kLanes <= depth; at += kLanes) {
#pragma GCC unroll 8
    for (size_t j = 0; j < Nr; ++j) hn::Store(LoadF32(w[j] + k + at), d, panel + at * Nr + j * kLanes);
  }
  if (at == depth) return;
  for (size_t j = 0; j < Nr; ++j) hn::Store(LoadTail(w[j] + k + at, depth - at), d, panel + at * Nr + j * kLanes);
}

// acc[Mr][Nr] (+)= x[Mr, depth] * panel. acc is [Mr][Nr][L] in memory.
template <size_t Mr, size_t Nr>
HWY_INLINE void PanelTile(const float* x, size_t x_stride, size_t depth, const float* HWY_RESTRICT panel, bool first,
                          float* HWY_RESTRICT memory) {
  const DF d;
  VF acc[Mr][Nr];
  if (first) {
    for (size_t i = 0; i < Mr; ++i) {
      for (size_t j = 0; j < Nr; ++j) acc[i][j] = hn::Zero(d);
    }
  } else {
    for (size_t i = 0; i < Mr; ++i) {
      for (size_t j = 0; j < Nr; ++j) acc[i][j] = hn::Load(d, memory + (i * Nr + j) * kLanes);
    }
  }
  size_t k = 0;
  for (; k + kLanes <= depth; k += kLanes) {
    VF xv[Mr];
#pragma GCC unroll 8
    for (size_t i = 0; i < Mr; ++i) xv[i] = hn::LoadU(d, x + i * x_stride + k);
#pragma GCC unroll 8
    for (size_t j = 0; j < Nr; ++j) {
      const VF wv = hn::Load(d, panel + k * Nr + j * kLanes);
#pragma GCC unroll 8
      for (size_t i = 0; i < Mr; ++i) acc[i][j] = hn::MulAdd(xv[i], wv, acc[i][j]);
    }
  }
  if (k < depth) {
    for (size_t i = 0; i < Mr; ++i) {
      const VF xv = LoadTail(x + i * x_stride + k, depth - k);
      for (size_t j = 0; j < Nr; ++j) {
        acc[i][j] = hn::MulAdd(xv, hn::Load(d, panel + k * Nr + j * kLanes), acc[i][j]);
      }
    }
  }
  for (size_t i = 0; i < Mr; ++i) {
    for (size_t j = 0; j < Nr; ++j) hn::Store(acc[i][j], d, memory + (i * Nr + j) * kLanes);
  }
}

template <typename T>
HWY_INLINE void PanelRows(const T* w, size_t cols, const float* x, size_t x_stride, size_t m, size_t n_begin,
                          size_t n_end, const MatMulOut& to) {
  constexpr size_t Nr = kTileCols;
  HWY_ALIGN float panel[kBlock * Nr];
  HWY_ALIGN float acc[kMaxPassRows * Nr * kLanes];
  for (size_t n = n_begin; n < n_end; n += Nr) {
    const size_t count = std::min(Nr, n_end - n);
    const T* rows[Nr];
    for (size_t j = 0; j < Nr; ++j) rows[j] = w + (n + std::min(j, count - 1)) * cols;
    for (size_t k = 0; k < cols; k += kBlock) {
      const size_t depth = std::min(kBlock, cols - k);
      PackPanel<Nr>(rows, k, depth, panel);
      for (size_t i = 0; i < m; i += kTileRows) {
        const float* at = x + i * x_stride + k;
        float* memory = acc + i * Nr * kLanes;
        switch (m - i) {
          case 1:
            PanelTile<1, Nr>(at, x_stride, depth, panel, k == 0, memory);
            break;
          case 2:
            PanelTile<2, Nr>(at, x_stride, depth, panel, k == 0, memory);
            break;
          default:
            PanelTile<kTileRows, Nr>(at, x_stride, depth, panel, k == 0, memory);
        }
      }
    }
    for (size_t i = 0; i < m; ++i) {
      VF sums[Nr];
      for (size_t j = 0; j < Nr; ++j) sums[j] = hn::Load(DF(), acc + (i * Nr + j) * kLanes);
      ReduceRow<Nr>(to, i, n, sums, count);
    }
  }
}

template <typename T>
HWY_INLINE void MatMulRows(const T* w, size_t cols, const float* x, size_t x_stride, size_t m, size_t n_begin,
                           size_t n_end, MatMulOut to) {
  if (m == 1) return DirectRows<1>(w, cols, x, x_stride, n_begin, n_end, to);
  if (m == 2) return DirectRows<2>(w, cols, x, x_stride, n_begin, n_end, to);
  if (m == 3) return DirectRows<3>(w, cols, x, x_stride, n_begin, n_end, to);
  const size_t fitting = kPassBytes / (cols * sizeof(float) * kTileRows) * kTileRows;
  const size_t pass = std::clamp(fitting, 8 * kTileRows, kMaxPassRows);
  while (m > 0) {
    const size_t rows = std::min(m, pass);
    PanelRows(w, cols, x, x_stride, rows, n_begin, n_end, to);
    x += rows * x_stride;
    to.out += rows * to.stride;
    m -= rows;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvrm::cpu
HWY_AFTER_NAMESPACE();

#endif  // KVRM_CPU_MATMUL_INL_H_
