// attention_decode.h - decoding rows on tensor cores. A block has four warps that compute and one that plans.
// The 64-token tiles of a split go to the four warps by turns; each copies its own tiles, in chunks of 16
// tokens of K or of V, into a ring of its own that nobody else waits for, and goes on to the next piece of
// work before the block has finished this one. The tiles of a round meet in shared memory and merge in
// ascending order.
#ifndef KVRM_CUDA_ATTENTION_DECODE_H_
#define KVRM_CUDA_ATTENTION_DECODE_H_

#include "attention_merge.h"
#include "attention_ring.h"

namespace kvrm::cuda {

template <uint32_t D, class Kv, uint32_t kDepth, bool kBulk>
class DecodeBlock {
 public:
  using Shape = Geometry<D, Kv>;
  using Shared = DecodeShared<D, Kv, kDepth>;
  using Ring = ChunkRing<D, Kv, kDepth, kBulk>;
  static_assert(kDepth >= 2 && kDepth <= kMaxDepth);

  __device__ DecodeBlock(const StepView& step, const AttentionArgs& args, const TensorShape& shape)
      : step_(step),
        args_(args),
        shape_(shape),
        shared_(DynamicShared<uint8_t>()),
        control_(*reinterpret_cast<DecodeControl*>(shared_ + shape_.at.control)),
        warp_(threadIdx.x / 32),
        lane_(threadIdx.x % 32) {}

  // Works until the counter has no more numbers; `number` is the first.
  __device__ __forceinline__ void Run(const WorkList& list, uint32_t number) {
    Ring ring(step_, shape_, control_, shared_ + warp_ * Shared::kRing, warp_, lane_);
    ClearZeroRows();
    if constexpr (kBulk) {
      if (warp_ < kWarps && lane_ < kDepth) {
        BarrierInit(&control_.arrived[warp_][lane_], 1);
        FenceBarrierInit();
        FenceBeforeBulk();
      }
    }
    if (warp_ == kWarps) {
      if (lane_ == 0) {
        control_.planner.Start(list, number);
        control_.merges = 0;
        control_.arrival_splits = 1;
      }
      __syncwarp();
      Plan(0);
    }
    __syncthreads();
    // So many pieces are planned: when one begins, also the next, but the first begins by itself. The last piece
    // is empty: it is there for the split that ended before it.
    uint32_t planned = 1;
    for (uint32_t piece = 0, tiles = 1; tiles != 0; ++piece) {
      const Piece& work = control_.pieces[piece % kPieces];
      tiles = work.tiles;
      for (uint32_t round = 0; round == 0 || round * kWarps < tiles; ++round) {
        if (warp_ < kWarps) {
          if (round == 0) ring.Fill(piece, planned);
          const uint32_t tile = round * kWarps + (warp_ + piece) % kWarps;
          if (tile < tiles) Tile(work, ring, piece, planned, tile);
        } else if (round == 0) {
          Arrive(work);
          KVRM_NO_UNROLL
          for (uint32_t next = planned; tiles != 0 && next <= piece + 2; ++next) Plan(next);
        }
        __syncthreads();
        if (warp_ < kWarps) {
          if (tiles != 0) MergeRound(work, round, tiles);
          if (round == 0 && control_.merges != 0) MergeSplits(step_, args_, control_.merge, threadIdx.x, 32 * kWarps);
        }
        __syncthreads();
        if (round == 0 && threadIdx.x == 32 * kWarps) control_.merges = 0;
        planned = piece + 3;
      }
    }
  }

 private:
  // Rows of a query fragment beyond G are read from one row of zeros.
  __device__ __forceinline__ void ClearZeroRows() {
    for (uint32_t i = threadIdx.x; i < kPieces * Shape::kQStride / 16; i += kThreads) {
      const uint32_t piece = i / (Shape::kQStride / 16), unit = i % (Shape::kQStride / 16);
      uint8_t* row = shared_ + shape_.at.query + piece * shape_.at.query_bytes + shape_.group * Shape::kQStride;
      *reinterpret_cast<uint4*>(row + unit * 16) = make_uint4(0, 0, 0, 0);
    }
  }

