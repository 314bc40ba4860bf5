// sampling-inl.h - the passes over the vocabulary that sampling needs, compiled once per SIMD target.
//
// The order of every sum is part of the contract, so that another backend can draw the same tokens:
// ids are cut into chunks of 256; in a chunk, lane j of 16 adds weights j, j + 16, j + 32, ... in f32;
// the lanes are halved (lane j + lane j + 8, then + 4, + 2, + 1); chunks are added in ascending order
// in f64. A token that a filter removed counts as weight 0. Top-p looks for its last token with weights
// rounded down to integers (Units in ops_sampling.cc), whose sums have no order.

#if defined(KVRM_CPU_SAMPLING_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVRM_CPU_SAMPLING_INL_H_
#undef KVRM_CPU_SAMPLING_INL_H_
#else
#define KVRM_CPU_SAMPLING_INL_H_
#endif

#include <algorithm>

#include "ops_sampling.h"
#include "vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvrm::cpu {
namespace HWY_NAMESPACE {

constexpr float kMinusInf = -std::numeric_limits<float>::infinity();
constexpr size_t kSumLanes = 16;                    // of a chunk, whatever the vectors' size
constexpr size_t kSumVectors = kSumLanes / kLanes;  // vectors that make up the lanes

HWY_INLINE float AddLanes(const VF* sums) {
  float lanes[kSumLanes];
  for (size_t j = 0; j < kSumVectors; ++j) hn::StoreU(sums[j], DF(), lanes + j * kLanes);
  for (size_t width = kSumLanes / 2; width > 0; width /= 2) {
    for (size_t j = 0; j < width; ++j) lanes[j] += lanes[j + width];
  }
  return lanes[0];
}

// The logits of one vector, NaN and places beyond the vocabulary as -inf.
HWY_INLINE VF LogitsAt(const float* logits, size_t n, size_t vocab) {
  const DF d;
  if (n >= vocab) return hn::Set(d, kMinusInf);
  VF v = LoadUpTo(logits + n, vocab - n);
  if (n + kLanes > vocab) {
    const VF place = hn::Iota(d, 0.0f);
    v = hn::IfThenElse(hn::Lt(place, hn::Set(d, static_cast<float>(vocab - n))), v, hn::Set(d, kMinusInf));
  }
  return hn::IfThenElse(hn::IsNaN(v), hn::Set(d, kMinusInf), v);
}

// The maximum of each chunk, and over all.
float ChunkMaxima(const float* logits, uint32_t vocab, float* maxima) {
  const DF d;
  float all = kMinusInf;
  for (size_t begin = 0; begin < vocab; begin += kChunk) {
    VF top = hn::Set(d, kMinusInf);
    for (size_t n = begin; n < begin + kChunk; n += kLanes) top = hn::Max(top, LogitsAt(logits, n, vocab));
    const float max = hn::GetLane(hn::MaxOfLanes(d, top));
    if (maxima != nullptr) maxima[begin / kChunk] = max;
    all = std::max(all, max);
  }
  return all;
}

// weights[n] = exp((logits[n] - max) * inverse_temperature), 1 at the maximum itself (where an infinite
// factor or logit would give NaN), up to a whole number of chunks; weights may be null. sums: of each
// chunk, may be null. Returns the sum of all.
double Weigh(const float* logits, uint32_t vocab, float max, float inverse_temperature, float* weights, float* sums) {
  const DF d;
  const VF top = hn::Set(d, max);
  const VF factor = hn::Set(d, inverse_temperature);
  double total = 0;
  for (size_t begin = 0; begin < vocab; begin += kChunk) {
    VF acc[kSumVectors];
    for (VF& v : acc) v = hn::Zero(d);
    for (size_t n = begin; n < begin + kChunk; n += kSumLanes) {
      for (size_t j = 0; j < kSumVectors; ++j) {
        const VF logit = LogitsAt(logits, n + j * kLanes, vocab);
        const VF exp = Exp(hn::Mul(hn::Sub(logit, top), factor));
        const VF weight = hn::IfThenElse(hn::Eq(logit, top), hn::Set(d, 1.0f), exp);
        if (weights != nullptr) hn::Store(weight, d, weights + n + j * kLanes);
        acc[j] = hn::Add(acc[j], weight);
      }
    }
    const float sum = AddLanes(acc);
    if (sums != nullptr) sums[begin / kChunk] = sum;
    total += sum;
  }
  return total;
}

// Sets the weights to 0 of all tokens that come after `last` in the order best first, and of those
// lighter than min_weight; sums and total anew.
double KeepUpTo(const float* logits, uint32_t vocab, Candidate last, float min_weight, float* weights, float* sums) {
  const DF d;
  const DI di;
  const VF cut = hn::Set(d, last.logit);
  const auto cut_id = hn::Set(di, static_cast<int32_t>(last.id));
  const VF least = hn::Set(d, min_weight);
  double total = 0;
  for (size_t begin = 0; begin < vocab; begin += kChunk) {
    VF acc[kSumVectors];
    for (VF& v : acc) v = hn::Zero(d);
    for (size_t n = begin; n < begin + kChunk; n += kSumLanes) {
      for (size_t j = 0; j < kSumVectors; ++j) {
        const size_t at = n + j * kLanes;
        const VF logit = LogitsAt(logits, at, vocab);
        const VF weight = hn::Load(d, weights + at);
        const auto behind = hn::Gt(hn::Iota(di, static_cast<int32_t>(at)), cut_id);
        const auto tie_behind = hn::And(hn::Eq(logit, cut), hn::RebindMask(d, behind));
        const auto drop = hn::Or(hn::Or(hn::Lt(logit, cut), tie_behind), hn::Lt(weight, least));
        const VF kept = hn::IfThenElse(drop, hn::Zero(d), weight);
        hn::Store(kept, d, weights + at);
        acc[j] = hn::Add(acc[j], kept);
      }
    }
    sums[begin / kChunk] = AddLanes(acc);
    total += sums[begin / kChunk];
  }
  return total;
}

// The ids of all logits >= bound, ascending.
size_t Gather(const float* logits, uint32_t vocab, float bound, Candidate* out) {
  const DF d;
  const VF least = hn::Set(d, bound);
  size_t count = 0;
  for (size_t n = 0; n < vocab; n += kLanes) {
    const VF v = LogitsAt(logits, n, vocab);
    if (hn::AllFalse(d, hn::Ge(v, least))) continue;
    float lanes[kLanes];
    hn::StoreU(v, d, lanes);
    for (size_t j = 0; j < kLanes && n + j < vocab; ++j) {
      if (lanes[j] >= bound) out[count++] = {lanes[j], static_cast<uint32_t>(n + j)};
    }
  }
  return count;
}

}  // namespace HWY_NAMESPACE
}  // namespace kvrm::cpu
HWY_AFTER_NAMESPACE();

#endif  // KVRM_CPU_SAMPLING_INL_H_
