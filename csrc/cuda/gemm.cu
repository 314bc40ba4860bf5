// gemm.cu - the products of kernels.h: arguments, how each is cut, and which kernel takes it.
#include <algorithm>

#include "gemm.h"

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

// Whole heads, as the norms of Q and K need; else a power of two.
uint32_t GenericFeatures(const GemmArgs& args) {
  constexpr uint32_t kFeatures = 64;
  if (args.output != GemmOutput::kQkv) return kFeatures;
  return std::max(1u, kFeatures / args.head_dim) * args.head_dim;
}

void LaunchProduct(const LaunchContext& context, const DeviceWeight& weight, const GemmInput&, GemmArgs args) {
  if (args.max_rows == 0 || args.n == 0) return;
  args.tile_features = GenericFeatures(args);
  args.tiles = (args.n + args.tile_features - 1) / args.tile_features;
  LaunchGeneric(context, weight.type, args);
}

}  // namespace

size_t GemmWorkspaceBytes(uint32_t, uint32_t) { return 256; }

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
