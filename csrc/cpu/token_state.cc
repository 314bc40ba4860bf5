#include "token_state.h"

#include <bit>
#include <cstring>
#include <limits>

namespace kvrm::cpu {

kvrm_status TokenState::Reserve(const kvrm_engine_config& config, uint32_t vocab) {
  vocab_ = vocab;
  if (config.max_edits == 0) return KVRM_OK;
  num_biases_.resize(config.slots);
  KVRM_TRY(Mapping::Reserve(size_t{config.slots} * vocab * sizeof(uint16_t), "the counts of tokens", &states_));
  return Mapping::Reserve(size_t{config.slots} * KVRM_MAX_BIASES * sizeof(Bias), "the biases of tokens", &biases_);
}

void TokenState::Edit(const DescriptorView& view) {
  for (uint32_t i = 0; i < view.header->num_edits; ++i) {
    const kvrm_edit& edit = view.edits[i];
    const uint32_t slot = edit.slot_kind & 0xffff;
    uint16_t* states = States(slot);
    switch (edit.slot_kind >> 16) {
      case KVRM_EDIT_CLEAR:
        if (edit.value == 0) std::memset(states, 0, vocab_ * sizeof(uint16_t));
        num_biases_[slot] = 0;
        break;
      case KVRM_EDIT_PROMPT:
        states[edit.token] |= kTokenInPrompt;
        break;
      case KVRM_EDIT_COUNT:
        states[edit.token] = CountToken(states[edit.token], edit.value);
        break;
      default:
        Biases(slot)[num_biases_[slot]++] = {edit.token, std::bit_cast<float>(edit.value)};
    }
  }
}

void TokenState::Adjust(const DescriptorView& view, uint32_t mask_words, uint32_t index, const float* logits,
                        float* out) const {
  const kvrm_slot& slot = view.slots[index];
  std::memcpy(out, logits, vocab_ * sizeof(float));
  if (slot.flags & KVRM_SLOT_ADJUST) {
    const Penalties penalties = {slot.repetition_penalty, slot.presence_penalty, slot.frequency_penalty};
    const uint16_t* states = States(index);
    for (uint32_t t = 0; t < vocab_; ++t) {
      if (states[t] != 0) out[t] = Penalise(out[t], states[t], penalties);
    }
    const Bias* biases = Biases(index);
    for (uint32_t i = 0; i < num_biases_[index]; ++i) {
      out[biases[i].token] = AddBias(out[biases[i].token], biases[i].value);
    }
  }
  if (slot.mask == 0) return;
  const uint32_t* mask = view.masks + size_t{slot.mask - 1} * mask_words;
  for (uint32_t t = 0; t < vocab_; ++t) {
    if (!MaskAllows(mask, t)) out[t] = -std::numeric_limits<float>::infinity();
  }
}

void TokenState::Count(uint32_t index, int32_t token) {
  uint16_t& state = States(index)[token];
  state = CountToken(state, 1);
}

}  // namespace kvrm::cpu
