// bf16_dot-inl.h - products with BF16 weights by an instruction that multiplies pairs of BF16 numbers and adds to
// f32, written against a small policy so that the same loops run on the instruction and on its emulation.
//
// Weights go in as they lie in memory. Activations are f32 and must not lose their precision: x = hi + lo, both
// BF16, leaves 2^-17 of x behind, and each weight is multiplied with both. The chain of an output element: one
// vector accumulator walks k in ascending steps of 32, first hi then lo, zeros beyond cols; then the lanes are added
// in one order. No loop below changes it.
//
// A policy has
//   Vector, Floats             32 BF16 numbers; 16 f32
//   Load(p), LoadTail(p, n)    32 numbers; n < 32 and zeros
//   Zero(), Dot(acc, a, b)     acc[l] += a[2 l + 1] b[2 l + 1] + a[2 l] b[2 l], one way for each l
//   Sum(acc)                   of the lanes
//   Split(x, n, hi, lo)        of n <= 32 numbers, zeros above
//   Prefetch(p)
#ifndef KVRM_CPU_BF16_DOT_INL_H_
#define KVRM_CPU_BF16_DOT_INL_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace kvrm::cpu {

constexpr size_t kBf16Step = 32;
// Rows of x in a group: with 8 columns 24 accumulators, 6 of x and 1 of w fit 32 registers.
constexpr size_t kBf16Rows = 3;
constexpr size_t kBf16Cols = 8;
// Of a pass: hi and lo of its rows wait on the stack.
constexpr size_t kBf16PassBytes = 256 << 10;
constexpr size_t kBf16PassRows = 24;
// So that four rows fit.
constexpr size_t kBf16MostCols = 16384;

struct Bf16Product {
  const uint16_t* w;  // [.., cols]
  size_t cols;
  const float* x;  // [m, cols], x_stride apart
  size_t x_stride;
  size_t m;
  float* out;  // [m, ..], out_stride apart
  size_t out_stride;
  size_t n_begin, n_end;
  const float* bias;  // of column n_begin on; null: none
  bool add;
};

// Rows [row, row + Mr) of a pass, split as [row][step][hi 32, lo 32], against columns n, n + part, ...
// With Next it has the rows behind them in memory fetched.
template <typename P, size_t Mr, bool Next>
inline void Bf16Tile(const Bf16Product& p, const uint16_t* split, size_t first_row, size_t n, size_t part) {
  constexpr size_t Nr = kBf16Cols;
  const size_t steps = (p.cols + kBf16Step - 1) / kBf16Step, whole = p.cols / kBf16Step;
  const uint16_t* rows[Nr];
  const size_t count = std::min(Nr, (p.n_end - n + part - 1) / part);
  for (size_t j = 0; j < Nr; ++j) rows[j] = p.w + (n + std::min(j, count - 1) * part) * p.cols;
  typename P::Floats acc[Mr][Nr];
  for (size_t i = 0; i < Mr; ++i) {
    for (size_t j = 0; j < Nr; ++j) acc[i][j] = P::Zero();
  }
  for (size_t step = 0; step < whole; ++step) {
    typename P::Vector hi[Mr], lo[Mr];
#pragma GCC unroll 4
    for (size_t i = 0; i < Mr; ++i) {
      const uint16_t* x = split + (i * steps + step) * 2 * kBf16Step;
      hi[i] = P::Load(x);
      lo[i] = P::Load(x + kBf16Step);
    }
#pragma GCC unroll 8
    for (size_t j = 0; j < Nr; ++j) {
      const uint16_t* from = rows[j] + step * kBf16Step;
      if constexpr (Next) P::Prefetch(from + p.cols);
      const typename P::Vector w = P::Load(from);
#pragma GCC unroll 4
      for (size_t i = 0; i < Mr; ++i) acc[i][j] = P::Dot(acc[i][j], hi[i], w);
#pragma GCC unroll 4
      for (size_t i = 0; i < Mr; ++i) acc[i][j] = P::Dot(acc[i][j], lo[i], w);
    }
  }
  if (whole < steps) {
#pragma GCC unroll 8
    for (size_t j = 0; j < Nr; ++j) {
      const typename P::Vector w = P::LoadTail(rows[j] + whole * kBf16Step, p.cols - whole * kBf16Step);
#pragma GCC unroll 4
      for (size_t i = 0; i < Mr; ++i) {
        const uint16_t* x = split + (i * steps + whole) * 2 * kBf16Step;
        acc[i][j] = P::Dot(P::Dot(acc[i][j], P::Load(x), w), P::Load(x + kBf16Step), w);
      }
    }
  }
#pragma GCC unroll 4
  for (size_t i = 0; i < Mr; ++i) {
    float sums[Nr];  // all of them, so that the accumulators stay in registers
#pragma GCC unroll 8
    for (size_t j = 0; j < Nr; ++j) sums[j] = P::Sum(acc[i][j]);
    float* out = p.out + (first_row + i) * p.out_stride + n;
    for (size_t j = 0; j < count; ++j) {
      if (p.bias != nullptr) sums[j] += p.bias[n - p.n_begin + j * part];
      out[j * part] = p.add ? out[j * part] + sums[j] : sums[j];
    }
  }
}

