// step.h - what every stage of a step works on, and how a stage is spread over the threads.
#ifndef KVRM_CPU_STEP_H_
#define KVRM_CPU_STEP_H_

#include <algorithm>
#include <cstdint>

#include "../common/model.h"
#include "batch.h"
#include "ops.h"
#include "plan.h"
#include "thread_pool.h"
#include "token_state.h"

namespace kvrm::cpu {

class SummaryStore;

struct Step {
  const Model& model;
  const kvrm_engine_config& config;
  const Plan& plan;
  const Batch& batch;
  const DescriptorView& view;
  ThreadPool& threads;
  uint8_t* arena;
  uint8_t* pool;  // [num_blocks][block_bytes]
  TokenState& tokens;
  const SummaryStore& summaries;

  float* F32(BufferId id) const { return reinterpret_cast<float*>(arena + plan.offset[id]); }
  uint32_t Rows() const { return static_cast<uint32_t>(batch.rows.size()); }
  uint32_t Group() const { return model.config.heads / model.config.kv_heads; }

  // One slot's view of one layer of the pool.
  KvView Kv(uint32_t layer, const kvrm_slot& slot) const {
    return {pool,
            config.kv_dtype,
            config.block_tokens,
            model.config.head_dim,
            model.config.kv_heads,
            model.config.layers,
            layer,
            view.groups + slot.group_first,
            slot.group_count};
  }
};

// Waking a worker and waiting for it costs a few microseconds: a tile must be worth more than that.
inline constexpr double kTileNs = 4000;

// Tiles for a stage that takes one thread about ns and consists of `units` equal pieces: one (nobody
// is woken) when it is short, else several for each thread so that they end together.
inline uint32_t TilesFor(double ns, uint32_t units, uint32_t threads) {
  if (units == 0) return 0;
  if (threads == 1 || ns < 2 * kTileNs) return 1;
  return static_cast<uint32_t>(std::min({ns / kTileNs, 8.0 * threads, double(units)}));
}

// Cuts [0, units) into tiles and calls work(begin, end, member) for each, begin and end multiples of
// grain (except the last end). Members take tiles in turns, and as long as they do each finds the next of its own part
// of the range: what it asked for in advance at the end of a tile is what it needs at the start of the next.
template <typename Work>
void ForRanges(ThreadPool& pool, double ns, uint32_t units, uint32_t grain, const Work& work) {
  const uint32_t grains = (units + grain - 1) / grain, members = pool.threads();
  uint32_t tiles = TilesFor(ns, grains, members);
  if (tiles > members) tiles -= tiles % members;
  const uint32_t parts = tiles % members == 0 ? members : 1, part_tiles = tiles / parts;
  pool.Run(tiles, [&](uint32_t tile, uint32_t member) noexcept {
    const uint32_t place = tile % parts * part_tiles + tile / parts;
    const uint32_t begin = static_cast<uint32_t>(uint64_t{grains} * place / tiles) * grain;
    const uint32_t end = static_cast<uint32_t>(uint64_t{grains} * (place + 1) / tiles) * grain;
    work(begin, std::min(end, units), member);
  });
}

// Rough time of a product of m rows with a weight of n rows and k columns on one thread, in ns: it
// reads at about 10 GB/s or multiplies at about 30 GMAC/s, integers at twice that. Only decides how many tiles are cut.
inline double MatMulNs(double m, double n, double k, uint32_t dtype) {
  const double bytes = IsBlocks(dtype) ? double(FormatOf(dtype).bytes) / FormatOf(dtype).numbers : ElementBytes(dtype);
  return std::max(n * k * bytes / 10, m * n * k / (IsBlocks(dtype) ? 60 : 30));
}

}  // namespace kvrm::cpu
#endif  // KVRM_CPU_STEP_H_
