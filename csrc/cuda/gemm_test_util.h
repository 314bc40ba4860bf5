// gemm_test_util.h - random weights of every type, packed as gemm.h says, and products over them, for the
// tests and the benchmark.
#ifndef KVRM_CUDA_GEMM_TEST_UTIL_H_
#define KVRM_CUDA_GEMM_TEST_UTIL_H_

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "gemm.h"

namespace kvrm::cuda::test {

using Random = std::mt19937;

inline void Succeed(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

// Device memory, filled with 0xff: NaN in every type.
class Buffer {
 public:
  explicit Buffer(size_t bytes) : bytes_(bytes) {
    Succeed(cudaMalloc(&data_, std::max<size_t>(bytes, 16)), "cudaMalloc");
    Fill(0xff);
  }
  template <class T>
  explicit Buffer(const std::vector<T>& values) : Buffer(values.size() * sizeof(T)) {
    Write(values);
  }
  ~Buffer() { (void)cudaFree(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  void Fill(int byte) { Succeed(cudaMemset(data_, byte, bytes_), "cudaMemset"); }
  template <class T>
  void Write(const std::vector<T>& values) {
    Succeed(cudaMemcpy(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  template <class T>
  std::vector<T> Read() const {
    std::vector<T> values(bytes_ / sizeof(T));
    Succeed(cudaMemcpy(values.data(), data_, values.size() * sizeof(T), cudaMemcpyDeviceToHost), "cudaMemcpy");
    return values;
  }
  template <class T = void>
  T* As() const {
    return static_cast<T*>(data_);
  }

 private:
  size_t bytes_;
  void* data_ = nullptr;
};

// x rounded to a kvrm_dtype, and its bytes there.
inline float Rounded(float x, uint32_t dtype) {
  switch (dtype) {
    case KVRM_F16:
      return ToFloat(FromFloat<f16_t>(x));
    case KVRM_BF16:
      return ToFloat(FromFloat<bf16_t>(x));
    case KVRM_F8_E4M3:
      return ToFloat(FromFloat<fp8_t>(x));
    default:
      return x;
  }
}

inline void Append(std::vector<uint8_t>& bytes, float x, uint32_t dtype) {
  const auto append = [&](auto value) {
    const auto* raw = reinterpret_cast<const uint8_t*>(&value);
    bytes.insert(bytes.end(), raw, raw + sizeof(value));
  };
  if (dtype == KVRM_F32) append(x);
  if (dtype == KVRM_F16) append(FromFloat<f16_t>(x));
  if (dtype == KVRM_BF16) append(FromFloat<bf16_t>(x));
}

inline float ReadAs(const uint8_t* bytes, size_t i, uint32_t dtype) {
  const auto read = [&](auto value) {
    std::memcpy(&value, bytes + i * sizeof(value), sizeof(value));
    return ToFloat(value);
  };
  if (dtype == KVRM_F16) return read(f16_t{});
  if (dtype == KVRM_BF16) return read(bf16_t{});
  if (dtype == KVRM_F8_E4M3) return read(fp8_t{});
  return read(0.0f);
}

inline std::vector<float> Normals(Random& random, size_t count, float deviation = 1) {
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

// A weight matrix on the host, unpacked: element [row][k] is values * scale, the scale of its row or group.
struct HostWeight {
  WeightType type;
  uint32_t n, k;
  std::vector<float> values;
  std::vector<float> scales;

  double At(uint32_t row, uint32_t col) const {
    const double value = values[size_t{row} * k + col];
    if (type == WeightType::kInt4)
      return value * scales[size_t{row} * ((k + kInt4Group - 1) / kInt4Group) + col / kInt4Group];
    return scales.empty() ? value : value * scales[row];
  }

  std::vector<uint8_t> Packed() const {
    const uint64_t row_bytes = WeightRowBytes(type, k);
    std::vector<uint8_t> packed(n * row_bytes);
    for (uint32_t row = 0; row < n; ++row) {
      uint8_t* to = packed.data() + row * row_bytes;
      const uint32_t padded = (k + GroupElements(type) - 1) / GroupElements(type) * GroupElements(type);
      for (uint32_t col = 0; col < padded; ++col) {
        const float value = col < k ? values[size_t{row} * k + col] : 0.0f;
        const f16_t half = FromFloat<f16_t>(value);
        const bf16_t brain = FromFloat<bf16_t>(value);
        switch (type) {
          case WeightType::kF32:
            std::memcpy(to + 4 * col, &value, 4);
            break;
          case WeightType::kF16:
            std::memcpy(to + 2 * col, &half, 2);
            break;
          case WeightType::kBf16:
            std::memcpy(to + 2 * col, &brain, 2);
            break;
          case WeightType::kFp8:
            to[ByteOfElement(col)] = FromFloat<fp8_t>(value).bits;
            break;
          case WeightType::kInt8:
            to[ByteOfElement(col)] = static_cast<uint8_t>(static_cast<int8_t>(value));
            break;
          case WeightType::kInt4: {
            const uint32_t word = static_cast<uint32_t>(static_cast<int>(value) + 8) << BitOfElement(col);
            for (uint32_t i = 0; i < 4; ++i) to[4 * WordOfElement(col) + i] |= static_cast<uint8_t>(word >> (8 * i));
            break;
          }
        }
      }
    }
    return packed;
  }
};

inline HostWeight RandomWeight(Random& random, WeightType type, uint32_t n, uint32_t k) {
  HostWeight w = {type, n, k, Normals(random, size_t{n} * k), {}};
  std::uniform_real_distribution<float> scale(0.5f, 2.0f);
  for (float& value : w.values) {
    switch (type) {
      case WeightType::kF32:
        break;
      case WeightType::kF16:
        value = Rounded(value, KVRM_F16);
        break;
      case WeightType::kBf16:
        value = Rounded(value, KVRM_BF16);
        break;
      case WeightType::kFp8:
        value = Rounded(value * 100, KVRM_F8_E4M3);
        break;
      case WeightType::kInt8:
        value = std::clamp(std::round(value * 40), -127.0f, 127.0f);
        break;
      case WeightType::kInt4:
        value = std::clamp(std::round(value * 3), -8.0f, 7.0f);
        break;
    }
  }
  size_t scales = 0;
  if (type == WeightType::kFp8 || type == WeightType::kInt8) scales = n;
  if (type == WeightType::kInt4) scales = size_t{n} * ((k + kInt4Group - 1) / kInt4Group);
  for (size_t i = 0; i < scales; ++i) w.scales.push_back(scale(random) / 64);
  return w;
}

// A weight and rows of activations in device memory.
class Product {
 public:
  // x: of `rows` rows, of which the product gets those from `first` on.
  Product(const HostWeight& weight, uint32_t act_dtype, const float* x, uint32_t rows, uint32_t max_rows, uint32_t sms,
          uint32_t first = 0)
      : data_(weight.Packed()),
        scales_(weight.scales),
        x_(size_t{max_rows} * weight.k * Bytes(act_dtype)),
        rows_(std::vector<uint32_t>{rows}),
        workspace_(GemmWorkspaceBytes(sms, max_rows)),
        context_{nullptr, sms, true} {
    std::vector<uint8_t> bytes;
    const uint32_t end = std::min(rows, first + max_rows);
    for (size_t i = size_t{first} * weight.k; i < size_t{end} * weight.k; ++i) Append(bytes, x[i], act_dtype);
    x_.Write(bytes);  // rows that are not in use stay NaN
    workspace_.Fill(0);
    device_.data = data_.As();
    device_.scales = weight.scales.empty() ? nullptr : scales_.As<float>();
    device_.type = weight.type;
    device_.n = weight.n;
    device_.k = weight.k;
    in_ = {x_.As(), act_dtype, rows_.As<uint32_t>(), max_rows, workspace_.As(), first};
  }

  static size_t Bytes(uint32_t dtype) { return dtype == KVRM_F32 ? 4 : 2; }
  const LaunchContext& context() const { return context_; }
  const DeviceWeight& weight() const { return device_; }
  const GemmInput& in() const { return in_; }

  // The counters at its start are zero again.
  bool WorkspaceIsReady() const {
    const std::vector<uint32_t> words = workspace_.Read<uint32_t>();
    return std::all_of(words.begin(), words.begin() + kGemmCounters, [](uint32_t word) { return word == 0; });
  }

 private:
  Buffer data_, scales_, x_, rows_, workspace_;
  LaunchContext context_;
  DeviceWeight device_;
  GemmInput in_;
};

// One element of a product in float64, and the size of its terms, which bounds the rounding.
struct Wanted {
  double sum = 0, magnitude = 0;
};
inline Wanted Reference(const HostWeight& w, const float* x, uint32_t row) {
  Wanted wanted;
  for (uint32_t col = 0; col < w.k; ++col) {
    const double term = w.At(row, col) * x[col];
    wanted.sum += term;
    wanted.magnitude += std::fabs(term);
  }
  return wanted;
}

}  // namespace kvrm::cuda::test
#endif  // KVRM_CUDA_GEMM_TEST_UTIL_H_
