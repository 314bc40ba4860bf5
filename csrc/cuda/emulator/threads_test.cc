// Threads of a block: the orders in which they run, and what the emulator says when they wait in vain.
#include <set>
#include <vector>

#include "test_util.h"

namespace kvrm::cuda::emulator {
namespace {

__global__ void Neighbour(uint32_t* out, bool sync) {
  uint32_t* shared = DynamicShared<uint32_t>();
  shared[threadIdx.x] = threadIdx.x;
  if (sync) __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = shared[(threadIdx.x + 40) % blockDim.x];
}

// Whether every thread of many blocks read what its neighbour had written.
bool NeighboursMet(bool sync) {
  Array<uint32_t> out(8 * 128);
  Launch({.grid = 8, .block = 128, .shared_bytes = 512}, &Neighbour, out.get(), sync);
  const std::vector<uint32_t> found = out.Read();
  bool met = true;
  for (uint32_t i = 0; i < found.size(); ++i) met = met && found[i] == (i + 40) % 128;
  return met;
}

TEST(EmulatorShowsAMissingBarrier) {
  for (const char* seed : {"1", "2", "3"}) {
    const Setting setting("KVRM_EMULATOR_SEED", seed);
    CHECK(NeighboursMet(true));
    CHECK(!NeighboursMet(false));
  }
}

__global__ void LaneOrder(uint32_t* order, uint32_t* turn) { order[atomicAdd(turn, 1u)] = threadIdx.x; }

TEST(EmulatorOrdersThreadsByTheSeed) {
  std::set<std::vector<uint32_t>> orders;
  std::vector<uint32_t> first;
  for (int i = 0; i < 8; ++i) {
    const Setting setting("KVRM_EMULATOR_SEED", std::to_string(i % 4));
    Array<uint32_t> order(96), turn(std::vector<uint32_t>{0});
    Launch({.grid = 1, .block = 96}, &LaneOrder, order.get(), turn.get());
    const std::vector<uint32_t> found = order.Read();
    CHECK_EQ(std::set<uint32_t>(found.begin(), found.end()).size(), 96u);
    orders.insert(found);
  }
  CHECK_EQ(orders.size(), 4u);  // each seed its own, the same every time
}

__global__ void EveryBlock(uint32_t* seen) {
  if (threadIdx.x == 0) atomicAdd(&seen[(blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x], 1u);
}

TEST(EmulatorRunsEveryBlockOnce) {
  for (const dim3 grid : {dim3(1), dim3(2), dim3(7, 3), dim3(3, 5, 4), dim3(1000)}) {
    const uint32_t blocks = grid.x * grid.y * grid.z;
    Array<uint32_t> seen(std::vector<uint32_t>(blocks, 0));
    Launch({.grid = grid, .block = 33}, &EveryBlock, seen.get());
    for (uint32_t count : seen.Read()) CHECK_EQ(count, 1u);
  }
}

__global__ void HalfWarps(int* out) {
  // Two groups of a warp that go different ways, and a lane that goes its own.
  const int lane = static_cast<int>(threadIdx.x);
  if (lane < 16) {
    int sum = lane;
    for (int step = 8; step > 0; step /= 2) sum += __shfl_xor_sync(0x0000ffffu, sum, step);
    out[lane] = sum;
  } else if (lane < 31) {
    __syncwarp(0x7fff0000u);
    out[lane] = static_cast<int>(__ballot_sync(0x7fff0000u, lane % 2));
  } else {
    out[lane] = -1;
  }
  __syncwarp();
  out[32 + lane] = __shfl_sync(~0u, out[lane], 20);
}

TEST(EmulatorKeepsGroupsOfAWarpApart) {
  Array<int> out(64);
  Launch({.grid = 1, .block = 32}, &HalfWarps, out.get());
  const std::vector<int> found = out.Read();
  for (int i = 0; i < 32; ++i) {
    CHECK_EQ(found[i], i < 16 ? 120 : i < 31 ? 0x2aaa0000 : -1);
    CHECK_EQ(found[32 + i], 0x2aaa0000);
  }
}

__global__ void LeaveEarly(uint32_t* out) {
  if (threadIdx.x >= 40) return;
  __syncthreads();
  out[threadIdx.x] = threadIdx.x;
}

TEST(EmulatorCountsEndedThreadsAtABarrier) {
  Array<uint32_t> out(40);
  Launch({.grid = 1, .block = 100}, &LeaveEarly, out.get());
  const std::vector<uint32_t> found = out.Read();
  for (uint32_t i = 0; i < 40; ++i) CHECK_EQ(found[i], i);
}

__global__ void DeepStack(uint32_t* out) {
  volatile uint32_t local[4096];
  for (uint32_t i = 0; i < 4096; ++i) local[i] = i + threadIdx.x;
  __syncthreads();
  uint32_t sum = 0;
  for (uint32_t i = 0; i < 4096; ++i) sum += local[i];
  out[threadIdx.x] = sum;
}

TEST(EmulatorGivesEachThreadAStack) {
  Array<uint32_t> out(1024);
  Launch({.grid = 1, .block = 1024}, &DeepStack, out.get());
  const std::vector<uint32_t> found = out.Read();
  for (uint32_t i = 0; i < 1024; ++i) CHECK_EQ(found[i], 4096 * (4095 / 2) + 2048 + 4096 * i);
}

// ---- threads that wait in vain ---------------------------------------------------------------------------

__global__ void TwoBarriers() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void LaneMissing() {
  if (threadIdx.x != 7) __syncwarp();
}

__global__ void TwoCollectives() {
  if (threadIdx.x % 2 == 0) {
    __syncwarp();
  } else {
    __ballot_sync(~0u, 1);
  }
}

__global__ void BarrierInAWarp() {
  if (threadIdx.x == 0) __syncthreads();
  __syncwarp();
}

__global__ void NoExpect() {
  __shared__ uint64_t bar;
  if (threadIdx.x == 0) BarrierInit(&bar, 1);
  __syncthreads();
  BarrierWait(&bar, 0);
}

__global__ void WrongMask() { __syncwarp(0xfffffffeu); }

__global__ void Unaligned(const uint8_t* in) { Load128(in + 8); }

__global__ void NeverWaits() {}

TEST(EmulatorEndsWhereThreadsWaitInVain) {
  constexpr const char* kTest = "EmulatorEndsWhereThreadsWaitInVain";
  const auto launch = [](void (*kernel)(), bool dependent = false) {
    Launch({.grid = dim3(1, 3), .block = 64, .dependent = dependent}, kernel);
    cudaDeviceSynchronize();
  };
  switch (Child()) {
    case 1:
      return launch(&TwoBarriers);
    case 2:
      return launch(&LaneMissing);
    case 3:
      return launch(&TwoCollectives);
    case 4:
      return launch(&BarrierInAWarp);
    case 5:
      return launch(&NoExpect);
    case 6:
      return launch(&WrongMask);
    case 7: {
      Array<uint8_t> in(64);
      Launch({.grid = 1, .block = 32}, &Unaligned, in.get());
      cudaDeviceSynchronize();
      return;
    }
    case 8:
      return launch(&NeverWaits, true);
  }
  const std::string barriers = LastWords(kTest, 1);
  CheckContains(barriers, "threads of a block wait at different __syncthreads");
  CheckContains(barriers, "TwoBarriers");
  CheckContains(barriers, " of (1, 3, 1), threads (64, 1, 1), launched at ");
  const std::string missing = LastWords(kTest, 2);
  CheckContains(missing, "deadlock");
  CheckContains(missing, "31 threads from 0 on: in __syncwarp at ");
  CheckContains(missing, "LaneMissing");
  CheckContains(missing, "ended");
  CheckContains(LastWords(kTest, 3), "lanes of a warp wait at different collectives");
  CheckContains(LastWords(kTest, 4), "1 threads from 0 on: in __syncthreads at ");
  CheckContains(LastWords(kTest, 5), "64 threads from 0 on: in BarrierWait at ");
  CheckContains(LastWords(kTest, 6), "whose mask leaves it out");
  CheckContains(LastWords(kTest, 7), "Load128 needs an address that is a multiple of 16");
  CheckContains(LastWords(kTest, 8), "ended without WaitForPrevious()");
}

}  // namespace
}  // namespace kvrm::cuda::emulator
