// transpose-inl.h - rows of numbers as f32 with the rows side by side, compiled once per SIMD target: products then
// have outputs (or tokens) in their lanes, and nothing has to be added up across lanes.

#if defined(KVRM_CPU_TRANSPOSE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVRM_CPU_TRANSPOSE_INL_H_
#undef KVRM_CPU_TRANSPOSE_INL_H_
#else
#define KVRM_CPU_TRANSPOSE_INL_H_
#endif

#include <algorithm>
#include <type_traits>

#include "vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvrm::cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

// Numbers 4b + j of four rows side by side in 128-bit block b of the j-th vector.
template <class D, class V>
HWY_INLINE void TransposeInBlocks(D d, V& v0, V& v1, V& v2, V& v3) {
  const hn::RepartitionToWide<D> wide;
  const auto low01 = hn::BitCast(wide, hn::InterleaveLower(d, v0, v1));
  const auto high01 = hn::BitCast(wide, hn::InterleaveUpper(d, v0, v1));
  const auto low23 = hn::BitCast(wide, hn::InterleaveLower(d, v2, v3));
  const auto high23 = hn::BitCast(wide, hn::InterleaveUpper(d, v2, v3));
  v0 = hn::BitCast(d, hn::InterleaveLower(wide, low01, low23));
  v1 = hn::BitCast(d, hn::InterleaveUpper(wide, low01, low23));
  v2 = hn::BitCast(d, hn::InterleaveLower(wide, high01, high23));
  v3 = hn::BitCast(d, hn::InterleaveUpper(wide, high01, high23));
}

#if HWY_MAX_BYTES == 16
constexpr size_t kSquareParts = 1;
#else
constexpr size_t kSquareParts = 2;
#endif

// One of kSquareParts parts of a transposed square of kLanes rows, `stride` bytes apart: element
// part * kLanes / kSquareParts + i of each row in square[i].
template <class D, class V>
HWY_INLINE void LoadTransposed(D d, const void* rows, size_t stride, size_t part, V (&square)[kLanes / kSquareParts]) {
  using E = hn::TFromD<D>;
  const auto at = [=](size_t row, size_t element) HWY_ATTR {
    return reinterpret_cast<const E*>(static_cast<const uint8_t*>(rows) + row * stride) + element;
  };
#if HWY_MAX_BYTES == 16
  for (size_t i = 0; i < kLanes; ++i) square[i] = hn::LoadU(d, at(i, 0));
  TransposeInBlocks(d, square[0], square[1], square[2], square[3]);
#else
  // Halves of rows kLanes / 2 apart meet in a register as they are loaded, which takes no shuffle.
  constexpr size_t kHalf = kLanes / 2;
  const hn::Half<D> half;
  V halves[kHalf];
#pragma GCC unroll 8
  for (size_t i = 0; i < kHalf; ++i) {
    halves[i] = hn::Combine(d, hn::LoadU(half, at(kHalf + i, part * kHalf)), hn::LoadU(half, at(i, part * kHalf)));
  }
  TransposeInBlocks(d, halves[0], halves[1], halves[2], halves[3]);
#if HWY_MAX_BYTES == 32
  for (size_t i = 0; i < kHalf; ++i) square[i] = halves[i];
#else
  TransposeInBlocks(d, halves[4], halves[5], halves[6], halves[7]);
  const __m512i even = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13);
  const __m512i odd = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
  const hn::Repartition<int64_t, D> wide;
#pragma GCC unroll 4
  for (size_t j = 0; j < 4; ++j) {
    const auto a = hn::BitCast(wide, halves[j]), b = hn::BitCast(wide, halves[4 + j]);
    square[j] = hn::BitCast(d, hn::Vec<decltype(wide)>{_mm512_permutex2var_epi64(a.raw, even, b.raw)});
    square[4 + j] = hn::BitCast(d, hn::Vec<decltype(wide)>{_mm512_permutex2var_epi64(a.raw, odd, b.raw)});
  }
#endif
#endif
}

#if HWY_TARGET == HWY_AVX3
// 16 rows of 16 halves, `stride` apart, side by side: halves i and 8 + i of each row in either half of square[i].
HWY_INLINE void LoadTransposedHalves(const hwy::float16_t* from, size_t stride, __m512i (&square)[8]) {
#pragma GCC unroll 8
  for (size_t i = 0; i < 8; ++i) {
    const __m256i lower = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i * stride));
    const __m256i upper = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + (i + 8) * stride));
    square[i] = _mm512_inserti64x4(_mm512_castsi256_si512(lower), upper, 1);
  }
  __m512i pairs[8], fours[8];
