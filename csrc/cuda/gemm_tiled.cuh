// gemm_tiled.cuh - products of more rows: tiles of 128 features by kTileRows rows, weights and activations
// through shared memory in three stages. The blocks that share a tile leave the sums of their pieces in
// the workspace; the last to arrive adds them.
#ifndef KVRM_CUDA_GEMM_TILED_CUH_
#define KVRM_CUDA_GEMM_TILED_CUH_

#include "gemm_epilogue.cuh"
#include "gemm_fragment.cuh"

namespace kvrm::cuda {

// How a stage lies in shared memory: rows of weights, then rows of x, in 16-byte units. The eight lanes that
// read at once have two rows; a row of 128 bytes or more covers all banks, so odd rows are swapped by halves.
template <WeightType kType, uint32_t kTileRows>
struct TileFormat {
  using F = Format<kType>;
  static constexpr uint32_t kK = kType == WeightType::kInt4 ? 128 : 64;  // of a stage
  static constexpr uint32_t kChunks = kK / F::kChunk;
  static constexpr uint32_t kWeightUnits = kChunks * 4;  // of a row
  static constexpr uint32_t kInputUnits = kK / 8;
  static constexpr uint32_t kWeightBytes = kTileFeatures * kWeightUnits * 16;
  static constexpr uint32_t kStageBytes = kWeightBytes + kTileRows * kInputUnits * 16;
  static constexpr uint32_t kStages = 3;
  static constexpr uint32_t kPieceSteps = kPiece / kK;

  // Warps: 4 by features, 32 each, and 2 by rows.
  static constexpr uint32_t kWarpRows = kTileRows / 2;
  static constexpr uint32_t kRowTiles = kWarpRows / 8;

  static KVRM_HD uint32_t WeightAt(uint32_t feature, uint32_t unit) {
    return (feature * kWeightUnits + (kWeightUnits == 8 ? unit ^ (feature & 1) * 4 : unit)) * 16;
  }
  static KVRM_HD uint32_t InputAt(uint32_t row, uint32_t unit) {
    return kWeightBytes + (row * kInputUnits + (unit ^ (row & 1) * 4)) * 16;
  }
};

// Shared memory: the stages, then the tile.
template <WeightType kType, uint32_t kTileRows>
uint32_t TiledSharedBytes(uint32_t join) {
  using Tile = TileFormat<kType, kTileRows>;
  return Tile::kStages * Tile::kStageBytes + kTileRows * SumStride(join * kTileFeatures) * sizeof(float);
}

// Which tile, which part of it, and which pieces are this block's.
struct TilePart {
  uint32_t tile, part;
  uint32_t piece_first, piece_end;
  uint32_t row_tile;
  uint32_t row_first, rows;
};

__device__ __forceinline__ TilePart PartOfBlock(const GemmArgs& args, uint32_t block, uint32_t row_tile) {
  TilePart at;
  const uint32_t of_split = block % args.split, each = (args.pieces + args.split - 1) / args.split;
  at.part = block / args.split % args.join;
  at.tile = block / args.split / args.join;
  at.piece_first = of_split * each;
  at.piece_end = at.piece_first + each < args.pieces ? at.piece_first + each : args.pieces;
  at.row_tile = row_tile;
  at.row_first = row_tile * args.tile_rows;
  at.rows = 0;
  return at;
}

// Copies of stages. A thread has the same unit of the same rows in each; rows that are no feature's are
// copies of row 0, and x has zeros where no row is in use.
template <WeightType kType, uint32_t kTileRows>
struct StageCopies {
  using Tile = TileFormat<kType, kTileRows>;
  static constexpr uint32_t kWeightStep = kGemmThreads / Tile::kWeightUnits;  // rows
  static constexpr uint32_t kWeightRows = kTileFeatures / kWeightStep;
  static constexpr uint32_t kInputStep = kGemmThreads / Tile::kInputUnits;
  static constexpr uint32_t kInputRows = kTileRows / kInputStep;
  static_assert(kWeightStep % 2 == 0 && kInputStep % 2 == 0);  // a thread's rows are swapped alike
  uint32_t weight[kWeightRows];                                // units of 16 bytes
  uint32_t input;                                              // of the thread's first row
  bool in_use[kInputRows];

