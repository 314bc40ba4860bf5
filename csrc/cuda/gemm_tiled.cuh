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

template <uint32_t kTileRows>
__device__ __forceinline__ TilePart PartOfBlock(const GemmArgs& args, uint32_t block, uint32_t row_tile,
                                                uint32_t rows) {
  TilePart at;
  const uint32_t of_split = block % args.split, each = (args.pieces + args.split - 1) / args.split;
  at.part = block / args.split % args.join;
  at.tile = block / args.split / args.join;
  at.piece_first = of_split * each;
  at.piece_end = at.piece_first + each < args.pieces ? at.piece_first + each : args.pieces;
  at.row_tile = row_tile;
  at.row_first = row_tile * kTileRows;
  at.rows = rows - at.row_first < kTileRows ? rows - at.row_first : kTileRows;
  return at;
}

// Copies of one stage; each thread has the same rows and units in every stage.
template <WeightType kType, uint32_t kTileRows>
struct StageCopies {
  using Tile = TileFormat<kType, kTileRows>;
  static constexpr uint32_t kWeightStep = kGemmThreads / Tile::kWeightUnits;  // rows
  static constexpr uint32_t kInputStep = kGemmThreads / Tile::kInputUnits;
  uint32_t weight[kTileFeatures / kWeightStep];  // first units of rows
  const uint8_t* input;
  bool in_use[kTileFeatures / kWeightStep];

  __device__ __forceinline__ void Start(const GemmArgs& args, const TilePart& at) {
    KVRM_UNROLL
    for (uint32_t i = 0; i < kTileFeatures / kWeightStep; ++i) {
      const uint32_t f = at.part * kTileFeatures + threadIdx.x / Tile::kWeightUnits + i * kWeightStep;
      const FeatureRow row = RowOfFeature(args, at.tile, args.tile_features, f);
      weight[i] = row.row * RowUnits(args);
      in_use[i] = row.valid;
    }
    input = args.x + 2 * uint64_t{at.row_first} * args.k;
  }

  static __device__ __forceinline__ uint32_t RowUnits(const GemmArgs& args) {
    return static_cast<uint32_t>(WeightRowBytes(kType, args.k) / 16);
  }

  __device__ __forceinline__ void LoadWeights(uint8_t* stage, const GemmArgs& args, uint32_t step) const {
    const uint32_t unit = threadIdx.x % Tile::kWeightUnits, of_row = step * Tile::kWeightUnits + unit;
    KVRM_UNROLL
    for (uint32_t i = 0; i < kTileFeatures / kWeightStep; ++i) {
      const bool valid = in_use[i] && of_row < RowUnits(args);
      CpAsync16(stage + Tile::WeightAt(threadIdx.x / Tile::kWeightUnits + i * kWeightStep, unit),
                UnitAt(args.weight, weight[i] + (valid ? of_row : 0)), valid);
    }
  }

  __device__ __forceinline__ void LoadInput(uint8_t* stage, const GemmArgs& args, uint32_t rows, uint32_t step) const {
    const uint32_t unit = threadIdx.x % Tile::kInputUnits, k = step * Tile::kK + unit * 8;
    KVRM_UNROLL
    for (uint32_t i = 0; i < kTileRows / kInputStep; ++i) {
      const uint32_t row = threadIdx.x / Tile::kInputUnits + i * kInputStep;
      const bool valid = row < rows && k < args.k;
      CpAsync16(stage + Tile::InputAt(row, unit), input + (valid ? 2 * (uint64_t{row} * args.k + k) : 0), valid);
    }
  }
};

// A warp's sums: 2 x 16 features, 8 kRowTiles rows.
template <uint32_t kRowTiles>
using WarpSums = float[2][kRowTiles][4];

