// attention_far-inl.h - attention over summary rows: one split of its own, by the loops of attention-inl.h.
//
// Of a row that stands for a single token every number below is that of the exact token in the same place, bit
// for bit: the product is the same chains, the bound runs over the same numbers in the same order, and softmax
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

// A tile of the rows, each array [head_dim][kTileTokens].
struct FarTile {
  HWY_ALIGN float variances[kTileTokens * kMaxHeadDim];
  HWY_ALIGN float lows[kTileTokens * kMaxHeadDim];
  HWY_ALIGN float highs[kTileTokens * kMaxHeadDim];
};

// scores [kTileTokens]: products times scale 1, in; what the first `end` rows score, out. Both sums run in the order of
// a score.
HWY_INLINE void ScoreFar(const FarTile& tile, const float* q, size_t dim, float scale, const float* log_counts,
                         uint32_t end, float* HWY_RESTRICT scores) {
  const DF d;
  HWY_ALIGN float spreads[kTileTokens], bounds[kTileTokens];
  for (size_t t = 0; t < kTileTokens; t += kLanes) {
    VF spread[2] = {hn::Zero(d), hn::Zero(d)}, bound[2] = {hn::Zero(d), hn::Zero(d)};
    for (size_t n = 0; n < dim; ++n) {
      const size_t at = n * kTileTokens + t;
      const VF qv = hn::Set(d, q[n]);
      spread[n % 2] = hn::MulAdd(hn::Mul(qv, qv), hn::Load(d, tile.variances + at), spread[n % 2]);
      bound[n % 2] = hn::MulAdd(qv, hn::Load(d, (q[n] > 0 ? tile.highs : tile.lows) + at), bound[n % 2]);
    }
    hn::Store(hn::Add(spread[0], spread[1]), d, spreads + t);
    hn::Store(hn::Add(bound[0], bound[1]), d, bounds + t);
  }
  for (uint32_t r = 0; r < end; ++r) scores[r] = FarScore(scores[r], spreads[r], bounds[r], scale, log_counts[r]);
}

// At most kBatch queries over the rows.
HWY_INLINE void AttendFarBatch(const FarView& far, float scale, const float* q, size_t q_stride, uint32_t count,
                               Partial* partials, float* out, size_t out_stride) {
  HWY_ALIGN float scores[kBatch * kSplitTokens];
  HWY_ALIGN float acc[kBatch * kMaxHeadDim];
  Seen seen[kBatch];
  std::fill(seen, seen + count, Seen{0, far.rows});
  std::fill(acc, acc + count * far.stride, 0.0f);
  HWY_ALIGN float keys[kTileTokens * kMaxHeadDim];
  HWY_ALIGN float interleaved[kBatch * kMaxHeadDim];
  InterleaveQueries(q, q_stride, count, far.head_dim, interleaved);
  const Ahead none = {reinterpret_cast<const uint8_t*>(q), 0};
  FarTile tile;
  for (uint32_t place = 0; place < far.rows; place += kTileTokens) {
    const uint32_t end = std::min(far.rows - place, uint32_t{kTileTokens});
    const size_t first = size_t{place} * far.stride;
    TransposeKeys(far.at.keys + first, far.stride, far.head_dim, end, none, keys);
    TransposeKeys(far.at.variances + first, far.stride, far.head_dim, end, none, tile.variances);
    TransposeKeys(far.at.lows + first, far.stride, far.head_dim, end, none, tile.lows);
    TransposeKeys(far.at.highs + first, far.stride, far.head_dim, end, none, tile.highs);
    ScoreQueries(interleaved, count, far.head_dim, 1.0f, keys, none, scores + place);
    for (uint32_t i = 0; i < count; ++i) {
      ScoreFar(tile, q + i * q_stride, far.head_dim, scale, far.at.log_counts + place, end,
               scores + i * kSplitTokens + place);
    }
  }
  for (uint32_t i = 0; i < count; ++i) partials[i] = Softmax(seen[i], scores + i * kSplitTokens);
  for (uint32_t place = 0; place < far.rows; place += kTileTokens) {
    OutQueries(seen, count, place, scores + place, far.at.values + size_t{place} * far.stride, far.stride, none, acc);
  }
  for (uint32_t i = 0; i < count; ++i) {
    std::memcpy(out + i * out_stride, acc + i * far.stride, far.head_dim * sizeof(float));
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvrm::cpu
HWY_AFTER_NAMESPACE();

#endif  // KVRM_CPU_ATTENTION_FAR_INL_H_
