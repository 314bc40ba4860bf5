// adjust.h - what penalties, biases and masks do to one logit, and how the answer's tokens are counted: the
// definition of kvrm.h, for every backend.
#ifndef KVRM_COMMON_ADJUST_H_
#define KVRM_COMMON_ADJUST_H_

#include <cstdint>

#include "../kvrm.h"
#include "shared_fn.h"

namespace kvrm {

// A token of a slot's state in 16 bits: bit 15 says that the prompt has it, the others how often the answer
// has it. 0: in neither.
inline constexpr uint16_t kTokenInPrompt = 0x8000;

struct Penalties {
  float repetition;  // 1: off
  float presence;    // 0: off
  float frequency;   // 0: off
};

// The token occurs `times` more in the answer; stops at KVRM_MAX_COUNT.
KVRM_SHARED_FN uint16_t CountToken(uint16_t state, uint32_t times) {
  const uint32_t count = (state & KVRM_MAX_COUNT) + times;
  return static_cast<uint16_t>((state & kTokenInPrompt) | (count < KVRM_MAX_COUNT ? count : KVRM_MAX_COUNT));
}

// The logit of a token with that state, before its bias.
KVRM_SHARED_FN float Penalise(float logit, uint16_t state, const Penalties& penalties) {
  if (state == 0) return logit;
  logit = logit > 0 ? RoundedDiv(logit, penalties.repetition) : RoundedMul(logit, penalties.repetition);
  const uint32_t count = state & KVRM_MAX_COUNT;
  if (count == 0) return logit;
  logit = RoundedSub(logit, RoundedMul(penalties.frequency, static_cast<float>(count)));
  return RoundedSub(logit, penalties.presence);
}

KVRM_SHARED_FN float AddBias(float logit, float bias) { return RoundedAdd(logit, bias); }

// mask [mask_words]: one row of masks[].
KVRM_SHARED_FN bool MaskAllows(const uint32_t* mask, uint32_t token) {
  return (mask[token / 32] >> token % 32 & 1) != 0;
}

}  // namespace kvrm
#endif  // KVRM_COMMON_ADJUST_H_
