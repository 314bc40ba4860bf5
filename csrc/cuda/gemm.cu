// gemm.cu - the products of kernels.h: arguments, how each is cut, and which kernel takes it.
#include <algorithm>

#include "gemm.h"
#include "gemm_lt.h"

namespace kvrm::cuda {
namespace {

GemmArgs CommonArgs(const DeviceWeight& weight, const GemmInput& in, GemmOutput output) {
  GemmArgs args = {};
  args.weight = static_cast<const uint8_t*>(weight.data);
  args.scales = weight.scales;
  args.x = static_cast<const uint8_t*>(in.x);
  args.rows = in.rows;
  args.first = in.first;
  args.max_rows = in.max_rows;
  args.n = weight.n;
  args.k = weight.k;
  args.act_dtype = in.act_dtype;
  args.output = output;
  if (weight.type == WeightType::kFp8 || weight.type == WeightType::kInt8) args.row_scales = weight.scales;
  return args;
}

uint32_t DivideUp(uint32_t a, uint32_t b) { return (a + b - 1) / b; }

// ---- the workspace: arrival counters, then partial sums ------------------------------------------------

constexpr uint64_t kPartialBytesOfSm = 512 << 10;

uint64_t PartialBytes(uint32_t sms) { return sms * kPartialBytesOfSm; }

// ---- how a product is cut ------------------------------------------------------------------------------

// Features of a tile that an epilogue can work on: whole heads where their norms are wanted.
uint32_t TileFeatures(const GemmArgs& args, uint32_t wanted) {
  if (args.output != GemmOutput::kQkv || !args.q_norm) return wanted;
  return std::max(1u, wanted / args.head_dim) * args.head_dim;
}

bool FitsTensorCores(const DeviceWeight& weight, const GemmArgs& args) {
  const auto aligned = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; };
  return weight.type != WeightType::kF32 && args.act_dtype != KVRM_F32 && args.k % kSlab == 0 && args.k != 0 &&
         args.tile_features <= 2 * kTileFeatures && aligned(args.weight) && aligned(args.x);
}

// The blocks that share a tile: enough to have `wanted` in all, as far as there are pieces and room for
// their sums.
void CutPieces(GemmArgs* args, uint32_t sms, uint32_t wanted) {
  const uint32_t row_tiles = DivideUp(args->max_rows, args->tile_rows), tiles = args->tiles * row_tiles;
  const uint32_t blocks = tiles * args->join;
  const uint64_t partial =
      uint64_t{tiles} * args->pieces * args->tile_rows * args->join * kTileFeatures * sizeof(float);
  const bool room = partial <= PartialBytes(sms) && tiles <= kGemmCounters;
  args->split = 1;
  // Three quarters of what is wanted are better than sums that travel through memory.
  if (room && 4 * blocks < 3 * wanted) {
    const uint32_t each = DivideUp(args->pieces, std::min(args->pieces, DivideUp(wanted, blocks)));
    args->split = DivideUp(args->pieces, each);
  }
  if (args->join > 1 && !room) args->join = 0;
}

// Features of a streamed tile: all warps busy and every multiprocessor too, then few blocks.
uint32_t StreamFeatures(const GemmArgs& args, uint32_t sms) {
  constexpr uint32_t kMaxUnits = 80;  // whose sums fit in shared memory
  constexpr uint32_t kMaxGroups = 8;  // of 16 features
  if (args.max_rows > kSmallTileRows || (args.output == GemmOutput::kQkv && args.q_norm)) return 0;
  uint32_t groups = args.output == GemmOutput::kGateUp ? 2 : 1;
  if (groups * args.pieces > kMaxUnits) return 0;
  while (groups < kMaxGroups && 2 * groups * args.pieces <= kMaxUnits) {
    const uint32_t tiles = DivideUp(args.n, 2 * groups * 16);
    const bool busy = groups * args.pieces >= kGemmWarps;
    if (10 * tiles < (busy ? 15 : 9) * sms) break;
    groups *= 2;
  }
  return groups * 16;
}

bool LaunchTensor(const LaunchContext& context, const DeviceWeight& weight, const GemmInput& in, GemmArgs args,
                  uint32_t max_shared) {
  args.tile_features = TileFeatures(args, kTileFeatures);
  if (!FitsTensorCores(weight, args)) return false;
  args.tiles = DivideUp(args.n, args.tile_features);
  args.join = DivideUp(args.tile_features, kTileFeatures);
  args.pieces = DivideUp(args.k, kPiece);
  args.arrivals = static_cast<uint32_t*>(in.workspace);
  args.partial = reinterpret_cast<float*>(args.arrivals + kGemmCounters);
  const auto launch = weight.type == WeightType::kFp8    ? LaunchFp8
                      : weight.type == WeightType::kInt8 ? LaunchInt8
                      : weight.type == WeightType::kInt4 ? LaunchInt4
                                                         : LaunchHalf;
  if (args.max_rows > kSmallTileRows && args.join == 1) {
    args.tile_rows = kLargeTileRows;
    CutPieces(&args, context.sms, context.sms);
    if (launch(context, args, max_shared)) return true;
  }
  args.tile_rows = kSmallTileRows;
  CutPieces(&args, context.sms, 2 * context.sms);
  if (args.join == 0) return false;
  args.stream_features = StreamFeatures(args, context.sms);
  args.stream_tiles = args.stream_features == 0 ? 0 : DivideUp(args.n, args.stream_features);
  return launch(context, args, max_shared);
}

// Dynamic shared memory that a block may have.
uint32_t MaxShared() {
  int device = 0, bytes = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return 0;
  if (cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) != cudaSuccess) return 0;
  constexpr int kStatic = 1024;  // more than the kernels take besides
  return static_cast<uint32_t>(std::max(0, bytes - kStatic));
}

