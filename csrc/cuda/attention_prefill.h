// attention_prefill.h - rows of a segment on tensor cores: up to 64 query rows of one KV head over all that
// they see. The planning warp copies K and V, 64 tokens at a time, by turns with the four others, which
// share them. Two barriers a tile: K is copied while they work on V, V while they work on K.
//
// Up to head_dim 128 a warp has 16 query rows; above, 16 rows and half of the result's dims, two warps
// computing the same scores, and the unit goes through in passes of 32 rows. A tile's sum of p v and the
// split's so far are in registers; a thread's part of the total over splits lies in shared memory.
#ifndef KVRM_CUDA_ATTENTION_PREFILL_H_
#define KVRM_CUDA_ATTENTION_PREFILL_H_

#include "attention_decode.h"

namespace kvrm::cuda {

// A unit and KV head over some splits; in shared memory, since registers are short.
struct SegmentItem {
  AttentionUnit unit;
  Work work;
  uint32_t splits;  // that the unit's rows see, if the work is one of a decode unit's; else 1
};

// Dynamic shared memory; offsets in bytes.
template <uint32_t D, class Kv>
struct PrefillShared {
  using Shape = Geometry<D, Kv>;
  static constexpr uint32_t kParts = D > 128 ? 2 : 1;  // of the result's dims
  static constexpr uint32_t kDims = D / kParts;
  static constexpr uint32_t kRows = 16 * kWarps / kParts;  // of a pass
  static constexpr uint32_t kKeys = kRows * Shape::kQStride;
  static constexpr uint32_t kValues = kKeys + kTileTokens * Shape::kStride;
  static constexpr uint32_t kTotals = kValues + kTileTokens * Shape::kStride;  // [kDims / 2 + 4][threads] f32
  static constexpr uint32_t kBlocks = kTotals + (kDims / 2 + 4) * 32 * kWarps * 4;
  static constexpr uint32_t kEnd = kBlocks + 33 * 4;
};

template <uint32_t D, class Kv>
class PrefillBlock {
 public:
  using Shape = Geometry<D, Kv>;
  using Shared = PrefillShared<D, Kv>;

  __device__ PrefillBlock(const StepView& step, const AttentionArgs& args, const TensorShape& shape)
      : step_(step),
        args_(args),
        shape_(shape),
        shared_(DynamicShared<uint8_t>()),
        warp_(threadIdx.x / 32),
        lane_(threadIdx.x % 32) {}

  // The rows of item's unit over its splits: into out, or, when its one split is one of several, into
  // partial_acc and partial_stat. Ends with a barrier.
  __device__ __forceinline__ void Run(const SegmentItem& item) {
    for (uint32_t row = 0; row < item.unit.rows * shape_.group; row += Shared::kRows) {
      Pass(item.unit, item.work, item.splits, row);
    }
  }

 private:
  using Dims = ValueSum<Shared::kDims>;

  // Query rows [first_row, first_row + kRows) of the unit.
  __device__ __forceinline__ void Pass(const AttentionUnit& unit, const Work& work, const uint32_t& splits,
                                       uint32_t first_row) {
    const uint32_t last = unit.position + unit.rows - 1;
    LoadQueries(unit, work, first_row);
    if (warp_ == kWarps) {
      if (lane_ == 0) reinterpret_cast<uint32_t*>(shared_ + Shared::kBlocks)[32] = 0xffffffffu;
      CopyTile(unit, work, FirstToken(unit, work.split_first), false);
    }
    for (uint32_t split = work.split_first; split <= work.split_last; ++split) {
      Dims so_far = {};
      SoftmaxStat split_stat[2] = {EmptyStat(), EmptyStat()};
      const uint32_t end = (split + 1) * step_.split_tokens;
      for (uint32_t token = FirstToken(unit, split); token <= last && token < end; token += kTileTokens) {
        __syncthreads();  // K is there; nobody reads V
        TileWeights p;
        SoftmaxStat stat[2];
        if (warp_ < kWarps) {
          Scores(unit, first_row, token, p, stat);
        } else {
          CopyTile(unit, work, token, true);
        }
        __syncthreads();  // V is there; nobody reads K
        if (warp_ < kWarps) {
          Values(p, stat, split_stat, so_far);
        } else {
          const uint32_t next = token + kTileTokens;
          if (next <= last && (next < end || split < work.split_last)) CopyTile(unit, work, next, false);
        }
      }
      if (warp_ < kWarps) MergeTotals(so_far, split_stat, split == work.split_first);
    }
    if (warp_ < kWarps) StoreRows(unit, work, splits > 1, first_row);
    __syncthreads();
  }

  __device__ __forceinline__ uint32_t FirstToken(const AttentionUnit& unit, uint32_t split) const {
    const uint32_t first = FirstVisible(unit.position, args_.window);
    const uint32_t begin = split * step_.split_tokens;
    return first > begin ? first / kTileTokens * kTileTokens : begin;
  }

