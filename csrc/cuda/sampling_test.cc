// The kernels against the CPU's functions: the same token always, the same log-probabilities up to what
// log() in f64 may differ.
#include <cmath>
#include <cstdlib>
#include <memory>

#include "../common/adjust.h"
#include "../common/test.h"
#include "../cpu/ops.h"
#include "sampling_test_util.h"

namespace kvrm::cuda {
namespace {

using test::Array;
using test::Between;
using test::Kind;
using test::kInf;
using test::Logits;
using test::Near;
using test::Normal;
using test::Random;

struct Case {
  std::vector<float> logits;
  kvrm_slot slot = {};
  std::vector<uint32_t> mask;  // empty: none
  std::vector<uint16_t> states;
  std::vector<std::pair<int32_t, float>> biases;
};

kvrm_slot Plain(Random& random, float temperature) {
  kvrm_slot slot = {};
  slot.flags = KVRM_SLOT_DECODE;
  slot.temperature = temperature;
  slot.top_p = 1;
  slot.repetition_penalty = 1;
  slot.seed_lo = static_cast<uint32_t>(random());
  slot.seed_hi = static_cast<uint32_t>(random());
  slot.counter = Between(random, 0, 5000);
  return slot;
}

// The slots of one step: case i is in slot 2 i + 1, the others are idle.
class Step {
 public:
  explicit Step(const std::vector<Case>& cases)
      : cases_(cases),
        vocab_(static_cast<uint32_t>(cases[0].logits.size())),
        slots_(2 * static_cast<uint32_t>(cases.size()) + 1) {
    const uint32_t words = (vocab_ + 31) / 32;
    std::vector<kvrm_slot> slots(slots_);
    std::vector<float> logits;
    std::vector<uint32_t> masks, bias_count(slots_);
    std::vector<uint16_t> states(size_t{slots_} * vocab_);
    std::vector<int32_t> bias_token(size_t{slots_} * KVRM_MAX_BIASES);
    std::vector<float> bias_value(size_t{slots_} * KVRM_MAX_BIASES);
    std::vector<HeadRow> samples;
    for (uint32_t i = 0; i < cases.size(); ++i) {
      const Case& c = cases[i];
      const uint32_t at = 2 * i + 1;
      slots[at] = c.slot;
      if (!c.mask.empty()) {
        masks.insert(masks.end(), c.mask.begin(), c.mask.end());
        slots[at].mask = static_cast<uint32_t>(masks.size() / words);
      }
      logits.insert(logits.end(), c.logits.begin(), c.logits.end());
      std::copy(c.states.begin(), c.states.end(), states.begin() + size_t{at} * vocab_);
      for (const auto& [token, bias] : c.biases) {
        bias_token[size_t{at} * KVRM_MAX_BIASES + bias_count[at]] = token;
        bias_value[size_t{at} * KVRM_MAX_BIASES + bias_count[at]++] = bias;
      }
      samples.push_back({i, at, -1, c.slot.logprobs == 0 ? 0 : c.slot.logprobs - 1});
    }
    Run(slots, logits, masks, states, bias_count, bias_token, bias_value, samples);
  }

  void Check() const {
    for (uint32_t i = 0; i < cases_.size(); ++i) CheckCase(i);
    CHECK_EQ(results_[0].flags, 0xffffffffu);  // an idle slot is not touched
    CHECK_EQ(last_token_[0], -1);
  }
  int32_t Token(uint32_t i) const { return results_[2 * i + 1].token; }

 private:
  void Run(const std::vector<kvrm_slot>& slots, const std::vector<float>& logits, const std::vector<uint32_t>& masks,
           const std::vector<uint16_t>& states, const std::vector<uint32_t>& bias_count,
           const std::vector<int32_t>& bias_token, const std::vector<float>& bias_value,
           const std::vector<HeadRow>& samples) {
    Array<kvrm_slot> slot(slots);
    Array<float> row(logits), value(bias_value);
    Array<uint32_t> mask(masks), count(bias_count);
    Array<uint16_t> state(states);
    Array<int32_t> token(bias_token), last(slots_);
    Array<HeadRow> sample(samples);
    StepCounts counts = {};
    counts.samples = static_cast<uint32_t>(samples.size());
    Array<StepCounts> step_counts(std::vector<StepCounts>{counts});
    Array<kvrm_slot_result> results(slots_);
    Array<kvrm_top> tops(size_t{slots_} * KVRM_MAX_TOP_LOGPROBS);
    Array<uint8_t> scratch(SampleScratchBytes(slots_, vocab_));
    StepView step = {};
    step.slots = slots_;
    step.vocab = vocab_;
    step.mask_words = (vocab_ + 31) / 32;
    step.slot = slot.data();
    step.masks = mask.data();
    step.counts = step_counts.data();
    step.samples = sample.data();
    step.last_token = last.data();
    step.token_counts = state.data();
    step.bias_count = count.data();
    step.bias_token = token.data();
    step.bias_value = value.data();
    step.slot_results = results.data();
    step.slot_tops = tops.data();
    LaunchSample(test::Context(), step, row.data(), scratch.data());
    test::Finish();
    results_ = results.Read();
    tops_ = tops.Read();
    last_token_ = last.Read();
    states_ = state.Read();
    const std::vector<float> after = row.Read();
    CHECK(std::memcmp(after.data(), logits.data(), logits.size() * sizeof(float)) == 0);
  }

