// sampling_test_util.h - rows of logits for the tests of sampling.
#ifndef KVRM_CUDA_SAMPLING_TEST_UTIL_H_
#define KVRM_CUDA_SAMPLING_TEST_UTIL_H_

#include <cmath>
#include <limits>
#include <vector>

#include "step_test_util.h"

namespace kvrm::cuda::test {

inline constexpr float kInf = std::numeric_limits<float>::infinity();

// Nearly a normal deviate.
inline float Normal(Random& random) {
  float sum = 0;
  for (int i = 0; i < 6; ++i) sum += static_cast<float>(random()) * 0x1p-32f - 0.5f;
  return sum * 1.4142f;
}

// What a row of logits is like. kBroken has NaN and infinities, kOutlier one logit far above the others.
enum class Kind { kNormal, kSharp, kTies, kBroken, kSameAll, kOutlier, kCount };

inline std::vector<float> Logits(Random& random, uint32_t vocab, Kind kind) {
  std::vector<float> logits(vocab);
  for (float& x : logits) {
    x = Normal(random) * (kind == Kind::kSharp ? 8.0f : 2.0f);
    if (kind == Kind::kTies) x = std::round(x);
    if (kind == Kind::kSameAll) x = -3.25f;
    if (kind == Kind::kOutlier) x = 1 + std::fabs(x);
    if (kind == Kind::kBroken && Between(random, 0, 4) == 0) x = Between(random, 0, 1) ? NAN : -kInf;
  }
  if (kind == Kind::kTies) logits[vocab / 2] = -0.0f;
  if (kind == Kind::kOutlier) logits[Between(random, 0, vocab - 1)] = 1e30f;
  if (kind == Kind::kBroken && Between(random, 0, 3) == 0) logits[Between(random, 0, vocab - 1)] = kInf;
  return logits;
}

// Equal log-probabilities, or apart by a unit in the last place of themselves or of log_sum.
inline bool Near(float found, float wanted, float log_sum) {
  if (found == wanted || (std::isnan(found) && std::isnan(wanted))) return true;
  const float larger = std::fmax(std::fabs(wanted), std::fabs(log_sum));
  return std::fabs(found - wanted) <= std::nextafter(larger, kInf) - larger;
}

}  // namespace kvrm::cuda::test
#endif  // KVRM_CUDA_SAMPLING_TEST_UTIL_H_
