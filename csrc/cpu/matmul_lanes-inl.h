// matmul_lanes-inl.h - the inner loops of MatMul for weights in BF16 with AVX-512, in place of matmul-inl.h.
//
// Outputs lie in lanes: rows of w are transposed on the way, a few of them and a short piece of k at a time, into a
// panel in the first cache, and each number of x multiplies a vector of it. Weights stay as they are in the file,
// nothing is added up across lanes, and a row of x is read as it is.
// With AVX2 that is slower, and so are a few rows with F16, which has to be widened in full (docs/notes/cpu.md).
//
// Every output element is the sum of two chains, one over the even k and one over the odd k, ascending. All loops below
// compute those, so a row's bits do not depend on m or on how n is cut.

#if defined(KVRM_CPU_MATMUL_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVRM_CPU_MATMUL_LANES_INL_H_
#undef KVRM_CPU_MATMUL_LANES_INL_H_
#else
#define KVRM_CPU_MATMUL_LANES_INL_H_
#endif

#include <algorithm>

#include "../common/convert.h"
#include "matmul-inl.h"
#include "transpose-inl.h"

#if HWY_TARGET == HWY_AVX3
HWY_BEFORE_NAMESPACE();
namespace kvrm::cpu {
namespace HWY_NAMESPACE {
namespace lanes {

// A panel is [kDepth][kOutputs] of f32: 16 KiB at most.
constexpr size_t kGroups = 2;  // vectors of outputs
constexpr size_t kOutputs = kGroups * kLanes;
constexpr size_t kDepth = 128;
// Rows of x that are multiplied together: 24 sums, two vectors of the panel and one of x fit 32 registers.
constexpr size_t kTileRows = 6;
// Up to so many rows of x meet the transposed weights in registers.
constexpr size_t kFewRows = 8;
// Rows of x per pass over w: bounded by the sums' buffer, and by x staying in the second cache.
constexpr size_t kMaxPassRows = 192;
constexpr size_t kPassBytes = 1 << 20;

// The rows of w that a panel is made of, kOutputs of them from `first` on; outputs [begin, end) are wanted of them.
template <typename T>
struct PanelRows {
  const T* rows;
  size_t cols;
  size_t first, begin, end;
  size_t count;  // rows there are, at most kOutputs
};

// What is asked for in the second cache while a panel is multiplied: a line of each of the rows in turn, then the next
// line of each, so that the pages they lie in are all fetched from at once.
struct PanelAhead {
  const uint8_t* rows;
  size_t row_bytes;
  uint32_t lines;  // in all
  uint32_t next;