#pragma GCC unroll 4
  for (size_t i = 0; i < 8; i += 2) {
    pairs[i] = _mm512_unpacklo_epi16(square[i], square[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_epi16(square[i], square[i + 1]);
  }
#pragma GCC unroll 2
  for (size_t i = 0; i < 8; i += 4) {
    fours[i] = _mm512_unpacklo_epi32(pairs[i], pairs[i + 2]);
    fours[i + 1] = _mm512_unpackhi_epi32(pairs[i], pairs[i + 2]);
    fours[i + 2] = _mm512_unpacklo_epi32(pairs[i + 1], pairs[i + 3]);
    fours[i + 3] = _mm512_unpackhi_epi32(pairs[i + 1], pairs[i + 3]);
  }
#pragma GCC unroll 4
  for (size_t i = 0; i < 4; ++i) {
    square[2 * i] = _mm512_unpacklo_epi64(fours[i], fours[i + 4]);
    square[2 * i + 1] = _mm512_unpackhi_epi64(fours[i], fours[i + 4]);
  }
  // Rows 0 to 7 of halves i and 8 + i, then rows 8 to 15 of both: the middle ones change places.
#pragma GCC unroll 8
  for (size_t i = 0; i < 8; ++i) square[i] = _mm512_shuffle_i64x2(square[i], square[i], 0xd8);
}
#endif

#endif  // HWY_TARGET != HWY_SCALAR

// For who wants nothing fetched.
struct AskNothing {
  template <typename T>
  HWY_INLINE void operator()(const T*) const {}
};

// kLanes rows [depth], `stride` elements apart, side by side: use(k, parity, v) with number k of each row as f32, for
// ascending k, parity k % 2 for a compiler to see. ask(p) comes once for each 64 bytes of a row, from p on or so, for
// who wants something fetched meanwhile.
template <typename T, typename Ask, typename Use>
HWY_INLINE void ForEachTransposed(const T* rows, size_t stride, size_t depth, const Ask& ask, const Use& use) {
#if HWY_TARGET == HWY_SCALAR
  (void)stride;  // of one row
  for (size_t k = 0; k < depth; ++k) {
    if (k % (64 / sizeof(T)) == 0) ask(rows + k);
    if (k % 2 == 0) {
      use(k, 0, LoadF32(rows + k));
    } else {
      use(k, 1, LoadF32(rows + k));
    }
  }
#else
  const DF d;
  constexpr size_t kPart = kLanes / kSquareParts;
  size_t k = 0;
  if constexpr (std::is_same_v<T, hwy::bfloat16_t>) {
    // Two numbers to a lane: half as much to transpose, and widening is a shift or a mask.
    const DU du;
    for (; k + 2 * kLanes <= depth; k += 2 * kLanes) {
#pragma GCC unroll 2
      for (size_t part = 0; part < kSquareParts; ++part) {
        hn::Vec<DU> pairs[kPart];
        LoadTransposed(du, rows + k, stride * sizeof(T), part, pairs);
#pragma GCC unroll 8
        for (size_t i = 0; i < kPart; ++i) {
          const size_t at = part * kPart + i;
          if ((k + 2 * kLanes) * sizeof(T) % 64 == 0) ask(rows + at * stride + k);
          use(k + 2 * at, 0, hn::BitCast(d, hn::ShiftLeft<16>(pairs[i])));
          use(k + 2 * at + 1, 1, hn::BitCast(d, hn::And(pairs[i], hn::Set(du, 0xffff0000u))));
        }
      }
    }
  }
#if HWY_TARGET == HWY_AVX3
  if constexpr (std::is_same_v<T, hwy::float16_t>) {
    for (; k + 2 * kLanes <= depth; k += 2 * kLanes) {
#pragma GCC unroll 2
      for (size_t part = 0; part < 2; ++part) {
        __m512i halves[8];
        LoadTransposedHalves(rows + k + part * kLanes, stride, halves);
#pragma GCC unroll 2
        for (size_t upper = 0; upper < 2; ++upper) {
#pragma GCC unroll 8
          for (size_t i = 0; i < 8; ++i) {
            const __m256i all =
                upper == 0 ? _mm512_castsi512_si256(halves[i]) : _mm512_extracti64x4_epi64(halves[i], 1);
            const size_t at = part * kLanes + upper * 8 + i;
            if (part == upper) ask(rows + (part * 8 + i) * stride + k);
            use(k + at, at % 2, VF{_mm512_cvtph_ps(all)});
          }
        }
      }
    }
  }
#endif
  for (; k < depth; k += kLanes) {
    HWY_ALIGN float widened[kLanes * kLanes];
    const void* from = widened;
    size_t from_stride = kLanes * sizeof(float);
    const size_t count = std::min(kLanes, depth - k);
    if (std::is_same_v<T, float> && count == kLanes) {
      from = rows + k;
      from_stride = stride * sizeof(T);
    } else {
#pragma GCC unroll 16
      for (size_t i = 0; i < kLanes; ++i) hn::Store(LoadUpTo(rows + i * stride + k, count), d, widened + i * kLanes);
    }
#pragma GCC unroll 2
    for (size_t part = 0; part < kSquareParts; ++part) {
      VF square[kPart];
      LoadTransposed(d, from, from_stride, part, square);
#pragma GCC unroll 8
      for (size_t i = 0; i < kPart; ++i) {
        const size_t at = part * kPart + i;
        if ((k + kLanes) * sizeof(T) % 64 == 0) ask(rows + at * stride + k);
        if (at < count) use(k + at, at % 2, square[i]);
      }
    }
  }
#endif
}

// kWidth rows [depth] as f32 into to [depth][kWidth].
template <size_t kWidth, typename T, typename Ask>
HWY_INLINE void TransposeRows(const T* rows, size_t stride, size_t depth, const Ask& ask, float* HWY_RESTRICT to) {
  for (size_t t = 0; t < kWidth; t += kLanes) {
    float* HWY_RESTRICT out = to + t;
    ForEachTransposed(rows + t * stride, stride, depth, ask,
                      [out](size_t k, size_t, VF v) HWY_ATTR { hn::Store(v, DF(), out + k * kWidth); });
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvrm::cpu
HWY_AFTER_NAMESPACE();

#endif  // KVRM_CPU_TRANSPOSE_INL_H_