// One chunk of a stage; whole: all of its slabs are within k, else the first `slabs` are.
template <WeightType kType, class T, uint32_t kTileRows, bool kWhole>
__device__ __forceinline__ void MultiplyChunk(const uint8_t* stage, uint32_t chunk, uint32_t slabs,
                                              WarpSums<TileFormat<kType, kTileRows>::kRowTiles>& sums) {
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
        Unpack<kType, T>(weight[m][0], s, low[m]);
        Unpack<kType, T>(weight[m][1], s, high[m]);
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

// The sums of a tile; without rows where they are another block's to finish.
template <WeightType kType, class T, uint32_t kTileRows>
__device__ __forceinline__ SumTile TiledBody(const GemmArgs& args, const TilePart& at, uint8_t* shared) {
  using Tile = TileFormat<kType, kTileRows>;
  using F = Format<kType>;
  const uint32_t stride = SumStride(args.join * kTileFeatures);
  float* tile = reinterpret_cast<float*>(shared + Tile::kStages * Tile::kStageBytes);
  const bool alone = args.split * args.join == 1;
  const uint32_t slabs = args.k / kSlab;
  const uint32_t step_first = at.piece_first * Tile::kPieceSteps;
  const uint32_t steps = (args.k + Tile::kK - 1) / Tile::kK;
  const uint32_t step_end = at.piece_end * Tile::kPieceSteps < steps ? at.piece_end * Tile::kPieceSteps : steps;
  const uint32_t warp = threadIdx.x / 32, warp_row = warp / 4 * Tile::kWarpRows;
  const uint32_t rows_left = at.rows > warp_row ? at.rows - warp_row : 0;
  const uint32_t row_tiles = rows_left < Tile::kWarpRows ? (rows_left + 7) / 8 : Tile::kRowTiles;

  StageCopies<kType, kTileRows> copies;
  copies.Start(args, at);
  const auto load = [&](uint32_t step) {
    if (step < step_end) {
      uint8_t* stage = shared + step % Tile::kStages * Tile::kStageBytes;
      copies.LoadWeights(stage, args, step);
      copies.LoadInput(stage, args, at.rows, step);
    }
    CpAsyncCommit();
  };
  for (uint32_t i = 0; i + 1 < Tile::kStages; ++i) load(step_first + i);

  // INT4: the sums of a group, and of its piece.
  uint32_t scales[2][2];
  if constexpr (kType == WeightType::kInt4) {
    KVRM_UNROLL
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t f = at.part * kTileFeatures + warp % 4 * 32 + 8 * i + threadIdx.x % 32 / 4;
      const uint32_t groups = (args.k + kInt4Group - 1) / kInt4Group;
      scales[i / 2][i % 2] = RowOfFeature(args, at.tile, args.tile_features, f).row * groups;
    }
  }
  WarpSums<Tile::kRowTiles> sums = {}, group = {};

  for (uint32_t step = step_first; step < step_end; ++step) {
    CpAsyncWait<Tile::kStages - 2>();
    __syncthreads();
    load(step + Tile::kStages - 1);
    const uint8_t* stage = shared + step % Tile::kStages * Tile::kStageBytes;
    auto& to = kType == WeightType::kInt4 ? group : sums;
    const uint32_t left = slabs - step * (Tile::kK / kSlab);  // of the row
    if (row_tiles == 0) {
      // The warp has no rows.
    } else if (left >= Tile::kK / kSlab) {
      KVRM_UNROLL
      for (uint32_t c = 0; c < Tile::kChunks; ++c) MultiplyChunk<kType, T, kTileRows, true>(stage, c, F::kSlabs, to);
    } else {
      KVRM_UNROLL
      for (uint32_t c = 0; c < Tile::kChunks; ++c) {
        if (c * F::kSlabs < left) MultiplyChunk<kType, T, kTileRows, false>(stage, c, left - c * F::kSlabs, to);
      }
    }
    if constexpr (kType == WeightType::kInt4) {
      KVRM_UNROLL
      for (uint32_t m = 0; m < 2; ++m) {
        const float low = args.scales[scales[m][0] + step], high = args.scales[scales[m][1] + step];
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
  uint32_t rows = at.rows;
  if (alone) {
    __syncthreads();
  } else if (!GatherPieces<kTileRows>(args, at, tile, stride)) {
    rows = 0;
  }
  return {tile, stride, args.tile_features, at.tile, at.row_first, rows};
}

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_GEMM_TILED_CUH_
