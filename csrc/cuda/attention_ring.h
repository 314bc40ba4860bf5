// attention_ring.h - what decoding has in shared memory, and how a warp brings its tiles there: chunks of 16
// tokens of K or of V, in a ring of its own that no other warp waits for.
#ifndef KVRM_CUDA_ATTENTION_RING_H_
#define KVRM_CUDA_ATTENTION_RING_H_

#include "attention_mma.h"
#include "attention_plan.h"

namespace kvrm::cuda {

inline constexpr uint32_t kWarps = 4;                   // that compute
inline constexpr uint32_t kThreads = 32 * kWarps + 32;  // with the one that plans
inline constexpr uint32_t kDecodeRows = 16;             // query rows at most: one m16 tile

inline constexpr uint32_t kMaxDepth = 8;  // of a ring

struct DecodeControl {
  uint64_t arrived[kWarps][kMaxDepth];  // bulk copies only: mbarriers of the rings' places
  Piece pieces[kPieces];
  uint32_t blocks[kPieces][32];
  Work merge;       // of the split that arrived last
  uint32_t merges;  // it completed its row
  // The planning warp's own: what it plans next, and the split that ended with the piece before.
  Planner planner;
  Work arrival;
  uint32_t arrival_splits;  // of its row; 1: nothing arrives
};

// Where things lie in dynamic shared memory behind the rings, in bytes.
struct DecodeOffsets {
  uint32_t total;        // [G][D] f32: the split so far
  uint32_t stats;        // [kWarps][G] SoftmaxStat of the round's tiles
  uint32_t totals;       // [2][G] of the split so far, by turns
  uint32_t query;        // [kPieces][G rows of q, one of zeros]
  uint32_t query_bytes;  // of a piece
  uint32_t control;
  uint32_t end;
};

// What the host works out for the kernel: read as constants, these take no registers.
struct TensorShape {
  uint32_t group;           // G
  uint32_t block_shift;     // log2 of block_tokens
  uint32_t value_distance;  // bytes from K to V of a layer and head
  uint32_t wide;            // decode units go through the code for segments, one split at a time
  DecodeOffsets at;
};

template <uint32_t D, class Kv, uint32_t kDepth>
struct DecodeShared {
  using Shape = Geometry<D, Kv>;
  static constexpr uint32_t kRing = kDepth * Shape::kChunkBytes;  // of one warp
  static constexpr uint32_t kPart = kWarps * kRing;               // [kWarps][G][kPartRow] f32: a round's tiles
  static constexpr uint32_t kPartRow = D + 8;                     // floats: neighbouring rows in other banks

  static DecodeOffsets Offsets(uint32_t group) {
    DecodeOffsets at;
    at.total = kPart + kWarps * group * kPartRow * 4;
    at.stats = at.total + group * D * 4;
    at.totals = at.stats + kWarps * group * sizeof(SoftmaxStat);
    at.query = (at.totals + 2 * group * sizeof(SoftmaxStat) + 15) / 16 * 16;
    at.query_bytes = (group + 1) * Shape::kQStride;
    at.control = at.query + kPieces * at.query_bytes;
    at.end = at.control + sizeof(DecodeControl);
    return at;
  }
};

// By a thread that has written to shared memory what a bulk copy will write over.
__device__ __forceinline__ void FenceBeforeBulk() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

// A warp's copies: a ring of chunks, kDepth - 1 of them under way. kBulk: a row is one bulk copy, sm_90 and later,
// else 16 bytes are one cp.async.
template <uint32_t D, class Kv, uint32_t kDepth, bool kBulk>
class ChunkRing {
 public:
  using Shape = Geometry<D, Kv>;

  __device__ ChunkRing(const StepView& step, const TensorShape& shape, DecodeControl& control, uint8_t* ring,
                       uint32_t warp, uint32_t lane)
      : step_(step), shape_(shape), control_(control), ring_(ring), warp_(warp), lane_(lane), tile_(warp) {}

  // As piece `piece` begins: fills the ring as far as the first `planned` pieces go. All lanes are done with what
  // they have taken, and with the pieces before.
  __device__ __forceinline__ void Fill(uint32_t piece, uint32_t planned) {
    if (piece_ < piece) {
      piece_ = piece;
      tile_ = (warp_ + piece) % kWarps;
    }
    while (under_way_ < kDepth - 1 && Issue(planned)) {
    }
  }

  // The next chunk, once it is there; starts another copy in the place of the chunk taken before, which all
  // lanes have read by the time they call this.
  __device__ __forceinline__ const uint8_t* Take(uint32_t planned) {
    if constexpr (kBulk) {
      BarrierWait(&control_.arrived[warp_][out_], phase_);
      if (out_ + 1 == kDepth) phase_ ^= 1;
    } else if (under_way_ == kDepth - 1) {
      CpAsyncWait<kDepth - 2>();
    } else {
      CpAsyncWait<0>();
    }
    __syncwarp();
    const uint8_t* chunk = ring_ + out_ * Shape::kChunkBytes;
    --under_way_;
    out_ = out_ + 1 < kDepth ? out_ + 1 : 0;
    Issue(planned);
    return chunk;
  }

