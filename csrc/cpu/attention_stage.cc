#include "attention_stage.h"

#include <algorithm>

#include "summary_store.h"

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
    const FarHistory& far = unit.far;
    // Without a gap gap_end is 0; with one there is no window.
    const uint32_t first = std::max(FirstVisible(position, window), far.gap_end);
    Item item = {next / kv_heads, next % kv_heads, tasks_, partials, far.rows != 0, 0, first / kSplitTokens, 0, 0};
    item.sink_splits = (far.gap_begin + kSplitTokens - 1) / kSplitTokens;
    item.parts = item.far + item.sink_splits + last / kSplitTokens - item.first_split + 1;
    item.padding_split = (last + 1) / kSplitTokens;
    const uint32_t padding = padded_end_ <= last + 1 ? 0 : (padded_end_ - 1) / kSplitTokens - item.padding_split + 1;
    const uint32_t needed = unit.rows * group * (item.parts + padding);
    if (partials + needed > capacity) break;  // never the wave's first: see AttentionShape
    left_[num_items_].store(item.parts, std::memory_order_relaxed);
    items_[num_items_++] = item;
    tasks_ += item.parts + padding;
    partials += needed;
    scores += uint64_t{unit.rows} * group * (last - first + 1 + far.gap_begin + 2 * far.rows);
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
    // Only what this query sees: its batch may reach further on both sides. Where parts lie before the gap
    // there is no window, and the query sees all of them.
    const uint32_t before = item.far + item.sink_splits;
    const uint32_t first = std::max(FirstVisible(position, window) / kSplitTokens, item.first_split);
    const size_t at = item.first_partial + size_t{first - item.first_split} * count + q;
    float* out = step.F32(kAttended) + size_t{row} * step.model.QRows() + (item.kv_head * group + q % group) * dim;
    MergeSplits(partials + at, count, acc + at * dim, size_t{count} * dim, before + position / kSplitTokens - first + 1,
                dim, out);
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
              padded_end_ - first, item.padding_split + (split - item.parts), query, dim, padding_position_.data(),
              count, reinterpret_cast<Partial*>(step.arena + step.plan.offset[kPartial]) + at,
              step.F32(kPartialAcc) + at * dim, dim);
}

void AttentionStage::AttendPart(const Step& step, uint32_t layer, const Item& item, uint32_t part, Partial* partials,
                                float* acc) {
  const AttentionUnit& unit = step.batch.units[item.unit];
  const uint32_t dim = step.model.config.head_dim, group = step.Group(), count = unit.rows * group;
  const float scale = step.model.config.attention_scale;
  const float* query = step.F32(kQuery) + (size_t{item.kv_head} * step.plan.rows + unit.row_first) * group * dim;
  if (part < item.far) {
    AttendFar(step.summaries.View(unit.slot, layer, item.kv_head, unit.far.rows), scale, query, dim, count, partials,
              acc, dim);
    return;
  }
  part -= item.far;
  KvView kv = step.Kv(layer, step.view.slots[unit.slot]);
  uint32_t split = part;
  if (part < item.sink_splits) {
    kv.token_end = unit.far.gap_begin;
  } else {
    kv.token_first = unit.far.gap_end;
    split = item.first_split + part - item.sink_splits;
  }
  const uint32_t* positions = step.batch.query_position.data() + size_t{unit.row_first} * group;
  AttendSplit(kv, item.kv_head, scale, step.model.layers[layer].window, split, query, dim, positions, count, partials,
              acc, dim);
}

void AttentionStage::Attend(const Step& step, uint32_t layer, uint32_t task) {
  const Item* item = std::upper_bound(items_.data(), items_.data() + num_items_, task,
                                      [](uint32_t t, const Item& i) { return t < i.first_task; }) -
                     1;
  const uint32_t count = step.batch.units[item->unit].rows * step.Group();
  const uint32_t part = task - item->first_task;
  if (part >= item->parts) return Pad(step, layer, *item, part);
  const size_t at = item->first_partial + size_t{part} * count;
  AttendPart(step, layer, *item, part, reinterpret_cast<Partial*>(step.arena + step.plan.offset[kPartial]) + at,
             step.F32(kPartialAcc) + at * step.model.config.head_dim);
  const bool last = item->parts == 1 || left_[item - items_.data()].fetch_sub(1, std::memory_order_acq_rel) == 1;
  if (last) Merge(step, step.model.layers[layer].window, *item);
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
