// gemm_epilogue.cu - what becomes of sums that another library made: a kernel of its own.
#include "gemm_epilogue.cuh"

namespace kvrm::cuda {
namespace {

// sums [max_rows][n].
__global__ void __launch_bounds__(kGemmThreads) EpilogueKernel(GemmArgs args, const float* sums) {
  LaunchDependents();
  WaitForPrevious();
  const uint32_t rows = RowsInUse(args), row_first = blockIdx.y * kGenericRows;
  if (row_first >= rows) return;
  const uint32_t in_tile = rows - row_first < kGenericRows ? rows - row_first : kGenericRows;
  const uint32_t stride = SumStride(args.tile_features);
  float* tile = DynamicShared<float>();
  for (uint32_t f = threadIdx.x; f < args.tile_features; f += kGemmThreads) {
    const uint32_t n = RowOfFeature(args, blockIdx.x, args.tile_features, f).row;
    for (uint32_t r = 0; r < in_tile; ++r) tile[r * stride + f] = sums[uint64_t{row_first + r} * args.n + n];
  }
  __syncthreads();
  FinishTile(args, {tile, stride, args.tile_features, blockIdx.x, row_first, in_tile});
}

}  // namespace

void LaunchEpilogue(const LaunchContext& context, const GemmArgs& args, const float* sums) {
  LaunchConfig config;
  config.grid = dim3(args.tiles, (args.max_rows + kGenericRows - 1) / kGenericRows);
  config.block = dim3(kGemmThreads);
  config.shared_bytes = kGenericRows * SumStride(args.tile_features) * sizeof(float);
  config.stream = context.stream;
  // After a kernel that lets nothing start before its end.
  config.dependent = false;
  Launch(config, EpilogueKernel, args, sums);
}

}  // namespace kvrm::cuda