  // By the planning warp: piece number `piece` and its q.
  __device__ __forceinline__ void Plan(uint32_t piece) {
    Piece& work = control_.pieces[piece % kPieces];
    control_.planner.Next(step_, args_, work, control_.blocks[piece % kPieces], lane_);
    __syncwarp();
    if (work.tiles == 0) return;
    const float* q = args_.q + (uint64_t{work.row} * step_.heads + work.work.kv_head * shape_.group) * D;
    uint8_t* to = shared_ + shape_.at.query + piece % kPieces * shape_.at.query_bytes;
    for (uint32_t i = lane_; i < shape_.group * D / 4; i += 32) {
      const uint32_t row = i / (D / 4), n = i % (D / 4) * 4;
      const float4 x = *reinterpret_cast<const float4*>(q + i * 4);
      uint8_t* at = to + row * Shape::kQStride;
      using T = typename Shape::T;
      *reinterpret_cast<uint32_t*>(at + QueryPlace<D, Kv>(n) * 2) = Pack2<T>(x.x, x.y);
      *reinterpret_cast<uint32_t*>(at + QueryPlace<D, Kv>(n + 2) * 2) = Pack2<T>(x.z, x.w);
    }
  }

  // By the planning warp, after the barrier that ended the piece before `work`: if that was a split of
  // several, its partial result is in memory and arrives.
  __device__ __forceinline__ void Arrive(const Piece& work) {
    if (lane_ == 0) {
      const uint32_t splits = control_.arrival_splits;
      if (splits > 1 && ArriveAtRow(step_, args_, control_.arrival, splits)) {
        control_.merge = control_.arrival;
        control_.merges = 1;
      }
      control_.arrival = work.work;
      control_.arrival_splits = work.ends != 0 ? work.splits : 1;
    }
    __syncwarp();
  }

  // One tile by one warp: its sums into part and stats.
  __device__ __forceinline__ void Tile(const Piece& work, Ring& ring, uint32_t piece, uint32_t planned, uint32_t tile) {
    const uint32_t halves = shape_.group > 8 ? 2 : 1;
    SoftmaxStat stat[2];
    TileWeights p;
    {
      float s[8][4];
      const uint32_t row = lane_ / 8 % 2 * 8 + lane_ % 8;
      const uint8_t* query = shared_ + shape_.at.query + piece % kPieces * shape_.at.query_bytes +
                             (row < shape_.group ? row : shape_.group) * Shape::kQStride + lane_ / 16 * 16;
      ScoreByChunks<D, Kv>(query, lane_, s, [&](uint32_t) { return ring.Take(planned); });
      const uint32_t token = work.token + tile * kTileTokens;
      const Seen one = SeenOfTile(work.last, args_.window, token);
      const Seen seen[2] = {one, one};
      SoftmaxTile(s, args_.scale, seen, one.first <= 0 && one.last >= static_cast<int32_t>(kTileTokens) - 1, halves,
                  lane_, stat);
      PackTile<typename Shape::T>(s, p);
    }
    ValueSum<D> sum = {};
    KVRM_UNROLL
    for (uint32_t c = 0; c < kTileChunks; ++c) ValueChunk<D, Kv, D>(sum, p.a[c], ring.Take(planned), lane_);
    float* part = reinterpret_cast<float*>(shared_ + Shared::kPart) + tile % kWarps * shape_.group * Shared::kPartRow;
    SoftmaxStat* stats = reinterpret_cast<SoftmaxStat*>(shared_ + shape_.at.stats) + tile % kWarps * shape_.group;
    KVRM_UNROLL
    for (uint32_t h = 0; h < 2; ++h) {
      const uint32_t row = lane_ / 4 + 8 * h;
      if (row >= shape_.group) break;
      if (lane_ % 4 == 0) stats[row] = stat[h];
      KVRM_UNROLL
      for (uint32_t j = 0; j < D / 8; j += 2) {
        const float *x = &sum.acc[j][2 * h], *y = &sum.acc[j + 1][2 * h];
        ForPairs<Shape::kFp8>(x[0], x[1], y[0], y[1], lane_, [&](uint32_t n, float a, float b) {
          *reinterpret_cast<float2*>(part + row * Shared::kPartRow + j * 8 + n) = make_float2(a, b);
        });
      }
    }
  }

