// Compiles every function of device.h once, so that a mistake in the PTX shows where no kernel uses it.
#include "device.h"

namespace kvrm::cuda {

__global__ void UseEverything(const uint8_t* in, float* out, uint32_t* words, float x) {
  __shared__ __align__(128) uint8_t tile[1024];
  __shared__ uint64_t bar;
  uint32_t* dynamic = DynamicShared<uint32_t>();
  WaitForPrevious();

  CpAsync16(tile + 16 * threadIdx.x, in + 16 * threadIdx.x);
  CpAsync16(tile + 512 + 16 * threadIdx.x, in, threadIdx.x > 3);
  CpAsyncCommit();
  CpAsyncWait<1>();
  CpAsyncWait<0>();
  __syncthreads();

  uint32_t a[4], b[4];
  LdMatrixX4(a, tile + 16 * threadIdx.x);
  LdMatrixX4Trans(b, tile + 16 * threadIdx.x);
  const uint32_t b2[2] = {b[0], b[1]};
  float d[4] = {};
  MmaM16N8K16<f16_t>(d, a, b2);
  MmaM16N8K16<bf16_t>(d, a, b2);

  if constexpr (kHasBulkCopy) {
    if (threadIdx.x == 0) {
      BarrierInit(&bar, 1);
      FenceBarrierInit();
      BarrierExpect(&bar, 1024);
      BulkCopy(tile, in, 1024, &bar);
    }
    __syncthreads();
    BarrierWait(&bar, 0);
  }

  const uint4 v = Load128(in), w = Load128Stream(in + 16);
  uint32_t pairs[2];
  Fp8x4ToHalf<f16_t>(v.x, pairs);
  words[0] = pairs[0] ^ pairs[1];
  Fp8x4ToHalf<bf16_t>(w.y, pairs);
  words[1] = pairs[0] ^ pairs[1];
  words[2] = Pack2<f16_t>(x, d[0]) ^ Pack2<bf16_t>(d[1], x);
  words[3] = FromFloat<fp8_t>(x).bits + FromFloat<f16_t>(x).bits + FromFloat<bf16_t>(x).bits;
  out[0] = ToFloat(fp8_t{tile[0]}) + ToFloat(f16_t{tile[1]}) + ToFloat(bf16_t{tile[2]}) + ToFloat(x);
  out[1] = Fma(x, x, x) + Mul(x, x) + Add(x, x) + Sub(x, d[2]) + Div(x, d[3]) + Sqrt(x) + ExpF(x);
  out[2] = FromFloat<float>(x);

  __syncwarp();
  int i = __shfl_sync(~0u, static_cast<int>(words[4]), 3);
  i += __shfl_xor_sync(~0u, i, 16) + __shfl_down_sync(~0u, i, 1) + __shfl_up_sync(~0u, i, 1);
  i += __any_sync(~0u, i) + __all_sync(~0u, i);
  words[5] = __ballot_sync(~0u, i) + __ldg(words + 8);
  unsigned long long* wide = reinterpret_cast<unsigned long long*>(words + 16);
  atomicAdd(wide, 1ull);
  words[6] =
      atomicAdd(words + 9, 1u) + atomicMax(words + 10, 2u) + atomicExch(words + 11, 3u) + atomicCAS(words + 12, 4u, 5u);
  __threadfence();
  dynamic[threadIdx.x] = words[7];
  LaunchDependents();
}

void LaunchEverything(cudaStream_t stream, const uint8_t* in, float* out, uint32_t* words) {
  AllowShared(&UseEverything, 64 << 10);
  Launch({.grid = 1, .block = dim3(32, 1), .shared_bytes = 64 << 10, .stream = stream, .dependent = true},
         &UseEverything, in, out, words, 1);
}

}  // namespace kvrm::cuda
