// Memory and copies.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "runtime_state.h"

using namespace kvrm::cuda::emulator;

namespace {

void* Allocate(size_t bytes) {
  // Of that very size, so that AddressSanitizer sees what goes beyond.
  void* memory = nullptr;
  if (posix_memalign(&memory, 256, bytes) != 0) return nullptr;
  std::memset(memory, 0xff, bytes);
  return memory;
}

cudaError_t CheckCopy(const State& state, const void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const bool to_device = state.InDevice(to, bytes), from_device = state.InDevice(from, bytes);
  switch (kind) {
    case cudaMemcpyHostToHost:
      return !to_device && !from_device ? cudaSuccess : cudaErrorInvalidValue;
    case cudaMemcpyHostToDevice:
      return to_device && !from_device ? cudaSuccess : cudaErrorInvalidValue;
    case cudaMemcpyDeviceToHost:
      return !to_device && from_device ? cudaSuccess : cudaErrorInvalidValue;
    case cudaMemcpyDeviceToDevice:
      return to_device && from_device ? cudaSuccess : cudaErrorInvalidValue;
    case cudaMemcpyDefault:
      return cudaSuccess;
  }
  return cudaErrorInvalidValue;
}

}  // namespace

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  Call call;
  if (call.Lost() != cudaSuccess) return Return(call.Lost());
  *free = call.state.memory_bytes - std::min(call.state.memory_bytes, call.state.used_bytes);
  *total = call.state.memory_bytes;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  Call call;
  State& state = call.state;
  if (call.Lost() != cudaSuccess) return Return(call.Lost());
  if (const cudaError_t error = state.CheckNoCapture(); error != cudaSuccess) return Return(error);
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  if (bytes > state.memory_bytes || state.used_bytes > state.memory_bytes - bytes) {
    return Return(cudaErrorMemoryAllocation);
  }
  void* memory = Allocate(bytes);
  if (memory == nullptr) return Return(cudaErrorMemoryAllocation);
  state.used_bytes += bytes;
  state.device_memory[reinterpret_cast<uintptr_t>(memory)] = bytes;
  *pointer = memory;
  return cudaSuccess;
}

cudaError_t cudaFree(void* pointer) {
  Call call;
  State& state = call.state;
  // A lost device's memory goes too, though the call fails: the process would give it back at its end.
  if (call.Lost() == cudaSuccess) {
    if (const cudaError_t error = state.CheckNoCapture(); error != cudaSuccess) return Return(error);
    state.RunAll(call.lock);
  }
  if (pointer == nullptr) return Return(call.Lost());
  const auto found = state.device_memory.find(reinterpret_cast<uintptr_t>(pointer));
  if (found == state.device_memory.end()) return Return(cudaErrorInvalidValue);
  state.used_bytes -= found->second;
  state.device_memory.erase(found);
  std::free(pointer);
  return Return(call.Lost());
}

cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned flags) {
  Call call;
  if (call.Lost() != cudaSuccess) return Return(call.Lost());
  if (const cudaError_t error = call.state.CheckNoCapture(); error != cudaSuccess) return Return(error);
  if (flags > 7) return Return(cudaErrorInvalidValue);
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  void* memory = Allocate(bytes);
  if (memory == nullptr) return Return(cudaErrorMemoryAllocation);
  call.state.host_memory[reinterpret_cast<uintptr_t>(memory)] = bytes;
  *pointer = memory;
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* pointer) {
  Call call;
  if (pointer == nullptr) return Return(call.Lost());
  // Runs nothing: AddressSanitizer shows the copy that still needs the memory.
  if (call.state.host_memory.erase(reinterpret_cast<uintptr_t>(pointer)) == 0) return Return(cudaErrorInvalidValue);
  std::free(pointer);
  return Return(call.Lost());
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  Call call;
  State& state = call.state;
  if (call.Lost() != cudaSuccess) return Return(call.Lost());
  if (const cudaError_t error = state.CheckNoCapture(); error != cudaSuccess) return Return(error);
  if (bytes == 0) return cudaSuccess;
  if (const cudaError_t error = CheckCopy(state, to, from, bytes, kind); error != cudaSuccess) return Return(error);
  const cudaError_t error = state.Add(&state.null_stream, [=] { std::memmove(to, from, bytes); });
  if (error != cudaSuccess) return Return(error);
  state.RunUntil(call.lock, [&] { return state.null_stream.operations.empty(); });
  return Return(call.Lost());
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t handle) {
  Call call;
  State& state = call.state;
  if (call.Lost() != cudaSuccess) return Return(call.Lost());
  cudaStream_t stream = state.Find(handle);
  if (stream == nullptr) return Return(cudaErrorInvalidResourceHandle);
  if (bytes == 0) return cudaSuccess;
  if (const cudaError_t error = CheckCopy(state, to, from, bytes, kind); error != cudaSuccess) return Return(error);
  return Return(state.Add(stream, [=] { std::memmove(to, from, bytes); }));
}

