// device_test_util.h - arrays in device memory and random numbers, for tests.
#ifndef KVRM_CUDA_DEVICE_TEST_UTIL_H_
#define KVRM_CUDA_DEVICE_TEST_UTIL_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../common/test.h"
#include "device.h"

namespace kvrm::cuda {

// An array in device memory, freed at the end.
template <class T>
class Array {
 public:
  explicit Array(const std::vector<T>& host) : size_(host.size()) {
    CHECK_EQ(cudaMalloc(&data_, size_ * sizeof(T)), cudaSuccess);
    CHECK_EQ(cudaMemcpy(data_, host.data(), size_ * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
  }
  explicit Array(size_t size) : size_(size) { CHECK_EQ(cudaMalloc(&data_, size_ * sizeof(T)), cudaSuccess); }
  ~Array() { cudaFree(data_); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  T* get() const { return data_; }
  // After what was launched has ended.
  std::vector<T> Read() const {
    CHECK_EQ(cudaGetLastError(), cudaSuccess);
    CHECK_EQ(cudaDeviceSynchronize(), cudaSuccess);
    std::vector<T> host(size_);
    CHECK_EQ(cudaMemcpy(host.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
    return host;
  }

 private:
  T* data_ = nullptr;
  size_t size_;
};

inline uint32_t Next(uint64_t& state) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return static_cast<uint32_t>(state >> 33);
}

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_DEVICE_TEST_UTIL_H_
