// Log-probabilities of a prompt's rows against the CPU's functions.
#include <cstdlib>
#include <memory>

#include "../common/test.h"
#include "../cpu/ops.h"
#include "sampling_test_util.h"

namespace kvrm::cuda {
namespace {

using test::Array;
using test::Between;
using test::Kind;
using test::Logits;
using test::Near;
using test::Random;

void CheckPrompt(uint32_t vocab, uint32_t rows, uint32_t first, uint32_t max_count) {
  Random random(vocab + rows);
  std::vector<HeadRow> list;
  for (uint32_t i = 0; i < rows; ++i) {
    list.push_back({i, 3 * i + 1, i % 4 == 0 ? -1 : static_cast<int32_t>(Between(random, 0, vocab - 1)), i % 21});
  }
  std::vector<float> logits;
  for (uint32_t i = 0; i < max_count; ++i) {
    const std::vector<float> row = Logits(random, vocab, static_cast<Kind>(i % static_cast<int>(Kind::kCount)));
    logits.insert(logits.end(), row.begin(), row.end());
  }
  StepCounts counts = {};
  counts.prompt_rows = rows;
  Array<StepCounts> step_counts(std::vector<StepCounts>{counts});
  Array<HeadRow> prompt_rows(list);
  Array<float> row(logits);
  Array<kvrm_row_result> results(3 * rows);
  Array<kvrm_top> tops(size_t{3} * rows * KVRM_MAX_TOP_LOGPROBS);
  StepView step = {};
  step.vocab = vocab;
  step.counts = step_counts.data();
  step.prompt_rows = prompt_rows.data();
  step.row_results = results.data();
  step.row_tops = tops.data();
  LaunchPromptLogprobs(test::Context(), step, row.data(), first, max_count, nullptr);
  test::Finish();
  const std::vector<kvrm_row_result> found = results.Read();
  const std::vector<kvrm_top> found_tops = tops.Read();
  const std::unique_ptr<void, void (*)(void*)> scratch(std::aligned_alloc(64, cpu::SampleScratchBytes(vocab)),
                                                       std::free);
  for (uint32_t i = 0; i < rows; ++i) {
    const HeadRow& head = list[i];
    const kvrm_row_result& result = found[head.index];
    if (i < first || i >= first + max_count) {
      CHECK_EQ(result.flags, 0xffffffffu);
      continue;
    }
    const float* mine = &logits[size_t{i - first} * vocab];
    const float log_sum = cpu::LogSumExp(mine, vocab);
    CHECK_EQ(result.flags, head.target < 0 ? 0u : KVRM_RESULT_SAMPLED);
    const float wanted = head.target < 0 ? 0.0f : mine[head.target] - log_sum;
    CHECK(Near(result.logprob, wanted, log_sum));
    CHECK_EQ(result.num_tops, std::min(head.top_logprobs, vocab));
    CHECK_EQ(result.reserved0, 0u);
    std::vector<kvrm_top> best(result.num_tops);
    if (!best.empty()) {
      cpu::TopLogprobs(mine, vocab, log_sum, static_cast<uint32_t>(best.size()), best.data(), scratch.get());
    }
    for (uint32_t j = 0; j < best.size(); ++j) {
      CHECK_EQ(found_tops[size_t{head.index} * KVRM_MAX_TOP_LOGPROBS + j].token, best[j].token);
    }
  }
}

TEST(PromptLogprobsMatchTheCpu) {
  CheckPrompt(5, 12, 0, 12);
  CheckPrompt(257, 40, 0, 16);
  CheckPrompt(257, 40, 32, 16);
  CheckPrompt(4096, 24, 0, 24);
  CheckPrompt(32000, 12, 4, 6);
  CheckPrompt(300, 3, 4, 4);
}

}  // namespace
}  // namespace kvrm::cuda
