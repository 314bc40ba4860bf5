// attention-inl.h - the inner loops of AttendSplit, compiled once per SIMD target.
//
// A split is walked in tiles of 16 tokens, which never straddle a block, so block size and fragmentation
// cannot show in the bits. For one query:
//   score[t]  a chain over head_dim as in matmul-inl.h, times scale
//   max       over the tokens it sees
//   p[t]      exp(score[t] - max), exactly 0 for tokens it does not see
//   sum       chains of L lanes over the split's 256 places, then Reduce
//   acc[n]    one chain over the tokens it sees, ascending
// None of it looks at other queries; they only share the converted tiles of K and V.

#if defined(KVRM_CPU_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVRM_CPU_ATTENTION_INL_H_
#undef KVRM_CPU_ATTENTION_INL_H_
#else
#define KVRM_CPU_ATTENTION_INL_H_
#endif

#include <algorithm>
#include <type_traits>

#include "vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvrm::cpu {
namespace HWY_NAMESPACE {

constexpr size_t kTileTokens = 16;
constexpr size_t kBatch = 32;        // queries whose scores wait on the stack: 32 KiB
constexpr size_t kMaxHeadDim = 512;  // of the converted tile: 32 KiB
// Register tile of the scores: queries x tokens.
constexpr size_t kScoreQueries = (HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON) ? 4 : 2;
constexpr size_t kScoreTokens = 4;
// Register tile of the output: queries x vectors of head_dim.
constexpr size_t kOutQueries = kScoreQueries;
constexpr size_t kOutVectors = 4;

// Tokens [begin, end) of the split's places that a query sees.
struct Seen {
  uint32_t begin;
  uint32_t end;
};

HWY_INLINE Seen SeenBy(const KvView& kv, uint32_t position, uint32_t window, uint32_t split) {
  const uint64_t first = uint64_t{split} * kSplitTokens;
  const uint64_t last = std::min(uint64_t{position} + 1, uint64_t{kv.token_end});  // exclusive
  const uint64_t oldest = std::max(window != 0 && last > window ? last - window : 0, uint64_t{kv.token_first});
  const uint64_t begin = std::max(first, oldest);
  const uint64_t end = std::min(first + kSplitTokens, last);
  if (begin >= end) return {0, 0};
  return {static_cast<uint32_t>(begin - first), static_cast<uint32_t>(end - first)};
}

// Finds the physical block of ascending logical blocks.
class GroupCursor {
 public:
  explicit GroupCursor(const KvView& kv) : kv_(kv) {}

  uint32_t Physical(uint32_t logical) {
    while (at_ + 1 < kv_.group_count && kv_.groups[at_ + 1].logical_start <= logical) ++at_;
    return kv_.groups[at_].physical_start + (logical - kv_.groups[at_].logical_start);
  }