  // The logits that the case samples from.
  std::vector<float> Adjusted(const Case& c) const {
    std::vector<float> out = c.logits;
    if (c.slot.flags & KVRM_SLOT_ADJUST) {
      const Penalties penalties = {c.slot.repetition_penalty, c.slot.presence_penalty, c.slot.frequency_penalty};
      for (uint32_t t = 0; t < vocab_ && !c.states.empty(); ++t) out[t] = Penalise(out[t], c.states[t], penalties);
      for (const auto& [token, bias] : c.biases) out[token] = AddBias(out[token], bias);
    }
    for (uint32_t t = 0; t < vocab_ && !c.mask.empty(); ++t) {
      if (!MaskAllows(c.mask.data(), t)) out[t] = -kInf;
    }
    return out;
  }

  void CheckCase(uint32_t i) const {
    const Case& c = cases_[i];
    const uint32_t at = 2 * i + 1;
    const std::vector<float> adjusted = Adjusted(c);
    const std::unique_ptr<void, void (*)(void*)> scratch(std::aligned_alloc(64, cpu::SampleScratchBytes(vocab_)),
                                                         std::free);
    const kvrm_slot& s = c.slot;
    const cpu::SampleParams params = {s.temperature, s.top_k >= vocab_ ? 0 : s.top_k,       s.top_p,
                                      s.min_p,       uint64_t{s.seed_hi} << 32 | s.seed_lo, s.counter,
                                      SamplersOf(s)};
    float surprise = 0;
    const int32_t token = cpu::Sample(adjusted.data(), vocab_, params, scratch.get(), &surprise);
    const kvrm_slot_result& found = results_[at];
    CHECK_EQ(found.flags, KVRM_RESULT_SAMPLED);
    CHECK_EQ(found.token, token);
    CHECK_EQ(found.surprise, surprise);
    CHECK_EQ(last_token_[at], token);

    std::vector<uint16_t> states = c.states;
    states.resize(vocab_);
    if (s.flags & KVRM_SLOT_ADJUST) states[token] = CountToken(states[token], 1);
    CHECK(std::memcmp(&states_[size_t{at} * vocab_], states.data(), vocab_ * sizeof(uint16_t)) == 0);

    if (s.logprobs == 0) {
      CHECK_EQ(found.num_tops, 0u);
      CHECK_EQ(found.logprob, 0.0f);
      return;
    }
    const float log_sum = cpu::LogSumExp(c.logits.data(), vocab_);
    CHECK(Near(found.logprob, c.logits[token] - log_sum, log_sum));
    const uint32_t n = std::min(s.logprobs - 1, vocab_);
    CHECK_EQ(found.num_tops, n);
    std::vector<kvrm_top> tops(n);
    if (n != 0) cpu::TopLogprobs(c.logits.data(), vocab_, log_sum, n, tops.data(), scratch.get());
    for (uint32_t j = 0; j < n; ++j) {
      const kvrm_top& top = tops_[size_t{at} * KVRM_MAX_TOP_LOGPROBS + j];
      CHECK_EQ(top.token, tops[j].token);
      CHECK(Near(top.logprob, tops[j].logprob, log_sum));
    }
  }