  // q of the pass, rounded; zeros in the rows beyond the unit's.
  __device__ __forceinline__ void LoadQueries(const AttentionUnit& unit, const Work& work, uint32_t first_row) {
    using T = typename Shape::T;
    for (uint32_t i = Opaque(threadIdx.x); i < Shared::kRows * (D / 4); i += kThreads) {
      const uint32_t row = first_row + i / (D / 4), n = i % (D / 4) * 4;
      float4 x = make_float4(0, 0, 0, 0);
      if (row < unit.rows * shape_.group) x = *reinterpret_cast<const float4*>(args_.q + Head(unit, work, row) * D + n);
      uint8_t* at = shared_ + i / (D / 4) * Shape::kQStride;
      *reinterpret_cast<uint32_t*>(at + QueryPlace<D, Kv>(n) * 2) = Pack2<T>(x.x, x.y);
      *reinterpret_cast<uint32_t*>(at + QueryPlace<D, Kv>(n + 2) * 2) = Pack2<T>(x.z, x.w);
    }
  }

  // The head's row of q and out, [R][H], that query row r of the unit is.
  __device__ __forceinline__ uint64_t Head(const AttentionUnit& unit, const Work& work, uint32_t row) const {
    return uint64_t{unit.row_first + row / shape_.group} * step_.heads + work.kv_head * shape_.group +
           row % shape_.group;
  }

  // By the planning warp: brings K or V of the tile at token and waits for it.
  __device__ __forceinline__ void CopyTile(const AttentionUnit& unit, const Work& work, uint32_t token, bool value) {
    const uint32_t first = FirstVisible(unit.position, args_.window), last = unit.position + unit.rows - 1;
    const uint32_t lane = Opaque(lane_), shift = shape_.block_shift;
    const uint32_t block_first = token >> shift, blocks = kTileTokens >> shift;
    // Physical blocks [32], then the first one's logical number; 0xffffffff: none yet.
    uint32_t* table = reinterpret_cast<uint32_t*>(shared_ + Shared::kBlocks);
    __syncwarp();
    const uint32_t have = table[32];
    __syncwarp();
    if (have == 0xffffffffu || block_first + blocks > have + 32) {
      const kvrm_slot& slot = step_.slot[unit.slot];
      table[lane] = WarpFindBlocks(step_.groups + slot.group_first, slot.group_count, block_first, lane);
      if (lane == 0) table[32] = block_first;
      __syncwarp();
    }
    const uint32_t base = table[32];
    uint64_t offset = KeyOffset(step_, args_.layer, work.kv_head);
    if (value) offset += shape_.value_distance;
    uint8_t* to = shared_ + (value ? Shared::kValues : Shared::kKeys);
    constexpr uint32_t kRowUnits = Shape::kRowBytes / 16, kUnits = kChunkTokens * kRowUnits;
    for (uint32_t c = 0; c < kTileChunks; ++c) {
      const uint32_t at = token + c * kChunkTokens;
      const uint64_t block = table[(at >> shift) - base];
      const uint8_t* from =
          step_.pool + block * step_.block_bytes + offset + (at & (step_.block_tokens - 1)) * Shape::kRowBytes;
      KVRM_UNROLL
      for (uint32_t i = 0; i < (kUnits + 31) / 32; ++i) {
        const uint32_t unit16 = lane + i * 32;
        if (kUnits % 32 != 0 && unit16 >= kUnits) break;
        const uint32_t row = unit16 / kRowUnits;
        const bool valid = at + row >= first && at + row <= last;
        CpAsync16(to + (c * kChunkTokens + row) * Shape::kStride + unit16 % kRowUnits * 16, from + unit16 * 16, valid);
      }
    }
    CpAsyncCommit();
    CpAsyncWait<0>();
  }

  // p and its statistics of the warp's 16 rows over the tile of K.
  __device__ __forceinline__ void Scores(const AttentionUnit& unit, uint32_t first_row, uint32_t token, TileWeights& p,
                                         SoftmaxStat (&stat)[2]) const {
    float s[8][4];
    const uint32_t lane = Opaque(lane_);
    const uint8_t* query =
        shared_ + warp_ / Shared::kParts * 16 * Shape::kQStride + MatrixRow<true>(lane, Shape::kQStride);
    ScoreBySteps<D, Kv>(query, lane, s, shared_ + Shared::kKeys);
    // Rows beyond the unit's count as its last.
    const uint32_t low = unit.position, high = unit.position + unit.rows - 1;
    const uint32_t row0 = first_row + warp_ / Shared::kParts * 16 + lane / 4;
    Seen seen[2];
    KVRM_UNROLL
    for (uint32_t h = 0; h < 2; ++h) {
      const uint32_t position = low + (row0 + 8 * h) / shape_.group;
      seen[h] = SeenOfTile(position < high ? position : high, args_.window, token);
    }
    const bool all = token + kTileTokens - 1 <= low && token >= FirstVisible(high, args_.window);
    SoftmaxTile(s, args_.scale, seen, all, 2, lane, stat);
    PackTile<typename Shape::T>(s, p);
  }

