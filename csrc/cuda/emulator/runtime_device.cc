// Errors, the device, kernels.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include "launch.h"
#include "runtime_state.h"

namespace kvrm::cuda::emulator {

namespace {

constexpr int kMultiprocessors = 4;
constexpr uint32_t kSharedByDefault = 48 << 10;
constexpr uint32_t kSharedAtMost = 227 << 10;
constexpr uint32_t kSharedPerMultiprocessor = 228 << 10;
constexpr uint32_t kSharedReserved = 1 << 10;
constexpr int kThreadsPerMultiprocessor = 2048;
constexpr int kBlocksPerMultiprocessor = 32;
constexpr int kL2Bytes = 4 << 20;

thread_local cudaError_t last_error = cudaSuccess;

struct ErrorText {
  cudaError_t error;
  const char* name;
  const char* text;
};
constexpr ErrorText kErrors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureMerge, "cudaErrorStreamCaptureMerge",
     "operation would result in a merge of separate capture sequences"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched", "capture was not ended in the same stream"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work"},
    {cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation",
     "dependency created on uncaptured work in another stream"},
    {cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {cudaErrorCapturedEvent, "cudaErrorCapturedEvent",
     "operation not permitted on an event last recorded in a capture"},
    {cudaErrorStreamCaptureWrongThread, "cudaErrorStreamCaptureWrongThread",
     "attempt to terminate a thread-local capture sequence from another thread"},
    {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"},
};

const ErrorText& Text(cudaError_t error) {
  for (const ErrorText& text : kErrors) {
    if (text.error == error) return text;
  }
  return *(std::end(kErrors) - 1);
}

}  // namespace

cudaError_t Return(cudaError_t error) {
  if (error != cudaSuccess && error != cudaErrorNotReady) last_error = error;
  return error;
}

void Enqueue(cudaStream_t handle, const void* function, Kernel kernel) {
  Call call;
  State& state = call.state;
  if (const cudaError_t lost = call.Lost(); lost != cudaSuccess) return (void)Return(lost);
  cudaStream_t stream = state.Find(handle);
  if (stream == nullptr) return (void)Return(cudaErrorInvalidResourceHandle);
  const dim3 &grid = kernel.grid, &block = kernel.block;
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > kMaxThreads || block.z > 64 || grid.x == 0 || grid.y == 0 || grid.z == 0 ||
      grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) {
    return (void)Return(cudaErrorInvalidConfiguration);
  }
  const auto allowed = state.shared_bytes.find(function);
  if (kernel.shared_bytes > (allowed == state.shared_bytes.end() ? kSharedByDefault : allowed->second)) {
    return (void)Return(cudaErrorInvalidValue);
  }
  (void)Return(state.Add(stream, [&state, kernel = std::move(kernel)] {
    if (state.sticky != cudaSuccess) return;
    ++state.kernels;
    if (state.kernels == state.fail_after) return state.Fail(cudaErrorIllegalAddress);
    RunGrid(kernel, (uint64_t{state.random.Next()} << 32) + state.random.Next());
  }));
}

void Reset() {
  Call call;
  call.state.Fail(cudaSuccess);
  call.state.captures.clear();
  call.state.kernels = 0;
  call.state.ReadEnvironment();
  last_error = cudaSuccess;
}

}  // namespace kvrm::cuda::emulator

using namespace kvrm::cuda::emulator;

cudaError_t cudaPeekAtLastError() {
  const Call call;
  return call.Lost() != cudaSuccess ? call.Lost() : last_error;
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = cudaPeekAtLastError();
  last_error = cudaSuccess;
  return error;
}

const char* cudaGetErrorString(cudaError_t error) { return Text(error).text; }
const char* cudaGetErrorName(cudaError_t error) { return Text(error).name; }

cudaError_t cudaGetDeviceCount(int* count) {
  const Call call;
  *count = call.state.present ? 1 : 0;
  return Return(call.Lost());
}

cudaError_t cudaSetDevice(int device) {
  const Call call;
  if (call.Lost() != cudaSuccess) return Return(call.Lost());
  return Return(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaGetDevice(int* device) {
  const Call call;
  *device = 0;
  return Return(call.Lost());
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  const Call call;
  if (call.Lost() != cudaSuccess) return Return(call.Lost());
  if (device != 0) return Return(cudaErrorInvalidDevice);
  cudaDeviceProp p = {};
  std::snprintf(p.name, sizeof(p.name), "kvrm emulator");
  p.totalGlobalMem = call.state.memory_bytes;
  p.sharedMemPerBlock = kSharedByDefault;
  p.regsPerBlock = 65536;
  p.warpSize = kWarp;
  p.maxThreadsPerBlock = kMaxThreads;
  p.major = 9;
  p.minor = 0;
  p.multiProcessorCount = kMultiprocessors;
  p.asyncEngineCount = 1;
  p.memoryBusWidth = 64;
  p.l2CacheSize = kL2Bytes;
  p.maxThreadsPerMultiProcessor = kThreadsPerMultiprocessor;
  p.sharedMemPerMultiprocessor = kSharedPerMultiprocessor;
  p.sharedMemPerBlockOptin = kSharedAtMost;
  p.maxBlocksPerMultiProcessor = kBlocksPerMultiprocessor;
  p.reservedSharedMemPerBlock = kSharedReserved;
  *properties = p;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp p;
  if (const cudaError_t error = cudaGetDeviceProperties(&p, device); error != cudaSuccess) return error;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = p.maxThreadsPerBlock;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(p.sharedMemPerBlock);
      return cudaSuccess;
    case cudaDevAttrWarpSize:
      *value = p.warpSize;
      return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
      *value = p.multiProcessorCount;
      return cudaSuccess;
    case cudaDevAttrIntegrated:
      *value = p.integrated;
      return cudaSuccess;
    case cudaDevAttrL2CacheSize:
      *value = p.l2CacheSize;
      return cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = p.maxThreadsPerMultiProcessor;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = p.major;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = p.minor;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(p.sharedMemPerMultiprocessor);
      return cudaSuccess;
    case cudaDevAttrPageableMemoryAccess:
      *value = 0;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(p.sharedMemPerBlockOptin);
      return cudaSuccess;
    case cudaDevAttrMaxBlocksPerMultiprocessor:
      *value = p.maxBlocksPerMultiProcessor;
      return cudaSuccess;
  }
  return Return(cudaErrorInvalidValue);
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  Call call;
  if (call.Lost() != cudaSuccess) return Return(call.Lost());
  if (const cudaError_t error = call.state.CheckNoCapture(); error != cudaSuccess) return Return(error);
  call.state.RunAll(call.lock);
  return Return(call.Lost());
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  Call call;
  if (call.Lost() != cudaSuccess) return Return(call.Lost());
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || value > static_cast<int>(kSharedAtMost)) return Return(cudaErrorInvalidValue);
  call.state.shared_bytes[kernel] = static_cast<uint32_t>(value);
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int block_threads,
                                                          size_t shared_bytes) {
  Call call;
  if (call.Lost() != cudaSuccess) return Return(call.Lost());
  if (block_threads <= 0 || block_threads > static_cast<int>(kMaxThreads)) return Return(cudaErrorInvalidValue);
  const int by_threads = kThreadsPerMultiprocessor / block_threads;
  const int by_shared = static_cast<int>(kSharedPerMultiprocessor / (shared_bytes + kSharedReserved));
  *blocks = std::min({by_threads, by_shared, kBlocksPerMultiprocessor});
  return cudaSuccess;
}