 private:
  // Starts the copy of the next chunk. False: the planned pieces have no more.
  __device__ __forceinline__ bool Issue(uint32_t planned) {
    if (chunk_ == 0 && !FindTile(planned)) return false;
    const uint32_t first = chunk_ % kTileChunks * kChunkTokens;  // of the tile
    const uint64_t block = blocks_[first >> shape_.block_shift];
    const uint8_t* from =
        step_.pool + block * step_.block_bytes + keys_ +
        ((first & (step_.block_tokens - 1)) * Shape::kRowBytes + (chunk_ >= kTileChunks ? shape_.value_distance : 0u));
    if constexpr (kBulk) {
      CopyRowsInBulk(from, ring_ + in_ * Shape::kChunkBytes, static_cast<int32_t>(first));
    } else {
      CopyRows(from, ring_ + in_ * Shape::kChunkBytes, static_cast<int32_t>(first));
      CpAsyncCommit();
    }
    ++under_way_;
    in_ = in_ + 1 < kDepth ? in_ + 1 : 0;
    if (++chunk_ == 2 * kTileChunks) {
      chunk_ = 0;
      tile_ += kWarps;
    }
    return true;
  }

  // The next tile of this warp in the planned pieces.
  __device__ __forceinline__ bool FindTile(uint32_t planned) {
    const Piece* work = &control_.pieces[piece_ % kPieces];
    while (tile_ >= work->tiles) {
      if (piece_ + 1 >= planned || work->tiles == 0) return false;
      ++piece_;
      tile_ = (warp_ + piece_) % kWarps;
      work = &control_.pieces[piece_ % kPieces];
    }
    const uint32_t token = tile_ * kTileTokens;  // of the piece
    seen_ = {static_cast<int32_t>(work->first - work->token - token),
             static_cast<int32_t>(work->last - work->token - token)};
    keys_ = work->keys;
    blocks_ = control_.blocks[piece_ % kPieces] + (token >> shape_.block_shift);
    return true;
  }

  // 16 rows that lie one after the other, the first of them row `first` of the tile; zeros in the place of those
  // that nobody sees.
  __device__ __forceinline__ void CopyRows(const uint8_t* from, uint8_t* to, int32_t first) {
    constexpr uint32_t kRowUnits = Shape::kRowBytes / 16, kUnits = kChunkTokens * kRowUnits;
    if (first >= seen_.first && first + static_cast<int32_t>(kChunkTokens) - 1 <= seen_.last) {
      KVRM_UNROLL
      for (uint32_t i = 0; i < (kUnits + 31) / 32; ++i) {
        const uint32_t unit = lane_ + i * 32;
        if (kUnits % 32 != 0 && unit >= kUnits) break;
        CpAsync16(to + unit / kRowUnits * Shape::kStride + unit % kRowUnits * 16, from + unit * 16);
      }
      return;
    }
    KVRM_NO_UNROLL
    for (uint32_t unit = lane_; unit < kUnits; unit += 32) {
      const uint32_t row = unit / kRowUnits;
      const int32_t at = first + static_cast<int32_t>(row);
      const bool valid = at >= seen_.first && at <= seen_.last;
      CpAsync16(to + row * Shape::kStride + unit % kRowUnits * 16, from + unit * 16, valid);
    }
  }

  __device__ __forceinline__ void CopyRowsInBulk(const uint8_t* from, uint8_t* to, int32_t first) {
    constexpr int32_t kRows = kChunkTokens;
    uint64_t* arrived = &control_.arrived[warp_][in_];
    const int32_t begin = seen_.first > first ? seen_.first - first : 0;
    const int32_t end = seen_.last < first + kRows - 1 ? seen_.last + 1 - first : kRows;
    const int32_t row = static_cast<int32_t>(lane_);
    if (row == 0) BarrierExpect(arrived, end > begin ? static_cast<uint32_t>(end - begin) * Shape::kRowBytes : 0);
    if (row >= begin && row < end) {
      BulkCopy(to + lane_ * Shape::kStride, from + lane_ * Shape::kRowBytes, Shape::kRowBytes, arrived);
    } else if (row < kRows) {
      KVRM_NO_UNROLL
      for (uint32_t unit = 0; unit < Shape::kRowBytes / 16; ++unit) {
        *reinterpret_cast<uint4*>(to + lane_ * Shape::kStride + unit * 16) = make_uint4(0, 0, 0, 0);
      }
      FenceBeforeBulk();
    }
  }

  const StepView& step_;
  const TensorShape& shape_;
  DecodeControl& control_;
  uint8_t* ring_;
  uint32_t warp_, lane_;
  uint32_t in_ = 0, out_ = 0, under_way_ = 0;  // chunks: places in the ring, number
  uint32_t piece_ = 0, tile_, chunk_ = 0;      // the next one to copy; chunks of V follow K's
  uint32_t phase_ = 0;                         // bulk copies: of the next place to be taken
  // Its tile: the tokens that somebody sees, counted from the tile's first; K within a block; physical blocks.
  Seen seen_ = {};
  uint64_t keys_ = 0;
  const uint32_t* blocks_ = nullptr;
};

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_ATTENTION_RING_H_