  // The warp's dims of p v, which join the split: some at a time, for the registers' sake.
  __device__ __forceinline__ void Values(const TileWeights& p, const SoftmaxStat (&stat)[2],
                                         SoftmaxStat (&split_stat)[2], Dims& so_far) const {
    constexpr uint32_t kAtOnce = Shared::kDims % 32 == 0 ? 32 : Shared::kDims;
    const uint8_t* values = shared_ + Shared::kValues + warp_ % Shared::kParts * Shared::kDims * sizeof(Kv);
    const uint32_t lane = Opaque(lane_);
    const MergeFactors factors[2] = {MergePartial(split_stat[0], stat[0]), MergePartial(split_stat[1], stat[1])};
    KVRM_UNROLL
    for (uint32_t n = 0; n < Shared::kDims; n += kAtOnce) {
      ValueSum<kAtOnce> sum = {};
      KVRM_UNROLL
      for (uint32_t c = 0; c < kTileChunks; ++c) {
        ValueChunk<D, Kv, kAtOnce>(sum, p.a[c], values + c * Shape::kChunkBytes + n * sizeof(Kv), lane);
      }
      __syncwarp();  // keeps the compiler from mixing the parts, for which registers do not suffice
      KVRM_UNROLL
      for (uint32_t j = 0; j < kAtOnce / 8; ++j) {
        KVRM_UNROLL
        for (uint32_t i = 0; i < 4; ++i) {
          float& value = so_far.acc[n / 8 + j][i];
          value = MergeValue(value, sum.acc[j][i], factors[i / 2]);
        }
      }
    }
  }

  // The thread's part of the totals, elements of which are 32 * kWarps floats apart: its elements, then its two
  // rows' statistics.
  __device__ __forceinline__ float* Totals() const {
    return reinterpret_cast<float*>(shared_ + Shared::kTotals) + Opaque(threadIdx.x);
  }

  // A split joins the row.
  __device__ __forceinline__ void MergeTotals(const Dims& so_far, const SoftmaxStat (&split_stat)[2],
                                              bool starts) const {
    float* totals = Totals();
    constexpr uint32_t kNext = 32 * kWarps;
    KVRM_UNROLL
    for (uint32_t h = 0; h < 2; ++h) {
      float* at = totals + (Shared::kDims / 2 + 2 * h) * kNext;
      SoftmaxStat row_stat = EmptyStat();
      if (!starts) row_stat = {at[0], at[kNext]};
      const MergeFactors factors = MergePartial(row_stat, split_stat[h]);
      at[0] = row_stat.max;
      at[kNext] = row_stat.sum;
      KVRM_UNROLL
      for (uint32_t j = 0; j < Shared::kDims / 8; ++j) {
        KVRM_UNROLL
        for (uint32_t i = 2 * h; i < 2 * h + 2; ++i) {
          float* total = totals + (j * 4 + i) * kNext;
          *total = MergeValue(starts ? 0.0f : *total, so_far.acc[j][i], factors);
        }
      }
    }
  }

  // The thread's part of the totals, to where it belongs.
  __device__ __forceinline__ void StoreRows(const AttentionUnit& unit, const Work& work, bool partial,
                                            uint32_t first_row) const {
    const float* totals = Totals();
    constexpr uint32_t kNext = 32 * kWarps;
    const uint32_t lane = Opaque(lane_);
    const uint32_t row0 = first_row + warp_ / Shared::kParts * 16 + lane / 4;
    for (uint32_t h = 0; h < 2; ++h) {
      const uint32_t row = row0 + 8 * h;
      if (row >= unit.rows * shape_.group) break;
      const SoftmaxStat stat = {totals[(Shared::kDims / 2 + 2 * h) * kNext],
                                totals[(Shared::kDims / 2 + 2 * h + 1) * kNext]};
      const uint64_t index = PartialIndex(step_, work, work.split_first) * shape_.group + row;
      if (partial && lane % 4 == 0 && warp_ % Shared::kParts == 0) {
        *reinterpret_cast<float2*>(args_.partial_stat + index * 2) = make_float2(stat.max, stat.sum);
      }
      const float inverse = Div(1.0f, stat.sum);
      const uint64_t out = (partial ? index : Head(unit, work, row)) * D + warp_ % Shared::kParts * Shared::kDims;
      for (uint32_t j = 0; j < Shared::kDims / 8; j += 2) {
        float x[4];
        KVRM_UNROLL
        for (uint32_t i = 0; i < 4; ++i) x[i] = totals[((j + i / 2) * 4 + 2 * h + i % 2) * kNext];
        ForPairs<Shape::kFp8>(x[0], x[1], x[2], x[3], lane, [&](uint32_t n, float a, float b) {
          const uint64_t at = out + j * 8 + n;
          if (partial) {
            *reinterpret_cast<float2*>(args_.partial_acc + at) = make_float2(a, b);
          } else {
            StoreOut2(args_, at, Mul(a, inverse), Mul(b, inverse));
          }
        });
      }
    }
  }

  const StepView& step_;
  const AttentionArgs& args_;
  const TensorShape& shape_;
  uint8_t* shared_;
  const uint32_t warp_, lane_;
};

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_ATTENTION_PREFILL_H_
