// block.h - sums and scans over the threads of one block. Every thread of the block calls them together;
// the block is a multiple of 32 threads, at most 1,024.
#ifndef KVRM_CUDA_BLOCK_H_
#define KVRM_CUDA_BLOCK_H_

#include <cstdint>

#include "device.h"

namespace kvrm::cuda {

inline constexpr uint32_t kWarp = 32;
inline constexpr uint32_t kMaxWarps = 32;

KVRM_HD uint32_t Least(uint32_t a, uint32_t b) { return a < b ? a : b; }

KVRM_HD uint32_t BitsSet(uint32_t bits) {
#ifdef __CUDA_ARCH__
  return __popc(bits);
#else
  return __builtin_popcount(bits);
#endif
}

// The exclusive prefix sum of N values of each thread, in place; total: the sums over the block. warp_sums
// is shared memory, and free again on return.
template <class T, int N>
__device__ __forceinline__ void BlockScan(T (&value)[N], T (&total)[N], T (*warp_sums)[N]) {
  const uint32_t lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  T inclusive[N];
  for (int n = 0; n < N; ++n) {
    inclusive[n] = value[n];
    for (uint32_t step = 1; step < kWarp; step *= 2) {
      const T below = __shfl_up_sync(~0u, inclusive[n], step);
      if (lane >= step) inclusive[n] += below;
    }
    if (lane == kWarp - 1) warp_sums[warp][n] = inclusive[n];
  }
  __syncthreads();
  for (int n = 0; n < N; ++n) {
    T before = 0, all = 0;
    for (uint32_t w = 0; w < warps; ++w) {
      if (w == warp) before = all;
      all += warp_sums[w][n];
    }
    value[n] = before + inclusive[n] - value[n];
    total[n] = all;
  }
  __syncthreads();
}

// The sum of N values of each thread over the block, for every thread.
template <class T, int N>
__device__ __forceinline__ void BlockSum(T (&value)[N], T (*warp_sums)[N]) {
  const uint32_t lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  for (int n = 0; n < N; ++n) {
    for (uint32_t step = kWarp / 2; step > 0; step /= 2) value[n] += __shfl_xor_sync(~0u, value[n], step);
    if (lane == 0) warp_sums[warp][n] = value[n];
  }
  __syncthreads();
  for (int n = 0; n < N; ++n) {
    value[n] = 0;
    for (uint32_t w = 0; w < warps; ++w) value[n] += warp_sums[w][n];
  }
  __syncthreads();
}

// The last of count ascending values that is at most `wanted`; the first must be.
template <class Value>
__device__ __forceinline__ uint32_t LastAtMost(uint32_t count, uint32_t wanted, const Value& value) {
  uint32_t low = 0, high = count;
  while (high - low > 1) {
    const uint32_t middle = low + (high - low) / 2;
    if (value(middle) <= wanted) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_BLOCK_H_
