// sampling_select.h - the n-th best token, and the token at which the weights of the best ones reach a
// sum. A span of the order best first is narrowed, one pass over the logits each time, until its tokens
// fit into shared memory and are sorted there. Mostly the first pass is the last: a bound is known.
#ifndef KVRM_CUDA_SAMPLING_SELECT_H_
#define KVRM_CUDA_SAMPLING_SELECT_H_

#include "sampling_row.h"

namespace kvrm::cuda {

// Of a set of tokens: how many, and their weights in units (Units in csrc/cpu/ops_sampling.cc).
struct Tally {
  uint64_t count;
  uint64_t units;
};

// What selecting needs to know about a row.
struct Selection {
  SampledRow row;
  Weighing weighing;    // no filters
  float units_per_one;  // units of the weight 1
  uint64_t best;        // place of the best token
};

__device__ __forceinline__ uint64_t UnitsOf(const Selection& s, float logit) {
  return static_cast<uint64_t>(FullWeight(s.weighing, logit) * s.units_per_one);
}

// Lists and tallies the tokens at places from `after` (exclusive) to `last` (inclusive). The list is whole
// when they are at most kListed. In no order.
__device__ __forceinline__ Tally Collect(const Selection& s, uint64_t after, uint64_t last, const RowArrays& arrays,
                                         RowShared& shared) {
  if (threadIdx.x == 0) shared.listed = 0;
  __syncthreads();
  const uint32_t lane = threadIdx.x % kWarp;
  uint64_t units[1] = {0};
  ForChunks(s.row, [&](uint32_t, uint32_t first, const float(&v)[kLaneIds]) {
    uint32_t members = 0;  // bit k: v[k]
    for (uint32_t k = 0; k < kLaneIds; ++k) {
      const uint32_t id = first + k * kChunkLanes;
      const uint64_t place = Place(v[k], id);
      if (id >= s.row.vocab || place <= after || place > last) continue;
      members |= 1u << k;
      units[0] += UnitsOf(s, v[k]);
    }
    if (__ballot_sync(~0u, members != 0) == 0) return;
    uint32_t upto = BitsSet(members);  // of the lanes up to and with this one
    for (uint32_t step = 1; step < kWarp; step *= 2) {
      const uint32_t below = __shfl_up_sync(~0u, upto, step);
      if (lane >= step) upto += below;
    }
    uint32_t at = 0;
    if (lane == kWarp - 1) at = atomicAdd(&shared.listed, upto);
    at = __shfl_sync(~0u, at, kWarp - 1) + upto - BitsSet(members);
    for (uint32_t k = 0; k < kLaneIds; ++k) {
      if ((members >> k & 1) == 0) continue;
      if (at < kListed) arrays.list[at] = Place(v[k], first + k * kChunkLanes);
      ++at;
    }
  });
  BlockSum(units, reinterpret_cast<uint64_t(*)[1]>(shared.sums));
  const Tally tally = {shared.listed, units[0]};
  __syncthreads();
  return tally;
}

// Sorts list[0 .. count), count <= kListed: bitonic, filled up with kNoPlace.
__device__ __forceinline__ void SortList(const RowArrays& arrays, uint32_t count) {
  uint32_t size = 2;
  while (size < count) size *= 2;
  for (uint32_t i = count + threadIdx.x; i < size; i += kSampleThreads) arrays.list[i] = kNoPlace;
  __syncthreads();
  for (uint32_t run = 2; run <= size; run *= 2) {
    for (uint32_t apart = run / 2; apart > 0; apart /= 2) {
      for (uint32_t p = threadIdx.x; p < size / 2; p += kSampleThreads) {
        const uint32_t i = p / apart * apart * 2 + p % apart, j = i + apart;
        const uint64_t a = arrays.list[i], b = arrays.list[j];
        if ((a > b) == ((i & run) == 0)) {
          arrays.list[i] = b;
          arrays.list[j] = a;
        }
      }
      __syncthreads();
    }
  }
}

// A span of places, and what lies before it.
struct Span {
  uint64_t after;
  uint64_t last;
  Tally before;
  Tally tally;  // of the span
};

__device__ __forceinline__ uint64_t Measure(const Tally& tally, bool by_units) {
  return by_units ? tally.units : tally.count;
}

// Narrows a span that was just collected around the token at which the measure reaches `wanted`, and sorts
// what is left of it. The span must reach it.
__device__ __forceinline__ void Narrow(const Selection& s, bool by_units, uint64_t wanted, Span& span,
                                       const RowArrays& arrays, RowShared& shared) {
  bool listed = true;
  while (span.tally.count > kListed) {
    const uint64_t middle = span.after + (span.last - span.after) / 2;
    const Tally lower = Collect(s, span.after, middle, arrays, shared);
    listed = Measure(span.before, by_units) + Measure(lower, by_units) >= wanted;
    if (listed) {
      span.last = middle;
      span.tally = lower;
    } else {
      span.after = middle;
      span.before = {span.before.count + lower.count, span.before.units + lower.units};
      span.tally = {span.tally.count - lower.count, span.tally.units - lower.units};
    }
  }
  if (!listed) span.tally = Collect(s, span.after, span.last, arrays, shared);
  SortList(arrays, static_cast<uint32_t>(span.tally.count));
}

// The units of the first count of the list.
__device__ __forceinline__ uint64_t ListUnits(const Selection& s, uint32_t count, const RowArrays& arrays,
                                              RowShared& shared) {
  uint64_t units[1] = {0};
  for (uint32_t i = threadIdx.x; i < count; i += kSampleThreads) units[0] += UnitsOf(s, LogitAt(arrays.list[i]));
  BlockSum(units, reinterpret_cast<uint64_t(*)[1]>(shared.sums));
  return units[0];
}

// The token of a narrowed span at which the units reach `wanted`, at least 1.
__device__ __forceinline__ uint64_t Crossing(const Selection& s, const Span& span, uint64_t wanted,
                                             const RowArrays& arrays, RowShared& shared) {
  constexpr uint32_t kEach = kListed / kSampleThreads;
  const uint32_t first = threadIdx.x * kEach, count = static_cast<uint32_t>(span.tally.count);
  uint64_t units[kEach], sum[1] = {0}, all[1];
  for (uint32_t i = 0; i < kEach; ++i) {
    units[i] = first + i < count ? UnitsOf(s, LogitAt(arrays.list[first + i])) : 0;
    sum[0] += units[i];
  }
  BlockScan(sum, all, reinterpret_cast<uint64_t(*)[1]>(shared.sums));
  uint64_t before = span.before.units + sum[0];
  for (uint32_t i = 0; i < kEach; ++i) {
    if (before < wanted && before + units[i] >= wanted) shared.found = arrays.list[first + i];
    before += units[i];
  }
  __syncthreads();
  const uint64_t found = shared.found;
  __syncthreads();
  return found;
}

// A place that at least n tokens come before or are at: the n-th best of the chunks' maxima.
__device__ __forceinline__ uint64_t BoundOfBest(uint32_t n, uint32_t vocab, const RowArrays& arrays) {
  const uint32_t chunks = Chunks(vocab);
  if (n > chunks || chunks > kListed) return Place(-INFINITY, UINT32_MAX);
  for (uint32_t c = threadIdx.x; c < chunks; c += kSampleThreads) arrays.list[c] = Place(arrays.maxima[c], c);
  SortList(arrays, chunks);
  const uint64_t bound = Place(LogitAt(arrays.list[n - 1]), UINT32_MAX);
  __syncthreads();
  return bound;
}

// Narrows to the n-th best token, 1 <= n <= vocab.
__device__ __forceinline__ Span SpanOfBest(const Selection& s, uint32_t n, const RowArrays& arrays, RowShared& shared) {
  Span span = {s.best - 1, BoundOfBest(n, s.row.vocab, arrays), {}, {}};
  span.tally = Collect(s, span.after, span.last, arrays, shared);
  Narrow(s, false, n, span, arrays, shared);
  return span;
}

// The last token that top-k leaves (top_k below the vocabulary's size), and of these top-p (below 1; else
// it is off).
__device__ __forceinline__ uint64_t LastOfTopK(const Selection& s, uint32_t top_k, float top_p, const RowArrays& arrays,
                                               RowShared& shared) {
  Span span = SpanOfBest(s, top_k, arrays, shared);
  const uint32_t listed = top_k - static_cast<uint32_t>(span.before.count);
  const uint64_t last = arrays.list[listed - 1];
  if (!(top_p < 1.0f)) return last;
  const bool whole = span.before.count == 0;
  if (!whole) {
    span = {s.best - 1, last, {}, {}};
    span.tally = Collect(s, span.after, span.last, arrays, shared);
  }
  const uint64_t total = whole ? ListUnits(s, top_k, arrays, shared) : span.tally.units;
  const int64_t reached = static_cast<int64_t>(top_p * static_cast<double>(static_cast<int64_t>(total)));
  const uint64_t wanted = reached > 0 ? static_cast<uint64_t>(reached) : 1;  // the best token is always left
  if (!whole) Narrow(s, true, wanted, span, arrays, shared);
  return Crossing(s, span, wanted, arrays, shared);
}

// The last token that top-p leaves of all; kNoPlace when it leaves all. total: of the weights.
__device__ __forceinline__ uint64_t LastOfTopP(const Selection& s, float top_p, double total, const RowArrays& arrays,
                                               RowShared& shared) {
  const int64_t reached = static_cast<int64_t>(top_p * total * s.units_per_one);
  const uint64_t wanted = reached > 0 ? static_cast<uint64_t>(reached) : 1;
  // Tokens lighter than this can hardly have the weight together that top-p takes away. Only a guess.
  const float light = (1.0f - top_p) * static_cast<float>(total) / static_cast<float>(s.row.vocab) / 2;
  const float guess = s.weighing.max + logf(light) / s.weighing.factor;
  Span span = {s.best - 1, Place(Comparable(guess), UINT32_MAX), {}, {}};
  span.tally = Collect(s, span.after, span.last, arrays, shared);
  if (span.tally.units < wanted) {
    span.last = Place(-INFINITY, UINT32_MAX);
    span.tally = Collect(s, span.after, span.last, arrays, shared);
    if (span.tally.units < wanted) return kNoPlace;
  }
  Narrow(s, true, wanted, span, arrays, shared);
  return Crossing(s, span, wanted, arrays, shared);
}

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_SAMPLING_SELECT_H_
