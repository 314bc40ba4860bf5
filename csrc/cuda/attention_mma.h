// attention_mma.h - one tile of attention on tensor cores, for a warp: 16 query rows, 64 tokens.
//
// A warp's scores and probabilities are C fragments of m16n8k16: lane l has rows l / 4 and l / 4 + 8, and of
// each 8 tokens the two at l % 4 * 2. The order of every sum of a row, which no neighbour can change:
//   score   one chain over D in steps of 16, then times the scale
//   sum     of the unrounded p: each of the row's four lanes its tokens in ascending order, then
//           lane + lane ^ 1, then + lane ^ 2
//   p v     one chain over the tile's tokens in steps of 16, p rounded to the product's type
//
// FP8 becomes F16 on the way from shared memory to the fragments, exactly. ldmatrix moves pairs of bytes, so
// a lane gets four neighbouring dims where a 16-bit fragment has two and two: within 16 dims K's order of k is
// {4 t, 4 t + 1} for t = 0..3, then {4 t + 2, 4 t + 3}, and q is stored in that order; of V one n tile has the
// even dims of 16 and the next one the odd.
#ifndef KVRM_CUDA_ATTENTION_MMA_H_
#define KVRM_CUDA_ATTENTION_MMA_H_

#include <type_traits>

#include "attention_walk.h"

