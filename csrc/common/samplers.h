// samplers.h - the arithmetic of llama.cpp's samplers that every backend has to do with the same bits: the
// definition of kvrm.h. What sums over the vocabulary is each backend's, in the order of cpu/sampling-inl.h.
#ifndef KVRM_COMMON_SAMPLERS_H_
#define KVRM_COMMON_SAMPLERS_H_

#include <cstdint>

#include "../kvrm.h"
#include "shared_fn.h"

namespace kvrm {

// Second words of Philox's counter: one random number of a token for each of its uses.
inline constexpr uint32_t kDrawStream = 0;
inline constexpr uint32_t kXtcStream = 1;

// What a slot wants of them; 0: off.
struct Samplers {
  float top_n_sigma;
  float typical_p;
  float xtc_probability;
  float xtc_threshold;
  float dynatemp_range;
  float dynatemp_exponent;
};

KVRM_SHARED_FN Samplers SamplersOf(const kvrm_slot& slot) {
  return {slot.top_n_sigma,   slot.typical_p,      slot.xtc_probability,
          slot.xtc_threshold, slot.dynatemp_range, slot.dynatemp_exponent};
}

// A threshold above one half has XTC keep every token: there cannot be two above it.
KVRM_SHARED_FN bool HasXtc(const Samplers& s) { return s.xtc_probability > 0 && s.xtc_threshold <= 0.5f; }
KVRM_SHARED_FN bool AnySampler(const Samplers& s) {
  return s.top_n_sigma > 0 || s.typical_p > 0 || s.dynatemp_range > 0 || HasXtc(s);
}

// How far a logit lies from the best one: at most 0, never NaN for a logit that is none.
KVRM_SHARED_FN float Gap(float logit, float max) { return logit == max ? 0.0f : RoundedSub(logit, max); }

// Of a gap: how much less or more the token surprises than tokens do on average. mean: the mean gap by weight.
// A token's surprise is log(total weight) - gap, so that the logarithm cancels.
KVRM_SHARED_FN float Atypicality(float gap, float mean) {
  const float apart = RoundedSub(gap, mean);
  return apart < 0 ? -apart : apart;
}

// The sum of units at which the most typical tokens are enough: more than p of all.
KVRM_SHARED_FN int64_t TypicalUnits(float p, int64_t all) {
  const int64_t wanted = static_cast<int64_t>(RoundedMul(static_cast<double>(p), static_cast<double>(all))) + 1;
  return wanted < all ? wanted : all;
}

// log(x) of a normal x > 0, to some 1e-15: log(m 2^e) = e log 2 + 2 atanh((m - 1) / (m + 1)).
KVRM_SHARED_FN double SharedLog(double x) {
  int exponent = 0;
  for (; x > 1.5; x = RoundedMul(x, 0.5)) ++exponent;
  for (; x < 0.75; x = RoundedMul(x, 2.0)) --exponent;
  const double s = RoundedDiv(RoundedAdd(x, -1.0), RoundedAdd(x, 1.0));
  const double square = RoundedMul(s, s);
  double sum = 0;
  for (int k = 23; k > 0; k -= 2) sum = RoundedAdd(RoundedMul(sum, square), RoundedDiv(2.0, static_cast<double>(k)));
  return RoundedAdd(RoundedMul(static_cast<double>(exponent), 0.6931471805599453), RoundedMul(s, sum));
}

// exp(x) of an x <= 0, to some 1e-12: Taylor's series of x / 2^k, squared k times.
KVRM_SHARED_FN double SharedExp(double x) {
  if (x < -700) return 0;
  int halvings = 0;
  for (; x < -0.25; x = RoundedMul(x, 0.5)) ++halvings;
  double sum = 1;
  for (int k = 14; k > 0; --k) {
    sum = RoundedAdd(1.0, RoundedDiv(RoundedMul(x, sum), static_cast<double>(k)));
  }
  for (; halvings > 0; --halvings) sum = RoundedMul(sum, sum);
  return sum;
}

// The temperature between temperature - range (0 at least) and temperature + range that the entropy of the `left`
// tokens decides, whose weights at temperature 1 have the sum `total`, the best one's being 1, and the mean gap
// `mean`.
KVRM_SHARED_FN float DynamicTemperature(float temperature, const Samplers& s, double total, float mean, double left) {
  if (!(left > 1)) return temperature;
  const double below = RoundedSub(static_cast<double>(temperature), static_cast<double>(s.dynatemp_range));
  const double low = below > 0 ? below : 0;
  const double high = RoundedAdd(static_cast<double>(temperature), static_cast<double>(s.dynatemp_range));
  const double entropy = RoundedSub(SharedLog(total), static_cast<double>(mean));
  double share = RoundedDiv(entropy, SharedLog(left));  // of the most that it could be
  share = share < 1 ? share : 1;
  const double exponent = s.dynatemp_exponent;
  double raised = exponent == 0 ? 1 : 0;
  if (share > 1e-300) raised = SharedExp(RoundedMul(exponent, SharedLog(share)));
  return static_cast<float>(RoundedAdd(low, RoundedMul(RoundedSub(high, low), raised)));
}

}  // namespace kvrm
#endif  // KVRM_COMMON_SAMPLERS_H_
