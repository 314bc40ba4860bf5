// gemm.h - what the files of the products share: the arguments of their kernels, how a product is cut,
// and how weights lie in memory. The public functions are those of kernels.h.
#ifndef KVRM_CUDA_GEMM_H_
#define KVRM_CUDA_GEMM_H_

#include <cstdint>

#include "kernels.h"

namespace kvrm::cuda {

inline constexpr uint32_t kGemmThreads = 256;
inline constexpr uint32_t kGemmWarps = kGemmThreads / 32;
inline constexpr uint32_t kPiece = 1024;          // k of one accumulator, see docs/cuda.md
inline constexpr uint32_t kSlab = 32;             // k of two tensor core steps
inline constexpr uint32_t kInt4Group = 128;       // k of one scale
inline constexpr uint32_t kGenericRows = 8;       // rows of a tile of the generic kernel
inline constexpr uint32_t kGemmCounters = 16384;  // arrivals[] at the start of the workspace
inline constexpr uint32_t kTileFeatures = 128;    // of a block of the tiled kernels
inline constexpr uint32_t kSmallTileRows = 64;
inline constexpr uint32_t kLargeTileRows = 128;
inline constexpr uint32_t kStreamRows = 16;  // so many rows at most are streamed

enum class GemmOutput : uint32_t { kQkv, kResidual, kGateUp, kLogits };

// Everything a product's kernel needs, by value. A tile's features are rows of the weight, see FeatureRow().
struct GemmArgs {
  const uint8_t* weight;
  const float* scales;
  const uint8_t* x;
  const uint32_t* rows;  // with first and max_rows: see GemmInput
  uint32_t first, max_rows;
  uint32_t n, k;
  uint32_t act_dtype;
  uint32_t zero;  // which the compiler does not know

  // How the product is cut (gemm_plan.cc).
  uint32_t pieces;
  uint32_t tile_rows;
  uint32_t tile_features;    // of a tile that an epilogue works on: tiled and generic kernels
  uint32_t tiles;            // of so many features
  uint32_t split;            // blocks that share the pieces of a tile
  uint32_t join;             // blocks that share the features of a tile, kTileFeatures each
  uint32_t stream_features;  // the same as tile_features for the streaming body; 0: it is not used
  uint32_t stream_tiles;
  float* partial;      // [row tile][tile][piece][tile_rows][join * kTileFeatures]
  uint32_t* arrivals;  // [row tile][tile]

  // What becomes of the sums.
  GemmOutput output;
  const float* row_scales;  // [n] or null: the sums are multiplied by them
  const float* bias;        // [n] or null
  void* out;                // hidden, logits or q: f32 [R][n]; y: act [R][out_columns]
  uint32_t out_columns;
  // kQkv
  const float* q_norm;
  const float* k_norm;
  float eps;
  const float* cos_table;
  const float* sin_table;
  const Row* row;
  uint8_t* pool;
  uint32_t kv_dtype, layer, layers, heads, kv_heads, head_dim, block_tokens;
};

// ---- weights in memory ---------------------------------------------------------------------------------
//
// 16-bit and F32 weights are plain [n][k]. In a lane's part of a slab are 8 consecutive elements, 8 t to
// 8 t + 7 of lane t. Narrow types lie so that 16 bytes hold a lane's parts of several slabs:
//   FP8, INT8  64 elements at a time, byte 16 t + 8 s + e: element 8 t + e of slab s (0 or 1)
//   INT4       128 elements at a time, word 4 t + s: elements 8 t to 8 t + 7 of slab s (0 to 3), as values
//              plus 8; element e in bits 4 (e / 2) + 16 (e % 2), so that one mask finds a pair
// Rows are padded with zeros to whole groups.

KVRM_HD uint32_t GroupElements(WeightType type) {
  return type == WeightType::kInt4 ? 128 : type == WeightType::kFp8 || type == WeightType::kInt8 ? 64 : 1;
}

KVRM_HD uint64_t WeightRowBytes(WeightType type, uint32_t k) {
  const uint32_t group = GroupElements(type);
  const uint64_t padded = uint64_t{(k + group - 1) / group} * group;
  switch (type) {
    case WeightType::kF32:
      return 4 * padded;
    case WeightType::kF16:
    case WeightType::kBf16:
      return 2 * padded;
    case WeightType::kInt4:
      return padded / 2;
    default:
      return padded;
  }
}

// Byte of element k of a row of FP8 or INT8.
KVRM_HD uint32_t ByteOfElement(uint32_t k) {
  const uint32_t slab = k / kSlab % 2, lane = k % kSlab / 8, e = k % 8;
  return k / 64 * 64 + 16 * lane + 8 * slab + e;
}

// Word of element k of a row of INT4, and its first bit there.
KVRM_HD uint32_t WordOfElement(uint32_t k) { return k / 128 * 16 + 4 * (k % kSlab / 8) + k / kSlab % 4; }
KVRM_HD uint32_t BitOfElement(uint32_t k) { return k % 8 / 2 * 4 + k % 2 * 16; }

// ---- tiles ---------------------------------------------------------------------------------------------

struct FeatureRow {
  uint32_t row;  // of the weight; 0 when there is none
  bool valid;
};

// v, of which the compiler knows nothing: what is made of it within a loop is not kept in registers around it.
KVRM_HD uint32_t Opaque(uint32_t v) {
#ifdef __CUDA_ARCH__
  asm volatile("" : "+r"(v));
#endif
  return v;
}

// The weight's row of feature f of a tile of `features`. Tiles of Q, K and V are made of pairs that RoPE
// rotates together, the first elements in the lower half of the tile, the second in the upper.
KVRM_HD FeatureRow RowOfFeature(const GemmArgs& args, uint32_t tile, uint32_t features, uint32_t f) {
  uint32_t row = tile * features + f;
  bool valid = f < features && row < args.n;
  if (args.output == GemmOutput::kQkv) {
    const uint32_t pairs = features / 2, half = Opaque(args.head_dim / 2), upper = f < pairs ? 0 : 1;
    const uint32_t pair = tile * pairs + f - upper * pairs;
    row = pair / half * args.head_dim + upper * half + pair % half;
    valid = f < features && pair < args.n / 2;
  }
  return {valid ? row : 0, valid};
}

// Rows of x in use.
__device__ __forceinline__ uint32_t RowsInUse(const GemmArgs& args) {
  const uint32_t rows = *args.rows;
  const uint32_t left = rows > args.first ? rows - args.first : 0;
  return left < args.max_rows ? left : args.max_rows;
}

// ---- launches by type ----------------------------------------------------------------------------------

void LaunchGeneric(const LaunchContext& context, WeightType type, const GemmArgs& args);

// What becomes of sums [max_rows][n] that are not made here.
void LaunchEpilogue(const LaunchContext& context, const GemmArgs& args, const float* sums);

// On tensor cores. False, and nothing is launched, when a block may not have the shared memory that it takes.
bool LaunchHalf(const LaunchContext& context, const GemmArgs& args, uint32_t max_shared);
bool LaunchFp8(const LaunchContext& context, const GemmArgs& args, uint32_t max_shared);
bool LaunchInt8(const LaunchContext& context, const GemmArgs& args, uint32_t max_shared);
bool LaunchInt4(const LaunchContext& context, const GemmArgs& args, uint32_t max_shared);

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_GEMM_H_