  static __device__ __forceinline__ uint32_t WeightUnit() { return threadIdx.x % Tile::kWeightUnits; }
  static __device__ __forceinline__ uint32_t InputUnit() { return threadIdx.x % Tile::kInputUnits; }
  static __device__ __forceinline__ uint32_t RowUnits(const GemmArgs& args) {
    return static_cast<uint32_t>(WeightRowBytes(kType, args.k) / 16);
  }

  __device__ __forceinline__ void StartWeights(const GemmArgs& args, const TilePart& at) {
    KVRM_UNROLL
    for (uint32_t i = 0; i < kWeightRows; ++i) {
      const uint32_t f = at.part * kTileFeatures + threadIdx.x / Tile::kWeightUnits + i * kWeightStep;
      weight[i] = RowOfFeature(args, at.tile, args.tile_features, f).row * RowUnits(args) + WeightUnit();
    }
  }

  __device__ __forceinline__ void StartInput(const GemmArgs& args, const TilePart& at) {
    const uint32_t row = threadIdx.x / Tile::kInputUnits;
    KVRM_UNROLL
    for (uint32_t i = 0; i < kInputRows; ++i) in_use[i] = row + i * kInputStep < at.rows;
    input = (at.row_first + (in_use[0] ? row : 0)) * (args.k / 8) + InputUnit();
  }

  __device__ __forceinline__ void LoadWeights(uint8_t* stage, const GemmArgs& args, uint32_t step) const {
    const uint32_t first = step * Tile::kWeightUnits;
    // Rows of narrow types are padded to whole stages.
    constexpr bool kPadded = Format<kType>::kSlabs > 1;
    const bool whole = kPadded || first + Tile::kWeightUnits <= RowUnits(args);
    const bool valid = first + WeightUnit() < RowUnits(args);
    uint8_t* to = stage + Tile::WeightAt(threadIdx.x / Tile::kWeightUnits, WeightUnit());
    KVRM_UNROLL
    for (uint32_t i = 0; i < kWeightRows; ++i) {
      uint8_t* row = to + i * kWeightStep * Tile::kWeightUnits * 16;
      if (whole) {
        CpAsync16(row, UnitAt(args.weight, weight[i] + first));
      } else {
        CpAsync16(row, UnitAt(args.weight, weight[i] + (valid ? first : 0)), valid);
      }
    }
  }

