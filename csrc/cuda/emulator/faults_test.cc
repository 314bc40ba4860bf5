// What goes wrong on request: no memory, no device, a device that is lost; and launches that cannot be.
#include <thread>
#include <vector>

#include "test_util.h"

namespace kvrm::cuda::emulator {
namespace {

__global__ void Increment(int* value) { ++*value; }

TEST(EmulatorRunsOutOfMemory) {
  const Setting setting("KVRM_EMULATOR_MEMORY_MIB", "4");
  size_t free = 0, total = 0;
  CHECK_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  CHECK_EQ(total, size_t{4} << 20);
  CHECK_EQ(free, total);
  void *a = nullptr, *b = nullptr;
  CHECK_EQ(cudaMalloc(&a, 3 << 20), cudaSuccess);
  CHECK_EQ(cudaMalloc(&b, 2 << 20), cudaErrorMemoryAllocation);
  CHECK(b == nullptr);
  CHECK_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  CHECK_EQ(cudaGetLastError(), cudaSuccess);
  CHECK_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  CHECK_EQ(free, size_t{1} << 20);
  CHECK_EQ(cudaFree(a), cudaSuccess);
  CHECK_EQ(cudaFree(a), cudaErrorInvalidValue);
  CHECK_EQ(cudaMalloc(&b, 4 << 20), cudaSuccess);
  CHECK_EQ(cudaFree(b), cudaSuccess);
  CHECK_EQ(cudaMalloc(&b, ~size_t{0}), cudaErrorMemoryAllocation);
  CHECK_EQ(cudaFree(nullptr), cudaSuccess);
  CHECK_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
}

TEST(EmulatorHasNoDeviceWhenTold) {
  const Setting setting("KVRM_EMULATOR_DEVICES", "0");
  int count = 7;
  CHECK_EQ(cudaGetDeviceCount(&count), cudaErrorNoDevice);
  CHECK_EQ(count, 0);
  void* memory = nullptr;
  CHECK_EQ(cudaMalloc(&memory, 16), cudaErrorNoDevice);
  CHECK_EQ(cudaSetDevice(0), cudaErrorNoDevice);
}

TEST(EmulatorDescribesItsDevice) {
  int count = 0, value = 0;
  CHECK_EQ(cudaGetDeviceCount(&count), cudaSuccess);
  CHECK_EQ(count, 1);
  CHECK_EQ(cudaSetDevice(1), cudaErrorInvalidDevice);
  cudaDeviceProp properties;
  CHECK_EQ(cudaGetDeviceProperties(&properties, 0), cudaSuccess);
  CHECK_EQ(properties.major * 10 + properties.minor, 90);
  CHECK_EQ(properties.multiProcessorCount, 4);
  CHECK_EQ(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0), cudaSuccess);
  CHECK_EQ(value, 227 << 10);
  CHECK_EQ(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&value, &Increment, 256, 100 << 10), cudaSuccess);
  CHECK_EQ(value, 2);
  CHECK_EQ(std::string(cudaGetErrorName(cudaErrorIllegalAddress)), "cudaErrorIllegalAddress");
  CHECK_EQ(std::string(cudaGetErrorString(cudaErrorMemoryAllocation)), "out of memory");
  cudaGetLastError();
}

