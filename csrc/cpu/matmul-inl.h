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

HWY_INLINE float ValueAt(const Weight& w, size_t n) {
  float value = 0;
  KVRM_WITH_DTYPE(w.dtype, value = hn::GetLane(LoadTail(static_cast<const T*>(w.data) + n, 1)));
  return value;
}

// Nr columns of w from n on, `apart` from each other, as far as n_end goes.
template <size_t Nr, typename T>
struct Columns {
  Columns(const T* w, size_t cols, size_t n, size_t apart, size_t n_end, const Weight* bias_weight)
      : n(n), apart(apart), count(std::min(Nr, (n_end - n + apart - 1) / apart)), has_bias(bias_weight != nullptr) {
    // Columns past the end repeat the last one and are not written.
    for (size_t j = 0; j < Nr; ++j) rows[j] = w + (n + std::min(j, count - 1) * apart) * cols;
    if (!has_bias) return;
    for (size_t j = 0; j < count; ++j) bias[j] = ValueAt(*bias_weight, n + j * apart);
  }

  size_t n;
  size_t apart;
  size_t count;
  bool has_bias;
  const T* rows[Nr];
  float bias[Nr];
};

// Reduces one row's accumulators [Nr] and writes them.
template <size_t Nr, typename T>
HWY_INLINE void Finish(const MatMulOut& to, size_t row, const Columns<Nr, T>& w, const VF* acc) {
  float sums[Nr];
  for (size_t j = 0; j < Nr; j += 4) Reduce4(acc[j], acc[j + 1], acc[j + 2], acc[j + 3], 1.0f, sums + j);
  if (w.has_bias) {
    for (size_t j = 0; j < w.count; ++j) sums[j] += w.bias[j];
  }
  float* out = to.out + row * to.stride + w.n;
  if (to.add) {
    for (size_t j = 0; j < w.count; ++j) out[j * w.apart] += sums[j];
  } else {
    for (size_t j = 0; j < w.count; ++j) out[j * w.apart] = sums[j];
  }
}

// A tall tile for m above kTileRows: 24 accumulators again, and a conversion of w serves six rows.
constexpr size_t kTallRows = kTileCols == 8 ? 6 : 3;
// Up to this m, converting w once per group of rows costs less than writing it to a panel.
constexpr size_t kMaxDirectRows = 24;

// Asks for the rows that follow w [Nr] in memory, evenly over the steps of k: whoever calls it in each step of
// one pass over w has asked for each line of the next pass once. Past a tensor's end it asks for nothing that
// is used; a prefetch cannot fault.
template <size_t Nr, typename T>
HWY_INLINE void PrefetchNext(const T* const* w, size_t cols, size_t step) {
  constexpr size_t kLine = 64;
  constexpr size_t kStepBytes = Nr * kLanes * sizeof(T);  // that a step of k reads
  if constexpr (kStepBytes >= kLine) {
    constexpr size_t kLines = kStepBytes / kLine;
#pragma GCC unroll 8
    for (size_t i = 0; i < kLines; ++i) {
      const size_t at = step * kLines + i;
      __builtin_prefetch(reinterpret_cast<const uint8_t*>(w[at % Nr] + cols) + at / Nr * kLine, 0, 2);
    }
  }
}