cudaError_t cudaMemcpyBatchAsync(void* const* to, const void* const* from, const size_t* bytes, size_t count,
                                 cudaMemcpyAttributes* attributes, size_t* attribute_first, size_t attribute_count,
                                 cudaStream_t handle) {
  Call call;
  State& state = call.state;
  if (call.Lost() != cudaSuccess) return Return(call.Lost());
  cudaStream_t stream = state.Find(handle);
  if (stream == nullptr) return Return(cudaErrorInvalidResourceHandle);
  // The null stream takes no batches.
  if (handle == nullptr || count == 0 || attribute_count == 0 || attribute_count > count || attribute_first[0] != 0) {
    return Return(cudaErrorInvalidValue);
  }
  for (size_t i = 0; i < attribute_count; ++i) {
    if (attribute_first[i] >= count || (i > 0 && attribute_first[i] <= attribute_first[i - 1]) ||
        attributes[i].srcAccessOrder < cudaMemcpySrcAccessOrderStream ||
        attributes[i].srcAccessOrder > cudaMemcpySrcAccessOrderAny) {
      return Return(cudaErrorInvalidValue);
    }
  }
  if (stream->capture != nullptr) return cudaSuccess;
  CUgraph_st batch;
  size_t attribute = 0;
  for (size_t i = 0; i < count; ++i) {
    if (attribute + 1 < attribute_count && attribute_first[attribute + 1] <= i) ++attribute;
    void* const target = to[i];
    const void* const source = from[i];
    const size_t size = bytes[i];
    const cudaMemcpySrcAccessOrder order = attributes[attribute].srcAccessOrder;
    if (order == cudaMemcpySrcAccessOrderDuringApiCall ||
        (order == cudaMemcpySrcAccessOrderAny && state.random.Below(2) == 0)) {
      const auto* first = static_cast<const unsigned char*>(source);
      batch.nodes.push_back({[target, copy = std::vector<unsigned char>(first, first + size)] {
                               std::memcpy(target, copy.data(), copy.size());
                             },
                             {}});
    } else {
      batch.nodes.push_back({[=] { std::memmove(target, source, size); }, {}});
    }
  }
  return Return(state.Add(stream, std::move(batch)));
}

cudaError_t cudaMemsetAsync(void* pointer, int value, size_t bytes, cudaStream_t handle) {
  Call call;
  State& state = call.state;
  if (call.Lost() != cudaSuccess) return Return(call.Lost());
  cudaStream_t stream = state.Find(handle);
  if (stream == nullptr) return Return(cudaErrorInvalidResourceHandle);
  if (bytes == 0) return cudaSuccess;
  if (!state.InDevice(pointer, bytes)) return Return(cudaErrorInvalidValue);
  return Return(state.Add(stream, [=] { std::memset(pointer, value, bytes); }));
}

cudaError_t cudaMemset(void* pointer, int value, size_t bytes) {
  return cudaMemsetAsync(pointer, value, bytes, nullptr);
}