  HWY_INLINE void Ask() {
    if (next >= lines) return;
    __builtin_prefetch(rows + next % kOutputs * row_bytes + next / kOutputs * 64, 0, 2);
    ++next;
  }
};

// Asks for what lies a fixed distance behind what is loaded.
struct AskBehind {
  ptrdiff_t bytes;
  template <typename T>
  HWY_INLINE void operator()(const T* p) const {
    __builtin_prefetch(reinterpret_cast<const uint8_t*>(p) + bytes, 0, 2);
  }
};

// [k, k + depth) of the rows to panel [depth][kOutputs].
template <typename T>
HWY_NOINLINE void PackPanel(const PanelRows<T>& w, size_t k, size_t depth, float* HWY_RESTRICT panel) {
  if (HWY_LIKELY(w.count == kOutputs)) return TransposeRows<kOutputs>(w.rows + k, w.cols, depth, AskNothing(), panel);
  // A matrix of few rows: the last one repeats.
  HWY_ALIGN T copy[kOutputs * kDepth];
  for (size_t n = 0; n < kOutputs; ++n) {
    std::memcpy(copy + n * kDepth, w.rows + std::min(n, w.count - 1) * w.cols + k, depth * sizeof(T));
  }
  TransposeRows<kOutputs>(copy, kDepth, depth, AskNothing(), panel);
}

// The same as a panel and a tile of Mr rows of x, without the panel: for few rows of x.
template <size_t Mr, typename T>
HWY_NOINLINE void FewRows(const PanelRows<T>& w, size_t k, size_t depth, AskBehind ask, const float* HWY_RESTRICT x,
                          size_t x_stride, bool first, float* HWY_RESTRICT memory) {
  const DF d;
  for (size_t g = 0; g < kGroups; ++g) {
    VF acc[2][Mr];
#pragma GCC unroll 8
    for (size_t i = 0; i < Mr; ++i) {
      const float* sums = memory + (i * 2 * kGroups + g) * kLanes;
      acc[0][i] = first ? hn::Zero(d) : hn::Load(d, sums);
      acc[1][i] = first ? hn::Zero(d) : hn::Load(d, sums + kGroups * kLanes);
    }
    ForEachTransposed(w.rows + g * kLanes * w.cols + k, w.cols, depth, ask,
                      [&](size_t at, size_t parity, VF v) HWY_ATTR {
#pragma GCC unroll 8
                        for (size_t i = 0; i < Mr; ++i) {
                          acc[parity][i] = hn::MulAdd(hn::Set(DF(), x[i * x_stride + at]), v, acc[parity][i]);
                        }
                      });
#pragma GCC unroll 8
    for (size_t i = 0; i < Mr; ++i) {
      float* sums = memory + (i * 2 * kGroups + g) * kLanes;
      hn::Store(acc[0][i], d, sums);
      hn::Store(acc[1][i], d, sums + kGroups * kLanes);
    }
  }
}

// sums [Mr][2 chains][kGroups] += x [Mr, depth] * panel. In memory between panels.
template <size_t Mr>
HWY_NOINLINE void PanelTile(const float* HWY_RESTRICT x, size_t x_stride, size_t depth, const float* HWY_RESTRICT panel,
                            bool first, size_t ask_lines, PanelAhead& ahead, float* HWY_RESTRICT memory) {
  const DF d;
  VF even[Mr][kGroups], odd[Mr][kGroups];
#pragma GCC unroll 8
  for (size_t i = 0; i < Mr; ++i) {
#pragma GCC unroll 8
    for (size_t g = 0; g < kGroups; ++g) {
      const float* sums = memory + (i * 2 * kGroups + g) * kLanes;
      even[i][g] = first ? hn::Zero(d) : hn::Load(d, sums);
      odd[i][g] = first ? hn::Zero(d) : hn::Load(d, sums + kGroups * kLanes);
    }
  }
  const auto add = [x_stride](const float* HWY_RESTRICT xk, const float* HWY_RESTRICT wk, VF(&acc)[Mr][kGroups])
                       HWY_ATTR {
                         VF wv[kGroups];
#pragma GCC unroll 8
                         for (size_t g = 0; g < kGroups; ++g) wv[g] = InRegister(hn::Load(DF(), wk + g * kLanes));
#pragma GCC unroll 8
                         for (size_t i = 0; i < Mr; ++i) {
                           const VF xv = hn::Set(DF(), xk[i * x_stride]);
#pragma GCC unroll 8
                           for (size_t g = 0; g < kGroups; ++g) acc[i][g] = hn::MulAdd(xv, wv[g], acc[i][g]);
                         }
                       };
  size_t k = 0;
  for (; k + 2 <= depth; k += 2) {
    for (size_t line = 0; line < ask_lines; ++line) ahead.Ask();
    add(x + k, panel + k * kOutputs, even);
    add(x + k + 1, panel + (k + 1) * kOutputs, odd);
  }
  if (k < depth) add(x + k, panel + k * kOutputs, even);
#pragma GCC unroll 8
  for (size_t i = 0; i < Mr; ++i) {
#pragma GCC unroll 8
    for (size_t g = 0; g < kGroups; ++g) {
      float* sums = memory + (i * 2 * kGroups + g) * kLanes;
      hn::Store(even[i][g], d, sums);
      hn::Store(odd[i][g], d, sums + kGroups * kLanes);
    }
  }
}

// rows <= Mr of them.
template <size_t Mr>
HWY_INLINE void PanelTileOf(size_t rows, const float* x, size_t x_stride, size_t depth, const float* panel, bool first,
                            size_t ask_lines, PanelAhead& ahead, float* memory) {
  if (rows == Mr) {
    PanelTile<Mr>(x, x_stride, depth, panel, first, ask_lines, ahead, memory);
  } else if constexpr (Mr > 1) {
    PanelTileOf<Mr - 1>(rows, x, x_stride, depth, panel, first, ask_lines, ahead, memory);
  }
}

template <size_t Mr, typename T>
HWY_INLINE void FewRowsOf(size_t rows, const PanelRows<T>& w, size_t k, size_t depth, AskBehind ask, const float* x,
                          size_t x_stride, bool first, float* memory) {
  if (rows == Mr) {
    FewRows<Mr>(w, k, depth, ask, x, x_stride, first, memory);
  } else if constexpr (Mr > 1) {
    FewRowsOf<Mr - 1>(rows, w, k, depth, ask, x, x_stride, first, memory);
  }
}

// Writes the outputs of one row of x.
template <typename T>
HWY_INLINE void Finish(const MatMulOut& to, size_t row, const PanelRows<T>& w, const float* HWY_RESTRICT bias,
                       const float* HWY_RESTRICT memory) {
  const DF d;
  HWY_ALIGN float sums[kOutputs];
  for (size_t g = 0; g < kGroups; ++g) {
    const VF both = hn::Add(hn::Load(d, memory + g * kLanes), hn::Load(d, memory + (kGroups + g) * kLanes));
    hn::Store(to.bias == nullptr ? both : hn::Add(both, hn::Load(d, bias + g * kLanes)), d, sums + g * kLanes);
  }
  float* out = to.out + row * to.stride + w.begin;
  const float* from = sums + (w.begin - w.first);
  const size_t count = w.end - w.begin;
  if (to.add) {
    for (size_t n = 0; n < count; ++n) out[n] += from[n];
  } else {
    std::memcpy(out, from, count * sizeof(float));
  }
}

// Biases of the wanted outputs, in their places.
template <typename T>
HWY_INLINE void LoadBias(const Weight& bias, const PanelRows<T>& w, float* HWY_RESTRICT to) {
  std::fill(to, to + kOutputs, 0.0f);
  Widen(static_cast<const uint8_t*>(bias.data) + w.begin * ElementBytes(bias.dtype), w.end - w.begin, bias.dtype,
        to + (w.begin - w.first));
}

// At most kMaxPassRows rows of x.
template <typename T>
HWY_INLINE void MatMulPass(const Weight& weight, const float* x, size_t x_stride, size_t m, size_t n_begin,
                           size_t n_end, const MatMulOut& to) {
  HWY_ALIGN float panel[kDepth * kOutputs];
  HWY_ALIGN float sums[kMaxPassRows * 2 * kGroups * kLanes];
  HWY_ALIGN float bias[kOutputs];
  const size_t cols = weight.cols, row_bytes = cols * sizeof(T);
  const size_t tiles = (m + kTileRows - 1) / kTileRows;
  const bool few = m <= kFewRows;
  const size_t ask_lines = tiles == 1 ? 2 : 1;
  for (size_t n = n_begin; n < n_end; n += kOutputs) {
    // The last panel begins earlier rather than to end behind the matrix.
    const size_t first = std::min<size_t>(n, std::max<size_t>(weight.rows, kOutputs) - kOutputs);
    const PanelRows<T> w{
        static_cast<const T*>(weight.data) + first * cols, cols, first, n, std::min(n + kOutputs, n_end),
        std::min<size_t>(kOutputs, weight.rows - first)};
    if (to.bias != nullptr) LoadBias(*to.bias, w, bias);
    for (size_t k = 0; k < cols; k += kDepth) {
      const size_t depth = std::min(kDepth, cols - k);
      // What comes two panels later: of these rows, or of those behind them.
      const size_t later = k / kDepth + 2, panels = (cols + kDepth - 1) / kDepth;
      const size_t ahead_at = later < panels ? later * kDepth * sizeof(T)
                                             : kOutputs * row_bytes + (later - panels) % panels * kDepth * sizeof(T);
      const uint8_t* ahead_rows = reinterpret_cast<const uint8_t*>(w.rows) + ahead_at;
      PanelAhead ahead{ahead_rows, row_bytes, uint32_t(kOutputs * kDepth * sizeof(T) / 64), 0};
      if (few && w.count == kOutputs) {
        FewRowsOf<kFewRows>(m, w, k, depth, AskBehind{static_cast<ptrdiff_t>(ahead_at - k * sizeof(T))}, x + k,
                            x_stride, k == 0, sums);
        continue;
      }
      PackPanel(w, k, depth, panel);
      for (size_t tile = 0, row = 0; tile < tiles; ++tile) {
        const size_t next = m * (tile + 1) / tiles;
        PanelTileOf<kTileRows>(next - row, x + row * x_stride + k, x_stride, depth, panel, k == 0, ask_lines, ahead,
                               sums + row * 2 * kGroups * kLanes);
        row = next;
      }
    }
    for (size_t row = 0; row < m; ++row) Finish(to, row, w, bias, sums + row * 2 * kGroups * kLanes);
  }
}

template <typename T>
HWY_INLINE void MatMulRows(const Weight& w, const float* x, size_t x_stride, size_t m, size_t n_begin, size_t n_end,
                           const MatMulOut& to) {
  const size_t fitting = std::clamp(kPassBytes / (w.cols * sizeof(float)), 8 * kTileRows, kMaxPassRows);
  const size_t passes = (m + fitting - 1) / fitting;
  for (size_t pass = 0, row = 0; pass < passes; ++pass) {
    const size_t next = m * (pass + 1) / passes;
    MatMulPass<T>(w, x + row * x_stride, x_stride, next - row, n_begin, n_end,
                  {to.bias, to.out + row * to.stride, to.stride, to.add});
    row = next;
  }
}

}  // namespace lanes
}  // namespace HWY_NAMESPACE
}  // namespace kvrm::cpu
HWY_AFTER_NAMESPACE();
#endif

#endif  // KVRM_CPU_MATMUL_LANES_INL_H_
