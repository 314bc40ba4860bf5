// step_test_util.h - arrays of the GPU, for the tests of a step's kernels.
#ifndef KVRM_CUDA_STEP_TEST_UTIL_H_
#define KVRM_CUDA_STEP_TEST_UTIL_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels.h"

namespace kvrm::cuda::test {

inline void Succeed(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

// count elements on the GPU, every byte `fill` at first.
template <class T>
class Array {
 public:
  explicit Array(size_t count, int fill = 0xff) : count_(count) {
    Succeed(cudaMalloc(&data_, std::max<size_t>(count * sizeof(T), 16)), "cudaMalloc");
    Succeed(cudaMemset(data_, fill, std::max<size_t>(count * sizeof(T), 16)), "cudaMemset");
  }
  explicit Array(const std::vector<T>& values) : Array(values.size()) { Write(values); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() { (void)cudaFree(data_); }

  void Write(const std::vector<T>& values) {
    if (values.empty()) return;
    Succeed(cudaMemcpy(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  // The first `count` elements.
  std::vector<T> Read(size_t count) const {
    std::vector<T> values(count);
    if (count == 0) return values;
    Succeed(cudaMemcpy(values.data(), data_, count * sizeof(T), cudaMemcpyDeviceToHost), "cudaMemcpy");
    return values;
  }
  std::vector<T> Read() const { return Read(count_); }
  T* data() const { return data_; }

 private:
  size_t count_;
  T* data_ = nullptr;
};

// The device as the kernels see it, on the default stream.
inline LaunchContext Context() {
  int sms = 0;
  Succeed(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, 0), "cudaDeviceGetAttribute");
  return {nullptr, static_cast<uint32_t>(sms), false};
}

inline void Finish() {
  Succeed(cudaGetLastError(), "launch");
  Succeed(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
}

template <class T>
bool SameBytes(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

using Random = std::mt19937;
// Uniform, both ends included.
inline uint32_t Between(Random& random, uint32_t low, uint32_t high) {
  return low + static_cast<uint32_t>(random() % (uint64_t{high} - low + 1));
}

}  // namespace kvrm::cuda::test
#endif  // KVRM_CUDA_STEP_TEST_UTIL_H_
