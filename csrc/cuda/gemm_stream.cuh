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
  uint32_t low;        // the lane's 16 bytes of the chunk, feature g, in 16-byte units of the weights
  uint32_t high;       // feature g + 8
  uint32_t low_scale;  // INT4: index of the chunk's scale
  uint32_t high_scale;
  uint32_t unit;
  uint32_t chunk;  // of the row
  uint32_t end;    // of the piece

  __device__ __forceinline__ bool Done(uint32_t units) const { return unit >= units; }

  __device__ __forceinline__ void StartUnit(const GemmArgs& args) {
    using F = Format<kType>;
    const uint32_t groups = Opaque(args.stream_features / kUnitFeatures), lane = threadIdx.x % 32;
    if (unit >= groups * args.pieces) return;
    const uint32_t piece = unit / groups, f = unit % groups * kUnitFeatures + lane / 4;
    const uint32_t low_row = RowOfFeature(args, blockIdx.x, args.stream_features, f).row;
    const uint32_t high_row = RowOfFeature(args, blockIdx.x, args.stream_features, f + 8).row;
    const uint32_t chunks = Opaque((args.k + F::kChunk - 1) / F::kChunk);
    chunk = piece * F::kPieceChunks;
    end = chunk + F::kPieceChunks < chunks ? chunk + F::kPieceChunks : chunks;
    low = (low_row * chunks + chunk) * kChunkUnits + lane % 4;
    high = (high_row * chunks + chunk) * kChunkUnits + lane % 4;
    if constexpr (kType == WeightType::kInt4) {
      low_scale = low_row * chunks + chunk;
      high_scale = high_row * chunks + chunk;
    }
  }

  __device__ __forceinline__ void Advance(const GemmArgs& args, uint32_t count) {
    chunk += count;
    if (chunk < end) {
      low += count * kChunkUnits;
      high += count * kChunkUnits;
      if constexpr (kType == WeightType::kInt4) {
        low_scale += count;
        high_scale += count;
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
  // Registers for 8 KiB of each warp; INT4 needs more of them for other things.
  static constexpr uint32_t kDepth = kType == WeightType::kInt4 ? 4 : 8;
  uint4 low[kDepth], high[kDepth];
  float low_scale[kDepth], high_scale[kDepth];

  __device__ __forceinline__ void Load(const GemmArgs& args, const StreamCursor<kType>& at, uint32_t i, bool valid) {
    if (!valid) return;
    low[i] = Load128Stream(UnitAt(args.weight, at.low) + i * kChunkBytes);
    high[i] = Load128Stream(UnitAt(args.weight, at.high) + i * kChunkBytes);
    if constexpr (kType == WeightType::kInt4) {
      low_scale[i] = args.scales[at.low_scale + i];
      high_scale[i] = args.scales[at.high_scale + i];
    }
  }

  // The first chunks of a warp, valid: whether it has any.
  __device__ __forceinline__ void LoadFirst(const GemmArgs& args, const StreamCursor<kType>& at, bool valid) {
    KVRM_UNROLL
    for (uint32_t i = 0; i < kDepth; ++i) Load(args, at, i, valid && at.chunk + i < at.end);
  }
};

template <WeightType kType>
__device__ __forceinline__ StreamCursor<kType> FirstUnit(const GemmArgs& args) {
  StreamCursor<kType> cursor = {};
  cursor.unit = threadIdx.x / 32;
  cursor.StartUnit(args);
  return cursor;
}

// The activations of some slabs: a lane's part of 8 kRowTiles rows. Rows that are not in use stay zero.
template <uint32_t kRowTiles>
struct StreamInput {
  static constexpr uint32_t kAhead = 2 / kRowTiles;  // slabs; they come from the L2 cache at most
  uint4 x[kAhead][kRowTiles];
  const uint8_t* row;  // of the first 8
  bool in_use[kRowTiles];

  __device__ __forceinline__ void Start(const GemmArgs& args, uint32_t rows) {
    const uint32_t lane = threadIdx.x % 32;
    row = args.x + 2 * (uint64_t{lane / 4} * args.k + lane % 4 * 8);
    KVRM_UNROLL
    for (uint32_t j = 0; j < kRowTiles; ++j) {
      in_use[j] = 8 * j + lane / 4 < rows;
      KVRM_UNROLL
      for (uint32_t i = 0; i < kAhead; ++i) x[i][j] = make_uint4(0, 0, 0, 0);
    }
  }

  // Slab first + i to place i % kAhead.
  __device__ __forceinline__ void Load(const GemmArgs& args, uint32_t first, uint32_t i, bool valid) {
    KVRM_UNROLL
    for (uint32_t j = 0; j < kRowTiles; ++j) {
      const uint8_t* from = row + 2 * (uint64_t{8 * j} * args.k + uint64_t{first} * kSlab) + i * (2 * kSlab);
      if (valid && in_use[j]) x[i % kAhead][j] = Load128(from);
    }
  }
};

// The slab after the last of a piece that ends with chunk `end`; a row's last chunk may hold less.
template <WeightType kType>
__device__ __forceinline__ uint32_t EndSlab(uint32_t end, uint32_t slabs) {
  return end * Format<kType>::kSlabs < slabs ? end * Format<kType>::kSlabs : slabs;
}

// kDepth chunks from `at` on, and on the way the loads of those from `next` on (more: there are any).
// kWhole: no chunk is missing in either.
template <WeightType kType, class T, uint32_t kRowTiles, bool kWhole>
__device__ __forceinline__ void StreamGroup(const GemmArgs& args, const StreamCursor<kType>& at,
                                            const StreamCursor<kType>& next, bool more, StreamWeights<kType>& weights,
                                            StreamInput<kRowTiles>& input, float (&sums)[kRowTiles][4]) {
  using F = Format<kType>;
  constexpr uint32_t kDepth = StreamWeights<kType>::kDepth, kSlabs = kDepth * F::kSlabs;
  constexpr uint32_t kAhead = StreamInput<kRowTiles>::kAhead;
  const uint32_t slabs = args.k / kSlab;
  const uint32_t slab_first = at.chunk * F::kSlabs, slab_end = EndSlab<kType>(at.end, slabs);
  const uint32_t next_first = next.chunk * F::kSlabs, next_end = EndSlab<kType>(next.end, slabs);
  KVRM_UNROLL
  for (uint32_t i = 0; i < kDepth; ++i) {
    float group[kRowTiles][4] = {};
    KVRM_UNROLL
    for (uint32_t s = 0; s < F::kSlabs; ++s) {
      const uint32_t slab = i * F::kSlabs + s;
      if (kWhole || slab_first + slab < slab_end) {
        uint32_t low[4], high[4];
        Unpack<kType, T>(weights.low[i], s, low);
        Unpack<kType, T>(weights.high[i], s, high);
        KVRM_UNROLL
        for (uint32_t j = 0; j < kRowTiles; ++j) {
          MultiplySlab<T>(kType == WeightType::kInt4 ? group[j] : sums[j], low, high, input.x[slab % kAhead][j]);
        }
      }
      if (slab + kAhead < kSlabs) {
        input.Load(args, slab_first, slab + kAhead, kWhole || slab_first + slab + kAhead < slab_end);
      } else {
        const uint32_t ahead = slab + kAhead - kSlabs;
        input.Load(args, next_first, ahead, more && (kWhole || next_first + ahead < next_end));
      }
    }
    if constexpr (kType == WeightType::kInt4) {
      if (kWhole || at.chunk + i < at.end) {
        KVRM_UNROLL
        for (uint32_t j = 0; j < kRowTiles; ++j) {
          KVRM_UNROLL
          for (uint32_t c = 0; c < 4; ++c) {
            sums[j][c] = Fma(group[j][c], c < 2 ? weights.low_scale[i] : weights.high_scale[i], sums[j][c]);
          }
        }
      }
    }
    weights.Load(args, next, i, more && (kWhole || next.chunk + i < next.end));
  }
}

// All units of the warp; their sums to shared memory, [unit][row][kUnitStride].
template <WeightType kType, class T, uint32_t kRowTiles>
__device__ __forceinline__ void StreamUnits(const GemmArgs& args, uint32_t rows, StreamCursor<kType> at,
                                            StreamWeights<kType>& weights, float* units) {
  using F = Format<kType>;
  constexpr uint32_t kDepth = StreamWeights<kType>::kDepth;
  const uint32_t num_units = args.stream_features / kUnitFeatures * args.pieces, slabs = args.k / kSlab;
  const auto whole = [&](const StreamCursor<kType>& cursor) {
    return cursor.chunk + kDepth <= cursor.end && (cursor.chunk + kDepth) * F::kSlabs <= slabs;
  };
  StreamInput<kRowTiles> input;
  input.Start(args, rows);
  if (!at.Done(num_units)) {
    KVRM_UNROLL
    for (uint32_t i = 0; i < StreamInput<kRowTiles>::kAhead; ++i) {
      const uint32_t first = at.chunk * F::kSlabs;
      input.Load(args, first, i, first + i < EndSlab<kType>(at.end, slabs));
    }
  }
  float sums[kRowTiles][4] = {};
  while (!at.Done(num_units)) {
    StreamCursor<kType> next = at;
    next.Advance(args, kDepth);
    const bool more = !next.Done(num_units);
    if (whole(at) && (!more || whole(next))) {
      StreamGroup<kType, T, kRowTiles, true>(args, at, next, more, weights, input, sums);
    } else {
      StreamGroup<kType, T, kRowTiles, false>(args, at, next, more, weights, input, sums);
    }
    if (next.unit != at.unit) {
      float* to = units + at.unit * (8 * kRowTiles * kUnitStride) + threadIdx.x % 32 / 4;
      KVRM_UNROLL
      for (uint32_t j = 0; j < kRowTiles; ++j) {
        KVRM_UNROLL
        for (uint32_t c = 0; c < 4; ++c) {
          to[(8 * j + threadIdx.x % 4 * 2 + c % 2) * kUnitStride + c / 2 * 8] = sums[j][c];
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