// Columns in long streams and the next ones fetched by the last group of rows, as DirectRows in matmul-inl.h.
template <typename P>
inline void Bf16Pass(const Bf16Product& p, size_t row, size_t count, uint16_t* split) {
  const size_t steps = (p.cols + kBf16Step - 1) / kBf16Step;
  for (size_t i = 0; i < count; ++i) {
    const float* x = p.x + (row + i) * p.x_stride;
    for (size_t step = 0; step < steps; ++step) {
      const size_t at = step * kBf16Step;
      uint16_t* to = split + (i * steps + step) * 2 * kBf16Step;
      P::Split(x + at, std::min(kBf16Step, p.cols - at), to, to + kBf16Step);
    }
  }
  const size_t part = (p.n_end - p.n_begin + kBf16Cols - 1) / kBf16Cols;
  const size_t groups = (count + kBf16Rows - 1) / kBf16Rows;
  for (size_t n = p.n_begin; n < p.n_begin + part; ++n) {
    for (size_t group = 0, at = 0; group < groups; ++group) {
      const size_t next = count * (group + 1) / groups;
      const uint16_t* x = split + at * steps * 2 * kBf16Step;
      const bool last = group != 0 && next == count;
      const size_t rows = next - at;
      if (rows == 3)
        last ? Bf16Tile<P, 3, true>(p, x, row + at, n, part) : Bf16Tile<P, 3, false>(p, x, row + at, n, part);
      if (rows == 2)
        last ? Bf16Tile<P, 2, true>(p, x, row + at, n, part) : Bf16Tile<P, 2, false>(p, x, row + at, n, part);
      if (rows == 1)
        last ? Bf16Tile<P, 1, true>(p, x, row + at, n, part) : Bf16Tile<P, 1, false>(p, x, row + at, n, part);
      at = next;
    }
  }
}

// p.cols at most kBf16MostCols.
template <typename P>
inline void Bf16MatMul(const Bf16Product& p) {
  alignas(64) uint16_t split[kBf16PassBytes / sizeof(uint16_t)];
  const size_t row_bytes = (p.cols + kBf16Step - 1) / kBf16Step * 2 * kBf16Step * sizeof(uint16_t);
  const size_t fitting = std::min(kBf16PassRows, kBf16PassBytes / row_bytes);
  const size_t passes = (p.m + fitting - 1) / fitting;
  for (size_t pass = 0, row = 0; pass < passes; ++pass) {
    const size_t next = p.m * (pass + 1) / passes;
    Bf16Pass<P>(p, row, next - row, split);
    row = next;
  }
}

}  // namespace kvrm::cpu
#endif  // KVRM_CPU_BF16_DOT_INL_H_
