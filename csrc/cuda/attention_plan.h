// attention_plan.h - what the planning warp of a block does: takes numbers off the work counter, finds their
// units and physical blocks, and leaves pieces of work in shared memory for the other warps, ahead of them.
// Each search probes 32 places at once, so that it waits for memory twice and not ten times.
#ifndef KVRM_CUDA_ATTENTION_PLAN_H_
#define KVRM_CUDA_ATTENTION_PLAN_H_

#include "attention_walk.h"

namespace kvrm::cuda {

inline constexpr uint32_t kPieceTokens = 512;  // a block of 16 for each lane
inline constexpr uint32_t kPieces = 3;         // worked on, being fetched, being planned

// Tiles of one split of a decode unit and KV head.
struct Piece {
  uint32_t tiles;  // 0: there is no more work
  uint32_t token;  // the first tile's first
  uint32_t first;  // tokens that the row sees: [first, last]
  uint32_t last;
  uint32_t row;     // of q and out
  uint32_t splits;  // that the row sees
  uint32_t starts;  // the first piece of its split
  uint32_t ends;    // the last one
  Work work;
  uint64_t keys;  // offset of K of the layer and head within a block
};

__device__ __forceinline__ uint32_t CountBits(uint32_t x) {
#ifdef __CUDA_ARCH__
  return __popc(x);
#else
  return __builtin_popcount(x);
#endif
}

// The last i of [0, count) with key(i) <= value, by a whole warp; key ascends, and the
// first counts as not above the value.
template <class Key>
__device__ __forceinline__ uint32_t WarpFindLast(uint32_t count, uint32_t value, uint32_t lane, Key key) {
  uint32_t low = 0;
  while (count > 1) {
    const uint32_t step = (count + 31) / 32;
    const uint32_t at = lane * step;
    const uint32_t below = __ballot_sync(~0u, at < count && (lane == 0 || key(low + at) <= value));
    const uint32_t begin = (CountBits(below) - 1) * step;
    low += begin;
    count = step < count - begin ? step : count - begin;
  }
  return low;
}

// The physical blocks of logical blocks first .. first + 31 of a slot: lane i gets that of first + i, and
// nothing of use outside the slot's groups.
__device__ __forceinline__ uint32_t WarpFindBlocks(const kvrm_group* groups, uint32_t count, uint32_t first,
                                                   uint32_t lane) {
  const uint32_t at = WarpFindLast(count, first, lane, [&](uint32_t i) { return groups[i].logical_start; }) + lane;
  // 32 blocks lie in at most 32 groups.
  uint32_t start = 0xffffffffu, physical = 0;
  if (at < count) {
    start = groups[at].logical_start;
    physical = groups[at].physical_start - start;
  }
  uint32_t low = 0;
  KVRM_UNROLL
  for (uint32_t step = 16; step > 0; step /= 2) {
    if (__shfl_sync(~0u, start, static_cast<int>(low + step)) <= first + lane) low += step;
  }
  return __shfl_sync(~0u, physical, static_cast<int>(low)) + first + lane;
}

// The planning warp's state between pieces: the same in all lanes.
class Planner {
 public:
  __device__ Planner(const StepView& step, const AttentionArgs& args, const WorkList& list, uint32_t number)
      : step_(step), args_(args), list_(list), next_(number) {}

  // Plans the next piece: its fields, and the physical blocks [32] from its first token's on.
  __device__ __forceinline__ void Next(Piece& piece, uint32_t* blocks, uint32_t lane) {
    if (left_ == 0 && !TakeSplit(lane)) {
      if (lane == 0) piece.tiles = 0;
      return;
    }
    const uint32_t tiles = left_ < kPieceTokens / kTileTokens ? left_ : kPieceTokens / kTileTokens;
    const kvrm_slot& slot = step_.slot[slot_];
    blocks[lane] = WarpFindBlocks(step_.groups + slot.group_first, slot.group_count, token_ / step_.block_tokens, lane);
    if (lane == 0) {
      piece.tiles = tiles;
      piece.token = token_;
      piece.first = first_;
      piece.last = position_;
      piece.row = row_;
      piece.splits = splits_;
      piece.starts = starts_;
      piece.ends = tiles == left_;
      piece.work = work_;
      piece.keys = KeyOffset(step_, args_.layer, work_.kv_head);
    }
    starts_ = 0;
    left_ -= tiles;
    token_ += tiles * kTileTokens;
  }

 private:
  // Takes numbers until one is a split that its row sees something of. False: no more numbers.
  __device__ __forceinline__ bool TakeSplit(uint32_t lane) {
    for (;;) {
      const uint32_t number = __shfl_sync(~0u, next_, 0);
      if (number >= list_.total) return false;
      if (lane == 0) next_ = atomicAdd(args_.work, 1u) + gridDim.x;  // looked at by the next call
      const uint32_t item = number - list_.prefill;
      uint32_t place;
      if (list_.unit_places != 0) {
        work_.unit = DecodeUnit(step_, list_, number, place);
      } else {
        work_.unit =
            WarpFindLast(step_.counts->decode_units, item, lane, [&](uint32_t i) { return step_.units[i].item_first; });
        place = item - step_.units[work_.unit].item_first;
      }
      const AttentionUnit& unit = step_.units[work_.unit];
      const bool seen = DecodePlace(step_, list_, unit, args_.window, place, work_);
      position_ = unit.position;
      row_ = unit.row_first;
      slot_ = unit.slot;
      if (!seen) continue;
      first_ = FirstVisible(position_, args_.window);
      splits_ = position_ / step_.split_tokens - first_ / step_.split_tokens + 1;
      const uint32_t begin = work_.split_first * step_.split_tokens;
      const uint32_t end = position_ - begin < step_.split_tokens ? position_ + 1 : begin + step_.split_tokens;
      token_ = first_ > begin ? first_ / kTileTokens * kTileTokens : begin;
      left_ = (end - token_ + kTileTokens - 1) / kTileTokens;
      starts_ = 1;
      return true;
    }
  }

  const StepView& step_;
  const AttentionArgs& args_;
  const WorkList list_;
  uint32_t next_;  // number off the counter, in lane 0
  Work work_ = {};
  uint32_t left_ = 0;  // tiles of the split that are not planned
  uint32_t token_ = 0, first_ = 0, position_ = 0, row_ = 0, slot_ = 0, splits_ = 0, starts_ = 0;
};

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_ATTENTION_PLAN_H_
