// Edits of the slots' token states.
#include "../common/adjust.h"
#include "../common/test.h"
#include "step_test_util.h"

namespace kvrm::cuda {
namespace {

using test::Array;
using test::Between;
using test::Random;
using test::SameBytes;

struct TokenStates {
  std::vector<uint16_t> counts;  // [S][vocab]
  std::vector<uint32_t> bias_count;
  std::vector<int32_t> bias_token;
  std::vector<float> bias_value;
};

void ApplySerially(const std::vector<kvrm_edit>& edits, uint32_t vocab, TokenStates& states) {
  for (const kvrm_edit& edit : edits) {
    const uint32_t slot = edit.slot_kind & 0xffff, kind = edit.slot_kind >> 16;
    uint16_t* counts = &states.counts[size_t{slot} * vocab];
    if (kind == KVRM_EDIT_CLEAR) {
      if (edit.value == 0) std::fill_n(counts, vocab, uint16_t{0});
      states.bias_count[slot] = 0;
    } else if (kind == KVRM_EDIT_PROMPT) {
      counts[edit.token] |= kTokenInPrompt;
    } else if (kind == KVRM_EDIT_COUNT) {
      counts[edit.token] = CountToken(counts[edit.token], edit.value);
    } else {
      const size_t at = size_t{slot} * KVRM_MAX_BIASES + states.bias_count[slot]++;
      states.bias_token[at] = edit.token;
      std::memcpy(&states.bias_value[at], &edit.value, 4);
    }
  }
}

// A slot's edits of one step; biased: tokens that have a bias.
void AddEdits(Random& random, uint32_t slot, uint32_t vocab, uint32_t count, std::vector<bool>& biased,
              std::vector<kvrm_edit>& edits) {
  const uint32_t kinds[] = {KVRM_EDIT_PROMPT, KVRM_EDIT_COUNT, KVRM_EDIT_BIAS};
  if (Between(random, 0, 1)) {
    edits.push_back({slot, 0, Between(random, 0, 1), 0});
    biased.assign(vocab, false);
  }
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t kind = kinds[Between(random, 0, 2)];
    // Few tokens, so that they meet.
    const uint32_t token = Between(random, 0, kind == KVRM_EDIT_BIAS ? vocab - 1 : std::min(vocab - 1, count / 3));
    uint32_t value = 0;
    if (kind == KVRM_EDIT_COUNT) value = Between(random, 0, 9) == 0 ? 20000 : Between(random, 1, 5);
    if (kind == KVRM_EDIT_BIAS) {
      if (biased[token]) continue;
      biased[token] = true;
      value = BitsAs<uint32_t>(static_cast<float>(Between(random, 0, 200)) - 100.0f);
    }
    edits.push_back({slot | kind << 16, static_cast<int32_t>(token), value, 0});
  }
}

void CheckEdits(Random& random, uint32_t slots, uint32_t vocab) {
  TokenStates states = {std::vector<uint16_t>(size_t{slots} * vocab), std::vector<uint32_t>(slots),
                        std::vector<int32_t>(size_t{slots} * KVRM_MAX_BIASES),
                        std::vector<float>(size_t{slots} * KVRM_MAX_BIASES)};
  Array<uint16_t> counts(states.counts);
  Array<uint32_t> bias_count(states.bias_count);
  Array<int32_t> bias_token(states.bias_token);
  Array<float> bias_value(states.bias_value);
  std::vector<std::vector<bool>> biased(slots, std::vector<bool>(vocab));
  for (int round = 0; round < 4; ++round) {
    std::vector<kvrm_edit> edits;
    for (uint32_t slot = 0; slot < slots; ++slot) {
      if (round != 0 && Between(random, 0, 2) == 0) continue;
      AddEdits(random, slot, vocab, Between(random, 0, 3) == 0 ? 700 : Between(random, 0, 30), biased[slot], edits);
    }
    ApplySerially(edits, vocab, states);
    kvrm_header header = {};
    header.num_edits = static_cast<uint32_t>(edits.size());
    Array<kvrm_header> headers(std::vector<kvrm_header>{header});
    Array<kvrm_edit> list(edits);
    StepView step = {};
    step.slots = slots;
    step.vocab = vocab;
    step.header = headers.data();
    step.edits = list.data();
    step.token_counts = counts.data();
    step.bias_count = bias_count.data();
    step.bias_token = bias_token.data();
    step.bias_value = bias_value.data();
    LaunchEdits(test::Context(), step);
    test::Finish();
    CHECK(SameBytes(counts.Read(), states.counts));
    CHECK(SameBytes(bias_count.Read(), states.bias_count));
    CHECK(SameBytes(bias_token.Read(), states.bias_token));
    CHECK(SameBytes(bias_value.Read(), states.bias_value));
  }
}

TEST(EditsMatchASerialApplication) {
  Random random(5);
  CheckEdits(random, 1, 1000);
  CheckEdits(random, 6, 801);
  CheckEdits(random, 5, 40);
}

TEST(EditsFillAllBiasesOfASlot) {
  constexpr uint32_t kVocab = 2000;
  std::vector<kvrm_edit> edits;
  for (uint32_t i = 0; i < KVRM_MAX_BIASES; ++i) {
    edits.push_back({1 | KVRM_EDIT_BIAS << 16, static_cast<int32_t>(i), BitsAs<uint32_t>(static_cast<float>(i)), 0});
  }
  kvrm_header header = {};
  header.num_edits = KVRM_MAX_BIASES;
  Array<kvrm_header> headers(std::vector<kvrm_header>{header});
  Array<kvrm_edit> list(edits);
  Array<uint16_t> counts(2 * kVocab, 0);
  Array<uint32_t> bias_count(2, 0);
  Array<int32_t> bias_token(2 * KVRM_MAX_BIASES);
  Array<float> bias_value(2 * KVRM_MAX_BIASES);
  StepView step = {};
  step.slots = 2;
  step.vocab = kVocab;
  step.header = headers.data();
  step.edits = list.data();
  step.token_counts = counts.data();
  step.bias_count = bias_count.data();
  step.bias_token = bias_token.data();
  step.bias_value = bias_value.data();
  LaunchEdits(test::Context(), step);
  test::Finish();
  CHECK_EQ(bias_count.Read()[0], 0u);
  CHECK_EQ(bias_count.Read()[1], KVRM_MAX_BIASES);
  const std::vector<int32_t> tokens = bias_token.Read();
  const std::vector<float> values = bias_value.Read();
  for (uint32_t i = 0; i < KVRM_MAX_BIASES; ++i) {
    CHECK_EQ(tokens[KVRM_MAX_BIASES + i], i);
    CHECK_EQ(values[KVRM_MAX_BIASES + i], static_cast<float>(i));
  }
}

}  // namespace
}  // namespace kvrm::cuda