// A few rows of x against Nr rows of w as they lie in memory, all of k. For small m. With Next it has the rows
// behind them fetched meanwhile: in a pass that finds w in the cache memory would idle, and in others it would begin
// anew with each page.
//   x [Mr, cols], w [Nr] pointers to rows of cols
template <size_t Mr, size_t Nr, bool Next, typename T>
HWY_INLINE void DirectTile(const float* x, size_t x_stride, const T* const* w, size_t cols, VF (&acc)[Mr][Nr]) {
  const DF d;
  for (size_t i = 0; i < Mr; ++i) {
    for (size_t j = 0; j < Nr; ++j) acc[i][j] = hn::Zero(d);
  }
  size_t k = 0;
  for (; k + kLanes <= cols; k += kLanes) {
    if constexpr (Next) PrefetchNext<Nr>(w, cols, k / kLanes);
    VF xv[Mr];
#pragma GCC unroll 8
    for (size_t i = 0; i < Mr; ++i) xv[i] = hn::LoadU(d, x + i * x_stride + k);
#pragma GCC unroll 8
    for (size_t j = 0; j < Nr; ++j) {
      const VF wv = InRegister(LoadF32(w[j] + k));
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

template <size_t Mr, size_t Nr, typename T>
HWY_INLINE void DirectBlock(const float* x, size_t x_stride, size_t row, size_t cols, const Columns<Nr, T>& columns,
                            bool last, const MatMulOut& to) {
  VF acc[Mr][Nr];
  if (last) {
    DirectTile<Mr, Nr, true>(x + row * x_stride, x_stride, columns.rows, cols, acc);
  } else {
    DirectTile<Mr, Nr, false>(x + row * x_stride, x_stride, columns.rows, cols, acc);
  }
  for (size_t i = 0; i < Mr; ++i) Finish(to, row + i, columns, acc[i]);
}

// m rows in even groups of at most MaxMr, against columns [n_begin, n_end).
//
// w comes from memory once, by the hardware's prefetcher, which follows a few long streams best: so the Nr
// columns of a tile are the next of Nr equal parts of the range, each read from its first byte to its last.
// Neighbouring columns would be Nr streams that end after one row each, which took half the bandwidth away
// where rows are short (docs/notes/cpu.md).
template <size_t MaxMr, size_t Nr, typename T>
HWY_INLINE void DirectRows(const T* w, size_t cols, const float* x, size_t x_stride, size_t m, size_t n_begin,
                           size_t n_end, const MatMulOut& to) {
  const size_t groups = (m + MaxMr - 1) / MaxMr;
  const size_t part = (n_end - n_begin + Nr - 1) / Nr;
  for (size_t n = n_begin; n < n_begin + part; ++n) {
    const Columns<Nr, T> columns(w, cols, n, part, n_end, to.bias);
    for (size_t group = 0, row = 0; group < groups; ++group) {
      const size_t next = m * (group + 1) / groups;
      const bool last = next == m;
      switch (next - row) {
        case 6:
          if constexpr (MaxMr >= 6) DirectBlock<6>(x, x_stride, row, cols, columns, last, to);
          break;
        case 5:
          if constexpr (MaxMr >= 5) DirectBlock<5>(x, x_stride, row, cols, columns, last, to);
          break;
        case 4:
          if constexpr (MaxMr >= 4) DirectBlock<4>(x, x_stride, row, cols, columns, last, to);
          break;
        case 3:
          DirectBlock<3>(x, x_stride, row, cols, columns, last, to);
          break;
        case 2:
          DirectBlock<2>(x, x_stride, row, cols, columns, last, to);
          break;
        default:
          DirectBlock<1>(x, x_stride, row, cols, columns, last, to);
      }
      row = next;
    }
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

// Part of a product of Mr rows with one panel.
struct PanelPart {
  const float* x;  // [Mr, depth]
  size_t x_stride;
  size_t depth;
  const float* panel;
  float* acc;  // [Mr][Nr][L], between blocks of k
  bool first;  // of the blocks of k
  bool last;
};

template <size_t Mr, size_t Nr, typename T>
HWY_INLINE void PanelTile(const PanelPart& part, size_t row, const Columns<Nr, T>& columns, const MatMulOut& to) {
  const DF d;
  const float* HWY_RESTRICT x = part.x + row * part.x_stride;
  const float* HWY_RESTRICT panel = part.panel;
  float* HWY_RESTRICT memory = part.acc + row * Nr * kLanes;
  const size_t x_stride = part.x_stride, depth = part.depth;
  VF acc[Mr][Nr];
  if (part.first) {
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
    for (size_t i = 0; i < Mr; ++i) {
      xv[i] = hn::LoadU(d, x + i * x_stride + k);
    }
#pragma GCC unroll 8
    for (size_t j = 0; j < Nr; ++j) {
      const VF wv = InRegister(hn::Load(d, panel + k * Nr + j * kLanes));
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
  if (part.last) {
    for (size_t i = 0; i < Mr; ++i) Finish(to, row + i, columns, acc[i]);
  } else {
    for (size_t i = 0; i < Mr; ++i) {
      for (size_t j = 0; j < Nr; ++j) hn::Store(acc[i][j], d, memory + (i * Nr + j) * kLanes);
    }
  }
}

// What the panel after this one will be made of, asked for bit by bit while this one is multiplied: packing alone
// would leave memory idle for the rest of the time.
template <size_t Nr, typename T>
class NextPanel {
 public:
  // rows [Nr] from k on, or where they end there, the Nr rows behind them.
  NextPanel(const T* const* rows, size_t cols, size_t k, size_t tiles) : tiles_(tiles) {
    const bool same = k < cols;
    for (size_t j = 0; j < Nr; ++j)
      from_[j] = reinterpret_cast<const uint8_t*>(same ? rows[j] + k : rows[j] + Nr * cols);
    lines_ = (std::min(kBlock, same ? cols - k : cols) * sizeof(T) + 63) / 64;
  }

  void AfterTile() {
    const size_t end = ++tile_ * lines_ / tiles_;
    for (; line_ < end; ++line_) {
      for (size_t j = 0; j < Nr; ++j) hwy::Prefetch(from_[j] + line_ * 64);
    }
  }

 private:
  const uint8_t* from_[Nr];
  size_t lines_, tiles_, tile_ = 0, line_ = 0;
};

template <size_t Nr, typename T>
HWY_INLINE void PanelRows(const T* w, size_t cols, const float* x, size_t x_stride, size_t m, size_t n_begin,
                          size_t n_end, const MatMulOut& to) {
  HWY_ALIGN float panel[kBlock * Nr];
  HWY_ALIGN float acc[kMaxPassRows * Nr * kLanes];
  for (size_t n = n_begin; n < n_end; n += Nr) {
    const Columns<Nr, T> columns(w, cols, n, 1, n_end, to.bias);
    for (size_t k = 0; k < cols; k += kBlock) {
      const size_t depth = std::min(kBlock, cols - k);
      PackPanel<Nr>(columns.rows, k, depth, panel);
      const PanelPart part{x + k, x_stride, depth, panel, acc, k == 0, k + depth == cols};
      NextPanel<Nr, T> next(columns.rows, cols, k + depth, std::max<size_t>(1, m / kTileRows));
      size_t i = 0;
      for (; i + kTileRows <= m; i += kTileRows) {
        PanelTile<kTileRows>(part, i, columns, to);
        next.AfterTile();
      }
      if (m - i == 2) PanelTile<2>(part, i, columns, to);
      if (m - i == 1) PanelTile<1>(part, i, columns, to);
    }
  }
}

template <typename T>
HWY_INLINE void MatMulRows(const T* w, size_t cols, const float* x, size_t x_stride, size_t m, size_t n_begin,
                           size_t n_end, const MatMulOut& to) {
  constexpr size_t Nr = kTileCols;
  if (m <= kMaxDirectRows) return DirectRows<kTallRows, 4>(w, cols, x, x_stride, m, n_begin, n_end, to);
  const size_t fitting = std::clamp(kPassBytes / (cols * sizeof(float)), 8 * kTileRows, kMaxPassRows);
  const size_t passes = (m + fitting - 1) / fitting;
  for (size_t pass = 0, row = 0; pass < passes; ++pass) {
    const size_t next = m * (pass + 1) / passes;
    PanelRows<Nr>(w, cols, x + row * x_stride, x_stride, next - row, n_begin, n_end,
                  {to.bias, to.out + row * to.stride, to.stride, to.add});
    row = next;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvrm::cpu
HWY_AFTER_NAMESPACE();

#endif  // KVRM_CPU_MATMUL_INL_H_
