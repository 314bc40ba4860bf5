// gemm_generic.cu - products of F32, and of shapes that tensor cores do not fit. A warp makes 4 features of
// 8 rows; lane j takes k = j, j + 32, ..., then the lanes are added pairwise.
#include "gemm_epilogue.cuh"

namespace kvrm::cuda {
namespace {

constexpr uint32_t kFeatures = 4;

template <WeightType kType>
__device__ __forceinline__ float WeightAt(const uint8_t* row, const float* scales, uint32_t k) {
  if constexpr (kType == WeightType::kF32) {
    return reinterpret_cast<const float*>(row)[k];
  } else if constexpr (kType == WeightType::kF16) {
    return ToFloat(reinterpret_cast<const f16_t*>(row)[k]);
  } else if constexpr (kType == WeightType::kBf16) {
    return ToFloat(reinterpret_cast<const bf16_t*>(row)[k]);
  } else if constexpr (kType == WeightType::kFp8) {
    return ToFloat(reinterpret_cast<const fp8_t*>(row)[ByteOfElement(k)]);
  } else if constexpr (kType == WeightType::kInt8) {
    return static_cast<float>(reinterpret_cast<const int8_t*>(row)[ByteOfElement(k)]);
  } else {
    const uint32_t word = reinterpret_cast<const uint32_t*>(row)[WordOfElement(k)];
    const int value = static_cast<int>(word >> BitOfElement(k) & 15u) - 8;
    return Mul(static_cast<float>(value), scales[k / kInt4Group]);
  }
}

template <WeightType kType, class X>
__global__ void __launch_bounds__(kGemmThreads) GenericKernel(GemmArgs args) {
  LaunchDependents();
  WaitForPrevious();
  const uint32_t rows = RowsInUse(args), row_first = blockIdx.y * kGenericRows;
  if (row_first >= rows) return;
  const uint32_t in_tile = rows - row_first < kGenericRows ? rows - row_first : kGenericRows;
  const uint32_t stride = SumStride(args.tile_features);
  float* sums = DynamicShared<float>();
  const X* x = reinterpret_cast<const X*>(args.x) + uint64_t{row_first} * args.k;
  const uint64_t row_bytes = WeightRowBytes(kType, args.k);
  const uint32_t groups = (args.k + kInt4Group - 1) / kInt4Group;
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;

  for (uint32_t f = warp * kFeatures; f < args.tile_features; f += kGemmWarps * kFeatures) {
    const uint8_t* weight[kFeatures];
    const float* scales[kFeatures];
    KVRM_UNROLL
    for (uint32_t i = 0; i < kFeatures; ++i) {
      const uint32_t row = RowOfFeature(args, blockIdx.x, args.tile_features, f + i).row;
      weight[i] = args.weight + row * row_bytes;
      scales[i] = args.scales + uint64_t{row} * groups;
    }
    float acc[kFeatures][kGenericRows] = {};
    for (uint32_t k = lane; k < args.k; k += 32) {
      float w[kFeatures];
      KVRM_UNROLL
      for (uint32_t i = 0; i < kFeatures; ++i) w[i] = WeightAt<kType>(weight[i], scales[i], k);
      KVRM_UNROLL
      for (uint32_t r = 0; r < kGenericRows; ++r) {
        const float value = r < in_tile ? ToFloat(x[uint64_t{r} * args.k + k]) : 0.0f;
        KVRM_UNROLL
        for (uint32_t i = 0; i < kFeatures; ++i) acc[i][r] = Fma(value, w[i], acc[i][r]);
      }
    }
    KVRM_UNROLL
    for (uint32_t i = 0; i < kFeatures; ++i) {
      KVRM_UNROLL
      for (uint32_t r = 0; r < kGenericRows; ++r) {
        if (r >= in_tile) continue;
        float sum = acc[i][r];
        KVRM_UNROLL
        for (int apart = 16; apart > 0; apart /= 2) sum = Add(sum, __shfl_xor_sync(~0u, sum, apart));
        if (lane == r && f + i < args.tile_features) sums[r * stride + f + i] = sum;
      }
    }
  }
  __syncthreads();
  FinishTile(args, {sums, stride, args.tile_features, blockIdx.x, row_first, in_tile});
}

template <WeightType kType, class X>
void LaunchTyped(const LaunchContext& context, const GemmArgs& args) {
  LaunchConfig config;
  config.grid = dim3(args.tiles, (args.max_rows + kGenericRows - 1) / kGenericRows);
  config.block = dim3(kGemmThreads);
  config.shared_bytes = kGenericRows * SumStride(args.tile_features) * sizeof(float);
  config.stream = context.stream;
  config.dependent = context.dependent;
  Launch(config, GenericKernel<kType, X>, args);
}

template <WeightType kType>
void LaunchNarrow(const LaunchContext& context, const GemmArgs& args) {
  switch (args.act_dtype) {
    case KVRM_F16:
      return LaunchTyped<kType, f16_t>(context, args);
    case KVRM_BF16:
      return LaunchTyped<kType, bf16_t>(context, args);
    default:
      return LaunchTyped<kType, float>(context, args);
  }
}

}  // namespace

void LaunchGeneric(const LaunchContext& context, WeightType type, const GemmArgs& args) {
  switch (type) {
    case WeightType::kF32:
      return LaunchTyped<WeightType::kF32, float>(context, args);
    case WeightType::kF16:
      return LaunchTyped<WeightType::kF16, f16_t>(context, args);
    case WeightType::kBf16:
      return LaunchTyped<WeightType::kBf16, bf16_t>(context, args);
    case WeightType::kFp8:
      return LaunchNarrow<WeightType::kFp8>(context, args);
    case WeightType::kInt8:
      return LaunchNarrow<WeightType::kInt8>(context, args);
    case WeightType::kInt4:
      return LaunchNarrow<WeightType::kInt4>(context, args);
  }
}

}  // namespace kvrm::cuda