TEST(EmulatorRefusesLaunches) {
  const Array<int> value(std::vector<int>{0});
  const auto error = [&](dim3 grid, dim3 block, uint32_t shared) {
    Launch({.grid = grid, .block = block, .shared_bytes = shared}, &Increment, value.get());
    return cudaGetLastError();
  };
  CHECK_EQ(error(0, 1, 0), cudaErrorInvalidConfiguration);
  CHECK_EQ(error(1, 0, 0), cudaErrorInvalidConfiguration);
  CHECK_EQ(error(1, 1025, 0), cudaErrorInvalidConfiguration);
  CHECK_EQ(error(dim3(1, 65536), 1, 0), cudaErrorInvalidConfiguration);
  CHECK_EQ(error(1, 1, (48 << 10) + 1), cudaErrorInvalidValue);
  AllowShared(&Increment, 64 << 10);
  CHECK_EQ(error(1, 1, 64 << 10), cudaSuccess);
  CHECK_EQ(error(1, 1, (64 << 10) + 1), cudaErrorInvalidValue);
  AllowShared(&Increment, (227 << 10) + 1);
  CHECK_EQ(cudaGetLastError(), cudaErrorInvalidValue);
  AllowShared(&Increment, 48 << 10);
  CHECK_EQ(value.Read()[0], 1);
}

TEST(EmulatorLosesTheDevice) {
  int* value = nullptr;
  cudaStream_t stream;
  cudaEvent_t event;
  {
    const Setting setting("KVRM_EMULATOR_FAIL_AFTER", "3");
    CHECK_EQ(cudaMalloc(&value, 4), cudaSuccess);
    CHECK_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    CHECK_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
    CHECK_EQ(cudaMemsetAsync(value, 0, 4, stream), cudaSuccess);
    for (int i = 0; i < 2; ++i) Launch({.grid = 1, .block = 1, .stream = stream}, &Increment, value);
    int host = 0;
    CHECK_EQ(cudaMemcpyAsync(&host, value, 4, cudaMemcpyDeviceToHost, stream), cudaSuccess);
    CHECK_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    CHECK_EQ(host, 2);
    // The third fails, what follows does not run, and every call says so.
    for (int i = 0; i < 2; ++i) Launch({.grid = 1, .block = 1, .stream = stream}, &Increment, value);
    CHECK_EQ(cudaEventRecord(event, stream), cudaSuccess);
    CHECK_EQ(cudaMemcpyAsync(&host, value, 4, cudaMemcpyDeviceToHost, stream), cudaSuccess);
    CHECK_EQ(cudaEventSynchronize(event), cudaErrorIllegalAddress);
    CHECK_EQ(cudaStreamSynchronize(stream), cudaErrorIllegalAddress);
    CHECK_EQ(host, 2);
    CHECK_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
    CHECK_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
    void* memory = nullptr;
    CHECK_EQ(cudaMalloc(&memory, 16), cudaErrorIllegalAddress);
    CHECK_EQ(cudaEventQuery(event), cudaErrorIllegalAddress);
    CHECK_EQ(cudaMemcpy(&host, value, 4, cudaMemcpyDeviceToHost), cudaErrorIllegalAddress);
    CHECK_EQ(cudaEventDestroy(event), cudaErrorIllegalAddress);
    CHECK_EQ(cudaStreamDestroy(stream), cudaErrorIllegalAddress);
    CHECK_EQ(cudaFree(value), cudaErrorIllegalAddress);
  }
  const Array<int> fresh(std::vector<int>{4});
  CHECK_EQ(fresh.Read()[0], 4);
}

TEST(EmulatorServesTwoThreads) {
  const Array<int> value(std::vector<int>{0});
  int served = 0;
  std::thread other([&served] {
    for (int i = 0; i < 200; ++i) {
      void* memory = nullptr;
      served += cudaMalloc(&memory, 1000) == cudaSuccess && cudaMemset(memory, 1, 1000) == cudaSuccess &&
                cudaFree(memory) == cudaSuccess;
    }
  });
  cudaStream_t stream;
  CHECK_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  for (int i = 0; i < 200; ++i) {
    Launch({.grid = 1, .block = 1, .stream = stream}, &Increment, value.get());
    if (i % 10 == 0) CHECK_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  }
  other.join();
  CHECK_EQ(served, 200);
  CHECK_EQ(cudaStreamDestroy(stream), cudaSuccess);
  CHECK_EQ(value.Read()[0], 200);
}

}  // namespace
}  // namespace kvrm::cuda::emulator