  // By the computing warps: the tiles of a round join the split; the last round's result goes to memory. A
  // thread has the same elements in every round.
  __device__ __forceinline__ void MergeRound(const Piece& work, uint32_t round, uint32_t tiles) {
    const bool starts = round == 0 && work.starts != 0;
    const bool ends = (round + 1) * kWarps >= tiles && work.ends != 0;
    const uint32_t count = tiles - round * kWarps < kWarps ? tiles - round * kWarps : kWarps;
    const float* part = reinterpret_cast<const float*>(shared_ + Shared::kPart);
    float* total = reinterpret_cast<float*>(shared_ + shape_.at.total);
    const SoftmaxStat* stats = reinterpret_cast<const SoftmaxStat*>(shared_ + shape_.at.stats);
    SoftmaxStat* totals = reinterpret_cast<SoftmaxStat*>(shared_ + shape_.at.totals);
    const uint64_t head = uint64_t{work.row} * step_.heads + work.work.kv_head * shape_.group;
    const uint64_t index = PartialIndex(step_, work.work, work.work.split_first) * shape_.group;
    for (uint32_t e = threadIdx.x * 4; e < shape_.group * D; e += kWarps * 32 * 4) {
      const uint32_t row = e / D;
      float value[4] = {};
      SoftmaxStat stat = EmptyStat();
      if (!starts) {
        const float4 so_far = *reinterpret_cast<const float4*>(total + e);
        value[0] = so_far.x, value[1] = so_far.y, value[2] = so_far.z, value[3] = so_far.w;
        stat = totals[turn_ * shape_.group + row];
      }
      for (uint32_t i = 0; i < count; ++i) {
        const MergeFactors factors = MergePartial(stat, stats[i * shape_.group + row]);
        const float4 x = *reinterpret_cast<const float4*>(part + (i * shape_.group + row) * Shared::kPartRow + e % D);
        value[0] = MergeValue(value[0], x.x, factors);
        value[1] = MergeValue(value[1], x.y, factors);
        value[2] = MergeValue(value[2], x.z, factors);
        value[3] = MergeValue(value[3], x.w, factors);
      }
      if (!ends) {
        *reinterpret_cast<float4*>(total + e) = make_float4(value[0], value[1], value[2], value[3]);
        if (e % D == 0) totals[(turn_ ^ 1) * shape_.group + row] = stat;
      } else if (work.splits > 1) {
        *reinterpret_cast<float4*>(args_.partial_acc + index * D + e) =
            make_float4(value[0], value[1], value[2], value[3]);
        if (e % D == 0)
          *reinterpret_cast<float2*>(args_.partial_stat + (index + row) * 2) = make_float2(stat.max, stat.sum);
      } else if (work.splits == 1) {
        SoftmaxStat all = EmptyStat();
        const MergeFactors factors = MergePartial(all, stat);
        const float inverse = Div(1.0f, all.sum);
        for (float& v : value) v = Mul(MergeValue(0.0f, v, factors), inverse);
        StoreOut4(args_, head * D + e, value);
      }
    }
    turn_ ^= 1;
  }

  const StepView& step_;
  const AttentionArgs& args_;
  const TensorShape& shape_;
  uint8_t* shared_;
  DecodeControl& control_;
  const uint32_t warp_, lane_;
  uint32_t turn_ = 0;
};

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_ATTENTION_DECODE_H_
