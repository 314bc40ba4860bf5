// device_memory.h - memory of the GPU, and memory of the host that the GPU copies from at full speed, each
// with one owner.
#ifndef KVRM_CUDA_DEVICE_MEMORY_H_
#define KVRM_CUDA_DEVICE_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <utility>

#include "cuda_status.h"

namespace kvrm::cuda {

// Owns one cudaMalloc.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  DeviceMemory(DeviceMemory&& other) noexcept { *this = std::move(other); }
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~DeviceMemory() {
    if (data_) cudaFree(data_);
  }

  // what names the memory in the error. bytes may be 0: nothing is taken then.
  static kvrm_status Allocate(size_t bytes, const char* what, DeviceMemory* out) {
    DeviceMemory memory;
    if (bytes != 0) {
      const cudaError_t error = cudaMalloc(&memory.data_, bytes);
      if (error != cudaSuccess) {
        cudaGetLastError();  // an allocation that failed must not be found by a later check
        return Fail(StatusOf(error), "allocate %.1f MiB of GPU memory for %s: CUDA says %s", double(bytes) / (1 << 20),
                    what, cudaGetErrorString(error));
      }
      memory.bytes_ = bytes;
    }
    *out = std::move(memory);
    return KVRM_OK;
  }

  template <typename T = uint8_t>
  T* As() const {
    return static_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

// Owns one cudaHostAlloc.
class PinnedMemory {
 public:
  PinnedMemory() = default;
  PinnedMemory(PinnedMemory&& other) noexcept { *this = std::move(other); }
  PinnedMemory& operator=(PinnedMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~PinnedMemory() {
    if (data_) cudaFreeHost(data_);
  }

  static kvrm_status Allocate(size_t bytes, const char* what, PinnedMemory* out) {
    PinnedMemory memory;
    if (bytes != 0) {
      const cudaError_t error = cudaHostAlloc(&memory.data_, bytes, cudaHostAllocDefault);
      if (error != cudaSuccess) {
        cudaGetLastError();
        return Fail(StatusOf(error), "allocate %.1f MiB of pinned memory for %s: CUDA says %s",
                    double(bytes) / (1 << 20), what, cudaGetErrorString(error));
      }
      memory.bytes_ = bytes;
    }
    *out = std::move(memory);
    return KVRM_OK;
  }

  uint8_t* data() const { return static_cast<uint8_t*>(data_); }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_DEVICE_MEMORY_H_