namespace kvrm::cuda {

inline constexpr uint32_t kChunkTokens = 16;  // what one copy brings: it never straddles a block
inline constexpr uint32_t kTileChunks = kTileTokens / kChunkTokens;

// Rows of K, V and q in shared memory are an odd number of 16-byte units apart, so that the eight rows of a
// matrix lie in different banks.
constexpr uint32_t OddUnits(uint32_t bytes) { return (bytes / 16 | 1) * 16; }

// D elements of Kv; a warp computes kValueDims of the result's.
template <uint32_t D, class Kv>
struct Geometry {
  static constexpr bool kFp8 = std::is_same_v<Kv, fp8_t>;
  using T = std::conditional_t<std::is_same_v<Kv, bf16_t>, bf16_t, f16_t>;  // of the products
  static constexpr uint32_t kRowBytes = D * sizeof(Kv);
  static constexpr uint32_t kStride = OddUnits(kRowBytes);
  static constexpr uint32_t kChunkBytes = kChunkTokens * kStride;
  static constexpr uint32_t kQStride = OddUnits(D * 2);
  static constexpr uint32_t kSteps = D / 16;
  static constexpr uint32_t kStepsAtOnce = kFp8 ? 2 : 1;  // that one ldmatrix of K brings
  static_assert(D % 16 == 0 && kRowBytes % 16 == 0);
};

// Element of a row of q in shared memory that holds dim n.
template <uint32_t D, class Kv>
KVRM_HD uint32_t QueryPlace(uint32_t n) {
  if (!Geometry<D, Kv>::kFp8) return n;
  return (n & ~15u) | (n & 2) << 2 | (n >> 1 & 6) | (n & 1);
}

// The lane's row of the four matrices of ldmatrix, as an offset in bytes from their first row. kRowsFirst: the
// first two matrices are rows 0..7 and 8..15 of one 16-byte column, else one row of two columns.
template <bool kRowsFirst>
KVRM_HD uint32_t MatrixRow(uint32_t lane, uint32_t stride) {
  const uint32_t low = lane / 8 % 2, high = lane / 16;
  const uint32_t row = (kRowsFirst ? low : high) * 8 + lane % 8;
  return row * stride + (kRowsFirst ? high : low) * 16;
}

// x, but the compiler does not know: what depends on it is computed where it is used, not ahead of loops in
// registers that are needed there.
KVRM_HD uint32_t Opaque(uint32_t x) {
#ifdef __CUDA_ARCH__
  asm volatile("" : "+r"(x));
#endif
  return x;
}

// b0 b1 b2 b3 to b0 b2 b1 b3.
KVRM_HD uint32_t SwapMiddleBytes(uint32_t x) {
#ifdef __CUDA_ARCH__
  return __byte_perm(x, 0, 0x3120);
#else
  return (x & 0xff0000ffu) | (x >> 8 & 0xff00u) | (x << 8 & 0xff0000u);
#endif
}

// Adds steps k .. k + kAtOnce - 1 of the product to the scores of 16 tokens: s0 the first 8. q: of those steps;
// keys: the tokens' first row in shared memory.
template <uint32_t D, class Kv>
__device__ __forceinline__ void ScoreSteps(const uint32_t (*q)[4], uint32_t k, const uint8_t* keys, uint32_t lane,
                                           float (&s0)[4], float (&s1)[4]) {
  using G = Geometry<D, Kv>;
  uint32_t r[4];
  if constexpr (!G::kFp8) {
    LdMatrixX4(r, keys + MatrixRow<false>(lane, G::kStride) + k * 32);
    MmaM16N8K16<typename G::T>(s0, q[0], {r[0], r[1]});
    MmaM16N8K16<typename G::T>(s1, q[0], {r[2], r[3]});
  } else {
    const bool pair = k + 1 < G::kSteps;  // else the last two matrices repeat the first
    LdMatrixX4(r, keys + MatrixRow<true>(pair ? lane : lane % 16, G::kStride) + k * 16);
    KVRM_UNROLL
    for (uint32_t i = 0; i < (pair ? 2 : 1); ++i) {
      uint32_t b0[2], b1[2];
      Fp8x4ToHalf<f16_t>(r[2 * i], b0);
      Fp8x4ToHalf<f16_t>(r[2 * i + 1], b1);
      MmaM16N8K16<f16_t>(s0, q[i], b0);
      MmaM16N8K16<f16_t>(s1, q[i], b1);
    }
  }
}

// Scores [8][4] of a tile, chunk after chunk; q stays in registers. chunk(c): the first row of chunk c of K.
template <uint32_t D, class Kv, class Chunk>
__device__ __forceinline__ void ScoreByChunks(const uint8_t* query_row, uint32_t lane, float (&s)[8][4], Chunk chunk) {
  using G = Geometry<D, Kv>;
  uint32_t q[G::kSteps][4];
  KVRM_UNROLL
  for (uint32_t k = 0; k < G::kSteps; ++k) LdMatrixX4(q[k], query_row + k * 32);
  KVRM_UNROLL
  for (uint32_t c = 0; c < kTileChunks; ++c) {
    const uint8_t* keys = chunk(c);
    KVRM_UNROLL
    for (uint32_t i = 0; i < 4; ++i) s[2 * c][i] = s[2 * c + 1][i] = 0.0f;
    KVRM_UNROLL
    for (uint32_t k = 0; k < G::kSteps; k += G::kStepsAtOnce) {
      ScoreSteps<D, Kv>(q + k, k, keys, lane, s[2 * c], s[2 * c + 1]);
    }
  }
}

// The same scores, step after step: fewer registers and longer distances between the products of a chain, for
// a tile that is all there. keys: its first row.
template <uint32_t D, class Kv>
__device__ __forceinline__ void ScoreBySteps(const uint8_t* query_row, uint32_t lane, float (&s)[8][4],
                                             const uint8_t* keys) {
  using G = Geometry<D, Kv>;
  KVRM_UNROLL
  for (uint32_t j = 0; j < 8; ++j) {
    KVRM_UNROLL
    for (uint32_t i = 0; i < 4; ++i) s[j][i] = 0.0f;
  }
  KVRM_UNROLL
  for (uint32_t k = 0; k < G::kSteps; k += G::kStepsAtOnce) {
    uint32_t q[G::kStepsAtOnce][4];
    KVRM_UNROLL
    for (uint32_t i = 0; i < G::kStepsAtOnce && k + i < G::kSteps; ++i) LdMatrixX4(q[i], query_row + (k + i) * 32);
    KVRM_UNROLL
    for (uint32_t c = 0; c < kTileChunks; ++c) {
      ScoreSteps<D, Kv>(q, k, keys + c * G::kChunkBytes, lane, s[2 * c], s[2 * c + 1]);
    }
  }
}

// The tokens of a tile that a row sees: [first, last], counted from the tile's first token.
struct Seen {
  int32_t first;
  int32_t last;
};

KVRM_HD Seen SeenOfTile(uint32_t position, uint32_t window, uint32_t token) {
  return {static_cast<int32_t>(FirstVisible(position, window)) - static_cast<int32_t>(token),
          static_cast<int32_t>(position) - static_cast<int32_t>(token)};
}

// ExpF(x) of x <= 0, bit for bit, in fewer instructions: the sum with 1.5 * 2^23 rounds to an integer and has it
// in its lowest bits.
KVRM_HD float ExpOfTile(float x) {
  const float shifted = Add(Mul(x, 1.44269504f), 12582912.0f);
  const float n = Sub(shifted, 12582912.0f);
  const float r = Fma(-n, -2.12194440e-4f, Fma(-n, 0.693359375f, x));
  float p = 1.0f / 5040;
  p = Fma(p, r, 1.0f / 720);
  p = Fma(p, r, 1.0f / 120);
  p = Fma(p, r, 1.0f / 24);
  p = Fma(p, r, 1.0f / 6);
  p = Fma(p, r, 0.5f);
  p = Fma(p, r, 1.0f);
  p = Fma(p, r, 1.0f);
  const float power = BitsAs<float>((BitsAs<uint32_t>(shifted) << 23) + 0x3f800000u);
  return x < -87.336544f ? 0.0f : Mul(p, power);
}

// Scores become p. seen[h], stat[h]: of row lane / 4 + 8 h. all: every row sees the whole tile. halves: 1 when
// rows 8..15 are not there, whose p become 0.
__device__ __forceinline__ void SoftmaxTile(float (&s)[8][4], float scale, const Seen (&seen)[2], bool all,
                                            uint32_t halves, uint32_t lane, SoftmaxStat (&stat)[2]) {
  KVRM_UNROLL
  for (uint32_t h = 0; h < 2; ++h) {
    stat[h] = EmptyStat();
    if (h >= halves) {
      KVRM_UNROLL
      for (uint32_t j = 0; j < 8; ++j) s[j][2] = s[j][3] = 0.0f;
      continue;
    }
    KVRM_UNROLL
    for (uint32_t j = 0; j < 8; ++j) {
      KVRM_UNROLL
      for (uint32_t i = 2 * h; i < 2 * h + 2; ++i) s[j][i] = Mul(s[j][i], scale);
    }
    if (!all) {
      KVRM_UNROLL
      for (uint32_t j = 0; j < 8; ++j) {
        KVRM_UNROLL
        for (uint32_t i = 2 * h; i < 2 * h + 2; ++i) {
          const int32_t token = static_cast<int32_t>(j * 8 + lane % 4 * 2 + i % 2);
          if (token < seen[h].first || token > seen[h].last) s[j][i] = -INFINITY;
        }
      }
    }
    float max = -INFINITY;
    KVRM_UNROLL
    for (uint32_t j = 0; j < 8; ++j) {
      KVRM_UNROLL
      for (uint32_t i = 2 * h; i < 2 * h + 2; ++i) max = s[j][i] > max ? s[j][i] : max;
    }
    KVRM_UNROLL
    for (uint32_t lanes = 1; lanes < 4; lanes *= 2) {
      const float other = __shfl_xor_sync(~0u, max, static_cast<int>(lanes));
      max = other > max ? other : max;
    }
    const float base = max == -INFINITY ? 0.0f : max;
    float sum = 0.0f;
    KVRM_UNROLL
    for (uint32_t j = 0; j < 8; ++j) {
      KVRM_UNROLL
      for (uint32_t i = 2 * h; i < 2 * h + 2; ++i) {
        s[j][i] = ExpOfTile(Sub(s[j][i], base));
        sum = Add(sum, s[j][i]);
      }
    }
    KVRM_UNROLL
    for (uint32_t lanes = 1; lanes < 4; lanes *= 2) {
      sum = Add(sum, __shfl_xor_sync(~0u, sum, static_cast<int>(lanes)));
    }
    stat[h] = {max, sum};
  }
}

// p of a tile, rounded, as A fragments of 16 tokens each.
struct TileWeights {
  uint32_t a[kTileChunks][4];
};

template <class T>
__device__ __forceinline__ void PackTile(const float (&s)[8][4], TileWeights& p) {
  KVRM_UNROLL
  for (uint32_t c = 0; c < kTileChunks; ++c) {
    p.a[c][0] = Pack2<T>(s[2 * c][0], s[2 * c][1]);
    p.a[c][1] = Pack2<T>(s[2 * c][2], s[2 * c][3]);
    p.a[c][2] = Pack2<T>(s[2 * c + 1][0], s[2 * c + 1][1]);
    p.a[c][3] = Pack2<T>(s[2 * c + 1][2], s[2 * c + 1][3]);
  }
}

// The sum of p v over a tile, of kDims dims: acc[j] is n tile j.
template <uint32_t kDims>
struct ValueSum {
  float acc[kDims / 8][4];
};

// Adds 16 tokens. values: their first row in shared memory, at the first of the kDims dims.
template <uint32_t D, class Kv, uint32_t kDims>
__device__ __forceinline__ void ValueChunk(ValueSum<kDims>& sum, const uint32_t (&p)[4], const uint8_t* values,
                                           uint32_t lane) {
  using G = Geometry<D, Kv>;
  if constexpr (!G::kFp8) {
    const uint8_t* row = values + MatrixRow<true>(lane, G::kStride);
    KVRM_UNROLL
    for (uint32_t j = 0; j < kDims / 8; j += 2) {
      uint32_t r[4];
      LdMatrixX4Trans(r, row + j * 16);
      MmaM16N8K16<typename G::T>(sum.acc[j], p, {r[0], r[1]});
      MmaM16N8K16<typename G::T>(sum.acc[j + 1], p, {r[2], r[3]});
    }
  } else {
    KVRM_UNROLL
    for (uint32_t j = 0; j < kDims / 8; j += 4) {
      const bool pair = j + 2 < kDims / 8;
      uint32_t r[4];
      LdMatrixX4Trans(r, values + MatrixRow<true>(pair ? lane : lane % 16, G::kStride) + j * 8);
      KVRM_UNROLL
      for (uint32_t i = 0; i < (pair ? 2 : 1); ++i) {
        uint32_t low[2], high[2];  // tokens 0..7 and 8..15: even dims, odd dims
        Fp8x4ToHalf<f16_t>(SwapMiddleBytes(r[2 * i]), low);
        Fp8x4ToHalf<f16_t>(SwapMiddleBytes(r[2 * i + 1]), high);
        MmaM16N8K16<f16_t>(sum.acc[j + 2 * i], p, {low[0], high[0]});
        MmaM16N8K16<f16_t>(sum.acc[j + 2 * i + 1], p, {low[1], high[1]});
      }
    }
  }
}

// What a lane has of a row in two neighbouring n tiles, as pairs of neighbouring dims: visit(dim, x, y), twice,
// dim counted from the first of the two tiles'.
template <bool kFp8, class Visit>
__device__ __forceinline__ void ForPairs(float first0, float first1, float second0, float second1, uint32_t lane,
                                         Visit visit) {
  if constexpr (kFp8) {
    visit(lane % 4 * 4, first0, second0);
    visit(lane % 4 * 4 + 2, first1, second1);
  } else {
    visit(lane % 4 * 2, first0, first1);
    visit(8 + lane % 4 * 2, second0, second1);
  }
}

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_ATTENTION_MMA_H_