 private:
  const KvView& kv_;
  uint32_t at_ = 0;
};

// 32 numbers of KV in Q8_0, as common/block_format.h has them.
struct Q8Block {
  uint16_t scale;  // f16
  int8_t q[32];
};
static_assert(sizeof(Q8Block) == 34);

HWY_INLINE float ScaleOf(const Q8Block& block) {
  const uint32_t magnitude = block.scale & 0x7fffu;  // scales have no sign
  uint32_t bits = magnitude << 13;
  if (magnitude >= 0x7c00) bits |= 0x7f800000u;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return magnitude >= 0x7c00 ? value : value * 0x1p112f;
}

// Elements of type T in a row of head_dim numbers.
template <typename T>
HWY_INLINE size_t RowElements(size_t dim) {
  return std::is_same_v<T, Q8Block> ? dim / 32 : dim;
}

// The 16 rows [kTileTokens][head_dim] of one head from `token` on, where they lie.
template <typename T>
HWY_INLINE const T* TileRows(const KvView& kv, GroupCursor& cursor, bool value, uint32_t head, uint32_t token) {
  const uint32_t block = cursor.Physical(token / kv.block_tokens);
  return reinterpret_cast<const T*>(KvRow(kv, block, value, head, token % kv.block_tokens));
}

// Rows [begin, end) as f32 into tile [kTileTokens][padded], zeros beyond dim: worth it for many queries.
HWY_INLINE void ConvertTile(const Q8Block* rows, size_t dim, size_t padded, uint32_t begin, uint32_t end,
                            float* HWY_RESTRICT tile) {
  const DF d;
  const DI di;
  const hn::Rebind<int8_t, DI> d8;
  const size_t blocks = dim / 32;
  for (uint32_t t = begin; t < end; ++t) {
    for (size_t b = 0; b < blocks; ++b) {
      const Q8Block& block = rows[t * blocks + b];
      const VF scale = hn::Set(d, ScaleOf(block));
      float* out = tile + t * padded + b * 32;
#pragma GCC unroll 32
      for (size_t n = 0; n < 32; n += kLanes) {
        // Exact: 11 bits times 8.
        const VF q = hn::ConvertTo(d, hn::PromoteTo(di, hn::LoadU(d8, block.q + n)));
        hn::Store(hn::Mul(q, scale), d, out + n);
      }
    }
  }
}

template <typename T>
HWY_INLINE void ConvertTile(const T* rows, size_t dim, size_t padded, uint32_t begin, uint32_t end,
                            float* HWY_RESTRICT tile) {
  for (uint32_t t = begin; t < end; ++t) {
    const T* row = rows + size_t{t} * dim;
    for (size_t n = 0; n < padded; n += kLanes) hn::Store(LoadUpTo(row + n, dim - n), DF(), tile + t * padded + n);
  }
}

// scores [Mr][kSplitTokens] (the tile's first place on) of tokens [begin, end) of one tile of K.
// tile [kTileTokens][stride], converted or not.
template <size_t Mr, typename E>
HWY_INLINE void ScoreTile(const float* q, size_t q_stride, size_t head_dim, size_t stride, float scale,
                          const E* HWY_RESTRICT tile, uint32_t begin, uint32_t end, float* HWY_RESTRICT scores) {
  constexpr size_t Nr = kScoreTokens;
  const DF d;
  for (uint32_t t = begin; t < end; t += Nr) {
    const E* rows[Nr];
    for (uint32_t j = 0; j < Nr; ++j) rows[j] = tile + std::min(t + j, end - 1) * stride;
    VF acc[Mr][Nr];
    for (size_t i = 0; i < Mr; ++i) {
      for (size_t j = 0; j < Nr; ++j) acc[i][j] = hn::Zero(d);
    }
    size_t n = 0;
    for (; n + kLanes <= head_dim; n += kLanes) {
      VF qv[Mr];
#pragma GCC unroll 8
      for (size_t i = 0; i < Mr; ++i) qv[i] = hn::LoadU(d, q + i * q_stride + n);
#pragma GCC unroll 8
      for (size_t j = 0; j < Nr; ++j) {
        const VF kv = InRegister(LoadF32(rows[j] + n));
#pragma GCC unroll 8
        for (size_t i = 0; i < Mr; ++i) acc[i][j] = hn::MulAdd(qv[i], kv, acc[i][j]);
      }
    }
    if (n < head_dim) {
      for (size_t i = 0; i < Mr; ++i) {
        const VF qv = LoadTail(q + i * q_stride + n, head_dim - n);
        for (size_t j = 0; j < Nr; ++j) acc[i][j] = hn::MulAdd(qv, LoadTail(rows[j] + n, head_dim - n), acc[i][j]);
      }
    }
    for (size_t i = 0; i < Mr; ++i) {
      float* to = scores + i * kSplitTokens + t;
      if (t + Nr <= kTileTokens) {  // what it writes past the end Softmax overwrites
        Reduce4(acc[i][0], acc[i][1], acc[i][2], acc[i][3], scale, to);
        continue;
      }
      float sums[Nr];
      Reduce4(acc[i][0], acc[i][1], acc[i][2], acc[i][3], scale, sums);
      for (uint32_t j = 0; j < Nr && t + j < end; ++j) to[j] = sums[j];
    }
  }
}

// Turns the scores of one query [kSplitTokens] into p, in place.
HWY_INLINE Partial Softmax(Seen seen, float* HWY_RESTRICT scores) {
  const DF d;
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  const size_t first = seen.begin / kTileTokens * kTileTokens;
  const size_t end = hwy::RoundUpTo(size_t{seen.end}, kTileTokens);
  std::fill(scores + first, scores + seen.begin, kNone);
  std::fill(scores + seen.end, scores + end, kNone);
  VF top = hn::Set(d, kNone);
  for (size_t t = first; t < end; t += kLanes) {
    const VF v = hn::Load(d, scores + t);
    top = hn::IfThenElse(hn::Gt(v, top), v, top);
  }
  const float max = hn::GetLane(hn::MaxOfLanes(d, top));
  const VF base = hn::Set(d, max);
  VF sum = hn::Zero(d);
  for (size_t t = first; t < end; t += kLanes) {
    const VF p = Exp(hn::Sub(hn::Load(d, scores + t), base));
    hn::Store(p, d, scores + t);
    sum = hn::Add(sum, p);
  }
  return {max, Reduce(sum)};
}

// acc[Mr][Nr vectors] += p[Mr][t] * tile[t][Nr vectors], t in [begin, end).
template <size_t Mr, size_t Nr, typename E>
HWY_INLINE void OutTile(const float* HWY_RESTRICT p, const E* HWY_RESTRICT tile, size_t padded, uint32_t begin,
                        uint32_t end, float* HWY_RESTRICT memory) {
  const DF d;
  VF acc[Mr][Nr];
#pragma GCC unroll 8
  for (size_t i = 0; i < Mr; ++i) {
#pragma GCC unroll 8
    for (size_t j = 0; j < Nr; ++j) acc[i][j] = hn::Load(d, memory + i * padded + j * kLanes);
  }
  for (uint32_t t = begin; t < end; ++t) {
    VF v[Nr];
#pragma GCC unroll 8
    for (size_t j = 0; j < Nr; ++j) v[j] = InRegister(LoadF32(tile + t * padded + j * kLanes));
#pragma GCC unroll 8
    for (size_t i = 0; i < Mr; ++i) {
      const VF pv = hn::Set(d, p[i * kSplitTokens + t]);
#pragma GCC unroll 8
      for (size_t j = 0; j < Nr; ++j) acc[i][j] = hn::MulAdd(pv, v[j], acc[i][j]);
    }
  }
#pragma GCC unroll 8
  for (size_t i = 0; i < Mr; ++i) {
#pragma GCC unroll 8
    for (size_t j = 0; j < Nr; ++j) hn::Store(acc[i][j], d, memory + i * padded + j * kLanes);
  }
}

template <size_t Mr, typename E>
HWY_INLINE void OutRows(const float* p, const E* tile, size_t padded, uint32_t begin, uint32_t end, float* acc) {
  size_t n = 0;
  for (; n + kOutVectors * kLanes <= padded; n += kOutVectors * kLanes) {
    OutTile<Mr, kOutVectors>(p, tile + n, padded, begin, end, acc + n);
  }
  for (; n < padded; n += kLanes) OutTile<Mr, 1>(p, tile + n, padded, begin, end, acc + n);
}

// A group of Mr queries over one tile of V: together where all of them see, alone at the edges, so that
// no query multiplies what it does not see.
template <size_t Mr, typename E>
HWY_INLINE void OutGroup(const Seen* seen, uint32_t place, const float* p, const E* tile, size_t padded, float* acc) {
  uint32_t begin[Mr], end[Mr];  // of the tile's rows
  uint32_t all_begin = 0, all_end = kTileTokens;
  for (size_t i = 0; i < Mr; ++i) {
    begin[i] = std::clamp(seen[i].begin, place, place + uint32_t{kTileTokens}) - place;
    end[i] = std::clamp(seen[i].end, place, place + uint32_t{kTileTokens}) - place;
    all_begin = std::max(all_begin, begin[i]);
    all_end = std::min(all_end, end[i]);
  }
  if (all_begin >= all_end) all_begin = all_end = kTileTokens;
  for (size_t i = 0; i < Mr; ++i) {
    const uint32_t until = std::min(end[i], all_begin);
    if (begin[i] < until) OutRows<1>(p + i * kSplitTokens, tile, padded, begin[i], until, acc + i * padded);
  }
  if (all_begin < all_end) OutRows<Mr>(p, tile, padded, all_begin, all_end, acc);
  for (size_t i = 0; i < Mr; ++i) {
    const uint32_t from = std::max(begin[i], all_end);
    if (from < end[i]) OutRows<1>(p + i * kSplitTokens, tile, padded, from, end[i], acc + i * padded);
  }
}

// All queries of a batch over one tile of K; scores [count][kSplitTokens] from the tile's first place on.
template <typename E>
HWY_INLINE void ScoreQueries(const float* q, size_t q_stride, uint32_t count, size_t dim, size_t stride, float scale,
                             const E* tile, uint32_t begin, uint32_t end, float* scores) {
  uint32_t i = 0;
  for (; i + kScoreQueries <= count; i += kScoreQueries) {
    ScoreTile<kScoreQueries>(q + i * q_stride, q_stride, dim, stride, scale, tile, begin, end,
                             scores + i * kSplitTokens);
  }
  for (; i < count; ++i) {
    ScoreTile<1>(q + i * q_stride, q_stride, dim, stride, scale, tile, begin, end, scores + i * kSplitTokens);
  }
}

// All queries of a batch over one tile of V.
template <typename E>
HWY_INLINE void OutQueries(const Seen* seen, uint32_t count, uint32_t place, const float* p, const E* tile,
                           size_t padded, float* acc) {
  uint32_t i = 0;
  for (; i + kOutQueries <= count; i += kOutQueries) {
    OutGroup<kOutQueries>(seen + i, place, p + i * kSplitTokens, tile, padded, acc + i * padded);
  }
  for (; i < count; ++i) OutGroup<1>(seen + i, place, p + i * kSplitTokens, tile, padded, acc + i * padded);
}

// Up to so many queries convert K and V in registers, each group of queries anew.
constexpr uint32_t kMaxDirectQueries = 2 * kScoreQueries;

// Up to so many queries, attention waits for memory rather than for arithmetic.
constexpr uint32_t kFewQueries = 16;

// Asks for a tile of K or V, `elements` of T to a row, in the second cache: the first has room for too few requests.
template <typename T>
HWY_INLINE void FetchTile(const T* rows, size_t elements) {
  const uint8_t* bytes = reinterpret_cast<const uint8_t*>(rows);
  for (size_t at = 0; at < kTileTokens * elements * sizeof(T); at += 64) __builtin_prefetch(bytes + at, 0, 2);
}

// At most kBatch queries over one split.
template <typename T>
HWY_INLINE void AttendBatch(const KvView& kv, uint32_t head, float scale, uint32_t window, uint32_t split,
                            const float* q, size_t q_stride, const uint32_t* positions, uint32_t count,
                            Partial* partials, float* out, size_t out_stride) {
  const size_t dim = kv.head_dim;
  const size_t padded = hwy::RoundUpTo(dim, kLanes);
  constexpr bool kBlocks = std::is_same_v<T, Q8Block>;
  const bool direct = !kBlocks && count <= kMaxDirectQueries && padded == dim;
  HWY_ALIGN float scores[kBatch * kSplitTokens];
  HWY_ALIGN float tile[kTileTokens * kMaxHeadDim];
  HWY_ALIGN float acc[kBatch * kMaxHeadDim];
  Seen seen[kBatch];
  Seen any{kSplitTokens, 0};
  for (uint32_t i = 0; i < count; ++i) {
    seen[i] = SeenBy(kv, positions[i], window, split);
    if (seen[i].begin == seen[i].end) continue;
    any.begin = std::min(any.begin, seen[i].begin);
    any.end = std::max(any.end, seen[i].end);
  }
  std::fill(acc, acc + count * padded, 0.0f);

  const uint32_t first_token = split * kSplitTokens;
  // While K of this split is multiplied, V of it is on its way, and then K of the next split, which this thread
  // most likely takes next: with few queries memory is what they wait for.
  const bool few = count <= kFewQueries;
  const kvrm_group& last_group = kv.groups[kv.group_count - 1];
  const uint32_t known = (last_group.logical_start + last_group.count) * kv.block_tokens;
  GroupCursor next_values(kv), next_keys(kv);
  GroupCursor keys(kv);
  for (uint32_t place = any.begin / kTileTokens * kTileTokens; place < any.end; place += kTileTokens) {
    const uint32_t begin = std::max(any.begin, place) - place;
    const uint32_t end = std::min(any.end - place, uint32_t{kTileTokens});
    const T* rows = TileRows<T>(kv, keys, false, head, first_token + place);
    if (few) FetchTile(TileRows<T>(kv, next_values, true, head, first_token + place), RowElements<T>(dim));
    if (!direct) {
      ConvertTile(rows, dim, padded, begin, end, tile);
      ScoreQueries(q, q_stride, count, dim, padded, scale, tile, begin, end, scores + place);
    } else if constexpr (!kBlocks) {
      ScoreQueries(q, q_stride, count, dim, dim, scale, rows, begin, end, scores + place);
    }
  }

  for (uint32_t i = 0; i < count; ++i) {
    partials[i] = {-std::numeric_limits<float>::infinity(), 0.0f};
    if (seen[i].begin != seen[i].end) partials[i] = Softmax(seen[i], scores + i * kSplitTokens);
  }

  GroupCursor values(kv);
  for (uint32_t place = any.begin / kTileTokens * kTileTokens; place < any.end; place += kTileTokens) {
    const uint32_t begin = std::max(any.begin, place) - place;
    const uint32_t end = std::min(any.end - place, uint32_t{kTileTokens});
    const T* rows = TileRows<T>(kv, values, true, head, first_token + place);
    const uint32_t ahead = first_token + place + kSplitTokens;
    if (few && ahead < known) FetchTile(TileRows<T>(kv, next_keys, false, head, ahead), RowElements<T>(dim));
    if (!direct) {
      ConvertTile(rows, dim, padded, begin, end, tile);
      OutQueries(seen, count, place, scores + place, tile, padded, acc);
    } else if constexpr (!kBlocks) {
      OutQueries(seen, count, place, scores + place, rows, padded, acc);
    }
  }
  for (uint32_t i = 0; i < count; ++i) std::memcpy(out + i * out_stride, acc + i * padded, dim * sizeof(float));
}

}  // namespace HWY_NAMESPACE
}  // namespace kvrm::cpu
HWY_AFTER_NAMESPACE();

#endif  // KVRM_CPU_ATTENTION_INL_H_
