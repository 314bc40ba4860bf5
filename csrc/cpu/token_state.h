// token_state.h - what the engine remembers of each slot's tokens, and what that does to its logits.
#ifndef KVRM_CPU_TOKEN_STATE_H_
#define KVRM_CPU_TOKEN_STATE_H_

#include <cstdint>
#include <vector>

#include "../common/adjust.h"
#include "../common/layout.h"
#include "../common/memory.h"
#include "../common/status.h"

namespace kvrm::cpu {

// Slots are independent: different threads may work on different ones.
class TokenState {
 public:
  // Without edits there is no state, and no slot has ADJUST.
  kvrm_status Reserve(const kvrm_engine_config& config, uint32_t vocab);

  // Applies edits[]; they have been checked.
  void Edit(const DescriptorView& view);

  // Whether the slot's logits differ from the model's.
  static bool Adjusts(const kvrm_slot& slot) { return (slot.flags & KVRM_SLOT_ADJUST) != 0 || slot.mask != 0; }

  // out [vocab] = logits [vocab] under the slot's penalties, biases and mask.
  void Adjust(const DescriptorView& view, uint32_t mask_words, uint32_t index, const float* logits, float* out) const;

  // The slot's answer has the token once more.
  void Count(uint32_t index, int32_t token);

 private:
  struct Bias {
    int32_t token;
    float value;
  };

  uint16_t* States(uint32_t slot) const { return reinterpret_cast<uint16_t*>(states_.data()) + size_t{slot} * vocab_; }
  Bias* Biases(uint32_t slot) const { return reinterpret_cast<Bias*>(biases_.data()) + size_t{slot} * KVRM_MAX_BIASES; }

  uint32_t vocab_ = 0;
  Mapping states_;                    // u16 [S][vocab], as adjust.h says
  Mapping biases_;                    // Bias [S][KVRM_MAX_BIASES]
  std::vector<uint32_t> num_biases_;  // [S]
};

}  // namespace kvrm::cpu
#endif  // KVRM_CPU_TOKEN_STATE_H_
