#include "head_stage.h"

#include <algorithm>

#include "product.h"

namespace kvrm::cpu {
namespace {

// Normalises the rows and multiplies them with the head, into kLogits.
void ComputeLogits(const Step& step, const HeadRow* rows, uint32_t count) {
  const Model& model = step.model;
  const uint32_t hidden = model.config.hidden, vocab = model.config.vocab;
  float* in = step.F32(kHeadIn);
  float* logits = step.F32(kLogits);
  ForRanges(step.threads, double(count) * hidden / 4, count, 1, [&](uint32_t begin, uint32_t end, uint32_t) noexcept {
    for (uint32_t i = begin; i < end; ++i) {
      RmsNorm(model.final_norm, model.config.rms_eps, step.F32(kHidden) + size_t{rows[i].row} * hidden, hidden,
              in + size_t{i} * hidden);
    }
  });
  QuantizeInput(step, {&model.lm_head}, in, count);
  ForRanges(step.threads, MatMulNs(count, vocab, hidden, model.lm_head.dtype), vocab, 32,
            [&](uint32_t begin, uint32_t end, uint32_t member) noexcept {
              Product(step, member, model.lm_head, nullptr, in, hidden, count, logits, vocab, begin, end, false);
            });
}

uint32_t ReportTops(const float* logits, uint32_t vocab, float log_sum, uint32_t wanted, kvrm_top* out, void* scratch) {
  const uint32_t num = std::min(wanted, vocab);
  if (num != 0) TopLogprobs(logits, vocab, log_sum, num, out, scratch);
  return num;
}

void* Scratch(const Step& step, uint32_t member) {
  const size_t each = step.plan.bytes[kScratch] / step.threads.threads() / 64 * 64;
  return step.arena + step.plan.offset[kScratch] + member * each;
}

// What the slot samples from: its logits, adjusted where it wants that.
const float* Adjusted(const Step& step, const HeadRow& row, const float* logits, uint32_t member) {
  if (!TokenState::Adjusts(step.view.slots[row.index])) return logits;
  const uint32_t vocab = step.model.config.vocab;
  float* adjusted = step.F32(kAdjusted) + size_t{member} * vocab;
  step.tokens.Adjust(step.view, (vocab + 31) / 32, row.index, logits, adjusted);
  return adjusted;
}

void SampleSlot(const Step& step, const HeadRow& row, const float* logits, uint32_t member, const ResultView& result,
                std::vector<int32_t>& last_token) {
  const uint32_t vocab = step.model.config.vocab;
  const kvrm_slot& slot = step.view.slots[row.index];
  const SampleParams params = {slot.temperature, slot.top_k >= vocab ? 0 : slot.top_k,        slot.top_p,
                               slot.min_p,       uint64_t{slot.seed_hi} << 32 | slot.seed_lo, slot.counter,
                               SamplersOf(slot)};
  float surprise = 0;
  const int32_t token = Sample(Adjusted(step, row, logits, member), vocab, params, Scratch(step, member), &surprise);
  if (slot.flags & KVRM_SLOT_ADJUST) step.tokens.Count(row.index, token);
  kvrm_slot_result& out = result.slots[row.index];
  out = {KVRM_RESULT_SAMPLED, token, 0, 0, surprise};
  if (slot.logprobs != 0) {
    const float log_sum = LogSumExp(logits, vocab);
    out.logprob = logits[token] - log_sum;
    out.num_tops = ReportTops(logits, vocab, log_sum, row.top_logprobs,
                              result.slot_tops + size_t{row.index} * KVRM_MAX_TOP_LOGPROBS, Scratch(step, member));
  }
  last_token[row.index] = token;
}

void ReportPromptRow(const Step& step, const HeadRow& row, const float* logits, uint32_t member,
                     const ResultView& result) {
  const uint32_t vocab = step.model.config.vocab;
  const float log_sum = LogSumExp(logits, vocab);
  kvrm_row_result& out = result.rows[row.index];
  if (row.target >= 0) {
    out.flags = KVRM_RESULT_SAMPLED;
    out.logprob = logits[row.target] - log_sum;
  }
  out.num_tops = ReportTops(logits, vocab, log_sum, row.top_logprobs,
                            result.row_tops + size_t{row.index} * KVRM_MAX_TOP_LOGPROBS, Scratch(step, member));
}

}  // namespace

void RunHead(const Step& step, const ResultView& result, std::vector<int32_t>& last_token) {
  const uint32_t vocab = step.model.config.vocab, capacity = step.config.slots;
  const float* logits = step.F32(kLogits);
  const std::vector<HeadRow>& prompt = step.batch.prompt_rows;
  for (uint32_t first = 0; first < prompt.size(); first += capacity) {
    const uint32_t count = std::min<uint32_t>(capacity, prompt.size() - first);
    ComputeLogits(step, &prompt[first], count);
    ForRanges(step.threads, double(count) * vocab, count, 1, [&](uint32_t begin, uint32_t end, uint32_t m) noexcept {
      for (uint32_t i = begin; i < end; ++i)
        ReportPromptRow(step, prompt[first + i], logits + size_t{i} * vocab, m, result);
    });
  }
  const std::vector<HeadRow>& samples = step.batch.samples;
  const uint32_t count = static_cast<uint32_t>(samples.size());
  if (count == 0) return;
  ComputeLogits(step, samples.data(), count);
  ForRanges(step.threads, double(count) * vocab, count, 1, [&](uint32_t begin, uint32_t end, uint32_t m) noexcept {
    for (uint32_t i = begin; i < end; ++i) {
      SampleSlot(step, samples[i], logits + size_t{i} * vocab, m, result, last_token);
    }
  });
}

}  // namespace kvrm::cpu
