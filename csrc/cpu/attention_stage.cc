#include "attention_stage.h"

#include <algorithm>

namespace kvrm::cpu {
namespace {

// First token that a query at position sees.
uint32_t FirstVisible(uint32_t position, uint32_t window) {
  return window == 0 || position < window ? 0 : position - (window - 1);
}

}  // namespace

void AttentionStage::Reserve(const std::vector<Plan>& plans, uint32_t kv_heads, uint32_t group) {
  padding_position_.resize(group);
  uint32_t units = 0;
  for (const Plan& plan : plans) units = std::max(units, plan.attention.max_units);
  items_.resize(size_t{units} * kv_heads);
  left_ = std::make_unique<std::atomic<uint32_t>[]>(items_.size());
}

uint32_t AttentionStage::Gather(const Step& step, uint32_t window, uint32_t next) {
  const uint32_t kv_heads = step.model.config.kv_heads, group = step.Group();
  const uint32_t end = static_cast<uint32_t>(step.batch.units.size()) * kv_heads;
  const uint32_t capacity = step.plan.attention.max_partials;
  uint32_t partials = 0;
  uint64_t scores = 0;  // query-token pairs
  num_items_ = tasks_ = 0;
  for (; next < end; ++next) {
    const AttentionUnit& unit = step.batch.units[next / kv_heads];
    const uint32_t position = step.batch.rows[unit.row_first].position;
    const uint32_t last = position + unit.rows - 1;
    const uint32_t first_split = FirstVisible(position, window) / kSplitTokens;
    const uint32_t splits = last / kSplitTokens - first_split + 1;
    const uint32_t padding_split = (last + 1) / kSplitTokens;
    const uint32_t padding = padded_end_ <= last + 1 ? 0 : (padded_end_ - 1) / kSplitTokens - padding_split + 1;
    const uint32_t needed = unit.rows * group * (splits + padding);
    if (partials + needed > capacity) break;  // never the wave's first: see AttentionShape
    left_[num_items_].store(splits, std::memory_order_relaxed);
    items_[num_items_++] = {next / kv_heads, next % kv_heads, tasks_, partials, first_split, splits, padding_split};
    tasks_ += splits + padding;
    partials += needed;
    scores += uint64_t{unit.rows} * group * (last - FirstVisible(position, window) + 1);
    if (padding != 0) scores += uint64_t{group} * (padded_end_ - last - 1);
  }
  // Two multiplications per score and dimension, at about 10 a nanosecond.
  work_ns_ = double(scores) * step.model.config.head_dim / 5;
  return next;
}

void AttentionStage::Merge(const Step& step, uint32_t window, const Item& item) {
  const AttentionUnit& unit = step.batch.units[item.unit];
  const uint32_t dim = step.model.config.head_dim, group = step.Group();
  const uint32_t count = unit.rows * group;
  const Partial* partials = reinterpret_cast<const Partial*>(step.arena + step.plan.offset[kPartial]);
  const float* acc = step.F32(kPartialAcc);
  for (uint32_t q = 0; q < count; ++q) {
    const uint32_t row = unit.row_first + q / group;
    const uint32_t position = step.batch.rows[row].position;
    // Only what this query sees: its batch may reach further on both sides.
    const uint32_t first = FirstVisible(position, window) / kSplitTokens;
    const size_t at = item.first_partial + size_t{first - item.first_split} * count + q;
    float* out = step.F32(kAttended) + size_t{row} * step.model.QRows() + (item.kv_head * group + q % group) * dim;
    MergeSplits(partials + at, count, acc + at * dim, size_t{count} * dim, position / kSplitTokens - first + 1, dim,
                out);
  }
}

// The tokens of a split behind a decoding row's own, for a query that would see them. The result stays in the
// item's memory behind those that are merged.
void AttentionStage::Pad(const Step& step, uint32_t layer, const Item& item, uint32_t split) {
  const AttentionUnit& unit = step.batch.units[item.unit];
  const uint32_t dim = step.model.config.head_dim, count = step.Group();
  const uint32_t first = step.batch.rows[unit.row_first].position + 1;
  const size_t at = item.first_partial + size_t{split} * count;
  const float* query = step.F32(kQuery) + (size_t{item.kv_head} * step.plan.rows + unit.row_first) * count * dim;
  AttendSplit(step.Kv(layer, step.view.slots[unit.slot]), item.kv_head, step.model.config.attention_scale,
              padded_end_ - first, item.padding_split + (split - item.splits), query, dim, padding_position_.data(),
              count, reinterpret_cast<Partial*>(step.arena + step.plan.offset[kPartial]) + at,
              step.F32(kPartialAcc) + at * dim, dim);
}

void AttentionStage::Attend(const Step& step, uint32_t layer, uint32_t task) {
  const Item* item = std::upper_bound(items_.data(), items_.data() + num_items_, task,
                                      [](uint32_t t, const Item& i) { return t < i.first_task; }) -
                     1;
  const AttentionUnit& unit = step.batch.units[item->unit];
  const uint32_t dim = step.model.config.head_dim, group = step.Group();
  const uint32_t window = step.model.layers[layer].window;
  const uint32_t count = unit.rows * group;
  const uint32_t split = task - item->first_task;
  if (split >= item->splits) return Pad(step, layer, *item, split);
  const size_t at = item->first_partial + size_t{split} * count;
  const float* query = step.F32(kQuery) + (size_t{item->kv_head} * step.plan.rows + unit.row_first) * group * dim;
  AttendSplit(step.Kv(layer, step.view.slots[unit.slot]), item->kv_head, step.model.config.attention_scale, window,
              item->first_split + split, query, dim, step.batch.query_position.data() + size_t{unit.row_first} * group,
              count, reinterpret_cast<Partial*>(step.arena + step.plan.offset[kPartial]) + at,
              step.F32(kPartialAcc) + at * dim, dim);
  const bool last = item->splits == 1 || left_[item - items_.data()].fetch_sub(1, std::memory_order_acq_rel) == 1;
  if (last) Merge(step, window, *item);
}

void AttentionStage::Run(const Step& step, uint32_t layer) {
  const uint32_t window = step.model.layers[layer].window;
  const uint32_t end = static_cast<uint32_t>(step.batch.units.size()) * step.model.config.kv_heads;
  padded_end_ = step.view.header->padded_window;
  if (window != 0) padded_end_ = std::min(padded_end_, window);
  if (padded_end_ != 0) std::fill(padding_position_.begin(), padding_position_.end(), padded_end_ - 1);
  for (uint32_t next = 0; next < end;) {
    next = Gather(step, window, next);
    ForRanges(step.threads, work_ns_, tasks_, 1, [&](uint32_t begin, uint32_t finish, uint32_t) noexcept {
      for (uint32_t task = begin; task < finish; ++task) Attend(step, layer, task);
    });
  }
}

}  // namespace kvrm::cpu
