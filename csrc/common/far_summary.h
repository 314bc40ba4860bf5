// far_summary.h - the arithmetic of summary rows, one number at a time: what a block's keys and values become,
// how two rows become one, what a row scores. Shared by the host and a device.
//
// A row stands for m tokens by the first two moments of their keys and the mean of their values. The sum of
// exp(s q.k) over them is m times the moment generating function of k at s q, whose logarithm begins
// s q.mean + s^2 / 2 q' cov q; of the covariance the diagonal is kept. No term of the sum is larger than what
// the greatest and least value in each dimension allow, so that their mean is not either.
#ifndef KVRM_COMMON_FAR_SUMMARY_H_
#define KVRM_COMMON_FAR_SUMMARY_H_

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "shared_fn.h"

namespace kvrm {

// Where one slot's rows of one layer and KV head lie: f32 means of K [rows][stride], means of V, variances, least
// and greatest values of K, the same, then counts [rows] and their logarithms [rows]. Elements beyond head_dim
// stay 0, so that vectors may run over the end.
struct FarRows {
  float* keys;
  float* values;
  float* variances;
  float* lows;
  float* highs;
  float* counts;
  float* log_counts;
};

KVRM_SHARED_FN uint32_t FarStride(uint32_t head_dim) { return (head_dim + 15) / 16 * 16; }

// Numbers of one row, and of one FarRows.
KVRM_SHARED_FN size_t FarRowFloats(uint32_t head_dim) { return 5 * size_t{FarStride(head_dim)} + 2; }
KVRM_SHARED_FN size_t FarFloats(uint32_t head_dim, uint32_t rows) { return rows * FarRowFloats(head_dim); }

KVRM_SHARED_FN FarRows FarRowsAt(float* base, uint32_t head_dim, uint32_t rows) {
  const size_t matrix = size_t{rows} * FarStride(head_dim);
  float* counts = base + 5 * matrix;
  return {base, base + matrix, base + 2 * matrix, base + 3 * matrix, base + 4 * matrix, counts, counts + rows};
}

// One dimension of keys while tokens are added (Welford, Technometrics 1962): equal numbers give their own bits
// as the mean, and no variance.
struct FarMoments {
  float mean, squares;  // squares: of the distances from the mean, summed
  float low, high;
};

// The token at index `before` of those that are added, ascending. inverse: 1 / (before + 1).
KVRM_SHARED_FN void AddKey(float x, uint32_t before, float inverse, FarMoments& m) {
  if (before == 0) {
    m = {x, 0.0f, x, x};
    return;
  }
  const float from = RoundedSub(x, m.mean);
  m.mean = RoundedAdd(m.mean, RoundedMul(from, inverse));
  m.squares = RoundedAdd(m.squares, RoundedMul(from, RoundedSub(x, m.mean)));
  m.low = x < m.low ? x : m.low;
  m.high = x > m.high ? x : m.high;
}

KVRM_SHARED_FN float AddValue(float x, uint32_t before, float inverse, float mean) {
  return before == 0 ? x : RoundedAdd(mean, RoundedMul(RoundedSub(x, mean), inverse));
}

// What two rows of a and b tokens merge with: the second's share of the mean, and of the pooled variance what
// the distance of the means adds (Chan, Golub, LeVeque, 1979).
struct FarWeights {
  float share_a, share_b;  // of the tokens
  float between;           // share_a * share_b
};

KVRM_SHARED_FN FarWeights WeighRows(float a, float b) {
  const float all = RoundedAdd(a, b);
  const float share_a = RoundedDiv(a, all), share_b = RoundedDiv(b, all);
  return {share_a, share_b, RoundedMul(share_a, share_b)};
}

KVRM_SHARED_FN float MergeMeans(float a, float b, const FarWeights& w) {
  return RoundedAdd(a, RoundedMul(RoundedSub(b, a), w.share_b));
}

KVRM_SHARED_FN float MergeVariances(float mean_a, float a, float mean_b, float b, const FarWeights& w) {
  const float apart = RoundedSub(mean_b, mean_a);
  const float within = RoundedAdd(RoundedMul(a, w.share_a), RoundedMul(b, w.share_b));
  return RoundedAdd(within, RoundedMul(RoundedMul(apart, apart), w.between));
}

// What a row scores. product: q.mean; spread: sum of q^2 variance; bound: sum of the larger of q low and q high;
// each summed over head_dim in the order of an exact score. Of a single token it is that token's exact score:
// spread and the logarithm are 0, and the bound is the product.
KVRM_SHARED_FN float FarScore(float product, float spread, float bound, float scale, float log_count) {
  const float second = RoundedMul(RoundedMul(RoundedMul(0.5f, scale), scale), spread);
  const float mean = RoundedAdd(RoundedMul(product, scale), second);
  const float most = RoundedMul(bound, scale);
  return RoundedAdd(mean < most ? mean : most, log_count);
}

KVRM_SHARED_FN float FarLogCount(float count) { return logf(count); }

}  // namespace kvrm
#endif  // KVRM_COMMON_FAR_SUMMARY_H_
