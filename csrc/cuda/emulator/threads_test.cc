// Threads of a block: barriers, shuffles, votes, atomics; what the emulator says when they go wrong.
#include <vector>

#include "../../common/test.h"
#include "../device.h"

namespace kvrm::cuda {
namespace {

__global__ void Reverse(const int* in, int* out, int n) {
  __shared__ int shared[256];
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  shared[threadIdx.x] = i < n ? in[i] : 0;
  __syncthreads();
  if (i < n) out[i] = shared[blockDim.x - 1 - threadIdx.x];
}

TEST(EmulatorRunsAKernel) {
  constexpr int kCount = 1024;
  std::vector<int> host(kCount);
  for (int i = 0; i < kCount; ++i) host[i] = i;
  int *in, *out;
  CHECK_EQ(cudaMalloc(&in, kCount * 4), cudaSuccess);
  CHECK_EQ(cudaMalloc(&out, kCount * 4), cudaSuccess);
  CHECK_EQ(cudaMemcpy(in, host.data(), kCount * 4, cudaMemcpyHostToDevice), cudaSuccess);
  Launch({.grid = 4, .block = 256}, &Reverse, in, out, kCount);
  CHECK_EQ(cudaMemcpy(host.data(), out, kCount * 4, cudaMemcpyDeviceToHost), cudaSuccess);
  for (int i = 0; i < kCount; ++i) CHECK_EQ(host[i], i / 256 * 256 + 255 - i % 256);
  CHECK_EQ(cudaFree(in), cudaSuccess);
  CHECK_EQ(cudaFree(out), cudaSuccess);
}

}  // namespace
}  // namespace kvrm::cuda
