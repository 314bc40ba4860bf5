// Penalties, biases and masks: what is sampled, held against the formulas of kvrm.h on the logits that the
// engine reports.
#include <algorithm>
#include <limits>
#include <set>

#include "test_engine.h"

namespace kvrm::test {
namespace {

constexpr uint32_t kVocab = 101;
constexpr float kInf = std::numeric_limits<float>::infinity();

const TestModel& Model() {
  static const TestModel model{ModelShape()};
  return model;
}

// A slot's token state and mask, as a plain reference keeps them.
struct Reference {
  std::set<int32_t> prompt;
  std::map<int32_t, uint32_t> answer;
  std::map<int32_t, float> biases;
  std::vector<int32_t> allowed;  // empty: all

  std::vector<float> Adjusted(std::vector<float> logits, const Sampling& s) const {
    for (int32_t t = 0; t < int32_t(logits.size()); ++t) {
      volatile float x = logits[t];  // volatile: each operation on its own, rounded to f32
      const uint32_t count = answer.count(t) != 0 ? std::min(answer.at(t), KVRM_MAX_COUNT) : 0;
      if (s.adjust) {
        if (prompt.count(t) != 0 || count > 0) x = x > 0 ? x / s.repetition : x * s.repetition;
        if (count > 0) {
          volatile float product = s.frequency * float(count);
          x = x - product;
          x = x - s.presence;
        }
        if (biases.count(t) != 0) x = x + biases.at(t);
      }
      const bool forbidden = !allowed.empty() && std::find(allowed.begin(), allowed.end(), t) == allowed.end();
      logits[t] = forbidden ? -kInf : float(x);
    }
    return logits;
  }
};

int32_t Best(const std::vector<float>& logits) {
  return int32_t(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

int32_t Worst(const std::vector<float>& logits) {
  return int32_t(std::min_element(logits.begin(), logits.end()) - logits.begin());
}

Sampling Penalties(float repetition, float presence = 0, float frequency = 0) {
  Sampling s;
  s.adjust = true;
  s.repetition = repetition;
  s.presence = presence;
  s.frequency = frequency;
  return s;
}

// Slot 1 decodes the same token at the same place in every step, so that its logits are known beforehand.
class Probe {
 public:
  Probe() : engine(Model(), EngineConfig()) {
    engine.Begin();
    Sampled({});
    logits = engine.Logits(1);
  }

  // Runs the step that was begun, and perhaps edited.
  int32_t Sampled(const Sampling& sampling) {
    engine.Decode(1, 5, 0, {3}, 0, sampling);
    engine.Step();
    return engine.sampled(1).token;
  }

  // Replaces the slot's state with the reference's.
  int32_t Sampled(const Reference& reference, Sampling sampling) {
    engine.Begin();
    engine.Edit(1, KVRM_EDIT_CLEAR);
    for (int32_t token : reference.prompt) engine.Edit(1, KVRM_EDIT_PROMPT, token);
    for (const auto& [token, count] : reference.answer) engine.Edit(1, KVRM_EDIT_COUNT, token, count);
    for (const auto& [token, bias] : reference.biases) engine.Bias(1, token, bias);
    if (!reference.allowed.empty()) sampling.mask = engine.Mask(reference.allowed);
    return Sampled(sampling);
  }

  // Two tokens, the second biased to within two units in the last place of the first as it is penalised:
  // which one wins depends on every rounding.
  void CheckClosely(const Sampling& penalties, bool prompt, bool answer) {
    std::mt19937 random(7);
    int first = 0, second = 0;
    for (int trial = 0; trial < 200; ++trial) {
      const int32_t a = int32_t(random() % kVocab), b = int32_t((a + 1 + random() % (kVocab - 1)) % kVocab);
      Reference reference;
      if (prompt) reference.prompt.insert(a);
      if (answer) reference.answer[a] = 1 + random() % 9;
      reference.allowed = {a, b};
      float bias = reference.Adjusted(logits, penalties)[a] - logits[b];
      const int steps = int(random() % 5) - 2;
      for (int i = 0; i < std::abs(steps); ++i) bias = std::nextafter(bias, steps < 0 ? -kInf : kInf);
      reference.biases[b] = bias;
      const int32_t found = Sampled(reference, penalties);
      CHECK_EQ(found, Best(reference.Adjusted(logits, penalties)));
      found == a ? ++first : ++second;
    }
    CHECK(first > 20);
    CHECK(second > 20);
  }

  TestEngine engine;
  std::vector<float> logits;
};

TEST(ARepetitionPenaltyMeetsPromptAndAnswer) {
  Probe probe;
  probe.CheckClosely(Penalties(1.37f), true, false);
  probe.CheckClosely(Penalties(1.37f), false, true);
  probe.CheckClosely(Penalties(0.71f), true, true);
}

TEST(APresencePenaltyMeetsTheAnswerAlone) {
  Probe probe;
  probe.CheckClosely(Penalties(1, 0.773f), false, true);
  probe.CheckClosely(Penalties(1, 0.773f), true, false);
  probe.CheckClosely(Penalties(1, -1.3f), true, true);
}

TEST(AFrequencyPenaltyGrowsWithTheCount) {
  Probe probe;
  probe.CheckClosely(Penalties(1, 0, 0.131f), false, true);
  probe.CheckClosely(Penalties(1, 0, 0.131f), true, false);
  probe.CheckClosely(Penalties(1, 0, -0.37f), false, true);
}

TEST(PenaltiesCombineInTheirOrder) {
  Probe probe;
  probe.CheckClosely(Penalties(1.21f, 0.33f, 0.077f), true, true);
  probe.CheckClosely(Penalties(0.83f, -0.21f, 0.19f), false, true);
}

// Every token has some state: the winner of the whole vocabulary.
TEST(RandomStatesGiveTheReferencesWinner) {
  Probe probe;
  std::mt19937 random(11);
  std::set<int32_t> winners;
  for (int trial = 0; trial < 300; ++trial) {
    Reference reference;
    for (int i = 0; i < 40; ++i) {
      if (random() % 2) reference.prompt.insert(int32_t(random() % kVocab));
      if (random() % 2) reference.answer[int32_t(random() % kVocab)] = 1 + random() % 50;
      if (random() % 2) reference.biases[int32_t(random() % kVocab)] = float(random() % 1000) / 250 - 2;
    }
    for (uint32_t t = 0; trial % 3 == 0 && t < kVocab; ++t) {
      if (random() % 4) reference.allowed.push_back(int32_t(t));
    }
    const Sampling sampling =
        Penalties(1 + float(random() % 100) / 100, float(random() % 100) / 50 - 1, float(random() % 100) / 500 - 0.1f);
    const int32_t token = probe.Sampled(reference, sampling);
    CHECK_EQ(token, Best(reference.Adjusted(probe.logits, sampling)));
    winners.insert(token);
  }
  CHECK(winners.size() > 20);
}

TEST(CountsStopAtTheirLimit) {
  Probe probe;
  const int32_t best = Best(probe.logits);
  // frequency * KVRM_MAX_COUNT is exactly 32767 / 32768: a count beyond would cost the best token more.
  const Sampling sampling = Penalties(1, 0, 0x1p-15f);
  Reference reference;
  reference.answer[best] = KVRM_MAX_COUNT;
  const float full = reference.Adjusted(probe.logits, sampling)[best];
  for (const float wins : {std::nextafter(full, -kInf), std::nextafter(full, kInf)}) {
    // A rival whose bias brings it to exactly `wins`; not every logit can be brought there.
    int32_t rival = 0;
    float bias = 0;
    const int32_t vocab = static_cast<int32_t>(probe.logits.size());
    for (; rival < vocab; ++rival) {
      bias = wins - probe.logits[rival];
      if (rival != best && probe.logits[rival] + bias == wins) break;
    }
    CHECK(rival < vocab);
    probe.engine.Begin();
    probe.engine.Edit(1, KVRM_EDIT_CLEAR);
    for (int i = 0; i < 3; ++i) probe.engine.Edit(1, KVRM_EDIT_COUNT, best, KVRM_MAX_COUNT - 5);
    probe.engine.Bias(1, rival, bias);
    Sampling masked = sampling;
    masked.mask = probe.engine.Mask({best, rival});
    CHECK_EQ(probe.Sampled(masked), wins < full ? best : rival);
  }
  // Sampling does not count beyond either, nor does it touch the prompt's bit.
  probe.engine.Begin();
  probe.engine.Edit(1, KVRM_EDIT_CLEAR);
  probe.engine.Edit(1, KVRM_EDIT_COUNT, best, KVRM_MAX_COUNT);
  Sampling only = Penalties(1);
  only.mask = probe.engine.Mask({best});
  probe.Sampled(only);
  probe.engine.Begin();
  CHECK_EQ(probe.Sampled(Penalties(1, 0, -1)), best);  // the count did not wrap to 0
}

TEST(SampledTokensAreCountedWithAdjustAlone) {
  Probe probe;
  const int32_t best = Best(probe.logits);
  const Sampling penalties = Penalties(1, 100);
  probe.engine.Begin();
  probe.engine.Edit(1, KVRM_EDIT_CLEAR);
  CHECK_EQ(probe.Sampled({}), best);  // not counted
  probe.engine.Begin();
  CHECK_EQ(probe.Sampled(penalties), best);  // counted
  std::set<int32_t> seen = {best};
  for (uint32_t i = 1; i < kVocab; ++i) {
    probe.engine.Begin();
    CHECK(seen.insert(probe.Sampled(penalties)).second);
  }
  CHECK_EQ(seen.size(), size_t{kVocab});
  probe.engine.Begin();
  CHECK_EQ(probe.Sampled({}), best);  // without ADJUST the state does not count
  probe.engine.Begin();
  probe.engine.Edit(1, KVRM_EDIT_CLEAR);
  CHECK_EQ(probe.Sampled(penalties), best);
}

TEST(StatesOfSlotsAreApart) {
  Probe probe;
  const int32_t best = Best(probe.logits);
  probe.engine.Begin();
  probe.engine.Edit(0, KVRM_EDIT_COUNT, best, 100);
  probe.engine.Bias(0, best, -50);
  probe.engine.Edit(1, KVRM_EDIT_CLEAR);
  probe.engine.Edit(2, KVRM_EDIT_COUNT, best, 100);
  CHECK_EQ(probe.Sampled(Penalties(1, 9, 9)), best);
}

// Edits may come long before the slot samples, over several steps, idle ones too.
TEST(EditsOfSeveralStepsAddUp) {
  Probe probe;
  Reference reference;
  probe.engine.Begin();
  probe.engine.Edit(1, KVRM_EDIT_CLEAR);
  probe.engine.Step();
  for (int32_t t = 0; t < 60; ++t) {
    probe.engine.Begin();
    probe.engine.Edit(1, KVRM_EDIT_COUNT, t, 2);
    probe.engine.Edit(1, KVRM_EDIT_COUNT, t, 1);
    reference.answer[t] = 3;
    if (t % 3 == 0) probe.engine.Edit(1, KVRM_EDIT_PROMPT, t);
    if (t % 3 == 0) reference.prompt.insert(t);
    if (t % 5 == 0) probe.engine.Bias(1, t, 1.5f);
    if (t % 5 == 0) reference.biases[t] = 1.5f;
    probe.engine.Step();
  }
  const Sampling sampling = Penalties(1.4f, 0.2f, 0.3f);
  probe.engine.Begin();
  CHECK_EQ(probe.Sampled(sampling), Best(reference.Adjusted(probe.logits, sampling)));
}

TEST(AMaskLeavesWhatItAllows) {
  Probe probe;
  const int32_t worst = Worst(probe.logits);
  for (const float temperature : {0.0f, 1.0f, 100.0f}) {
    Sampling sampling;
    sampling.temperature = temperature;
    for (const int32_t only : {0, 31, 32, 64, 100, worst}) {
      probe.engine.Begin();
      sampling.mask = probe.engine.Mask({only});
      CHECK_EQ(probe.Sampled(sampling), only);
    }
  }
  // All but one: the greedy winner is forbidden, the second best comes.
  Reference reference;
  reference.allowed = TokenRange(0, kVocab);
  reference.allowed.erase(reference.allowed.begin() + Best(probe.logits));
  const int32_t second = Best(reference.Adjusted(probe.logits, {}));
  CHECK_EQ(probe.Sampled(reference, {}), second);
  CHECK(second != Best(probe.logits));
  // None at all: a token of the vocabulary still.
  probe.engine.Begin();
  Sampling none;
  none.temperature = 1;
  none.mask = probe.engine.Mask({});
  CHECK_EQ(probe.Sampled(none), 0);
}

TEST(SlotsOfAStepShareAndDifferInMasks) {
  TestEngine engine(Model(), EngineConfig());
  engine.Begin();
  const uint32_t even = engine.Mask({2, 40, 76}), odd = engine.Mask({3, 41, 77});
  for (uint32_t slot = 0; slot < 4; ++slot) {
    Sampling sampling;
    sampling.mask = slot == 3 ? 0 : slot == 1 ? odd : even;
    engine.Decode(slot, 5, 0, {slot}, 0, sampling);
  }
  engine.Step();
  CHECK_EQ(engine.sampled(0).token % 2, 0);
  CHECK_EQ(engine.sampled(1).token % 2, 1);
  CHECK_EQ(engine.sampled(2).token, engine.sampled(0).token);
  CHECK_EQ(engine.sampled(3).token, Best(engine.Logits(3)));
}

// Draws with a temperature come from the adjusted distribution: a biased token of probability near one
// half is drawn half of the time.
TEST(DrawsFollowTheAdjustedDistribution) {
  Probe probe;
  const int32_t best = Best(probe.logits), worst = Worst(probe.logits);
  Reference reference;
  reference.biases[worst] = probe.logits[best] - probe.logits[worst];
  reference.allowed = {best, worst};
  int drawn = 0;
  for (uint32_t i = 0; i < 400; ++i) {
    Sampling sampling = Penalties(1);
    sampling.temperature = 1;
    sampling.seed = i;
    drawn += probe.Sampled(reference, sampling) == worst;
  }
  CHECK(150 < drawn && drawn < 250);
}

// What is reported is of the model's distribution, not of the changed one.
TEST(LogprobsAndLogitsStayAsTheyWere) {
  Probe probe;
  Sampling sampling;
  sampling.logprobs = 1 + 5;
  probe.engine.Begin();
  const int32_t best = probe.Sampled(sampling);
  const float best_logprob = probe.engine.sampled(1).logprob;
  const std::vector<kvrm_top> tops(probe.engine.tops(1), probe.engine.tops(1) + 5);

  Reference reference;
  reference.biases[best] = -100;
  Sampling adjusted = Penalties(1.5f, 1, 1);
  adjusted.logprobs = 1 + 5;
  const int32_t other = probe.Sampled(reference, adjusted);
  CHECK(other != best);
  CHECK(probe.engine.Logits(1) == probe.logits);
  for (int i = 0; i < 5; ++i) {
    CHECK_EQ(probe.engine.tops(1)[i].token, tops[i].token);
    CHECK_EQ(probe.engine.tops(1)[i].logprob, tops[i].logprob);
  }
  CHECK_NEAR(probe.engine.sampled(1).logprob - best_logprob, probe.logits[other] - probe.logits[best], 1e-5);
}

}  // namespace
}  // namespace kvrm::test
