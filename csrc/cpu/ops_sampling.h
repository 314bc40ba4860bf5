// ops_sampling.h - what sampling's per-target passes and its target-free logic share.
#ifndef KVRM_CPU_OPS_SAMPLING_H_
#define KVRM_CPU_OPS_SAMPLING_H_

#include <cstddef>
#include <cstdint>

namespace kvrm::cpu {

inline constexpr size_t kChunk = 256;  // ids per partial sum

struct Candidate {
  float logit;  // never NaN
  uint32_t id;
};

// Best first: the higher logit, then the lower id.
inline bool Before(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

}  // namespace kvrm::cpu

#endif  // KVRM_CPU_OPS_SAMPLING_H_
