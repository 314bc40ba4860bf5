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
  uint32_t splits;  // that the row is merged from, see MergedSplits
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

// The planning warp's state between pieces. It lies in shared memory, written by lane 0: in registers it
// would cost the other warps theirs.
struct Planner {
  WorkList list;
  uint32_t next;  // number off the counter
  Work work;      // the split that is being planned
  uint32_t slot, row, first, position, splits;
  uint32_t token;   // where the next piece begins
  uint32_t left;    // tiles of the split that are not planned
  uint32_t starts;  // the next piece is the split's first

  // By one thread; number: the first.
  __device__ __forceinline__ void Start(const WorkList& of, uint32_t number) {
    list = of;
    next = number;
    left = 0;
  }

  // By a warp: plans the next piece: its fields, and the physical blocks [32] from its first token's on.
  __device__ __forceinline__ void Next(const StepView& step, const AttentionArgs& args, Piece& piece, uint32_t* blocks,
                                       uint32_t lane) {
    if (left == 0 && !TakeSplit(step, args, lane)) {
      if (lane == 0) piece.tiles = 0;
      return;
    }
    const uint32_t tiles = left < kPieceTokens / kTileTokens ? left : kPieceTokens / kTileTokens;
    const kvrm_slot& of = step.slot[slot];
    blocks[lane] =
        WarpFindBlocks(step.groups + of.group_first, of.group_count, token >> BlockShift(step.block_tokens), lane);
    __syncwarp();
    if (lane == 0) {
      piece = {tiles,  token,  first,         position, row,
               splits, starts, tiles == left, work,     KeyOffset(step, args.layer, work.kv_head)};
      starts = 0;
      left -= tiles;
      token += tiles * kTileTokens;
    }
  }

  // Takes numbers until one is a split that its row sees something of. False: no more numbers.
  __device__ __forceinline__ bool TakeSplit(const StepView& step, const AttentionArgs& args, uint32_t lane) {
    for (;;) {
      const uint32_t number = next;
      __syncwarp();
      if (number >= list.total) return false;
      uint32_t place;
      uint32_t unit_index;
      if (list.unit_places != 0) {
        unit_index = DecodeUnit(step, list, number, place);
      } else {
        const uint32_t item = number - list.prefill;
        unit_index = WarpFindLast(list.decode_units, item, lane, [&](uint32_t i) { return step.units[i].item_first; });
        place = item - step.units[unit_index].item_first;
      }
      const AttentionUnit unit = UnitOf(step, unit_index, args.window);
      Work taken;
      taken.unit = unit_index;
      const bool seen = DecodePlace(step, list, unit, args.window, place, taken);
      if (lane == 0) {
        next = atomicAdd(args.work, 1u) + gridDim.x;
        if (seen) {
          work = taken;
          slot = unit.slot;
          row = unit.row_first;
          position = unit.position;
          first = FirstToken(unit, args.window);
          splits = MergedSplits(step, unit, args.window);
          const uint32_t begin = taken.split_first * step.split_tokens;
          const uint32_t end = position - begin < step.split_tokens ? position + 1 : begin + step.split_tokens;
          token = first > begin ? first / kTileTokens * kTileTokens : begin;
          left = (end - token + kTileTokens - 1) / kTileTokens;
          starts = 1;
        }
      }
      __syncwarp();
      if (seen) return true;
    }
  }
};

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_ATTENTION_PLAN_H_
