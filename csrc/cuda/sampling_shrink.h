// sampling_shrink.h - llama.cpp's samplers, with the same result as Shrinking in csrc/cpu/ops_sampling.cc: they take
// tokens out of a row by making its logits -inf. Each is some passes over the row; rows without them have none.
#ifndef KVRM_CUDA_SAMPLING_SHRINK_H_
#define KVRM_CUDA_SAMPLING_SHRINK_H_

#include "../common/philox.h"
#include "../common/samplers.h"
#include "sampling_select.h"

namespace kvrm::cuda {

__device__ __forceinline__ double RandomOf(const kvrm_slot& slot, uint32_t stream) {
  const uint32_t counter[4] = {slot.counter, stream, 0, 0};
  uint32_t random[4];
  PhiloxRounds(uint64_t{slot.seed_hi} << 32 | slot.seed_lo, counter, random);
  return random[0] * 0x1p-32;
}

// A row in the block's own memory.
struct ShrinkingRow {
  float* logits;
  uint32_t vocab;
  __device__ __forceinline__ SampledRow row() const { return {logits, vocab}; }
};

// Takes the tokens out for which drop(logit, id) holds; at least one has to stay. Returns the place of the best, with
// the chunks' maxima.
template <class Test>
__device__ __forceinline__ uint64_t Drop(const ShrinkingRow& out, const RowArrays& arrays, RowShared& shared,
                                         const Test& drop) {
  for (uint32_t i = threadIdx.x; i < out.vocab; i += kSampleThreads) {
    const float logit = out.logits[i];
    if (!(logit > -INFINITY) || drop(logit, i)) out.logits[i] = -INFINITY;  // also NaN
  }
  __syncthreads();
  return FindBest(out.row(), arrays, shared);
}

__device__ __forceinline__ double CountTokens(const SampledRow& row, const RowArrays& arrays, RowShared& shared) {
  return SumTerms(row, arrays, shared, [&](float logit, uint32_t) { return logit > -INFINITY ? 1.0f : 0.0f; });
}

// Of the weights, whose sum is `total`.
__device__ __forceinline__ float MeanGap(const SampledRow& row, const Weighing& weighing, double total,
                                         const RowArrays& arrays, RowShared& shared) {
  const double sum = SumTerms(row, arrays, shared, [&](float logit, uint32_t) {
    const float weight = FullWeight(weighing, logit);
    return weight == 0 ? 0.0f : Mul(weight, Gap(logit, weighing.max));
  });
  return static_cast<float>(RoundedDiv(sum, total));
}

__device__ __forceinline__ uint64_t KeepTopSigmas(const ShrinkingRow& out, float sigmas, uint64_t best,
                                                  const RowArrays& arrays, RowShared& shared) {
  const float max = LogitAt(best);
  const double count = CountTokens(out.row(), arrays, shared);
  const double gaps = SumTerms(out.row(), arrays, shared,
                               [&](float logit, uint32_t) { return logit > -INFINITY ? Gap(logit, max) : 0.0f; });
  const float mean = static_cast<float>(RoundedDiv(gaps, count));
  const double squares = SumTerms(out.row(), arrays, shared, [&](float logit, uint32_t) {
    const float apart = Sub(Gap(logit, max), mean);
    return logit > -INFINITY ? Mul(apart, apart) : 0.0f;
  });
  const float least = -Mul(sigmas, static_cast<float>(sqrt(RoundedDiv(squares, count))));
  return Drop(out, arrays, shared, [&](float logit, uint32_t) { return Gap(logit, max) < least; });
}

// Order of tokens, most typical first, then by the lower id.
__device__ __forceinline__ uint64_t TypicalPlace(float logit, uint32_t id, float max, float mean) {
  return uint64_t{BitsAs<uint32_t>(Atypicality(Gap(logit, max), mean))} << 32 | id;
}

// The place at which the units, most typical first, reach `wanted`, eight bits of it a pass. Integers have one sum, in
// whatever order they are added.
__device__ __forceinline__ uint64_t LastTypical(const Selection& s, float mean, uint64_t wanted,
                                                const RowArrays& arrays) {
  constexpr uint32_t kBins = 256;
  unsigned long long* bins = reinterpret_cast<unsigned long long*>(arrays.list);
  uint64_t found = 0, before = 0;
  for (int shift = 56; shift >= 0; shift -= 8) {
    for (uint32_t i = threadIdx.x; i < kBins; i += kSampleThreads) bins[i] = 0;
    __syncthreads();
    uint32_t bin = 0;  // most places begin alike: neighbours are added before they meet in a bin
    uint64_t units = 0;
    for (uint32_t i = threadIdx.x; i < s.row.vocab; i += kSampleThreads) {
      const float logit = Comparable(s.row.logits[i]);
      const uint64_t place = TypicalPlace(logit, i, s.weighing.max, mean);
      if ((place ^ found) >> shift >> 8 != 0) continue;
      const uint32_t own = static_cast<uint32_t>(place >> shift) % kBins;
      if (own != bin && units != 0) {
        atomicAdd(&bins[bin], static_cast<unsigned long long>(units));
        units = 0;
      }
      bin = own;
      units += UnitsOf(s, logit);
    }
    if (units != 0) atomicAdd(&bins[bin], static_cast<unsigned long long>(units));
    __syncthreads();
    uint32_t at = 0;
    while (at < kBins - 1 && before + bins[at] < wanted) before += bins[at++];
    found |= uint64_t{at} << shift;
    __syncthreads();
  }
  return found;
}

// C. Meister, T. Pimentel, G. Wiher, R. Cotterell, "Locally typical sampling", 2022.
__device__ __forceinline__ uint64_t KeepTypical(const ShrinkingRow& out, float typical_p, float units_per_one,
                                                uint64_t best, const RowArrays& arrays, RowShared& shared) {
  const Selection s = {out.row(), {LogitAt(best), 1.0f}, units_per_one, best};
  const double total = SumWeights(s.row, s.weighing, arrays, shared);
  const float max = s.weighing.max, mean = MeanGap(s.row, s.weighing, total, arrays, shared);
  uint64_t units[1] = {0};
  for (uint32_t i = threadIdx.x; i < out.vocab; i += kSampleThreads) units[0] += UnitsOf(s, Comparable(out.logits[i]));
  BlockSum(units, reinterpret_cast<uint64_t(*)[1]>(shared.sums));
  const int64_t wanted = TypicalUnits(typical_p, static_cast<int64_t>(units[0]));
  const uint64_t last = LastTypical(s, mean, static_cast<uint64_t>(wanted), arrays);
  return Drop(out, arrays, shared, [&](float logit, uint32_t id) { return TypicalPlace(logit, id, max, mean) > last; });
}

// XTC's: of the tokens that are probable enough the last one alone stays.
__device__ __forceinline__ uint64_t DropTopChoices(const ShrinkingRow& out, float threshold, uint64_t best,
                                                   const RowArrays& arrays, RowShared& shared) {
  const Weighing weighing = {LogitAt(best), 1.0f};
  const double total = SumWeights(out.row(), weighing, arrays, shared);
  const float least = static_cast<float>(RoundedMul(static_cast<double>(threshold), total));
  uint64_t last = 0;
  for (uint32_t i = threadIdx.x; i < out.vocab; i += kSampleThreads) {
    const float logit = out.logits[i];
    if (!(logit > -INFINITY) || FullWeight(weighing, logit) < least) continue;
    const uint64_t place = Place(logit, i);
    last = place > last ? place : last;
  }
  last = ~BlockMin(~last, shared);
  return Drop(out, arrays, shared, [&](float logit, uint32_t id) { return Place(logit, id) < last; });
}

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_SAMPLING_SHRINK_H_
