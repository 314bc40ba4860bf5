#include "plan.h"

#include <algorithm>
#include <numeric>

#include "../common/layout.h"
#include "bf16.h"
#include "ops.h"
#include "quant.h"
#include "tile_matmul.h"

namespace kvrm::cpu {
namespace {

constexpr size_t kCacheLine = 64;
constexpr size_t kOpsPerLayer = 8;

uint32_t Bits(std::initializer_list<BufferId> ids) {
  uint32_t bits = 0;
  for (BufferId id : ids) bits |= 1u << id;
  return bits;
}

std::vector<Op> OpList(uint32_t layers) {
  std::vector<Op> ops;
  ops.push_back({OpKind::kEmbed, 0, 0, Bits({kHidden, kCos, kSin})});
  for (uint32_t l = 0; l < layers; ++l) {
    ops.push_back({OpKind::kAttnNorm, l, Bits({kHidden}), Bits({kNormed})});
    ops.push_back({OpKind::kQkv, l, Bits({kNormed}), Bits({kQuant, kPackScratch, kQkv})});
    ops.push_back({OpKind::kRopeWrite, l, Bits({kQkv, kCos, kSin}), Bits({kQkv, kQuery})});
    ops.push_back({OpKind::kAttend, l, Bits({kQuery}), Bits({kPartial, kPartialAcc, kAttended})});
    ops.push_back({OpKind::kAttnOut, l, Bits({kAttended, kHidden}), Bits({kQuant, kPackScratch, kHidden})});
    ops.push_back({OpKind::kFfnNorm, l, Bits({kHidden}), Bits({kNormed})});
    ops.push_back({OpKind::kGateUp, l, Bits({kNormed}), Bits({kQuant, kPackScratch, kGate, kUp})});
    ops.push_back({OpKind::kDown, l, Bits({kGate, kHidden}), Bits({kQuant, kPackScratch, kHidden})});
  }
  ops.push_back(
      {OpKind::kHead, 0, Bits({kHidden}), Bits({kQuant, kPackScratch, kHeadIn, kLogits, kScratch, kAdjusted})});
  return ops;
}

AttentionShape ShapeAttention(const kvrm_model_config& m, const kvrm_engine_config& config, uint32_t chunk) {
  // Enough queries to reuse a tile of K and V that is in cache, few enough for their accumulators.
  constexpr uint32_t kQueries = 64;
  // Bounds of the partials, in queries: one item (a batch of queries of one KV head), and one wave.
  constexpr uint64_t kItemPartials = 8192, kWavePartials = 32768;

  const uint64_t group = m.heads / m.kv_heads;
  AttentionShape shape;
  shape.max_splits = (config.max_context + kSplitTokens - 1) / kSplitTokens;
  // Summary rows are a part of their own, and a gap may cut a split in two.
  if (config.max_summaries != 0) shape.max_splits += 2;
  // One more: of a padded window a split may be seen in part, and its rest is a task of its own.
  const uint64_t row_partials = group * (shape.max_splits + 1);
  shape.query_rows =
      static_cast<uint32_t>(std::max<uint64_t>(1, std::min(kQueries / group, kItemPartials / row_partials)));
  // A segment that is no multiple of query_rows leaves a smaller batch at its end.
  const uint32_t segments = chunk == 0 ? 0 : std::min({config.max_segments, chunk, config.slots});
  shape.max_units = config.slots + segments + chunk / shape.query_rows;
  const uint64_t all = uint64_t{config.slots + chunk} * m.kv_heads * row_partials;
  const uint64_t item = std::min(shape.query_rows, std::max(1u, chunk)) * row_partials;
  shape.max_partials = static_cast<uint32_t>(std::max(item, std::min(all, kWavePartials)));
  return shape;
}

// The most that any matrix wants that does not take activations as they are.
template <typename Bytes>
size_t MostOfQuantised(const Model& model, const Bytes& bytes) {
  size_t most = 0;
  const auto widen = [&](const Weight& w) {
    if (w.packed || w.tile_parts != 0) most = std::max<size_t>(most, bytes(w));
  };
  for (const LayerWeights& layer : model.layers) {
    for (const Weight& w : layer.by_role) widen(w);
  }
  widen(model.lm_head);
  return most;
}

// First fit by falling size among the buffers that live at the same time.
void PlaceBuffers(Plan& plan) {
  struct Life {
    size_t first = SIZE_MAX, last = 0;
    bool Overlaps(const Life& other) const { return first <= other.last && other.first <= last; }
  };
  Life lives[kBuffers];
  for (size_t i = 0; i < plan.ops.size(); ++i) {
    for (uint32_t id = 0; id < kBuffers; ++id) {
      if ((plan.ops[i].reads | plan.ops[i].writes) & (1u << id)) {
        lives[id].first = std::min(lives[id].first, i);
        lives[id].last = std::max(lives[id].last, i);
      }
    }
  }
  // A buffer of the layers is written anew in each, before it is read: what counts is its life within
  // one layer, and the first layer stands for all.
  for (uint32_t id : {kNormed, kQkv, kQuery, kAttended, kGate, kUp, kPartial, kPartialAcc}) {
    Life life;
    for (size_t i = 1; i <= kOpsPerLayer; ++i) {
      if ((plan.ops[i].reads | plan.ops[i].writes) & (1u << id)) {
        life.first = std::min(life.first, i);
        life.last = std::max(life.last, i);
      }
    }
    lives[id] = life;
  }

  uint32_t order[kBuffers];
  std::iota(order, order + kBuffers, 0);
  std::stable_sort(order, order + kBuffers, [&](uint32_t a, uint32_t b) { return plan.bytes[a] > plan.bytes[b]; });
  for (uint32_t i = 0; i < kBuffers; ++i) {
    const uint32_t id = order[i];
    size_t at = 0;
    for (bool moved = true; moved;) {
      moved = false;
      for (uint32_t j = 0; j < i; ++j) {
        const uint32_t other = order[j];
        const size_t end = plan.offset[other] + plan.bytes[other];
        if (lives[id].Overlaps(lives[other]) && at < end && plan.offset[other] < at + plan.bytes[id]) {
          at = end;
          moved = true;
        }
      }
    }
    plan.offset[id] = at;
    plan.arena_bytes = std::max(plan.arena_bytes, at + plan.bytes[id]);
  }
}

}  // namespace

Plan MakePlan(const Model& model, const kvrm_engine_config& config, uint32_t chunk, uint32_t threads) {
  const kvrm_model_config& m = model.config;
  Plan plan;
  plan.rows = config.slots + chunk;
  plan.ops = OpList(m.layers);
  plan.attention = ShapeAttention(m, config, chunk);

  auto size = [&plan](BufferId id, size_t rows, size_t bytes) { plan.bytes[id] = AlignUp(rows * bytes, kCacheLine); };
  const size_t f32 = sizeof(float), rows = plan.rows;
  size(kHidden, rows, m.hidden * f32);
  size(kNormed, rows, m.hidden * f32);
  size(kQkv, rows, (model.QRows() + 2 * model.KvRows()) * f32);
  size(kQuery, rows, model.QRows() * f32);
  size(kAttended, rows, model.QRows() * f32);
  size(kGate, rows, m.intermediate * f32);
  size(kUp, rows, m.intermediate * f32);
  size(kCos, rows, m.head_dim / 2 * f32);
  size(kSin, rows, m.head_dim / 2 * f32);
  size(kPartialAcc, plan.attention.max_partials, m.head_dim * f32);
  size(kPartial, plan.attention.max_partials, sizeof(Partial));
  size(kQuant, 1, MostOfQuantised(model, [&](const Weight& w) {
         if (w.tile_parts != 0) return TileRowsBytes(rows, w.cols, w.tile_parts);
         return w.rounds ? rows * Bf16RowBytes(w.cols) : QuantRowsBytes(rows, w.cols);
       }));
  size(kPackScratch, threads, MostOfQuantised(model, [](const Weight& w) {
         return !w.packed || w.packed->load() ? 0 : PackedGroupBytes(w.dtype, w.cols);
       }));
  size(kHeadIn, config.slots, m.hidden * f32);
  size(kLogits, config.slots, m.vocab * f32);
  size(kScratch, threads, AlignUp(SampleScratchBytes(m.vocab), kCacheLine));
  if (config.max_edits != 0 || config.mask_rows != 0) size(kAdjusted, threads, m.vocab * f32);
  PlaceBuffers(plan);
  return plan;
}

}  // namespace kvrm::cpu
