// samplers-inl.h - the passes over the vocabulary that llama.cpp's samplers need, compiled once per SIMD target. Sums
// have the order of sampling-inl.h. A logit of -inf, NaN too, is no token and counts nowhere.

#if defined(KVRM_CPU_SAMPLERS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVRM_CPU_SAMPLERS_INL_H_
#undef KVRM_CPU_SAMPLERS_INL_H_
#else
#define KVRM_CPU_SAMPLERS_INL_H_
#endif

#include "sampling-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvrm::cpu {
namespace HWY_NAMESPACE {

// Gap() of samplers.h.
HWY_INLINE VF Gaps(VF logit, VF top) { return hn::IfThenZeroElse(hn::Eq(logit, top), hn::Sub(logit, top)); }

// The sum of term(logits, first id) over the tokens that there are.
template <class Term>
HWY_INLINE double SumTokens(const float* logits, uint32_t vocab, const Term& term) {
  const DF d;
  double total = 0;
  for (size_t begin = 0; begin < vocab; begin += kChunk) {
    VF acc[kSumVectors];
    for (VF& v : acc) v = hn::Zero(d);
    for (size_t n = begin; n < begin + kChunk; n += kSumLanes) {
      for (size_t j = 0; j < kSumVectors; ++j) {
        const VF logit = LogitsAt(logits, n + j * kLanes, vocab);
        const auto none = hn::Eq(logit, hn::Set(d, kMinusInf));
        acc[j] = hn::Add(acc[j], hn::IfThenZeroElse(none, term(logit, n + j * kLanes)));
      }
    }
    total += AddLanes(acc);
  }
  return total;
}

// How many there are; exact below 2^24 in each lane.
double CountTokens(const float* logits, uint32_t vocab) {
  return SumTokens(logits, vocab, [](VF, size_t) { return hn::Set(DF(), 1.0f); });
}

double SumGaps(const float* logits, uint32_t vocab, float max) {
  const VF top = hn::Set(DF(), max);
  return SumTokens(logits, vocab, [&](VF logit, size_t) { return Gaps(logit, top); });
}

// Of the gaps' distances from their mean.
double SumSquares(const float* logits, uint32_t vocab, float max, float mean) {
  const VF top = hn::Set(DF(), max), middle = hn::Set(DF(), mean);
  return SumTokens(logits, vocab, [&](VF logit, size_t) {
    const VF apart = hn::Sub(Gaps(logit, top), middle);
    return hn::Mul(apart, apart);
  });
}

// Of the gaps, each as often as its token weighs. weights: as Weigh made them.
double SumWeightedGaps(const float* logits, uint32_t vocab, float max, const float* weights) {
  const DF d;
  const VF top = hn::Set(d, max);
  return SumTokens(logits, vocab, [&](VF logit, size_t at) {
    const VF weight = hn::Load(d, weights + at);
    return hn::IfThenZeroElse(hn::Eq(weight, hn::Zero(d)), hn::Mul(weight, Gaps(logit, top)));
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace kvrm::cpu
HWY_AFTER_NAMESPACE();

#endif  // KVRM_CPU_SAMPLERS_INL_H_
