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
  uint32_t mirostat = 0;  // its version
  float mirostat_mu = 0;  // bits
};

KVRM_SHARED_FN Samplers SamplersOf(const kvrm_slot& slot) {
  return {slot.top_n_sigma,    slot.typical_p,         slot.xtc_probability, slot.xtc_threshold,
          slot.dynatemp_range, slot.dynatemp_exponent, slot.mirostat,        slot.mirostat_mu};
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

// log(x) of a normal x > 0, to some 1e-15 (of others, some number): log(m 2^e) = e log 2 + 2 atanh((m - 1) / (m + 1)).
KVRM_SHARED_FN double SharedLog(double x) {
  int exponent = 0;
  for (; x > 1.5 && exponent < 1100; x = RoundedMul(x, 0.5)) ++exponent;
  for (; x < 0.75 && exponent > -1100; x = RoundedMul(x, 2.0)) --exponent;
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

// Mirostat: S. Basu, G. S. Ramachandran, N. S. Keskar, L. R. Varshney, "Mirostat: A neural text decoding algorithm that
// directly controls perplexity", 2021; its second version is llama.cpp's.
inline constexpr double kLog2 = 0.6931471805599453;
inline constexpr uint32_t kZipfTokens = 100;  // that Zipf's law is fitted to

// The surprise in bits of a token of that weight among those that weigh `total` together.
KVRM_SHARED_FN float SurpriseOf(double total, float weight) {
  if (!(weight > 0) || !(total > static_cast<double>(weight))) return 0;
  return static_cast<float>(RoundedDiv(SharedLog(RoundedDiv(total, static_cast<double>(weight))), kLog2));
}

// The least weight of a token whose surprise is at most mu bits, `total` being that of all; 1, the best one's, at most.
KVRM_SHARED_FN float LeastWeight(float mu, double total) {
  if (!(mu > 0)) return 1;
  const double least = RoundedMul(total, SharedExp(RoundedMul(-static_cast<double>(mu), kLog2)));
  return least < 1 ? static_cast<float>(least) : 1.0f;
}

// Fits Zipf's law to tokens, best first, by least squares over the ratios of neighbours.
struct ZipfFit {
  double products = 0, squares = 0;
  // The next token lies so far, at least 0, below the last one, which was the rank-th, from 1 on. inverse: 1 /
  // temperature.
  KVRM_SHARED_FN void Add(uint32_t rank, float apart, float inverse) {
    const double steps = SharedLog(RoundedDiv(static_cast<double>(rank + 1), static_cast<double>(rank)));
    products =
        RoundedAdd(products, RoundedMul(steps, RoundedMul(static_cast<double>(apart), static_cast<double>(inverse))));
    squares = RoundedAdd(squares, RoundedMul(steps, steps));
  }
};

// How many of `vocab` tokens mirostat's first version keeps.
KVRM_SHARED_FN uint32_t MirostatCount(const ZipfFit& fit, float mu, uint32_t vocab) {
  if (!(fit.squares > 0)) return 1;
  const double exponent = RoundedDiv(fit.products, fit.squares);
  // A head so steep, or one of NaN, is its first token; SharedLog wants finite numbers.
  if (!(exponent < 1e6)) return 1;
  const double all = SharedLog(static_cast<double>(vocab));
  const double above = RoundedAdd(exponent, -1.0);
  const double distance = above < 0 ? -above : above;
  double scale = RoundedDiv(1.0, all);  // |above / (1 - vocab^-above)|, here its limit at 0
  if (distance > 1e-9) {
    const double shrunk = SharedExp(RoundedMul(-distance, all));
    scale = RoundedDiv(distance, RoundedAdd(1.0, -shrunk));
    if (above < 0) scale = RoundedMul(scale, shrunk);
  }
  // A flat head, whose exponent is 0, is kept whole or not at all.
  const double log_count =
      RoundedDiv(RoundedAdd(RoundedMul(static_cast<double>(mu), kLog2), SharedLog(scale)), exponent);
  if (!(log_count > 0)) return 1;
  if (log_count >= all) return vocab;
  const double count = RoundedDiv(1.0, SharedExp(-log_count));
  return count < static_cast<double>(vocab) ? static_cast<uint32_t>(count) : vocab;
}

}  // namespace kvrm
#endif  // KVRM_COMMON_SAMPLERS_H_