  __device__ __forceinline__ void LoadInput(uint8_t* stage, const GemmArgs& args, uint32_t step) const {
    const uint32_t first = step * Tile::kInputUnits;
    const bool valid = first + InputUnit() < args.k / 8;
    uint8_t* to = stage + Tile::InputAt(threadIdx.x / Tile::kInputUnits, InputUnit());
    // INT4 leaves no registers for the products of k, but below sm_90 ptxas needs more for making them again.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
    const auto row_units = [&] { return args.k / 8; };
#else
    const auto row_units = [&] { return Opaque(args.k) / 8; };
#endif
    KVRM_UNROLL
    for (uint32_t i = 0; i < kInputRows; ++i) {
      const uint32_t from = input + (valid ? first : 0) + (in_use[i] ? i * kInputStep * row_units() : 0);
      CpAsync16(to + i * kInputStep * Tile::kInputUnits * 16, UnitAt(args.x, from), valid && in_use[i]);
    }
  }
};

// A warp's sums: 2 x 16 features, 8 kRowTiles rows.
template <uint32_t kRowTiles>
using WarpSums = float[2][kRowTiles][4];

// As the compiler sees them, 16-bit weights are copies of what was read, to be copied again into the registers
// of every operand; with a zero that it does not know they are made once.
template <WeightType kType, class T>
__device__ __forceinline__ void UnpackOnce(const GemmArgs& args, const uint4& chunk, uint32_t slab,
                                           uint32_t (&pairs)[4]) {
  Unpack<kType, T>(chunk, slab, pairs);
  if constexpr (Format<kType>::kSlabs == 1) {
    KVRM_UNROLL
    for (uint32_t i = 0; i < 4; ++i) pairs[i] ^= args.zero;
  }
}

// One chunk of a stage; whole: all of its slabs are within k, else the first `slabs` are.
template <WeightType kType, class T, uint32_t kTileRows, bool kWhole>
__device__ __forceinline__ void MultiplyChunk(const GemmArgs& args, const uint8_t* stage, uint32_t chunk,
                                              uint32_t slabs, WarpSums<TileFormat<kType, kTileRows>::kRowTiles>& sums) {
  using Tile = TileFormat<kType, kTileRows>;
  using F = Format<kType>;
  const uint32_t warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  // Other rows and units of the lane are at constant distances from these, but for one bit.
  const uint32_t weight_lane = Tile::WeightAt(warp % 4 * 32 + g, t);
  const uint32_t input_lane = Tile::InputAt(warp / 4 * Tile::kWarpRows + g, t);
  // INT4 has twice the sums; it reads x twice rather than keep two operands of weights.
  constexpr uint32_t kTogether = kType == WeightType::kInt4 ? 1 : 2;
  KVRM_UNROLL
  for (uint32_t first = 0; first < 2; first += kTogether) {
    uint4 weight[kTogether][2];
    KVRM_UNROLL
    for (uint32_t i = 0; i < 2 * kTogether; ++i) {
      weight[i / 2][i % 2] =
          LoadShared128(stage + (weight_lane ^ chunk * 64) + (16 * first + 8 * i) * Tile::kWeightUnits * 16);
    }
    KVRM_UNROLL
    for (uint32_t s = 0; s < F::kSlabs; ++s) {
      if (!kWhole && s >= slabs) continue;
      const uint32_t unit = (chunk * F::kSlabs + s) * 4;
      uint32_t low[kTogether][4], high[kTogether][4];
      KVRM_UNROLL
      for (uint32_t m = 0; m < kTogether; ++m) {
        UnpackOnce<kType, T>(args, weight[m][0], s, low[m]);
        UnpackOnce<kType, T>(args, weight[m][1], s, high[m]);
      }
      KVRM_UNROLL
      for (uint32_t j = 0; j < Tile::kRowTiles; ++j) {
        const uint4 x =
            LoadShared128(stage + (input_lane ^ unit % 8 * 16) + unit / 8 * 128 + 8 * j * Tile::kInputUnits * 16);
        KVRM_UNROLL
        for (uint32_t m = 0; m < kTogether; ++m) MultiplySlab<T>(sums[first + m][j], low[m], high[m], x);
      }
    }
  }
}

// Calls store(place, sum) for each of the warp's sums, its place in a matrix [row][stride], and makes them zero.
template <uint32_t kTileRows, uint32_t kRowTiles, class Store>
__device__ __forceinline__ void EachSum(WarpSums<kRowTiles>& sums, uint32_t row_tiles, float* matrix, uint32_t stride,
                                        const Store& store) {
  const uint32_t warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  stride = Opaque(stride);  // or addresses would fill the registers of the whole loop
  float* lane = matrix + (warp / 4 * (kTileRows / 2) + 2 * t) * stride + warp % 4 * 32 + g;
  KVRM_UNROLL
  for (uint32_t j = 0; j < kRowTiles; ++j) {
    KVRM_UNROLL
    for (uint32_t c = 0; c < 2; ++c) {
      float* row = lane + (8 * j + c) * stride;
      KVRM_UNROLL
      for (uint32_t i = 0; i < 4; ++i) {
        float& sum = sums[i / 2][j][i % 2 * 2 + c];
        if (j < row_tiles) store(row[8 * i], sum);
        sum = 0;
      }
    }
  }
}

// The last block of a tile to arrive adds all pieces, in their order, into the tile in shared memory. False
// for the others.
template <uint32_t kTileRows>
__device__ __forceinline__ bool GatherPieces(const GemmArgs& args, const TilePart& at, float* tile, uint32_t stride) {
  __shared__ uint32_t arrived;
  const uint32_t index = at.row_tile * args.tiles + at.tile, columns = args.join * kTileFeatures;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) arrived = atomicAdd(&args.arrivals[index], 1u);
  __syncthreads();
  if (arrived + 1 != args.split * args.join) return false;
  __threadfence();
  if (threadIdx.x == 0) args.arrivals[index] = 0;
  const float* from = args.partial + uint64_t{index} * args.pieces * kTileRows * columns;
  const uint32_t quads = columns / 4, all = at.rows * quads;
  constexpr uint32_t kBatch = 8;  // reads under way at once
  for (uint32_t i = threadIdx.x; i < all; i += kGemmThreads) {
    const uint32_t r = i / quads, f = i % quads * 4;
    const float4* piece = reinterpret_cast<const float4*>(from + r * columns + f);
    float4 sum = make_float4(0, 0, 0, 0);
    for (uint32_t first = 0; first < args.pieces; first += kBatch) {
      float4 read[kBatch];
      KVRM_UNROLL
      for (uint32_t p = 0; p < kBatch; ++p) {
        if (first + p < args.pieces) read[p] = piece[uint64_t{first + p} * kTileRows * quads];
      }
      KVRM_UNROLL
      for (uint32_t p = 0; p < kBatch; ++p) {
        if (first + p >= args.pieces) continue;
        const bool start = first + p == 0;
        sum.x = start ? read[p].x : Add(sum.x, read[p].x);
        sum.y = start ? read[p].y : Add(sum.y, read[p].y);
        sum.z = start ? read[p].z : Add(sum.z, read[p].z);
        sum.w = start ? read[p].w : Add(sum.w, read[p].w);
      }
    }
    float* to = tile + r * stride + f;
    to[0] = sum.x;
    to[1] = sum.y;
    to[2] = sum.z;
    to[3] = sum.w;
  }
  __syncthreads();
  return true;
}