// By cuBLASLt, all rows of the shape.
bool LaunchLt(const LaunchContext& context, const DeviceWeight& weight, const GemmInput& in, const GemmArgs& args) {
  float* sums = LtSums(args.max_rows, args.n);
  if (!sums || !LtProduct(context.stream, weight, in.x, args.max_rows, sums)) return false;
  LaunchEpilogue(context, args, sums);
  return true;
}

void LaunchProduct(const LaunchContext& context, const DeviceWeight& weight, const GemmInput& in, GemmArgs args) {
  if (args.max_rows == 0 || args.n == 0) return;
  args.tile_features = TileFeatures(args, 64);
  args.tiles = DivideUp(args.n, args.tile_features);
  if (LtWanted() && LaunchLt(context, weight, in, args)) return;
  if (LaunchTensor(context, weight, in, args, MaxShared())) return;
  LaunchGeneric(context, weight.type, args);
}

}  // namespace

size_t GemmWorkspaceBytes(uint32_t sms, uint32_t) { return kGemmCounters * sizeof(uint32_t) + PartialBytes(sms); }

void LaunchQkv(const LaunchContext& context, const StepView& step, const DeviceWeight& weight, const GemmInput& in,
               const QkvEpilogue& out) {
  GemmArgs args = CommonArgs(weight, in, GemmOutput::kQkv);
  args.bias = out.bias;
  args.out = out.q;
  args.q_norm = out.q_norm;
  args.k_norm = out.k_norm;
  args.eps = out.eps;
  args.cos_table = out.cos_table;
  args.sin_table = out.sin_table;
  args.row = step.rows;
  args.pool = step.pool;
  args.kv_dtype = step.kv_dtype;
  args.layer = out.layer;
  args.layers = step.layers;
  args.heads = step.heads;
  args.kv_heads = step.kv_heads;
  args.head_dim = step.head_dim;
  args.block_tokens = step.block_tokens;
  LaunchProduct(context, weight, in, args);
}

void LaunchResidual(const LaunchContext& context, const DeviceWeight& weight, const GemmInput& in, const float* bias,
                    float* hidden) {
  GemmArgs args = CommonArgs(weight, in, GemmOutput::kResidual);
  args.bias = bias;
  args.out = hidden;
  LaunchProduct(context, weight, in, args);
}

void LaunchGateUp(const LaunchContext& context, const DeviceWeight& weight, const GemmInput& in, uint32_t intermediate,
                  void* y) {
  GemmArgs args = CommonArgs(weight, in, GemmOutput::kGateUp);
  args.out = y;
  args.out_columns = intermediate;
  LaunchProduct(context, weight, in, args);
}

void LaunchLogits(const LaunchContext& context, const DeviceWeight& weight, const GemmInput& in, float* logits) {
  GemmArgs args = CommonArgs(weight, in, GemmOutput::kLogits);
  args.out = logits;
  LaunchProduct(context, weight, in, args);
}

}  // namespace kvrm::cuda
