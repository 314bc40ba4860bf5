// attention_walk.h - what attention's kernels share with the host: which tokens a row sees, which
// physical block holds a token, what a number off the work counter means, and how partial results merge.
#ifndef KVRM_CUDA_ATTENTION_WALK_H_
#define KVRM_CUDA_ATTENTION_WALK_H_

#include <cmath>
#include <cstdint>

#include "../kvrm.h"
#include "kernels.h"

// Loops over registers; the emulator's compiler has none to index.
#ifdef KVRM_EMULATOR
#define KVRM_UNROLL
#define KVRM_NO_UNROLL
#else
#define KVRM_UNROLL _Pragma("unroll")
#define KVRM_NO_UNROLL _Pragma("unroll 1")
#endif

namespace kvrm::cuda {

inline constexpr uint32_t kTileTokens = 64;

// ---- partial results ------------------------------------------------------------------------------------

// Of one row over a tile, a split or all: the highest score, and the sum of exp(score - max).
struct SoftmaxStat {
  float max;
  float sum;
};

KVRM_HD SoftmaxStat EmptyStat() { return {-INFINITY, 0.0f}; }

// What multiplies the total so far and the part that joins it; take is 0 where the row sees nothing of the part.
struct MergeFactors {
  float keep;
  float take;
};

KVRM_HD MergeFactors MergePartial(SoftmaxStat& total, const SoftmaxStat& part) {
  if (part.sum == 0.0f) return {1.0f, 0.0f};
  const float max = total.max > part.max ? total.max : part.max;
  const MergeFactors factors = {ExpF(Sub(total.max, max)), ExpF(Sub(part.max, max))};
  total = {max, Fma(total.sum, factors.keep, Mul(part.sum, factors.take))};
  return factors;
}

// One element of the sum of p v; the first total is 0. A part that is not seen must be finite all the same: a
// choice between the two results would have the compiler keep all parts until all choices are made.
KVRM_HD float MergeValue(float total, float part, const MergeFactors& factors) {
  return Fma(total, factors.keep, Mul(part, factors.take));
}

// ---- tokens and blocks ----------------------------------------------------------------------------------

// First token that a row at position sees; the last is position itself.
KVRM_HD uint32_t FirstVisible(uint32_t position, uint32_t window) {
  return window == 0 || position < window ? 0 : position - (window - 1);
}

// The group that holds a logical block: the last of groups[0 .. count) that starts at it or before.
KVRM_HD uint32_t FindGroup(const kvrm_group* groups, uint32_t count, uint32_t logical) {
  uint32_t low = 0, high = count;
  while (high - low > 1) {
    const uint32_t middle = low + (high - low) / 2;
    if (groups[middle].logical_start <= logical) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

// log2 of block_tokens, 16, 32 or 64: divisions are dear on the device.
KVRM_HD uint32_t BlockShift(uint32_t block_tokens) { return block_tokens == 16 ? 4 : block_tokens == 32 ? 5 : 6; }

KVRM_HD uint32_t PhysicalBlock(const kvrm_group& group, uint32_t logical) {
  return group.physical_start + (logical - group.logical_start);
}

// Bytes of one element of KV.
KVRM_HD uint32_t KvElementBytes(uint32_t kv_dtype) {
  return kv_dtype == KVRM_F32 ? 4 : kv_dtype == KVRM_F8_E4M3 ? 1 : 2;
}

// Where K of one layer and head starts within a block; V follows after kv_heads * block_tokens rows.
KVRM_HD uint64_t KeyOffset(const StepView& step, uint32_t layer, uint32_t kv_head) {
  const uint64_t row_bytes = uint64_t{step.head_dim} * KvElementBytes(step.kv_dtype);
  return (uint64_t{layer} * 2 * step.kv_heads + kv_head) * step.block_tokens * row_bytes;
}
KVRM_HD uint64_t ValueDistance(const StepView& step) {
  return uint64_t{step.kv_heads} * step.block_tokens * step.head_dim * KvElementBytes(step.kv_dtype);
}

// ---- work -----------------------------------------------------------------------------------------------

// The numbers off a layer's work counter: first the prefill units, last unit first, since a segment's later
// units see more; then the decode units. With a window each decode unit has the same number of places,
// enough for the splits that it can reach, some of them empty; else as many as it has splits.
struct WorkList {
  uint32_t prefill;      // items
  uint32_t total;        // items and places
  uint32_t unit_places;  // splits that a decode unit has places for; 0: AttentionUnit::splits
  uint32_t decode_units;
};

KVRM_HD WorkList ListWork(const StepView& step, uint32_t window) {
  const StepCounts& counts = *step.counts;
  const uint32_t decode =
      counts.decode_units < counts.units ? step.units[counts.decode_units].item_first : counts.items;
  WorkList list = {counts.items - decode, counts.items, 0, counts.decode_units};
  if (window == 0) return list;
  const uint32_t before = window - 1;  // tokens that a row sees besides its own
  const uint32_t reach = before / step.split_tokens + (before % step.split_tokens != 0) + 1;
  if (reach >= step.max_splits) return list;
  list.unit_places = reach;
  list.total = list.prefill + counts.decode_units * step.kv_heads * reach;
  return list;
}

// One work item: a unit and KV head over splits [split_first, split_last]; a decode unit's has one split.
struct Work {
  uint32_t unit;
  uint32_t kv_head;
  uint32_t split_first;
  uint32_t split_last;
};

// A unit as a layer with this window has it. Padding ends with the window, so that it sees all that lies
// before it, too.
KVRM_HD AttentionUnit UnitOf(const StepView& step, uint32_t index, uint32_t window) {
  AttentionUnit unit = step.units[index];
  if (unit.padding != 0 && window != 0 && unit.position >= window) unit.position = window - 1;
  return unit;
}

// First token that a unit attends to.
KVRM_HD uint32_t FirstToken(const AttentionUnit& unit, uint32_t window) {
  return unit.padding != 0 ? unit.padding : FirstVisible(unit.position, window);
}

// Splits that some row of a unit sees.
KVRM_HD uint32_t FirstSplit(const StepView& step, const AttentionUnit& unit, uint32_t window) {
  return FirstToken(unit, window) / step.split_tokens;
}
KVRM_HD uint32_t LastSplit(const StepView& step, const AttentionUnit& unit) {
  return (unit.position + unit.rows - 1) / step.split_tokens;
}

// The unit and the item within it of number n < list.prefill.
KVRM_HD Work PrefillWork(const StepView& step, const WorkList& list, uint32_t n) {
  const uint32_t item = list.prefill - 1 - n;
  return {list.decode_units + item / step.kv_heads, item % step.kv_heads, 0, 0};
}

// The decode unit of number n, list.prefill <= n < list.total, and n's place within it in `place`. Neighbouring
// places are the KV heads of one split: they read the same blocks.
KVRM_HD uint32_t DecodeUnit(const StepView& step, const WorkList& list, uint32_t n, uint32_t& place) {
  const uint32_t item = n - list.prefill;
  if (list.unit_places != 0) {
    place = item % (step.kv_heads * list.unit_places);
    return item / (step.kv_heads * list.unit_places);
  }
  uint32_t low = 0, high = list.decode_units;
  while (high - low > 1) {
    const uint32_t middle = low + (high - low) / 2;
    if (step.units[middle].item_first <= item) {
      low = middle;
    } else {
      high = middle;
    }
  }
  place = item - step.units[low].item_first;
  return low;
}

// False: an empty place.
KVRM_HD bool DecodePlace(const StepView& step, const WorkList& list, const AttentionUnit& unit, uint32_t window,
                         uint32_t place, Work& work) {
  work.kv_head = place % step.kv_heads;
  work.split_first = place / step.kv_heads;
  const uint32_t first = FirstSplit(step, unit, window);
  if (list.unit_places != 0 || unit.padding != 0) work.split_first += first;
  work.split_last = work.split_first;
  if (unit.padding > unit.position) return false;
  return work.split_first >= first && work.split_first <= LastSplit(step, unit);
}

// Splits that a decode unit's row is merged from; 0: the unit is padding.
KVRM_HD uint32_t MergedSplits(const StepView& step, const AttentionUnit& unit, uint32_t window) {
  return unit.padding != 0 ? 0 : LastSplit(step, unit) - FirstSplit(step, unit, window) + 1;
}

// Where a split of a decode unit leaves its partial result.
KVRM_HD uint64_t PartialIndex(const StepView& step, const Work& work, uint32_t split) {
  return (uint64_t{work.unit} * step.kv_heads + work.kv_head) * step.max_splits + split;
}

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_ATTENTION_WALK_H_
