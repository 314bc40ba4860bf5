// What a slot says about its sample.
#include <cmath>
#include <limits>

#include "descriptor_walk.h"

namespace kvrm {
namespace {

bool CheckSamplers(const Where& at, const kvrm_slot& slot) {
  const auto check = [&](const char* field, float value, float most) {
    if (value >= 0 && value <= most) return true;
    return at.Refuse(field, value, most == 1 ? "within 0..1" : "a finite number of at least 0");
  };
  constexpr float kFinite = std::numeric_limits<float>::max();
  return check("top_n_sigma", slot.top_n_sigma, kFinite) && check("typical_p", slot.typical_p, 1) &&
         check("xtc_probability", slot.xtc_probability, 1) && check("xtc_threshold", slot.xtc_threshold, 1) &&
         check("dynatemp_range", slot.dynatemp_range, kFinite) &&
         check("dynatemp_exponent", slot.dynatemp_exponent, kFinite);
}

bool CheckMirostat(const Where& at, const kvrm_slot& slot) {
  if (!at.AtMost("mirostat", slot.mirostat, 2)) return false;
  if (slot.mirostat == 0 && slot.mirostat_mu != 0)
    return at.Refuse("mirostat_mu", slot.mirostat_mu, "0 without mirostat");
  return std::isfinite(slot.mirostat_mu) || at.Refuse("mirostat_mu", slot.mirostat_mu, "a finite number");
}

}  // namespace

bool HasPenalty(const kvrm_slot& slot) {
  return !(slot.repetition_penalty == 0 && slot.presence_penalty == 0 && slot.frequency_penalty == 0);
}

bool HasSamplers(const kvrm_slot& slot) {
  return !(slot.top_n_sigma == 0 && slot.typical_p == 0 && slot.xtc_probability == 0 && slot.xtc_threshold == 0 &&
           slot.dynatemp_range == 0 && slot.dynatemp_exponent == 0 && slot.mirostat == 0 && slot.mirostat_mu == 0);
}

bool CheckPenalties(const Where& at, const kvrm_slot& slot) {
  if (!(slot.repetition_penalty > 0) || !std::isfinite(slot.repetition_penalty)) {
    return at.Refuse("repetition_penalty", slot.repetition_penalty, "a finite number of more than 0");
  }
  if (!std::isfinite(slot.presence_penalty)) {
    return at.Refuse("presence_penalty", slot.presence_penalty, "a finite number");
  }
  if (!std::isfinite(slot.frequency_penalty)) {
    return at.Refuse("frequency_penalty", slot.frequency_penalty, "a finite number");
  }
  return true;
}

bool CheckSampling(const Where& at, const kvrm_slot& slot) {
  // Written so that NaN fails each of them.
  if (!(slot.temperature >= 0) || !std::isfinite(slot.temperature)) {
    return at.Refuse("temperature", slot.temperature, "a finite number of at least 0");
  }
  if (!(slot.top_p > 0 && slot.top_p <= 1)) return at.Refuse("top_p", slot.top_p, "more than 0 and at most 1");
  if (!(slot.min_p >= 0 && slot.min_p <= 1)) return at.Refuse("min_p", slot.min_p, "within 0..1");
  if (!CheckSamplers(at, slot) || !CheckMirostat(at, slot)) return false;
  // top_k may be anything: from the vocabulary's size on it filters nothing.
  return at.AtMost("logprobs", slot.logprobs, KVRM_MAX_TOP_LOGPROBS + 1);
}

}  // namespace kvrm
