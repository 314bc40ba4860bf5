// sampling_row.h - one row of logits, and the passes of a block over it. The order of every sum is that of
// csrc/cpu/sampling-inl.h: 16 lanes add a chunk of 256 ids in f32, are halved, and chunks are added in
// ascending order in f64. A half-warp is the 16 lanes of a chunk.
#ifndef KVRM_CUDA_SAMPLING_ROW_H_
#define KVRM_CUDA_SAMPLING_ROW_H_

#include <cmath>

#include "block.h"
#include "device.h"

namespace kvrm::cuda {

inline constexpr uint32_t kSampleThreads = 512;
inline constexpr uint32_t kChunk = 256;      // ids per partial sum
inline constexpr uint32_t kChunkLanes = 16;  // of a partial sum
inline constexpr uint32_t kLaneIds = kChunk / kChunkLanes;
inline constexpr uint32_t kListed = 2048;  // tokens that are put in order at once

// Shared memory of a block. The arrays' lengths depend on the vocabulary.
struct RowShared {
  uint64_t sums[kMaxWarps][2];
  uint64_t found;
  float weights[kChunk];
  uint32_t listed;
  double total;
};
struct RowArrays {
  uint64_t* list;  // [kListed] places
  double* prefix;  // [chunks]: sum of the chunks up to and with this one
  float* sums;     // [chunks]
  float* maxima;   // [chunks]
};

KVRM_HD uint32_t Chunks(uint32_t vocab) { return (vocab + kChunk - 1) / kChunk; }
KVRM_HD uint32_t RowArrayBytes(uint32_t vocab) { return kListed * 8 + Chunks(vocab) * 16; }

__device__ __forceinline__ RowArrays LayOutArrays(uint8_t* memory, uint32_t vocab) {
  RowArrays arrays;
  arrays.list = reinterpret_cast<uint64_t*>(memory);
  arrays.prefix = reinterpret_cast<double*>(arrays.list + kListed);
  arrays.sums = reinterpret_cast<float*>(arrays.prefix + Chunks(vocab));
  arrays.maxima = arrays.sums + Chunks(vocab);
  return arrays;
}

struct SampledRow {
  const float* logits;
  uint32_t vocab;
};

// ---- the order best first -------------------------------------------------------------------------------

// A token's place: ascending from the best one, by the higher logit, then by the lower id.
__device__ __forceinline__ uint64_t Place(float logit, uint32_t id) {
  const uint32_t bits = BitsAs<uint32_t>(Add(logit, 0.0f));  // -0 is 0
  const uint32_t ascending = bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
  return uint64_t{~ascending} << 32 | id;
}
inline constexpr uint64_t kNoPlace = ~uint64_t{0};  // after all tokens

__device__ __forceinline__ uint32_t IdAt(uint64_t place) { return static_cast<uint32_t>(place); }
__device__ __forceinline__ float LogitAt(uint64_t place) {
  const uint32_t ascending = ~static_cast<uint32_t>(place >> 32);
  return BitsAs<float>(ascending ^ (ascending >> 31 ? 0x80000000u : 0xffffffffu));
}

__device__ __forceinline__ uint64_t BlockMin(uint64_t value, RowShared& shared) {
  for (uint32_t step = kWarp / 2; step > 0; step /= 2) {
    const uint64_t other = __shfl_xor_sync(~0u, value, step);
    value = other < value ? other : value;
  }
  if (threadIdx.x % kWarp == 0) shared.sums[threadIdx.x / kWarp][0] = value;
  __syncthreads();
  for (uint32_t w = 0; w < kSampleThreads / kWarp; ++w) {
    value = shared.sums[w][0] < value ? shared.sums[w][0] : value;
  }
  __syncthreads();
  return value;
}

// ---- passes ---------------------------------------------------------------------------------------------

// What a logit counts as where numbers are compared or weighed.
__device__ __forceinline__ float Comparable(float logit) { return logit == logit ? logit : -INFINITY; }

// body(chunk, first_id, v) for each chunk: v[k] is the logit of first_id + k * kChunkLanes, -inf for NaN
// and beyond the vocabulary. Both halves of a warp call it together; the second one's chunk may be one
// behind the last.
template <class Body>
__device__ __forceinline__ void ForChunks(const SampledRow& row, const Body& body) {
  const uint32_t chunks = Chunks(row.vocab);
  const uint32_t half = threadIdx.x / kChunkLanes, lane = threadIdx.x % kChunkLanes;
  for (uint32_t pair = half & ~1u; pair < chunks; pair += kSampleThreads / kChunkLanes) {
    const uint32_t chunk = pair + (half & 1), first = chunk * kChunk + lane;
    float v[kLaneIds];
    for (uint32_t k = 0; k < kLaneIds; ++k) {
      const uint32_t id = first + k * kChunkLanes;
      v[k] = id < row.vocab ? row.logits[id] : -INFINITY;
    }
    for (float& x : v) x = Comparable(x);
    body(chunk, first, v);
  }
}

// The place of the best token, and the maximum of each chunk.
__device__ __forceinline__ uint64_t FindBest(const SampledRow& row, const RowArrays& arrays, RowShared& shared) {
  const uint32_t chunks = Chunks(row.vocab);
  float best = -INFINITY;
  uint32_t best_id = UINT32_MAX;
  ForChunks(row, [&](uint32_t chunk, uint32_t first, const float(&v)[kLaneIds]) {
    float max = -INFINITY;
    for (uint32_t k = 0; k < kLaneIds; ++k) {
      const uint32_t id = first + k * kChunkLanes;
      if (v[k] > best || (best_id == UINT32_MAX && id < row.vocab)) {
        best = v[k];
        best_id = id;
      }
      max = v[k] > max ? v[k] : max;
    }
    for (uint32_t step = kChunkLanes / 2; step > 0; step /= 2) {
      const float other = __shfl_xor_sync(~0u, max, step);
      max = other > max ? other : max;
    }
    if (first % kChunk == 0 && chunk < chunks) arrays.maxima[chunk] = max;
  });
  return BlockMin(best_id == UINT32_MAX ? kNoPlace : Place(best, best_id), shared);
}

// The weights that a draw has left.
struct Weighing {
  float max;
  float factor;              // 1 / temperature
  uint64_t last = kNoPlace;  // tokens behind it have no weight,
  float least = 0;           // nor those lighter than this
};

__device__ __forceinline__ float FullWeight(const Weighing& weighing, float logit) {
  return logit == weighing.max ? 1.0f : ExpF(Mul(Sub(logit, weighing.max), weighing.factor));
}
__device__ __forceinline__ float Weight(const Weighing& weighing, float logit, uint32_t id) {
  const float weight = FullWeight(weighing, logit);
  return weight < weighing.least || Place(logit, id) > weighing.last ? 0.0f : weight;
}

// Sums of term(logit, id) over the chunks, their prefix sums, and the total, which is returned to every thread. The
// logit is -inf for NaN, and for ids beyond the vocabulary, whose term has to be 0.
template <class Term>
__device__ __forceinline__ double SumTerms(const SampledRow& row, const RowArrays& arrays, RowShared& shared,
                                           const Term& term) {
  const uint32_t chunks = Chunks(row.vocab);
  ForChunks(row, [&](uint32_t chunk, uint32_t first, const float(&v)[kLaneIds]) {
    float sum = 0;
    for (uint32_t k = 0; k < kLaneIds; ++k) sum = Add(sum, term(v[k], first + k * kChunkLanes));
    for (uint32_t step = kChunkLanes / 2; step > 0; step /= 2) sum = Add(sum, __shfl_xor_sync(~0u, sum, step));
    if (first % kChunk == 0 && chunk < chunks) arrays.sums[chunk] = sum;
  });
  __syncthreads();
  if (threadIdx.x == 0) {
    double total = 0;
    for (uint32_t c = 0; c < chunks; ++c) arrays.prefix[c] = total += arrays.sums[c];
    shared.total = total;
  }
  __syncthreads();
  return shared.total;
}
__device__ __forceinline__ double SumWeights(const SampledRow& row, const Weighing& weighing, const RowArrays& arrays,
                                             RowShared& shared) {
  return SumTerms(row, arrays, shared, [&](float logit, uint32_t id) { return Weight(weighing, logit, id); });
}

// The first token whose cumulative weight, ids ascending, exceeds u * total, after SumWeights.
__device__ __forceinline__ uint32_t Draw(const SampledRow& row, const Weighing& weighing, const RowArrays& arrays,
                                         RowShared& shared, double total, double u) {
  const double target = u * total;
  uint32_t low = 0, high = Chunks(row.vocab) - 1;  // the first whose prefix exceeds the target, or the last
  while (low < high) {
    const uint32_t middle = (low + high) / 2;
    if (arrays.prefix[middle] > target) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  const uint32_t first = low * kChunk;
  if (threadIdx.x < kChunk) {
    const uint32_t id = first + threadIdx.x;
    shared.weights[threadIdx.x] = id < row.vocab ? Weight(weighing, Comparable(row.logits[id]), id) : 0.0f;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    double before = low == 0 ? 0 : arrays.prefix[low - 1];
    uint32_t last = 0;  // the last token with weight: the chunk's sum, rounded otherwise, may exceed theirs
    for (uint32_t i = 0; i < kChunk && !(before > target); ++i) {
      if (shared.weights[i] <= 0) continue;
      last = first + i;
      before += shared.weights[i];
    }
    shared.found = last;
  }
  __syncthreads();
  return static_cast<uint32_t>(shared.found);
}

// log(sum(exp(logits))), as kvrm::cpu::LogSumExp. max: the highest logit.
__device__ __forceinline__ float LogSumExp(const SampledRow& row, float max, const RowArrays& arrays,
                                           RowShared& shared) {
  if (max == -INFINITY) return -INFINITY;
  const double sum = SumWeights(row, {max, 1.0f}, arrays, shared);
  return static_cast<float>(max + log(sum));
}

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_SAMPLING_ROW_H_
