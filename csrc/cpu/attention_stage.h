// attention_stage.h - attention of all active rows over their slots' transfer groups.
//
// A task is one part of one item, an item being a batch of queries of one slot under one KV head, and a part
// the slot's summary rows or one split of its tokens. Whoever finishes an item's last part merges its parts in
// ascending order, summary rows first; a split with a gap inside is two parts. Items are worked off in
// waves whose partial results fit the arena; neither waves nor batches change a result, since each
// query is merged from exactly the parts that it sees.
//
// What a decoding row's window is padded with (kvrm_header.padded_window) are tasks like the others, over the
// tokens behind the row's own; nobody merges their results.
#ifndef KVRM_CPU_ATTENTION_STAGE_H_
#define KVRM_CPU_ATTENTION_STAGE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "step.h"

namespace kvrm::cpu {

class AttentionStage {
 public:
  // Reserves for the largest of the engine's shapes.
  void Reserve(const std::vector<Plan>& plans, uint32_t kv_heads, uint32_t group);

  // Reads kQuery and the pool, writes kAttended.
  void Run(const Step& step, uint32_t layer);

 private:
  struct Item {
    uint32_t unit;
    uint32_t kv_head;
    uint32_t first_task;     // of the wave
    uint32_t first_partial;  // of the wave
    // Its parts, in the order in which they merge: the summary rows, the splits before the gap, the others.
    uint32_t far;          // 1: summary rows are the first part
    uint32_t sink_splits;  // from split 0 on, of tokens before the gap
    uint32_t first_split;  // of the others
    uint32_t parts;
    uint32_t padding_split;  // the first that is padded
  };

  // Gathers items from `next` on (unit * kv_heads + kv_head) as far as the partials reach; returns the
  // first that is left. Sets tasks_ and work_ns_.
  uint32_t Gather(const Step& step, uint32_t window, uint32_t next);
  void AttendPart(const Step& step, uint32_t layer, const Item& item, uint32_t part, Partial* partials, float* acc);
  void Attend(const Step& step, uint32_t layer, uint32_t task);
  void Pad(const Step& step, uint32_t layer, const Item& item, uint32_t split);
  void Merge(const Step& step, uint32_t window, const Item& item);

  std::vector<Item> items_;  // of the wave
  uint32_t num_items_ = 0;
  uint32_t tasks_ = 0;
  uint32_t padded_end_ = 0;                 // of the layer: decoding rows compute over tokens before it
  std::vector<uint32_t> padding_position_;  // [G]: padded_end_ - 1
  double work_ns_ = 0;
  std::unique_ptr<std::atomic<uint32_t>[]> left_;  // [items]: parts not done yet
};

}  // namespace kvrm::cpu
#endif  // KVRM_CPU_ATTENTION_STAGE_H_
