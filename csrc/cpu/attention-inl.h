// attention-inl.h - the inner loops of AttendSplit, compiled once per SIMD target.
//
// A split is walked in tiles of 16 tokens, which never straddle a block, so block size and fragmentation
// cannot show in the bits. For one query:
//   score[t]  a chain over the even dimensions plus a chain over the odd ones, times scale
//   max       over the tokens it sees
//   p[t]      exp(score[t] - max), exactly 0 for tokens it does not see
//   sum       chains of L lanes over the split's 256 places, then Reduce
//   acc[n]    one chain over the tokens it sees, ascending
// None of it looks at other queries; they only share the converted tiles of K and V.
//
// Tokens lie side by side in the lanes of a score, so that nothing has to be added up across lanes: a tile of K is
// transposed in registers, once for all queries. K itself lies as V does, a token's numbers one after the other.

#if defined(KVRM_CPU_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVRM_CPU_ATTENTION_INL_H_
#undef KVRM_CPU_ATTENTION_INL_H_
#else
#define KVRM_CPU_ATTENTION_INL_H_
#endif

#include <algorithm>
#include <type_traits>

#include "transpose-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvrm::cpu {
namespace HWY_NAMESPACE {

constexpr size_t kTileTokens = 16;
constexpr size_t kBatch = 32;        // queries whose scores wait on the stack: 32 KiB
constexpr size_t kMaxHeadDim = 512;  // of a converted tile: 32 KiB
// Register tile of the scores: queries x two chains of a tile's tokens.
constexpr size_t kTokenVectors = kTileTokens / kLanes;
constexpr size_t kScoreQueries = HWY_TARGET == HWY_AVX3                               ? 8
                                 : HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_SCALAR ? 1
                                                                                      : 2;
// Register tile of the output: queries x vectors of head_dim.
constexpr size_t kOutQueries = HWY_TARGET == HWY_AVX3 ? 8 : HWY_TARGET == HWY_NEON ? 4 : 2;
constexpr size_t OutVectors(size_t queries) { return HWY_TARGET == HWY_AVX3 && queries > 4 ? 2 : 4; }

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

// Rows that are wanted soon and asked for line by line, between multiplications: a burst of requests would fill what
// the first cache has for them, and hold up everything behind it. A line is asked for again where a step is less.
struct Ahead {
  const uint8_t* at;
  size_t step;  // bytes for each two dimensions of a tile, or 0: nothing is wanted

