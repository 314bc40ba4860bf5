// How fast tiles get from the pool into shared memory, as lines of JSON: what attention's ring of chunks was chosen
// from, without its arithmetic. Tiles of 2 to 32 KiB, in order or scattered, by cp.async (16 bytes for each thread)
// or by one cp.async.bulk for each tile (sm_90 and later), with 32 or 64 KiB under way in each block.
//
//   tile_copy   device to device, the rate that the others are held against
//   tile_read   the sweep
//
//   tile_bench [substring of a line's name]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "device_memory.h"

namespace kvrm::cuda {
namespace {

#ifdef KVRM_EMULATOR  // shows that it runs
constexpr size_t kPoolBytes = size_t{1} << 20;
constexpr int kRepeats = 1;
#else
constexpr size_t kPoolBytes = size_t{2} << 30;
constexpr int kRepeats = 7;
#endif
constexpr uint32_t kThreads = 128;

void Succeed(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "tile_bench: %s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

void Succeed(kvrm_status status) {
  if (status == KVRM_OK) return;
  std::fprintf(stderr, "tile_bench: %s\n", LastError());
  std::exit(1);
}

// The blocks of the grid take tiles by turns; kDepth places, all but one of them under way.
template <uint32_t kTile, uint32_t kDepth, bool kBulk>
__global__ void __launch_bounds__(kThreads)
    ReadTiles(const uint8_t* pool, const uint32_t* order, uint32_t tiles, uint32_t* sink) {
  __shared__ uint64_t arrived[kDepth];
  uint8_t* const ring = DynamicShared<uint8_t>();
  WaitForPrevious();
  if (kBulk && threadIdx.x == 0) {
    for (uint32_t i = 0; i < kDepth; ++i) BarrierInit(&arrived[i], 1);
    FenceBarrierInit();
  }
  __syncthreads();
  const auto start = [&](uint32_t turn) {
    const uint32_t index = blockIdx.x + turn * gridDim.x;
    if (index < tiles) {
      const uint8_t* const from = pool + uint64_t{order[index]} * kTile;
      uint8_t* const to = ring + turn % kDepth * kTile;
      if constexpr (kBulk) {
        if (threadIdx.x == 0) {
          BarrierExpect(&arrived[turn % kDepth], kTile);
          BulkCopy(to, from, kTile, &arrived[turn % kDepth]);
        }
      } else {
        for (uint32_t at = threadIdx.x * 16; at < kTile; at += kThreads * 16) CpAsync16(to + at, from + at);
      }
    }
    if constexpr (!kBulk) CpAsyncCommit();  // an empty group, too: they are counted
  };
  uint32_t mixed = 0;
  for (uint32_t turn = 0; turn + 1 < kDepth; ++turn) start(turn);
  for (uint32_t turn = 0; blockIdx.x + turn * gridDim.x < tiles; ++turn) {
    start(turn + kDepth - 1);
    if constexpr (kBulk) {
      BarrierWait(&arrived[turn % kDepth], turn / kDepth % 2);
    } else {
      CpAsyncWait<kDepth - 1>();
      __syncthreads();
    }
    const uint8_t* const tile = ring + turn % kDepth * kTile;
    for (uint32_t at = threadIdx.x * 16; at < kTile; at += kThreads * 16) {
      const uint4 v = *reinterpret_cast<const uint4*>(tile + at);
      mixed ^= v.x ^ v.y ^ v.z ^ v.w;
    }
    __syncthreads();  // the place is free
  }
  if (mixed == 0x12345678u) *sink = mixed;  // so that the loads stay
}

struct Machine {
  DeviceMemory pool, order, sink;
  cudaStream_t stream = nullptr;
  cudaEvent_t start = nullptr, end = nullptr;
  uint32_t sms = 0;
  bool bulk = false;
  double copy_gb_per_s = 0;
  const char* only = "";

  // The median time of the work on the stream, in us, after one that warms up.
  template <class Work>
  double Median(const Work& work) {
    std::vector<double> times;
    for (int i = 0; i <= kRepeats; ++i) {
      Succeed(cudaEventRecord(start, stream), "record");
      work();
      Succeed(cudaEventRecord(end, stream), "record");
      Succeed(cudaGetLastError(), "launch");
      Succeed(cudaEventSynchronize(end), "synchronize");
      float ms = 0;
      Succeed(cudaEventElapsedTime(&ms, start, end), "elapsed time");
      if (i != 0) times.push_back(1e3 * double{ms});
    }
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }
};

template <uint32_t kTile, uint32_t kDepth, bool kBulk>
void Measure(Machine& m) {
  if (!std::strstr("tile_read", m.only) || (kBulk && !m.bulk)) return;
  const uint32_t tiles = static_cast<uint32_t>(kPoolBytes / kTile);
  const auto kernel = ReadTiles<kTile, kDepth, kBulk>;
  AllowShared(kernel, kTile * kDepth);
  int blocks = 0;
  (void)cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, kThreads, kTile * kDepth);
  for (const bool scattered : {false, true}) {
    std::vector<uint32_t> order(tiles);
    std::iota(order.begin(), order.end(), 0);
    if (scattered) std::shuffle(order.begin(), order.end(), std::mt19937(1));
    Succeed(cudaMemcpy(m.order.As<void>(), order.data(), tiles * sizeof(uint32_t), cudaMemcpyHostToDevice), "copy");
    const double us = m.Median([&] {
      Launch(
          {dim3(m.sms * static_cast<uint32_t>(std::max(1, blocks))), dim3(kThreads), kTile * kDepth, m.stream, false},
          kernel, m.pool.As<uint8_t>(), m.order.As<uint32_t>(), tiles, m.sink.As<uint32_t>());
    });
    const double rate = double(kTile) * tiles / us / 1e3;
    std::printf(
        "{\"name\": \"tile_read\", \"copy\": \"%s\", \"tile_bytes\": %u, \"depth\": %u, \"blocks_per_sm\": %d, "
        "\"scattered\": %s, \"us\": %.1f, \"gb_per_s\": %.1f, \"of_copy\": %.3f}\n",
        kBulk ? "cp.async.bulk" : "cp.async", kTile, kDepth, blocks, scattered ? "true" : "false", us, rate,
        rate / m.copy_gb_per_s);
    std::fflush(stdout);
  }
}

template <uint32_t kTile>
void MeasureTile(Machine& m) {
  constexpr uint32_t kFew = 32768 / kTile < 2 ? 2 : 32768 / kTile, kMany = 65536 / kTile;
  Measure<kTile, kFew, false>(m);
  Measure<kTile, kFew, true>(m);
  if constexpr (kMany != kFew) {
    Measure<kTile, kMany, false>(m);
    Measure<kTile, kMany, true>(m);
  }
}

void MeasureCopy(Machine& m) {
  const size_t half = kPoolBytes / 2;
  const double us = m.Median([&] {
    Succeed(
        cudaMemcpyAsync(m.pool.As<uint8_t>(), m.pool.As<uint8_t>() + half, half, cudaMemcpyDeviceToDevice, m.stream),
        "copy");
  });
  m.copy_gb_per_s = 2.0 * double(half) / us / 1e3;
  std::printf("{\"name\": \"tile_copy\", \"bytes\": %zu, \"us\": %.1f, \"gb_per_s\": %.1f}\n", half, us,
              m.copy_gb_per_s);
}

void Run(const char* only) {
  Machine m;
  m.only = only;
  int sms = 0, major = 0;
  Succeed(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, 0), "ask the device");
  Succeed(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), "ask the device");
  m.sms = static_cast<uint32_t>(sms);
  m.bulk = major >= 9;
  Succeed(DeviceMemory::Allocate(kPoolBytes, "the pool", &m.pool));
  Succeed(DeviceMemory::Allocate(kPoolBytes / 2048 * sizeof(uint32_t), "the order", &m.order));
  Succeed(DeviceMemory::Allocate(sizeof(uint32_t), "a sink", &m.sink));
  Succeed(cudaMemset(m.pool.As<void>(), 1, kPoolBytes), "fill");
  Succeed(cudaStreamCreateWithFlags(&m.stream, cudaStreamNonBlocking), "create a stream");
  Succeed(cudaEventCreateWithFlags(&m.start, cudaEventDefault), "create an event");
  Succeed(cudaEventCreateWithFlags(&m.end, cudaEventDefault), "create an event");
  MeasureCopy(m);
  MeasureTile<2048>(m);
  MeasureTile<4096>(m);
  MeasureTile<8192>(m);
  MeasureTile<16384>(m);
  MeasureTile<32768>(m);
  cudaEventDestroy(m.start);
  cudaEventDestroy(m.end);
  cudaStreamDestroy(m.stream);
}

}  // namespace
}  // namespace kvrm::cuda

int main(int argc, char** argv) {
  kvrm::cuda::Run(argc > 1 ? argv[1] : "");
  return 0;
}