// The sums of a tile; without rows where they are another block's to finish. kEarly: weights are on their way
// before WaitForPrevious(), which is called here; else it has been, and rows are those in use.
template <WeightType kType, class T, uint32_t kTileRows, bool kEarly>
__device__ __forceinline__ SumTile TiledBody(const GemmArgs& args, TilePart at, uint32_t rows, uint8_t* shared) {
  using Tile = TileFormat<kType, kTileRows>;
  using F = Format<kType>;
  const uint32_t stride = SumStride(args.join * kTileFeatures);
  float* tile = reinterpret_cast<float*>(shared + Tile::kStages * Tile::kStageBytes);
  const bool alone = args.split * args.join == 1;
  const uint32_t slabs = args.k / kSlab;
  const uint32_t step_first = at.piece_first * Tile::kPieceSteps;
  const uint32_t steps = (args.k + Tile::kK - 1) / Tile::kK;
  const uint32_t step_end = at.piece_end * Tile::kPieceSteps < steps ? at.piece_end * Tile::kPieceSteps : steps;

  StageCopies<kType, kTileRows> copies;
  copies.StartWeights(args, at);
  for (uint32_t i = 0; i + 1 < Tile::kStages; ++i) {
    if (step_first + i < step_end) copies.LoadWeights(shared + i * Tile::kStageBytes, args, step_first + i);
  }
  if (kEarly) {
    WaitForPrevious();
    rows = RowsInUse(args);
  }
  const uint32_t left = rows > at.row_first ? rows - at.row_first : 0;
  at.rows = left < kTileRows ? left : kTileRows;
  if (at.rows == 0) {
    CpAsyncCommit();
    CpAsyncWait<0>();
    return {};
  }
  copies.StartInput(args, at);
  for (uint32_t i = 0; i + 1 < Tile::kStages; ++i) {
    if (step_first + i < step_end) copies.LoadInput(shared + i * Tile::kStageBytes, args, step_first + i);
    CpAsyncCommit();
  }
  const uint32_t warp = threadIdx.x / 32, warp_row = warp / 4 * Tile::kWarpRows;
  const uint32_t rows_left = at.rows > warp_row ? at.rows - warp_row : 0;
  const uint32_t row_tiles = rows_left < Tile::kWarpRows ? (rows_left + 7) / 8 : Tile::kRowTiles;

  // INT4: where each feature's scales start.
  __shared__ uint32_t scales[kTileFeatures];
  if (kType == WeightType::kInt4 && threadIdx.x < kTileFeatures) {
    const uint32_t f = at.part * kTileFeatures + threadIdx.x, groups = (args.k + kInt4Group - 1) / kInt4Group;
    scales[threadIdx.x] = RowOfFeature(args, at.tile, args.tile_features, f).row * groups;
  }
  // INT4: the sums of pieces, and of a group; else the sums of pieces.
  WarpSums<Tile::kRowTiles> sums = {}, group = {};

  uint32_t place = 0;  // of the step's stage
  for (uint32_t step = step_first; step < step_end; ++step) {
    CpAsyncWait<Tile::kStages - 2>();
    __syncthreads();
    const uint8_t* stage = shared + place * Tile::kStageBytes;
    uint8_t* free = shared + (place == 0 ? Tile::kStages - 1 : place - 1) * Tile::kStageBytes;
    place = place + 1 == Tile::kStages ? 0 : place + 1;
    if (step + Tile::kStages - 1 < step_end) {
      copies.LoadWeights(free, args, step + Tile::kStages - 1);
      copies.LoadInput(free, args, step + Tile::kStages - 1);
    }
    CpAsyncCommit();
    auto& to = kType == WeightType::kInt4 ? group : sums;
    const uint32_t left_slabs = slabs - step * (Tile::kK / kSlab);  // of the row
    if (row_tiles == 0) {
      // The warp has no rows.
    } else if (left_slabs >= Tile::kK / kSlab) {
      KVRM_UNROLL
      for (uint32_t c = 0; c < Tile::kChunks; ++c)
        MultiplyChunk<kType, T, kTileRows, true>(args, stage, c, F::kSlabs, to);
    } else {
      KVRM_UNROLL
      for (uint32_t c = 0; c < Tile::kChunks; ++c) {
        if (c * F::kSlabs < left_slabs)
          MultiplyChunk<kType, T, kTileRows, false>(args, stage, c, left_slabs - c * F::kSlabs, to);
      }
    }
    if constexpr (kType == WeightType::kInt4) {
      KVRM_UNROLL
      for (uint32_t m = 0; m < 2; ++m) {
        const uint32_t* scale = scales + warp % 4 * 32 + 16 * m + threadIdx.x % 32 / 4;
        const float low = args.scales[scale[0] + step], high = args.scales[scale[8] + step];
        KVRM_UNROLL
        for (uint32_t j = 0; j < Tile::kRowTiles; ++j) {
          KVRM_UNROLL
          for (uint32_t c = 0; c < 4; ++c) {
            sums[m][j][c] = Fma(group[m][j][c], c < 2 ? low : high, sums[m][j][c]);
            group[m][j][c] = 0;
          }
        }
      }
    }
    if ((step + 1) % Tile::kPieceSteps != 0 && step + 1 != step_end) continue;
    const uint32_t piece = step / Tile::kPieceSteps;
    if (alone) {
      const bool start = piece == 0;
      EachSum<kTileRows, Tile::kRowTiles>(sums, row_tiles, tile, stride,
                                          [&](float& total, float sum) { total = start ? sum : Add(total, sum); });
    } else {
      const uint32_t columns = args.join * kTileFeatures, index = at.row_tile * args.tiles + at.tile;
      float* to =
          args.partial + (uint64_t{index} * args.pieces + piece) * kTileRows * columns + at.part * kTileFeatures;
      EachSum<kTileRows, Tile::kRowTiles>(sums, row_tiles, to, columns, [](float& place, float sum) { place = sum; });
    }
  }
  if (alone) {
    __syncthreads();
  } else if (!GatherPieces<kTileRows>(args, at, tile, stride)) {
    return {};
  }
  return {tile, stride, args.tile_features, at.tile, at.row_first, at.rows};
}

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_GEMM_TILED_CUH_