  const std::vector<Case>& cases_;
  uint32_t vocab_, slots_;
  std::vector<kvrm_slot_result> results_;
  std::vector<kvrm_top> tops_;
  std::vector<int32_t> last_token_;
  std::vector<uint16_t> states_;
};

void CheckAll(const std::vector<Case>& cases) { Step(cases).Check(); }

constexpr uint32_t kVocabs[] = {5, 257, 4096, 20001};

TEST(SampleGreedyMatchesTheCpu) {
  Random random(1);
  for (const uint32_t vocab : kVocabs) {
    std::vector<Case> cases;
    for (int kind = 0; kind < static_cast<int>(Kind::kCount); ++kind) {
      for (const float temperature : {0.0f, 0.0f, -1.0f, static_cast<float>(NAN)}) {
        cases.push_back({Logits(random, vocab, static_cast<Kind>(kind)), Plain(random, temperature), {}, {}, {}});
        cases.back().slot.logprobs = Between(random, 0, 21);
      }
    }
    CheckAll(cases);
  }
}

TEST(SampleOfBadLogitsMatchesTheCpu) {
  Random random(2);
  std::vector<Case> cases;
  for (const float bad : {-kInf, kInf, static_cast<float>(NAN)}) {
    for (const float temperature : {0.0f, 1.0f}) {
      Case c = {std::vector<float>(700, bad), Plain(random, temperature), {}, {}, {}};
      c.slot.logprobs = 6;
      cases.push_back(c);
      c.logits[612] = -1e30f;
      c.slot.top_k = Between(random, 0, 3);
      c.slot.top_p = 0.5f;
      cases.push_back(c);
    }
  }
  CheckAll(cases);
}

TEST(SampleDrawsWhatTheCpuDraws) {
  Random random(3);
  for (const uint32_t vocab : kVocabs) {
    std::vector<Case> cases;
    for (int i = 0; i < 15; ++i) {
      const Kind kind = static_cast<Kind>(i % static_cast<int>(Kind::kCount));
      const float temperatures[] = {1.0f, 0.7f, 2.5f, 1e-30f, 1e-45f, 1e30f, 3e38f, 0.05f};
      cases.push_back({Logits(random, vocab, kind), Plain(random, temperatures[i % 8]), {}, {}, {}});
      if (i % 3 == 0) cases.back().slot.min_p = 0.01f * static_cast<float>(Between(random, 0, 110));
      cases.back().slot.logprobs = i % 4 == 0 ? 21 : 0;
    }
    CheckAll(cases);
  }
}

TEST(SampleFiltersAsTheCpu) {
  Random random(4);
  for (const uint32_t vocab : kVocabs) {
    std::vector<Case> cases;
    for (int i = 0; i < 30; ++i) {
      const Kind kind = static_cast<Kind>(i % static_cast<int>(Kind::kCount));
      const float temperatures[] = {1.0f, 0.6f, 3.0f, 1e-45f, 1e30f, 1.0f, 1.3f};
      Case c = {Logits(random, vocab, kind), Plain(random, temperatures[i % 7]), {}, {}, {}};
      const uint32_t ks[] = {1, 2, 20, 50, 257, 3000, vocab - 1, vocab, 4000000000u};
      if (i % 3 != 0) c.slot.top_k = ks[Between(random, 0, 8)];
      const float ps[] = {0.9f, 0.95f, 0.5f, 0.99999994f, 1e-30f, 0.999f};
      if (i % 3 != 1) c.slot.top_p = ps[Between(random, 0, 5)];
      if (i % 4 == 0) c.slot.min_p = 0.003f * static_cast<float>(Between(random, 0, 110));
      cases.push_back(c);
    }
    CheckAll(cases);
  }
}

TEST(SamplersOfLlamaCppDrawAsOnTheCpu) {
  Random random(10);
  for (const uint32_t vocab : kVocabs) {
    std::vector<Case> cases;
    for (uint32_t i = 0; i < 48; ++i) {
      const Kind kind = static_cast<Kind>(i % static_cast<uint32_t>(Kind::kCount));
      const float temperatures[] = {1.0f, 0.6f, 3.0f, 0.0f, 1e30f, 1.0f, 1e-45f};
      Case c = {Logits(random, vocab, kind), Plain(random, temperatures[i % 7]), {}, {}, {}};
      kvrm_slot& s = c.slot;
      const uint32_t which = i < 4 ? 1u << i : Between(random, 1, 15);  // each alone, then any
      if (which & 1) s.top_n_sigma = 0.05f * static_cast<float>(Between(random, 1, 60));
      if (which & 2) s.typical_p = 0.02f * static_cast<float>(Between(random, 1, 50));
      if (which & 4) s.xtc_probability = 0.25f * static_cast<float>(Between(random, 1, 4));
      s.xtc_threshold = 0.012f * static_cast<float>(Between(random, 0, 50));
      if (which & 8) s.dynatemp_range = 0.1f * static_cast<float>(Between(random, 1, 30));
      s.dynatemp_exponent = 0.3f * static_cast<float>(Between(random, 0, 8));
      const uint32_t ks[] = {0, 0, 1, 20, 257, 3000, vocab};
      s.top_k = ks[Between(random, 0, 6)];
      if (i % 3 == 0) s.top_p = 0.05f + 0.09f * static_cast<float>(Between(random, 0, 10));
      if (i % 4 == 0) s.min_p = 0.003f * static_cast<float>(Between(random, 0, 110));
      s.logprobs = i % 6 == 0 ? 4 : 0;
      if (i % 5 == 0) {
        c.mask.resize((vocab + 31) / 32);
        for (uint32_t& word : c.mask) word = static_cast<uint32_t>(random() | random());
      }
      if (i % 7 == 0) {
        s.flags |= KVRM_SLOT_ADJUST;
        for (uint32_t t = 0; t < vocab && c.biases.size() < 40; t += 2) {
          c.biases.push_back({static_cast<int32_t>(t), Normal(random)});
        }
      }
      cases.push_back(c);
    }
    CheckAll(cases);
  }
}

TEST(MirostatDrawsAsOnTheCpu) {
  Random random(12);
  for (const uint32_t vocab : kVocabs) {
    std::vector<Case> cases;
    for (uint32_t i = 0; i < 60; ++i) {
      const Kind kind = static_cast<Kind>(i % static_cast<uint32_t>(Kind::kCount));
      const float temperatures[] = {1.0f, 0.6f, 3.0f, 0.0f, 1e30f, 1.0f, 1e-45f};
      Case c = {Logits(random, vocab, kind), Plain(random, temperatures[i % 7]), {}, {}, {}};
      kvrm_slot& s = c.slot;
      s.mirostat = 1 + i / 2 % 2;
      s.mirostat_mu = 0.11f * static_cast<float>(Between(random, 0, 130)) - 1.0f;
      s.logprobs = i % 6 == 0 ? 4 : 0;
      s.top_k = i % 5;  // does nothing, as the next ones
      s.typical_p = 0.1f * static_cast<float>(i % 4);
      if (i % 5 == 0) {
        c.mask.resize((vocab + 31) / 32);
        for (uint32_t& word : c.mask) word = static_cast<uint32_t>(random() & random() & random());
      }
      cases.push_back(c);
    }
    CheckAll(cases);
  }
}

// Where a token's last bit decides what stays, many draws find it.
TEST(SamplersOfOneDistributionMatchDrawByDraw) {
  Random random(11);
  for (const Kind kind : {Kind::kTies, Kind::kNormal}) {
    std::vector<Case> cases;
    const std::vector<float> logits = Logits(random, 700, kind);
    for (uint32_t i = 0; i < 120; ++i) {
      Case c = {logits, Plain(random, 1.0f), {}, {}, {}};
      const float share = 0.008f * static_cast<float>(i);
      if (i % 4 == 0) c.slot.top_n_sigma = 3 * share;
      if (i % 4 == 1) c.slot.typical_p = share;
      if (i % 4 == 2) c.slot.xtc_probability = 1, c.slot.xtc_threshold = 0.05f * share;
      if (i % 4 == 3) c.slot.dynatemp_range = 2 * share, c.slot.dynatemp_exponent = 3 * share;
      cases.push_back(c);
    }
    CheckAll(cases);
  }
}

// Many draws of one distribution meet its edges more often than many distributions.
TEST(SampleOfOneDistributionMatchesDrawByDraw) {
  Random random(5);
  std::vector<Case> cases;
  const std::vector<float> logits = Logits(random, 2500, Kind::kTies);
  for (uint32_t i = 0; i < 150; ++i) {
    Case c = {logits, Plain(random, 1.0f), {}, {}, {}};
    c.slot.top_k = i % 2 ? 30 + i : 0;
    c.slot.top_p = 0.01f + 0.0065f * static_cast<float>(i);
    cases.push_back(c);
  }
  CheckAll(cases);
}

// What the CPU's top-p of broad distributions rests on: where a higher x gives a lower exp(x), as it does
// for some neighbours, their weights do not lie on two sides of a magnitude's edge.
TEST(ExpNeverStepsBackOverAMagnitude) {
  constexpr int kAround = 1000;  // floats on each side of an edge
  const auto magnitude = [](float weight) { return BitsAs<uint32_t>(weight) >> 18; };
  size_t steps_back = 0, over_edges = 0;
  for (uint32_t m = magnitude(0x1p-126f); m < magnitude(1.0f); ++m) {
    const float edge = static_cast<float>(std::log(static_cast<double>(BitsAs<float>(m << 18))));
    float before = 1.0f;
    for (int i = -kAround; i <= kAround; ++i) {  // x falls
      const float weight = ExpF(BitsAs<float>(BitsAs<uint32_t>(edge) + static_cast<uint32_t>(i)));
      steps_back += weight > before;
      over_edges += magnitude(weight) > magnitude(before);
      before = weight;
    }
  }
  CHECK(steps_back > 0);
  CHECK_EQ(over_edges, 0u);
}

// All tokens are alike but for their order: the last one kept is known.
TEST(SampleTopPOfAFlatRowKeepsTheLowestIds) {
  Random random(6);
  std::vector<Case> cases;
  for (int i = 0; i < 8; ++i) {
    cases.push_back({std::vector<float>(16384, 1.5f), Plain(random, 1.0f), {}, {}, {}});
    cases.back().slot.top_p = 0.25f;
  }
  const Step step(cases);
  step.Check();
  int32_t highest = 0;
  for (uint32_t i = 0; i < cases.size(); ++i) highest = std::max(highest, step.Token(i));
  CHECK(highest < 4096);
  CHECK(highest > 2500);
}

// One token has nearly all the weight, and the draws fall into what top-p leaves of thousands that have
// 2^-30 each: they count, small as they are.
TEST(SampleTopPCountsTinyWeights) {
  Random random(9);
  std::vector<Case> cases;
  std::vector<float> logits(20000, -20.3f);
  logits[0] = 0;
  for (uint32_t counter = 0; cases.size() < 6; ++counter) {
    const uint32_t input[4] = {counter, 0, 0, 0};
    uint32_t output[4];
    cpu::Philox4x32(77, input, output);
    if (output[0] * 0x1p-32 < 1 - 1.2e-5) continue;
    cases.push_back({logits, Plain(random, 1.0f), {}, {}, {}});
    cases.back().slot.seed_lo = 77;
    cases.back().slot.seed_hi = 0;
    cases.back().slot.counter = counter;
    cases.back().slot.top_p = 0.999985f;
  }
  const Step step(cases);
  step.Check();
  for (uint32_t i = 0; i < cases.size(); ++i) CHECK(step.Token(i) > 0);
}

TEST(SampleAdjustsAndMasks) {
  Random random(7);
  for (const uint32_t vocab : kVocabs) {
    std::vector<Case> cases;
    for (int i = 0; i < 24; ++i) {
      const Kind kind = static_cast<Kind>(i % static_cast<int>(Kind::kCount));
      Case c = {Logits(random, vocab, kind), Plain(random, i % 2 ? 1.0f : 0.0f), {}, {}, {}};
      c.slot.logprobs = i % 5 == 0 ? 5 : 0;
      if (i % 3 != 2) {
        c.slot.flags |= KVRM_SLOT_ADJUST;
        c.slot.repetition_penalty = i % 4 ? 1.3f : 1.0f;
        c.slot.presence_penalty = i % 5 ? 0.4f : 0.0f;
        c.slot.frequency_penalty = i % 7 ? 0.2f : -0.1f;
        c.states.resize(vocab);
        for (uint16_t& state : c.states) {
          if (Between(random, 0, 2) == 0) {
            state = static_cast<uint16_t>(Between(random, 0, 1) << 15 | Between(random, 0, 3));
          }
          if (Between(random, 0, 99) == 0) state |= KVRM_MAX_COUNT;
        }
        // Every few tokens one, as many as there is room for, best and forbidden ones too.
        for (uint32_t t = Between(random, 0, 2); t < vocab && c.biases.size() < KVRM_MAX_BIASES && i % 2; t += 3) {
          c.biases.push_back({static_cast<int32_t>(t), Normal(random) * 3});
        }
      }
      if (i % 3 != 1) {
        c.mask.resize((vocab + 31) / 32);
        const uint32_t density = Between(random, 0, 3);  // 0: all are forbidden
        for (uint32_t& word : c.mask) {
          word = density == 0 ? 0 : static_cast<uint32_t>(density == 1 ? random() & random() & random() : random());
        }
      }
      if (i % 4 == 1) c.slot.top_k = 10;
      if (i % 4 == 3) c.slot.top_p = 0.9f;
      cases.push_back(c);
    }
    CheckAll(cases);
  }
}

TEST(SampleMoreRowsThanBlocks) {
  Random random(8);
  std::vector<Case> cases;
  for (int i = 0; i < 200; ++i) {
    Case c = {Logits(random, 100, Kind::kNormal), Plain(random, i % 2 ? 1.0f : 0.0f), {}, {}, {}};
    if (i % 3 == 0) c.mask.assign(4, 0x0f0ff0f0u);
    cases.push_back(c);
  }
  CheckAll(cases);
}

}  // namespace
}  // namespace kvrm::cuda
