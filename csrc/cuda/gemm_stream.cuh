// gemm_stream.cuh - products of up to kStreamRows rows: weights go from memory straight into registers,
// several chunks ahead, and are read once. A warp makes the sums of 16 features over one piece of k at a
// time; a block has all pieces of its tile and adds them in shared memory.
#ifndef KVRM_CUDA_GEMM_STREAM_CUH_
#define KVRM_CUDA_GEMM_STREAM_CUH_

#include "gemm_epilogue.cuh"
#include "gemm_fragment.cuh"

namespace kvrm::cuda {

inline constexpr uint32_t kUnitFeatures = 16;
inline constexpr uint32_t kUnitStride = kUnitFeatures + 4;  // of a row of a unit's sums

// Shared memory: the sums of every unit of a tile, then the tile.
KVRM_HD uint32_t StreamSharedFloats(uint32_t features, uint32_t pieces, uint32_t row_tiles) {
  return 8 * row_tiles * (features / kUnitFeatures * pieces * kUnitStride + SumStride(features));
}

// Where a warp is: a chunk of one of its units. Unit u is 16 features, number u % groups, over piece
// u / groups; a warp takes every kGemmWarps-th.
template <WeightType kType>
struct StreamCursor {
  const uint8_t* low;   // the lane's 16 bytes of the chunk, feature g
  const uint8_t* high;  // feature g + 8
  const float* low_scales;
  const float* high_scales;
  uint32_t unit;
  uint32_t chunk;  // of the row
  uint32_t end;    // of the piece

  __device__ __forceinline__ bool Done(uint32_t units) const { return unit >= units; }

  __device__ __forceinline__ void StartUnit(const GemmArgs& args) {
    using F = Format<kType>;
    const uint32_t groups = args.stream_features / kUnitFeatures, lane = threadIdx.x % 32;
    if (unit >= groups * args.pieces) return;
    const uint32_t piece = unit / groups, f = unit % groups * kUnitFeatures + lane / 4;
    const uint32_t low_row = RowOfFeature(args, blockIdx.x, args.stream_features, f).row;
    const uint32_t high_row = RowOfFeature(args, blockIdx.x, args.stream_features, f + 8).row;
    const uint64_t row_bytes = WeightRowBytes(kType, args.k);
    const uint32_t chunks = (args.k + F::kChunk - 1) / F::kChunk;
    chunk = piece * F::kPieceChunks;
    end = chunk + F::kPieceChunks < chunks ? chunk + F::kPieceChunks : chunks;
    const uint64_t at = uint64_t{chunk} * kChunkBytes + lane % 4 * 16;
    low = args.weight + low_row * row_bytes + at;
    high = args.weight + high_row * row_bytes + at;
    if constexpr (kType == WeightType::kInt4) {
      low_scales = args.scales + uint64_t{low_row} * chunks + chunk;
      high_scales = args.scales + uint64_t{high_row} * chunks + chunk;
    }
  }

  __device__ __forceinline__ void Advance(const GemmArgs& args, uint32_t count) {
    chunk += count;
    if (chunk < end) {
      low += count * kChunkBytes;
      high += count * kChunkBytes;
      if constexpr (kType == WeightType::kInt4) {
        low_scales += count;
        high_scales += count;
      }
    } else {
      unit += kGemmWarps;
      StartUnit(args);
    }
  }
};

// Weights that are on their way: kDepth chunks of two rows, and INT4's scales.
template <WeightType kType>
struct StreamWeights {
  // Registers for 8 KiB (INT4: 4 KiB) of each warp.
  static constexpr uint32_t kDepth = kType == WeightType::kInt4 ? 4 : 8;
  uint4 low[kDepth], high[kDepth];
  float low_scale[kDepth], high_scale[kDepth];

  __device__ __forceinline__ void Load(const StreamCursor<kType>& at, uint32_t i, bool valid) {
    if (!valid || at.chunk + i >= at.end) return;
    low[i] = Load128Stream(at.low + i * kChunkBytes);
    high[i] = Load128Stream(at.high + i * kChunkBytes);
    if constexpr (kType == WeightType::kInt4) {
      low_scale[i] = at.low_scales[i];
      high_scale[i] = at.high_scales[i];
    }
  }
};

template <WeightType kType>
__device__ __forceinline__ StreamCursor<kType> FirstUnit(const GemmArgs& args) {
  StreamCursor<kType> cursor = {};
  cursor.unit = threadIdx.x / 32;
  cursor.StartUnit(args);
  return cursor;
}

// The activations of one chunk: 8 kRowTiles rows.
template <WeightType kType, uint32_t kRowTiles>
struct StreamInput {
  uint4 x[Format<kType>::kSlabs][kRowTiles];