  HWY_INLINE void AskStep() {
    __builtin_prefetch(at, 0, 2);
    at += step;
  }
};

// kTileTokens rows, `stride` elements apart, as f32 into keys [dim][kTileTokens].
template <typename E>
HWY_NOINLINE void TransposeTile(const E* rows, size_t stride, size_t dim, Ahead ahead, float* HWY_RESTRICT keys) {
  TransposeRows<kTileTokens>(
      rows, stride, dim, [&](const E*) HWY_ATTR { ahead.AskStep(); }, keys);
}

// The same of `count` rows, at most kTileTokens: nothing behind them is read.
template <typename E>
HWY_INLINE void TransposeKeys(const E* rows, size_t stride, size_t dim, uint32_t count, Ahead ahead,
                              float* HWY_RESTRICT keys) {
  if (HWY_LIKELY(count == kTileTokens)) return TransposeTile(rows, stride, dim, ahead, keys);
  HWY_ALIGN E copy[kTileTokens * kMaxHeadDim];
  for (uint32_t t = 0; t < kTileTokens; ++t) {
    std::memcpy(copy + t * dim, rows + std::min(t, count - 1) * stride, dim * sizeof(E));
  }
  TransposeTile(copy, dim, dim, ahead, keys);
}

// Queries side by side, kScoreQueries of them: [group][head_dim][kScoreQueries].
HWY_INLINE void InterleaveQueries(const float* q, size_t q_stride, uint32_t count, size_t dim, float* HWY_RESTRICT to) {
  for (uint32_t i = 0; i < count; ++i) {
    float* group = to + i / kScoreQueries * kScoreQueries * dim + i % kScoreQueries;
    for (size_t n = 0; n < dim; ++n) group[n * kScoreQueries] = q[i * q_stride + n];
  }
}

// scores [Mr][kSplitTokens] (the tile's first place on) of all tokens of a tile: of those behind its end they mean
// nothing, and Softmax overwrites them. q [head_dim][kScoreQueries].
//
// Not inlined, like OutTile: a loop needs the registers that all around it would keep.
template <size_t Mr>
HWY_NOINLINE void ScoreTile(const float* HWY_RESTRICT q, size_t head_dim, float scale, const float* HWY_RESTRICT keys,
                            Ahead ahead, float* HWY_RESTRICT scores) {
  constexpr size_t Nr = kTokenVectors;
  const DF d;
  VF even[Mr][Nr], odd[Mr][Nr];
#pragma GCC unroll 16
  for (size_t i = 0; i < Mr; ++i) {
#pragma GCC unroll 16
    for (size_t j = 0; j < Nr; ++j) even[i][j] = odd[i][j] = hn::Zero(d);
  }
  const auto add = [](const float* HWY_RESTRICT qn, const float* HWY_RESTRICT kn, VF(&acc)[Mr][Nr]) HWY_ATTR {
    VF kv[Nr];
#pragma GCC unroll 16
    for (size_t j = 0; j < Nr; ++j) kv[j] = InRegister(hn::Load(DF(), kn + j * kLanes));
#pragma GCC unroll 16
    for (size_t i = 0; i < Mr; ++i) {
      const VF qv = hn::Set(DF(), qn[i]);
#pragma GCC unroll 16
      for (size_t j = 0; j < Nr; ++j) acc[i][j] = hn::MulAdd(qv, kv[j], acc[i][j]);
    }
  };
  for (size_t pairs = head_dim / 2; pairs != 0; --pairs) {
    ahead.AskStep();
    add(q, keys, even);
    add(q + kScoreQueries, keys + kTileTokens, odd);
    q += 2 * kScoreQueries;
    keys += 2 * kTileTokens;
  }
  if (head_dim % 2 != 0) add(q, keys, even);
  const VF factor = hn::Set(d, scale);
#pragma GCC unroll 16
  for (size_t i = 0; i < Mr; ++i) {
#pragma GCC unroll 16
    for (size_t j = 0; j < Nr; ++j) {
      hn::Store(hn::Mul(hn::Add(even[i][j], odd[i][j]), factor), d, scores + i * kSplitTokens + j * kLanes);
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

// acc[Mr][Nr vectors] += p[Mr][t] * tile[t][Nr vectors], t in [0, count). What lies where these columns do is asked
// for.
template <size_t Mr, size_t Nr, typename E>
HWY_NOINLINE void OutTile(const float* HWY_RESTRICT p, const E* HWY_RESTRICT tile, size_t padded, uint32_t count,
                          Ahead ahead, float* HWY_RESTRICT memory) {
  const DF d;
  VF acc[Mr][Nr];
#pragma GCC unroll 8
  for (size_t i = 0; i < Mr; ++i) {
#pragma GCC unroll 8
    for (size_t j = 0; j < Nr; ++j) acc[i][j] = hn::Load(d, memory + i * padded + j * kLanes);
  }
  const size_t ask = ahead.step == 0 ? 0 : padded * sizeof(E);
  for (; count != 0; --count) {
    for (size_t byte = 0; byte < Nr * kLanes * sizeof(E); byte += 64) __builtin_prefetch(ahead.at + byte, 0, 2);
    ahead.at += ask;
    VF v[Nr];
#pragma GCC unroll 8
    for (size_t j = 0; j < Nr; ++j) v[j] = InRegister(LoadF32(tile + j * kLanes));
#pragma GCC unroll 8
    for (size_t i = 0; i < Mr; ++i) {
      const VF pv = hn::Set(d, p[i * kSplitTokens]);
#pragma GCC unroll 8
      for (size_t j = 0; j < Nr; ++j) acc[i][j] = hn::MulAdd(pv, v[j], acc[i][j]);
    }
    tile += padded;
    ++p;
  }
#pragma GCC unroll 8
  for (size_t i = 0; i < Mr; ++i) {
#pragma GCC unroll 8
    for (size_t j = 0; j < Nr; ++j) hn::Store(acc[i][j], d, memory + i * padded + j * kLanes);
  }
}

template <size_t Mr, typename E>
HWY_INLINE void OutRows(const float* p, const E* tile, size_t padded, uint32_t begin, uint32_t end, Ahead ahead,
                        float* acc) {
  constexpr size_t kVectors = OutVectors(Mr);
  const size_t row = begin * padded;
  const uint32_t count = end - begin;
  if (ahead.step != 0) ahead.at += row * sizeof(E);
  size_t n = 0;
  for (; n + kVectors * kLanes <= padded; n += kVectors * kLanes) {
    const Ahead columns{ahead.at + (ahead.step == 0 ? 0 : n * sizeof(E)), ahead.step};
    OutTile<Mr, kVectors>(p + begin, tile + row + n, padded, count, columns, acc + n);
  }
  for (; n < padded; n += kLanes) OutTile<Mr, 1>(p + begin, tile + row + n, padded, count, ahead, acc + n);
}

// A group of Mr queries over one tile of V: together where all of them see, alone at the edges, so that
// no query multiplies what it does not see.
template <size_t Mr, typename E>
HWY_INLINE void OutGroup(const Seen* seen, uint32_t place, const float* p, const E* tile, size_t padded, Ahead ahead,
                         float* acc) {
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
    if (begin[i] < until) OutRows<1>(p + i * kSplitTokens, tile, padded, begin[i], until, ahead, acc + i * padded);
  }
  if (all_begin < all_end) OutRows<Mr>(p, tile, padded, all_begin, all_end, ahead, acc);
  for (size_t i = 0; i < Mr; ++i) {
    const uint32_t from = std::max(begin[i], all_end);
    if (from < end[i]) OutRows<1>(p + i * kSplitTokens, tile, padded, from, end[i], ahead, acc + i * padded);
  }
}

// count queries, at most Mr, together.
template <size_t Mr>
HWY_INLINE void ScoreUpTo(const float* q, uint32_t count, size_t dim, float scale, const float* keys, Ahead ahead,
                          float* scores) {
  if (count == Mr) {
    ScoreTile<Mr>(q, dim, scale, keys, ahead, scores);
  } else if constexpr (Mr > 1) {
    ScoreUpTo<Mr - 1>(q, count, dim, scale, keys, ahead, scores);
  }
}

// All queries of a batch, interleaved, over one tile of K; scores [count][kSplitTokens] from the tile's first place on.
HWY_INLINE void ScoreQueries(const float* q, uint32_t count, size_t dim, float scale, const float* keys, Ahead ahead,
                             float* scores) {
  for (uint32_t i = 0; i < count; i += kScoreQueries) {
    ScoreUpTo<kScoreQueries>(q + i * dim, std::min<uint32_t>(kScoreQueries, count - i), dim, scale, keys, ahead,
                             scores + i * kSplitTokens);
  }
}

template <size_t Mr, typename E>
HWY_INLINE void OutUpTo(const Seen* seen, uint32_t count, uint32_t place, const float* p, const E* tile, size_t padded,
                        Ahead ahead, float* acc) {
  if (count == Mr) {
    OutGroup<Mr>(seen, place, p, tile, padded, ahead, acc);
  } else if constexpr (Mr > 1) {
    OutUpTo<Mr - 1>(seen, count, place, p, tile, padded, ahead, acc);
  }
}

// All queries of a batch over one tile of V.
template <typename E>
HWY_INLINE void OutQueries(const Seen* seen, uint32_t count, uint32_t place, const float* p, const E* tile,
                           size_t padded, Ahead ahead, float* acc) {
  for (uint32_t i = 0; i < count; i += kOutQueries) {
    OutUpTo<kOutQueries>(seen + i, std::min<uint32_t>(kOutQueries, count - i), place, p + i * kSplitTokens, tile,
                         padded, ahead, acc + i * padded);
  }
}

// Up to so many queries convert V in registers, each group of queries anew.
constexpr uint32_t kMaxDirectQueries = 2 * kOutQueries;

// Up to so many queries, attention waits for memory rather than for arithmetic.
constexpr uint32_t kFewQueries = 16;

// Half of a tile of K or V of head_dim `dim` that is wanted soon.
template <typename T>
HWY_INLINE Ahead AheadOf(const T* rows, size_t dim, size_t half) {
  const size_t bytes = kTileTokens * RowElements<T>(dim) * sizeof(T) / 2;
  return {reinterpret_cast<const uint8_t*>(rows) + half * bytes, bytes / (dim / 2)};
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
  HWY_ALIGN float transposed[kTileTokens * kMaxHeadDim];
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
  HWY_ALIGN float interleaved[kBatch * kMaxHeadDim];
  InterleaveQueries(q, q_stride, count, dim, interleaved);

  const uint32_t first_token = split * kSplitTokens;
  // While K of this split is multiplied, V of it is on its way, and then K of the next split, which this thread
  // most likely takes next: with few queries memory is what they wait for.
  const bool few = count <= kFewQueries;
  const kvrm_group& last_group = kv.groups[kv.group_count - 1];
  const uint32_t known = (last_group.logical_start + last_group.count) * kv.block_tokens;
  GroupCursor next_values(kv), next_keys(kv);
  GroupCursor keys(kv);
  for (uint32_t place = any.begin / kTileTokens * kTileTokens; place < any.end; place += kTileTokens) {
    const uint32_t end = std::min(any.end - place, uint32_t{kTileTokens});
    const T* rows = TileRows<T>(kv, keys, false, head, first_token + place);
    Ahead ahead[2] = {{reinterpret_cast<const uint8_t*>(rows), 0}, {reinterpret_cast<const uint8_t*>(rows), 0}};
    if (few) {
      const T* wanted = TileRows<T>(kv, next_values, true, head, first_token + place);
      for (size_t half = 0; half < 2; ++half) ahead[half] = AheadOf(wanted, dim, half);
    }
    if constexpr (kBlocks) {
      ConvertTile(rows, dim, padded, 0, end, tile);
      TransposeKeys(tile, padded, dim, end, ahead[0], transposed);
    } else {
      TransposeKeys(rows, dim, dim, end, ahead[0], transposed);
    }
    ScoreQueries(interleaved, count, dim, scale, transposed, ahead[1], scores + place);
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
    const uint32_t next = first_token + place + kSplitTokens;
    Ahead ahead = {reinterpret_cast<const uint8_t*>(rows), 0};  // nothing
    if (few && next < known) ahead = AheadOf(TileRows<T>(kv, next_keys, false, head, next), dim, 0);
    if (!direct) {
      for (size_t n = 0; n < 2 * dim; n += 2) ahead.AskStep();
      ahead = {reinterpret_cast<const uint8_t*>(rows), 0};
      ConvertTile(rows, dim, padded, begin, end, tile);
      OutQueries(seen, count, place, scores + place, tile, padded, ahead, acc);
    } else if constexpr (!kBlocks) {
      OutQueries(seen, count, place, scores + place, rows, padded, ahead, acc);
    }
  }
  for (uint32_t i = 0; i < count; ++i) std::memcpy(out + i * out_stride, acc + i * padded, dim * sizeof(float));
}

}  // namespace HWY_NAMESPACE
}  // namespace kvrm::cpu
HWY_AFTER_NAMESPACE();

#endif  // KVRM_CPU_ATTENTION_INL_H_
