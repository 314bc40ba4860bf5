// gemm_tensor.cuh - the two kernels of products on tensor cores, for one type of weights.
#ifndef KVRM_CUDA_GEMM_TENSOR_CUH_
#define KVRM_CUDA_GEMM_TENSOR_CUH_

#include <algorithm>

#include "gemm_stream.cuh"
#include "gemm_tiled.cuh"

namespace kvrm::cuda {

// Asks for a line of memory to be brought to the L2 cache.
__device__ __forceinline__ void PrefetchL2([[maybe_unused]] const void* global) {
#ifndef KVRM_EMULATOR
  asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(global)));
#endif
}

// Tiles of 64 rows; up to kStreamRows rows are streamed instead. Which it is shows only when the previous
// kernels have ended, unless the shape has no more rows: then weights are on their way before that.
template <WeightType kType, class T>
__global__ void __launch_bounds__(kGemmThreads, 2) SmallKernel(GemmArgs args) {
  LaunchDependents();
  const bool streams = args.stream_features != 0, streams_always = streams && args.max_rows <= kStreamRows;
  const bool has_tile = blockIdx.x < args.stream_tiles;
  StreamCursor<kType> first = {};
  StreamWeights<kType> weights;
  const uint32_t units = args.stream_features / kUnitFeatures * args.pieces;
  if (streams && has_tile) {
    first = FirstUnit<kType>(args);
    if (streams_always) {
      weights.LoadFirst(args, first, !first.Done(units));
    } else {
      KVRM_UNROLL
      for (uint32_t i = 0; i < StreamWeights<kType>::kDepth; i += 2) {
        if (first.Done(units) || first.chunk + i >= first.end) continue;
        PrefetchL2(UnitAt(args.weight, first.low) + i * kChunkBytes);
        PrefetchL2(UnitAt(args.weight, first.high) + i * kChunkBytes);
      }
    }
  }
  WaitForPrevious();
  const uint32_t rows = RowsInUse(args);
  SumTile tile;
  if (streams && rows <= kStreamRows) {
    if (!has_tile || rows == 0) return;
    if (!streams_always) weights.LoadFirst(args, first, !first.Done(units));
    tile = rows <= 8 ? StreamTile<kType, T, 1>(args, rows, first, weights, DynamicShared<float>())
                     : StreamTile<kType, T, 2>(args, rows, first, weights, DynamicShared<float>());
  } else {
    if (blockIdx.x >= args.tiles * args.join * args.split || blockIdx.y * kSmallTileRows >= rows) return;
    const TilePart at = PartOfBlock(args, blockIdx.x, blockIdx.y);
    tile = TiledBody<kType, T, kSmallTileRows, false>(args, at, rows, DynamicShared<uint8_t>());
    if (tile.rows == 0) return;
  }
  FinishTile(args, tile);
}

// Tiles of 128 rows. Those that share weights are neighbours.
template <WeightType kType, class T>
__global__ void __launch_bounds__(kGemmThreads, 1) LargeKernel(GemmArgs args) {
  LaunchDependents();
  const TilePart at = PartOfBlock(args, blockIdx.y, blockIdx.x);
  const SumTile tile = TiledBody<kType, T, kLargeTileRows, true>(args, at, 0, DynamicShared<uint8_t>());
  if (tile.rows != 0) FinishTile(args, tile);
}

template <WeightType kType>
uint32_t SmallSharedBytes(const GemmArgs& args) {
  const uint32_t row_tiles = args.max_rows <= 8 ? 1 : 2;
  const uint32_t stream = StreamSharedFloats(args.stream_features, args.pieces, row_tiles) * sizeof(float);
  const bool streams_always = args.stream_features != 0 && args.max_rows <= kStreamRows;
  return streams_always ? stream : std::max(stream, TiledSharedBytes<kType, kSmallTileRows>(args.join));
}

template <WeightType kType, class T>
bool LaunchTyped(const LaunchContext& context, const GemmArgs& args, uint32_t max_shared) {
  const bool large = args.tile_rows == kLargeTileRows;
  const uint32_t blocks = args.tiles * args.join * args.split;
  const uint32_t row_tiles = (args.max_rows + args.tile_rows - 1) / args.tile_rows;
  LaunchConfig config;
  config.shared_bytes = large ? TiledSharedBytes<kType, kLargeTileRows>(args.join) : SmallSharedBytes<kType>(args);
  if (config.shared_bytes > max_shared) return false;
  config.grid = large ? dim3(row_tiles, blocks) : dim3(std::max(blocks, args.stream_tiles), row_tiles);
  config.block = dim3(kGemmThreads);
  config.stream = context.stream;
  config.dependent = context.dependent;
  void (*kernel)(GemmArgs) = large ? LargeKernel<kType, T> : SmallKernel<kType, T>;
  AllowShared(kernel, max_shared);  // for graphs that hold other shapes of it, too
  Launch(config, kernel, args);
  return true;
}

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_GEMM_TENSOR_CUH_
