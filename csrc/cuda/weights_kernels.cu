#include "../common/random_tensor.h"
#include "gemm.h"
#include "weights_kernels.h"

namespace kvrm::cuda {
namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kWarps = kThreads / 32;
constexpr uint32_t kInfinity = 0x7f800000u;

// Element k of a row, zero from `count` on.
__device__ __forceinline__ float Element(const void* row, uint32_t dtype, uint32_t k, uint32_t count) {
  if (k >= count) return 0.0f;
  switch (dtype) {
    case KVRM_F16:
      return ToFloat(static_cast<const f16_t*>(row)[k]);
    case KVRM_BF16:
      return ToFloat(static_cast<const bf16_t*>(row)[k]);
    default:
      return static_cast<const float*>(row)[k];
  }
}

// Bits of |x|: they compare as the numbers do, NaN above infinity.
__device__ __forceinline__ uint32_t Magnitude(float x) { return BitsAs<uint32_t>(x) & 0x7fffffffu; }

__device__ __forceinline__ uint32_t MaxOfWarp(uint32_t value) {
  KVRM_UNROLL
  for (int apart = 16; apart > 0; apart /= 2) {
    const uint32_t other = __shfl_xor_sync(~0u, value, apart);
    value = other > value ? other : value;
  }
  return value;
}

__device__ __forceinline__ uint32_t MaxOfBlock(uint32_t value) {
  __shared__ uint32_t warps[kWarps];
  value = MaxOfWarp(value);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  return MaxOfWarp(warps[threadIdx.x % kWarps]);
}

// The smallest power of two s with largest / s <= 448 = 1.75 * 2^8.
__device__ __forceinline__ float Fp8Scale(float largest) {
  const uint32_t bits = BitsAs<uint32_t>(largest), mantissa = bits & 0x7fffffu;
  const int exponent = static_cast<int>(bits >> 23) - 127 + (mantissa > 0x600000u ? 1 : 0) - 8;
  return BitsAs<float>(static_cast<uint32_t>((exponent < -126 ? -126 : exponent) + 127) << 23);
}

template <WeightType kType>
__device__ __forceinline__ uint32_t Code(float x, float scale) {
  const float value = Div(x, scale);
  if constexpr (kType == WeightType::kFp8) {
    return FromFloat<fp8_t>(value).bits;
  } else {
    const float whole = rintf(value), capped = whole > 127.0f ? 127.0f : whole < -127.0f ? -127.0f : whole;
    return static_cast<uint32_t>(static_cast<int>(capped)) & 0xffu;
  }
}

// One block for each row.
template <WeightType kType>
__global__ void __launch_bounds__(kThreads) QuantizeRowsKernel(const uint8_t* from, uint32_t dtype, uint32_t row_bytes,
                                                               uint32_t k, uint8_t* to, float* scales) {
  const uint8_t* row = from + uint64_t{blockIdx.x} * row_bytes;
  uint32_t most = 0;
  for (uint32_t i = threadIdx.x; i < k; i += kThreads) {
    const uint32_t magnitude = Magnitude(Element(row, dtype, i, k));
    most = magnitude > most ? magnitude : most;
  }
  most = MaxOfBlock(most);
  const float largest = BitsAs<float>(most);
  float scale = kType == WeightType::kFp8 ? Fp8Scale(largest) : Div(largest, 127.0f);
  if (scale == 0.0f || most == 0) scale = 1.0f;
  if (threadIdx.x == 0) scales[blockIdx.x] = most >= kInfinity ? BitsAs<float>(0x7fffffffu) : scale;

  const uint32_t words = static_cast<uint32_t>(WeightRowBytes(kType, k)) / 4;
  uint32_t* out = reinterpret_cast<uint32_t*>(to) + uint64_t{blockIdx.x} * words;
  for (uint32_t i = threadIdx.x; i < words; i += kThreads) {
    // The first element of word i: the inverse of ByteOfElement().
    const uint32_t first = i / 16 * 64 + i / 2 % 2 * kSlab + i % 16 / 4 * 8 + i % 2 * 4;
    uint32_t word = 0;
    for (uint32_t e = 0; e < 4 && most < kInfinity; ++e) {
      word |= Code<kType>(Element(row, dtype, first + e, k), scale) << (8 * e);
    }
    out[i] = word;
  }
}

// One warp for each group of 128, a lane 4 elements of it.
__global__ void __launch_bounds__(kThreads)
    QuantizeGroupsKernel(const uint8_t* from, uint32_t dtype, uint32_t row_bytes, uint32_t k, uint32_t groups,
                         uint64_t all, uint8_t* to, float* scales) {
  const uint64_t index = uint64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (index >= all) return;
  const uint8_t* row = from + index / groups * row_bytes;
  const uint32_t lane = threadIdx.x % 32, first = static_cast<uint32_t>(index % groups) * kInt4Group + 4 * lane;
  float x[4];
  uint32_t most = 0;  // magnitude, and 1 where the number is not negative
  KVRM_UNROLL
  for (uint32_t e = 0; e < 4; ++e) {
    x[e] = Element(row, dtype, first + e, k);
    const uint32_t bits = Magnitude(x[e]) * 2 + (BitsAs<uint32_t>(x[e]) >> 31 ^ 1u);
    most = bits > most ? bits : most;
  }
  most = MaxOfWarp(most);
  const float largest = BitsAs<float>(most / 2);
  float scale = Div(most % 2 ? -largest : largest, 8.0f);
  if (scale == 0.0f) scale = 1.0f;
  const bool finite = most / 2 < kInfinity;
  if (lane == 0) scales[index] = finite ? scale : BitsAs<float>(0x7fffffffu);

  uint32_t word = 0;
  KVRM_UNROLL
  for (uint32_t e = 0; e < 4; ++e) {
    const float whole = finite ? rintf(Div(x[e], scale)) : 0.0f;
    const float capped = whole > 7.0f ? 7.0f : whole < -8.0f ? -8.0f : whole;
    word |= static_cast<uint32_t>(static_cast<int>(capped) + 8) << BitOfElement(lane % 2 * 4 + e);
  }
  word |= __shfl_xor_sync(~0u, word, 1);
  if (lane % 2 == 0) reinterpret_cast<uint32_t*>(to)[index * 16 + WordOfElement(4 * lane)] = word;
}

// ---- made-up weights ------------------------------------------------------------------------------------

__device__ __forceinline__ void Store(void* to, uint32_t dtype, uint64_t i, float value) {
  switch (dtype) {
    case KVRM_F16:
      static_cast<f16_t*>(to)[i] = FromFloat<f16_t>(value);
      break;
    case KVRM_BF16:
      static_cast<bf16_t*>(to)[i] = FromFloat<bf16_t>(value);
      break;
    default:
      static_cast<float*>(to)[i] = value;
  }
}

__device__ __forceinline__ float Narrowed(float value, uint32_t dtype) {
  return dtype == KVRM_F16    ? ToFloat(FromFloat<f16_t>(value))
         : dtype == KVRM_BF16 ? ToFloat(FromFloat<bf16_t>(value))
                              : value;
}

// One block for each row.
__global__ void __launch_bounds__(kThreads)
    MakeUpKernel(MadeUp what, uint32_t row_first, uint32_t cols, uint32_t dtype, uint8_t* to) {
  const SourceRow at = FindSourceRow(what.sources, row_first + blockIdx.x);
  for (uint32_t c = threadIdx.x; c < cols; c += kThreads) {
    const float value = at.exists ? NormalAt(what.key[at.source], uint64_t{at.row} * cols + c) : 0.0f;
    Store(to, dtype, uint64_t{blockIdx.x} * cols + c, Narrowed(value, what.dtype[at.source]));
  }
}

}  // namespace

