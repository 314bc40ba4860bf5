// Sampling: one block takes a row of logits from the model's numbers to a token, with the same result as
// csrc/cpu/ops_sampling.cc. Passes over a row read it again, from the L2 cache as a rule: a row with neither
// temperature nor log-probabilities takes one.
#include "../common/adjust.h"
#include "../common/samplers.h"
#include "kernels.h"
#include "sampling_row.h"
#include "sampling_select.h"
#include "sampling_shrink.h"

namespace kvrm::cuda {
namespace {

// Rows in work at once: blocks of a grid, and rows of adjusted logits in the scratch.
constexpr uint32_t kSampleBlocks = 128;

// out = the row under the slot's penalties, biases and mask.
__device__ void Adjust(const StepView& step, const kvrm_slot& slot, uint32_t index, const float* logits, float* out) {
  const bool adjusts = (slot.flags & KVRM_SLOT_ADJUST) != 0 && step.token_counts != nullptr;
  const uint32_t* mask = slot.mask == 0 ? nullptr : step.masks + uint64_t{slot.mask - 1} * step.mask_words;
  const uint16_t* states = adjusts ? step.token_counts + uint64_t{index} * step.vocab : nullptr;
  const Penalties penalties = {slot.repetition_penalty, slot.presence_penalty, slot.frequency_penalty};
  for (uint32_t i = threadIdx.x; i < step.vocab; i += kSampleThreads) {
    float logit = logits[i];
    if (adjusts) logit = Penalise(logit, states[i], penalties);
    out[i] = mask == nullptr || MaskAllows(mask, i) ? logit : -INFINITY;
  }
  __syncthreads();
  if (!adjusts) return;
  // A token is biased once, so that no two threads meet; one that the mask forbids stays so.
  const int32_t* tokens = step.bias_token + uint64_t{index} * KVRM_MAX_BIASES;
  const float* values = step.bias_value + uint64_t{index} * KVRM_MAX_BIASES;
  for (uint32_t i = threadIdx.x; i < step.bias_count[index]; i += kSampleThreads) {
    const int32_t token = tokens[i];
    if (mask == nullptr || MaskAllows(mask, token)) out[token] = AddBias(out[token], values[i]);
  }
  __syncthreads();
}

// What top-k, top-p and min-p leave at the slot's temperature, which is above 0. best: its logit is above -inf.
__device__ __forceinline__ Weighing Filter(const SampledRow& row, const kvrm_slot& slot, uint64_t best,
                                           float units_per_one, const RowArrays& arrays, RowShared& shared) {
  Weighing weighing = {LogitAt(best), Div(1.0f, slot.temperature)};
  const bool by_k = slot.top_k != 0 && slot.top_k < row.vocab, by_p = slot.top_p < 1.0f;
  if (by_k || by_p) {
    const Selection selection = {row, weighing, units_per_one, best};
    if (by_k) {
      weighing.last = LastOfTopK(selection, slot.top_k, slot.top_p, arrays, shared);
    } else {
      const double all = SumWeights(row, weighing, arrays, shared);
      weighing.last = LastOfTopP(selection, slot.top_p, all, arrays, shared);
    }
  }
  // The heaviest token weighs 1, so min-p is a bound on the weight, and 1 the most that it may be.
  if (slot.min_p > 0) weighing.least = slot.min_p < 1.0f ? slot.min_p : 1.0f;
  return weighing;
}

// Draws a token.
__device__ uint32_t DrawToken(const SampledRow& row, const kvrm_slot& slot, uint64_t best, float units_per_one,
                              const RowArrays& arrays, RowShared& shared) {
  const Weighing weighing = Filter(row, slot, best, units_per_one, arrays, shared);
  const double total = SumWeights(row, weighing, arrays, shared);
  return Draw(row, weighing, arrays, shared, total, RandomOf(slot, kDrawStream));
}

// Draws a token of what the slot's samplers leave of the row, which they change.
__device__ uint32_t DrawShrinking(ShrinkingRow out, const kvrm_slot& slot, uint64_t best, float units_per_one,
                                  const RowArrays& arrays, RowShared& shared) {
  const Samplers samplers = SamplersOf(slot);
  if (samplers.top_n_sigma > 0) best = KeepTopSigmas(out, samplers.top_n_sigma, best, arrays, shared);
  if (samplers.typical_p > 0) {
    if (slot.top_k != 0 && slot.top_k < out.vocab) {
      const Selection selection = {out.row(), {LogitAt(best), 1.0f}, units_per_one, best};
      const uint64_t last = LastOfTopK(selection, slot.top_k, 1.0f, arrays, shared);
      best = Drop(out, arrays, shared, [&](float logit, uint32_t id) { return Place(logit, id) > last; });
    }
    best = KeepTypical(out, samplers.typical_p, units_per_one, best, arrays, shared);
  }
  const Weighing kept = Filter(out.row(), slot, best, units_per_one, arrays, shared);
  best = Drop(out, arrays, shared, [&](float logit, uint32_t id) {
    return FullWeight(kept, logit) < kept.least || Place(logit, id) > kept.last;
  });
  if (HasXtc(samplers) && RandomOf(slot, kXtcStream) <= static_cast<double>(samplers.xtc_probability)) {
    best = DropTopChoices(out, samplers.xtc_threshold, best, arrays, shared);
  }
  float temperature = slot.temperature;
  if (samplers.dynatemp_range > 0) {
    const Weighing plain = {LogitAt(best), 1.0f};
    const double all = SumWeights(out.row(), plain, arrays, shared);
    const float mean = MeanGap(out.row(), plain, all, arrays, shared);
    const double left = CountTokens(out.row(), arrays, shared);
    temperature = DynamicTemperature(temperature, samplers, all, mean, left);
  }
  const Weighing weighing = {LogitAt(best), Div(1.0f, temperature)};
  const double total = SumWeights(out.row(), weighing, arrays, shared);
  return Draw(out.row(), weighing, arrays, shared, total, RandomOf(slot, kDrawStream));
}

// The places of the n best tokens of a row whose chunks' maxima are known, best first, at the list's begin; n at most
// the vocabulary's size, and above 0.
__device__ __forceinline__ void ListBest(const Selection& selection, uint32_t n, const RowArrays& arrays,
                                         RowShared& shared) {
  const Span span = SpanOfBest(selection, n, arrays, shared);
  if (span.before.count == 0) return;
  // The list begins after the first ones.
  const uint64_t last = arrays.list[n - 1 - span.before.count];
  Collect(selection, selection.best - 1, last, arrays, shared);
  SortList(arrays, n);
}

// How many tokens the first version of mirostat keeps.
__device__ uint32_t CountOfMirostat(const Selection& selection, float mu, const RowArrays& arrays, RowShared& shared) {
  const uint32_t listed = Least(kZipfTokens, selection.row.vocab);
  ListBest(selection, listed, arrays, shared);
  ZipfFit fit;
  for (uint32_t i = 1; i < listed && LogitAt(arrays.list[i]) > -INFINITY; ++i) {
    fit.Add(i, Gap(LogitAt(arrays.list[i - 1]), LogitAt(arrays.list[i])), selection.weighing.factor);
  }
  __syncthreads();
  return MirostatCount(fit, mu, selection.row.vocab);
}

// Draws a token of what mirostat leaves.
__device__ uint32_t DrawMirostat(const SampledRow& row, const kvrm_slot& slot, uint64_t best, float units_per_one,
                                 const RowArrays& arrays, RowShared& shared, float& surprise) {
  Weighing weighing = {LogitAt(best), Div(1.0f, slot.temperature)};
  if (slot.mirostat == 2) {
    weighing.least = LeastWeight(slot.mirostat_mu, SumWeights(row, weighing, arrays, shared));
  } else {
    const Selection selection = {row, weighing, units_per_one, best};
    const uint32_t count = CountOfMirostat(selection, slot.mirostat_mu, arrays, shared);
    if (count < row.vocab) weighing.last = LastOfTopK(selection, count, 1.0f, arrays, shared);
  }
  const double total = SumWeights(row, weighing, arrays, shared);
  const uint32_t token = Draw(row, weighing, arrays, shared, total, RandomOf(slot, kDrawStream));
  surprise = SurpriseOf(total, FullWeight(weighing, row.logits[token]));
  return token;
}

// The n best tokens of a row whose chunks' maxima are known, n at most the vocabulary's size.
__device__ void ReportTops(const SampledRow& row, uint64_t best, float log_sum, uint32_t n, kvrm_top* out,
                           const RowArrays& arrays, RowShared& shared) {
  if (n == 0) return;
  ListBest({row, {LogitAt(best), 1.0f}, 0.0f, best}, n, arrays, shared);
  if (threadIdx.x < n) {
    const uint64_t place = arrays.list[threadIdx.x];
    out[threadIdx.x] = {static_cast<int32_t>(IdAt(place)), Sub(LogitAt(place), log_sum)};
  }
  __syncthreads();
}

__global__ void __launch_bounds__(kSampleThreads, 1)
    SampleKernel(StepView step, const float* logits, float* scratch, float units_per_one) {
  __shared__ RowShared shared;
  const RowArrays arrays = LayOutArrays(DynamicShared<uint8_t>(), step.vocab);
  WaitForPrevious();
  LaunchDependents();
  for (uint32_t i = blockIdx.x; i < step.counts->samples; i += gridDim.x) {
    const HeadRow head = step.samples[i];
    const kvrm_slot& slot = step.slot[head.index];
    const SampledRow plain = {logits + uint64_t{i} * step.vocab, step.vocab};
    SampledRow row = plain;
    const bool shrinks = slot.temperature > 0 && slot.mirostat == 0 && AnySampler(SamplersOf(slot));
    const bool adjusted = (slot.flags & KVRM_SLOT_ADJUST) != 0 || slot.mask != 0 || shrinks;
    float* out = scratch + uint64_t{blockIdx.x} * step.vocab;
    if (adjusted) {
      Adjust(step, slot, head.index, plain.logits, out);
      row.logits = out;
    }
    uint64_t best = FindBest(row, arrays, shared);
    uint32_t token = IdAt(best);
    float surprise = 0;
    if (slot.temperature > 0 && LogitAt(best) != -INFINITY) {
      token = slot.mirostat != 0 ? DrawMirostat(row, slot, best, units_per_one, arrays, shared, surprise)
              : shrinks          ? DrawShrinking({out, step.vocab}, slot, best, units_per_one, arrays, shared)
                                 : DrawToken(row, slot, best, units_per_one, arrays, shared);
    }
    kvrm_slot_result result = {KVRM_RESULT_SAMPLED, static_cast<int32_t>(token), 0, 0, surprise};
    if (slot.logprobs != 0) {
      if (adjusted) best = FindBest(plain, arrays, shared);
      const float log_sum = LogSumExp(plain, LogitAt(best), arrays, shared);
      result.logprob = Sub(plain.logits[token], log_sum);
      result.num_tops = Least(head.top_logprobs, step.vocab);
      ReportTops(plain, best, log_sum, result.num_tops, step.slot_tops + uint64_t{head.index} * KVRM_MAX_TOP_LOGPROBS,
                 arrays, shared);
    }
    if (threadIdx.x == 0) {
      step.slot_results[head.index] = result;
      step.last_token[head.index] = result.token;
      if ((slot.flags & KVRM_SLOT_ADJUST) != 0 && step.token_counts != nullptr) {
        uint16_t& state = step.token_counts[uint64_t{head.index} * step.vocab + token];
        state = CountToken(state, 1);
      }
    }
    __syncthreads();
  }
}

__global__ void __launch_bounds__(kSampleThreads, 1)
    PromptKernel(StepView step, const float* logits, uint32_t first, uint32_t max_count) {
  __shared__ RowShared shared;
  const RowArrays arrays = LayOutArrays(DynamicShared<uint8_t>(), step.vocab);
  WaitForPrevious();
  LaunchDependents();
  const uint32_t all = step.counts->prompt_rows;
  const uint32_t count = all > first ? Least(all - first, max_count) : 0;
  for (uint32_t i = blockIdx.x; i < count; i += gridDim.x) {
    const HeadRow head = step.prompt_rows[first + i];
    const SampledRow row = {logits + uint64_t{i} * step.vocab, step.vocab};
    const uint64_t best = FindBest(row, arrays, shared);
    const float log_sum = LogSumExp(row, LogitAt(best), arrays, shared);
    const uint32_t tops = Least(head.top_logprobs, step.vocab);
    ReportTops(row, best, log_sum, tops, step.row_tops + uint64_t{head.index} * KVRM_MAX_TOP_LOGPROBS, arrays, shared);
    if (threadIdx.x == 0) {
      kvrm_row_result result = {0, 0, tops, 0};
      if (head.target >= 0) {
        result.flags = KVRM_RESULT_SAMPLED;
        result.logprob = Sub(row.logits[head.target], log_sum);
      }
      step.row_results[head.index] = result;
    }
    __syncthreads();
  }
}

// Units of the weight 1, as Units in csrc/cpu/ops_sampling.cc.
float UnitsPerOne(uint32_t vocab) {
  int bits = 0;
  while (bits < 32 && vocab >> bits != 0) ++bits;
  return std::ldexp(1.0f, 63 - bits);
}

}  // namespace

uint64_t SampleScratchBytes(uint32_t slots, uint32_t vocab) {
  return uint64_t{Least(slots, kSampleBlocks)} * vocab * sizeof(float);
}

void LaunchSample(const LaunchContext& context, const StepView& step, const float* logits, void* scratch) {
  const uint32_t bytes = RowArrayBytes(step.vocab);
  AllowShared(SampleKernel, bytes);
  Launch({dim3(Least(step.slots, kSampleBlocks)), dim3(kSampleThreads), bytes, context.stream, context.dependent},
         SampleKernel, step, logits, static_cast<float*>(scratch), UnitsPerOne(step.vocab));
}

void LaunchPromptLogprobs(const LaunchContext& context, const StepView& step, const float* logits, uint32_t first,
                          uint32_t max_count, void*) {
  const uint32_t bytes = RowArrayBytes(step.vocab);
  AllowShared(PromptKernel, bytes);
  Launch({dim3(Least(max_count, 2 * context.sms)), dim3(kSampleThreads), bytes, context.stream, context.dependent},
         PromptKernel, step, logits, first, max_count);
}

}  // namespace kvrm::cuda