  __device__ __forceinline__ void Load(const GemmArgs& args, uint32_t rows, uint32_t chunk, bool valid) {
    using F = Format<kType>;
    const uint32_t lane = threadIdx.x % 32;
    KVRM_UNROLL
    for (uint32_t s = 0; s < F::kSlabs; ++s) {
      const uint32_t k = chunk * F::kChunk + s * kSlab;
      KVRM_UNROLL
      for (uint32_t j = 0; j < kRowTiles; ++j) {
        const uint32_t row = 8 * j + lane / 4;
        x[s][j] = make_uint4(0, 0, 0, 0);
        if (valid && row < rows && k < args.k) {
          x[s][j] = Load128(args.x + 2 * (uint64_t{row} * args.k + k + lane % 4 * 8));
        }
      }
    }
  }
};

// All units of the warp; their sums to shared memory, [unit][row][kUnitStride].
template <WeightType kType, class T, uint32_t kRowTiles>
__device__ __forceinline__ void StreamUnits(const GemmArgs& args, uint32_t rows, StreamCursor<kType> at,
                                            StreamWeights<kType>& weights, float* units) {
  using F = Format<kType>;
  constexpr uint32_t kDepth = StreamWeights<kType>::kDepth;
  // Chunks of activations ahead; they come from the L2 cache at most.
  constexpr uint32_t kAhead = F::kSlabs == 1 ? 4 / kRowTiles : F::kSlabs == 2 ? 2 / kRowTiles : 1;
  const uint32_t num_units = args.stream_features / kUnitFeatures * args.pieces;
  const uint32_t lane = threadIdx.x % 32, slabs = args.k / kSlab;

  StreamInput<kType, kRowTiles> input[kAhead];
  KVRM_UNROLL
  for (uint32_t i = 0; i < kAhead; ++i)
    input[i].Load(args, rows, at.chunk + i, !at.Done(num_units) && at.chunk + i < at.end);
  float sums[kRowTiles][4] = {};
  while (!at.Done(num_units)) {
    StreamCursor<kType> next = at;
    next.Advance(args, kDepth);
    const bool more = !next.Done(num_units);
    KVRM_UNROLL
    for (uint32_t i = 0; i < kDepth; ++i) {
      if (at.chunk + i < at.end) {
        float group[kRowTiles][4] = {};
        KVRM_UNROLL
        for (uint32_t s = 0; s < F::kSlabs; ++s) {
          if ((at.chunk + i) * F::kSlabs + s >= slabs) continue;
          uint32_t low[4], high[4];
          Unpack<kType, T>(weights.low[i], s, low);
          Unpack<kType, T>(weights.high[i], s, high);
          KVRM_UNROLL
          for (uint32_t j = 0; j < kRowTiles; ++j) {
            MultiplySlab<T>(kType == WeightType::kInt4 ? group[j] : sums[j], low, high, input[i % kAhead].x[s][j]);
          }
        }
        if constexpr (kType == WeightType::kInt4) {
          KVRM_UNROLL
          for (uint32_t j = 0; j < kRowTiles; ++j) {
            KVRM_UNROLL
            for (uint32_t c = 0; c < 4; ++c) {
              sums[j][c] = Fma(group[j][c], c < 2 ? weights.low_scale[i] : weights.high_scale[i], sums[j][c]);
            }
          }
        }
      }
      weights.Load(next, i, more);
      if (i + kAhead < kDepth) {
        input[i % kAhead].Load(args, rows, at.chunk + i + kAhead, at.chunk + i + kAhead < at.end);
      } else {
        const uint32_t chunk = next.chunk + i + kAhead - kDepth;
        input[i % kAhead].Load(args, rows, chunk, more && chunk < next.end);
      }
    }
    if (next.unit != at.unit) {
      float* to = units + at.unit * (8 * kRowTiles * kUnitStride) + lane / 4;
      KVRM_UNROLL
      for (uint32_t j = 0; j < kRowTiles; ++j) {
        KVRM_UNROLL
        for (uint32_t c = 0; c < 4; ++c) {
          to[(8 * j + lane % 4 * 2 + c % 2) * kUnitStride + c / 2 * 8] = sums[j][c];
          sums[j][c] = 0;
        }
      }
    }
    at = next;
  }
}

template <WeightType kType, class T, uint32_t kRowTiles>
__device__ __forceinline__ SumTile StreamTile(const GemmArgs& args, uint32_t rows, const StreamCursor<kType>& first,
                                              StreamWeights<kType>& weights, float* shared) {
  const uint32_t features = args.stream_features, groups = features / kUnitFeatures, stride = SumStride(features);
  float* tile = shared + groups * args.pieces * (8 * kRowTiles * kUnitStride);
  StreamUnits<kType, T, kRowTiles>(args, rows, first, weights, shared);
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < rows * features; i += kGemmThreads) {
    const uint32_t r = i / features, f = i % features;
    const float* from = shared + (f / kUnitFeatures * 8 * kRowTiles + r) * kUnitStride + f % kUnitFeatures;
    float sum = *from;
    for (uint32_t piece = 1; piece < args.pieces; ++piece) {
      sum = Add(sum, from[piece * groups * (8 * kRowTiles * kUnitStride)]);
    }
    tile[r * stride + f] = sum;
  }
  __syncthreads();
  return {tile, stride, features, blockIdx.x, 0, rows};
}

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_GEMM_STREAM_CUH_