void LaunchMakeUp(cudaStream_t stream, const MadeUp& what, uint32_t row_first, uint32_t rows, uint32_t cols,
                  uint32_t dtype, uint8_t* to) {
  if (rows == 0) return;
  LaunchConfig config;
  config.grid = dim3(rows);
  config.block = dim3(kThreads);
  config.stream = stream;
  Launch(config, MakeUpKernel, what, row_first, cols, dtype, to);
}

void LaunchQuantize(cudaStream_t stream, const void* from, uint32_t dtype, uint32_t rows, uint32_t k, WeightType type,
                    uint8_t* to, float* scales) {
  if (rows == 0) return;
  const uint8_t* bytes = static_cast<const uint8_t*>(from);
  const uint32_t row_bytes = k * (dtype == KVRM_F32 ? 4 : 2);
  LaunchConfig config;
  config.grid = dim3(rows);
  config.block = dim3(kThreads);
  config.stream = stream;
  if (type == WeightType::kFp8) {
    Launch(config, QuantizeRowsKernel<WeightType::kFp8>, bytes, dtype, row_bytes, k, to, scales);
  } else if (type == WeightType::kInt8) {
    Launch(config, QuantizeRowsKernel<WeightType::kInt8>, bytes, dtype, row_bytes, k, to, scales);
  } else {
    const uint32_t groups = (k + kInt4Group - 1) / kInt4Group;
    const uint64_t all = uint64_t{rows} * groups;
    config.grid = dim3(static_cast<uint32_t>((all + kWarps - 1) / kWarps));
    Launch(config, QuantizeGroupsKernel, bytes, dtype, row_bytes, k, groups, all, to, scales);
  }
}

}  // namespace kvrm::cuda
