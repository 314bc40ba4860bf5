// attention_far-inl.h - attention over summary rows: one split of its own, by the loops of attention-inl.h.
//
// Of a row that stands for a single token every number below is that of the exact token in the same place, bit
// for bit: the product is the same chain, the bound runs over the same vectors in the same order, and softmax
// and output are the same code.

#if defined(KVRM_CPU_ATTENTION_FAR_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVRM_CPU_ATTENTION_FAR_INL_H_
#undef KVRM_CPU_ATTENTION_FAR_INL_H_
#else
#define KVRM_CPU_ATTENTION_FAR_INL_H_
#endif

#include "../common/far_summary.h"
#include "attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvrm::cpu {
namespace HWY_NAMESPACE {

// Two sums of one query over one row, both in the order of a score.
struct FarSums {
  VF spread, bound;
};

HWY_INLINE void AddFar(VF q, VF variance, VF low, VF high, FarSums& sums) {
  sums.spread = hn::MulAdd(hn::Mul(q, q), variance, sums.spread);
  sums.bound = hn::MulAdd(q, hn::IfThenElse(hn::Gt(q, hn::Zero(DF())), high, low), sums.bound);
}

HWY_INLINE FarSums SumFar(const float* HWY_RESTRICT q, size_t dim, const float* HWY_RESTRICT variances,
                          const float* HWY_RESTRICT lows, const float* HWY_RESTRICT highs) {
  const DF d;
  FarSums sums = {hn::Zero(d), hn::Zero(d)};
  size_t n = 0;
  for (; n + kLanes <= dim; n += kLanes) {
    AddFar(hn::LoadU(d, q + n), hn::LoadU(d, variances + n), hn::LoadU(d, lows + n), hn::LoadU(d, highs + n), sums);
  }
  if (n < dim) {
    AddFar(LoadTail(q + n, dim - n), LoadTail(variances + n, dim - n), LoadTail(lows + n, dim - n),
           LoadTail(highs + n, dim - n), sums);
  }
  return sums;
}

// scores [rows]: products times scale 1, in; what the rows score, out.
HWY_INLINE void ScoreFar(const FarView& far, const float* q, float scale, float* HWY_RESTRICT scores) {
  for (uint32_t r = 0; r < far.rows; r += 2) {
    const uint32_t s = std::min(r + 1, far.rows - 1);
    const size_t at = size_t{r} * far.stride, next = size_t{s} * far.stride;
    const FarSums a = SumFar(q, far.head_dim, far.at.variances + at, far.at.lows + at, far.at.highs + at);
    const FarSums b = SumFar(q, far.head_dim, far.at.variances + next, far.at.lows + next, far.at.highs + next);
    float sums[4];
    Reduce4(a.spread, a.bound, b.spread, b.bound, 1.0f, sums);
    const float product = scores[s];
    scores[r] = FarScore(scores[r], sums[0], sums[1], scale, far.at.log_counts[r]);
    if (s != r) scores[s] = FarScore(product, sums[2], sums[3], scale, far.at.log_counts[s]);
  }
}

// At most kBatch queries over the rows.
HWY_INLINE void AttendFarBatch(const FarView& far, float scale, const float* q, size_t q_stride, uint32_t count,
                               Partial* partials, float* out, size_t out_stride) {
  HWY_ALIGN float scores[kBatch * kSplitTokens];
  HWY_ALIGN float acc[kBatch * kMaxHeadDim];
  Seen seen[kBatch];
  std::fill(seen, seen + count, Seen{0, far.rows});
  std::fill(acc, acc + count * far.stride, 0.0f);
  for (uint32_t place = 0; place < far.rows; place += kTileTokens) {
    const uint32_t end = std::min(far.rows - place, uint32_t{kTileTokens});
    ScoreQueries(q, q_stride, count, far.head_dim, far.stride, 1.0f, far.at.keys + size_t{place} * far.stride, 0, end,
                 scores + place);
  }
  for (uint32_t i = 0; i < count; ++i) {
    ScoreFar(far, q + i * q_stride, scale, scores + i * kSplitTokens);
    partials[i] = Softmax(seen[i], scores + i * kSplitTokens);
  }
  for (uint32_t place = 0; place < far.rows; place += kTileTokens) {
    OutQueries(seen, count, place, scores + place, far.at.values + size_t{place} * far.stride, far.stride, acc);
  }
  for (uint32_t i = 0; i < count; ++i) {
    std::memcpy(out + i * out_stride, acc + i * far.stride, far.head_dim * sizeof(float));
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvrm::cpu
HWY_AFTER_NAMESPACE();

#endif  // KVRM_CPU_ATTENTION_FAR_INL_H_
