// Products with weights in blocks: AVX2. Four bytes of k of eight rows are one register; pairs of products fall into
// 16-bit lanes (vpmaddubsw), whose sums over a block fit 16 bits wherever the weights have four bits, and half a block
// where they have five or six. Weights of eight bits do not fit that instruction: they and the activations are taken
// as 16-bit integers (vpmaddwd).
#include "quant_targets.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")

namespace kvrm::cpu {
namespace quant_avx2 {

// clang-format off
#include "quant_unpack-inl.h"
#include "quant-inl.h"
#include "quant_product-inl.h"
// clang-format on

struct Policy {
  using VI = __m256i;
  using VF = __m256;
  static constexpr int kLanes = 8, kHalves = 2;
  template <int Mr>
  static constexpr int kTogether = kHalves;
  static constexpr uint32_t kTile = 4, kPairTile = 0;
  static constexpr bool kWide = true, kSigned = false;

  static KVRM_INLINE VI Load(const void* p) { return _mm256_loadu_si256(static_cast<const VI*>(p)); }
  static KVRM_INLINE void Store(void* p, VI v) { _mm256_storeu_si256(static_cast<VI*>(p), v); }
  static KVRM_INLINE VF LoadF(const float* p) { return _mm256_loadu_ps(p); }
  static KVRM_INLINE void StoreF(float* p, VF v) { _mm256_storeu_ps(p, v); }
  static KVRM_INLINE VI Set32(int32_t v) { return _mm256_set1_epi32(v); }
  static KVRM_INLINE VF SetF(float v) { return _mm256_set1_ps(v); }
  static KVRM_INLINE VI And(VI a, VI b) { return _mm256_and_si256(a, b); }
  static KVRM_INLINE VI Or(VI a, VI b) { return _mm256_or_si256(a, b); }
  template <int n>
  static KVRM_INLINE VI Srl(VI v) {
    return _mm256_srli_epi32(v, n);
  }
  template <int n>
  static KVRM_INLINE VI Sra(VI v) {
    return _mm256_srai_epi32(v, n);
  }
  template <int n>
  static KVRM_INLINE VI Sll(VI v) {
    return _mm256_slli_epi32(v, n);
  }
  static KVRM_INLINE VI HighNibbles(VI v) { return And(Srl<4>(v), Set32(0x0f0f0f0f)); }
  static KVRM_INLINE VF ToF32(VI v) { return _mm256_cvtepi32_ps(v); }
  static KVRM_INLINE VF MulF(VF a, VF b) { return _mm256_mul_ps(a, b); }
  static KVRM_INLINE VF Fma(VF a, VF b, VF c) { return _mm256_fmadd_ps(a, b, c); }
  static KVRM_INLINE VI Broadcast(const uint8_t* p) {
    int32_t v;
    std::memcpy(&v, p, 4);
    return _mm256_set1_epi32(v);
  }
  static KVRM_INLINE VF BroadcastF(const uint8_t* p) { return _mm256_broadcast_ss(reinterpret_cast<const float*>(p)); }
  static KVRM_INLINE VF LoadHalves(const uint8_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static KVRM_INLINE VF LowHalf(VI v) {
    const VI low = And(v, Set32(0xffff));
    return _mm256_cvtph_ps(_mm256_castsi256_si128(_mm256_permute4x64_epi64(_mm256_packus_epi32(low, low), 0x08)));
  }
  static KVRM_INLINE VF HighHalf(VI v) { return LowHalf(Srl<16>(v)); }

  // Both 16-bit lanes of a row are multiplied with its scale.
  static KVRM_INLINE void PutScale(int32_t* to, VI scale) { Store(to, Or(And(scale, Set32(0xffff)), Sll<16>(scale))); }

  // Holds a sum in its register. g++ knows that integers may be added in any order, makes trees of these chains, and
  // keeps dozens of products on the stack.
  static KVRM_INLINE VI InOrder(VI v) {
    asm("" : "+x"(v));
    return v;
  }

  // a[i][h] += the products of dwords [first, last) of a block; first <= k / 4 < last.
  template <Halves kHalf, int first, int last, int Mr>
  static KVRM_INLINE void Dwords(const uint8_t* q, const QuantKernel<Policy>::X& x, VI (&a)[Mr][2]) {
#pragma GCC unroll 8
    for (int j = first; j < last; ++j) {
      const VI w0 = QuantKernel<Policy>::Integers<kHalf>(q, j, 0), w1 = QuantKernel<Policy>::Integers<kHalf>(q, j, 1);
#pragma GCC unroll 4
      for (int i = 0; i < Mr; ++i) {
        const VI xv = Broadcast(x.Row(i) + 4 * j);
        a[i][0] = InOrder(_mm256_add_epi16(a[i][0], _mm256_maddubs_epi16(w0, xv)));
        a[i][1] = InOrder(_mm256_add_epi16(a[i][1], _mm256_maddubs_epi16(w1, xv)));
      }
    }
  }

  template <int Mr>
  static KVRM_INLINE void Start(const QuantKernel<Policy>::X& x, int from, VI (&a)[Mr][2]) {
    for (int i = 0; i < Mr; ++i) a[i][0] = a[i][1] = from == 0 ? Set32(0) : Broadcast(x.Row(i) + from);
  }

  template <uint32_t F, Halves kHalf, int Mr>
  static KVRM_INLINE void SubBlock(const uint8_t* q, const QuantKernel<Policy>::X& x, const int32_t* scale,
                                   const Apart&, VF (&t)[Mr][2]) {
    VI a[Mr][2];
    if constexpr (F == KVRM_Q8_0) {
      Start(x, kX128, a);
      const VI mask = Set32(0x00ff00ff);
#pragma GCC unroll 8
      for (int j = 0; j < 8; ++j) {
        const VI w0 = Load(q + j * 64), w1 = Load(q + j * 64 + 32);
        const VI even0 = And(w0, mask), odd0 = _mm256_srli_epi16(w0, 8);
        const VI even1 = And(w1, mask), odd1 = _mm256_srli_epi16(w1, 8);
#pragma GCC unroll 4
        for (int i = 0; i < Mr; ++i) {
          const uint8_t* row = x.Row(i) + x.wide + j * 8;
          const VI even = Broadcast(row), odd = Broadcast(row + 4);
          a[i][0] = InOrder(_mm256_add_epi32(a[i][0], _mm256_madd_epi16(even0, even)));
          a[i][1] = InOrder(_mm256_add_epi32(a[i][1], _mm256_madd_epi16(even1, even)));
          a[i][0] = InOrder(_mm256_add_epi32(a[i][0], _mm256_madd_epi16(odd0, odd)));
          a[i][1] = InOrder(_mm256_add_epi32(a[i][1], _mm256_madd_epi16(odd1, odd)));
        }
      }
      for (int i = 0; i < Mr; ++i) {
        for (int h = 0; h < 2; ++h) t[i][h] = ToF32(a[i][h]);
      }
    } else if constexpr (F == KVRM_Q4_0 || F == KVRM_Q4_K) {
      // 15 * 127 * 16 = 30,480 at most, and 8 * 127 * 16 once the start is in.
      Start(x, F == KVRM_Q4_0 ? kX8 : 0, a);
      Dwords<kHalf, 0, 8>(q, x, a);
      for (int i = 0; i < Mr; ++i) {
        for (int h = 0; h < 2; ++h) {
          const VI factor = F == KVRM_Q4_0 ? Set32(0x00010001) : Load(scale + h * 8);
          t[i][h] = ToF32(_mm256_madd_epi16(a[i][h], factor));
        }
      }
    } else {
      // 31 * 127 * 8 = 31,496; of Q6_K 32 * 127 * 8 = 32,512 once the start is in.
      VI sum[Mr][2];
      Start(x, F == KVRM_Q6_K ? kX32 : 0, a);
      Dwords<kHalf, 0, 4>(q, x, a);
      for (int i = 0; i < Mr; ++i) {
        for (int h = 0; h < 2; ++h) sum[i][h] = _mm256_madd_epi16(a[i][h], Load(scale + h * 8));
      }
      Start(x, F == KVRM_Q6_K ? kX32 + 4 : 0, a);
      Dwords<kHalf, 4, 8>(q, x, a);
      for (int i = 0; i < Mr; ++i) {
        for (int h = 0; h < 2; ++h) {
          const VI second = _mm256_madd_epi16(a[i][h], Load(scale + (F == KVRM_Q6_K ? 16 : 0) + h * 8));
          t[i][h] = ToF32(_mm256_add_epi32(sum[i][h], second));
        }
      }
    }
  }

  static KVRM_INLINE void PutX(const float* x, uint8_t* to, uint8_t* wide) {
    const VI magnitude = Set32(0x7fffffff);
    VF v[4];
    VI most = Set32(0);
    for (int i = 0; i < 4; ++i) {
      v[i] = _mm256_loadu_ps(x + 8 * i);
      most = _mm256_max_epi32(most, And(_mm256_castps_si256(v[i]), magnitude));
    }
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
    const QuantScale scale = ScaleOf(_mm_cvtsi128_si32(m));
    const VF inverse = SetF(scale.inverse);
    VI q[4];
    for (int i = 0; i < 4; ++i) q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse));
    if (scale.inverse == 0) q[0] = q[1] = q[2] = q[3] = Set32(0);
    // Packing works within halves; the permutation puts the dwords back in order.
    VI bytes = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
    bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    Store(to, bytes);
    // Each dword (k0, k1, k2, k3) as 16-bit (k0, k2, k1, k3).
    const VI even = _mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8), odd = _mm256_srai_epi16(bytes, 8);
    const VI low = _mm256_unpacklo_epi32(even, odd), high = _mm256_unpackhi_epi32(even, odd);
    Store(wide, _mm256_permute2x128_si256(low, high, 0x20));
    Store(wide + 32, _mm256_permute2x128_si256(low, high, 0x31));

    // The sums of (k0, k1) and (k2, k3) of all dwords of each half, side by side: as the lanes of the products.
    const VI pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes);
    VI halves = _mm256_add_epi16(pairs, _mm256_shuffle_epi32(pairs, 0x4e));
    halves = _mm256_add_epi16(halves, _mm256_shuffle_epi32(halves, 0xb1));
    const __m128i first = _mm256_castsi256_si128(halves), second = _mm256_extracti128_si256(halves, 1);
    const __m128i both = _mm_add_epi16(first, second);
    const int32_t sum = _mm_cvtsi128_si32(_mm_madd_epi16(both, _mm_set1_epi16(1)));
    const int32_t starts[4] = {
        -128 * sum,
        _mm_cvtsi128_si32(_mm_mullo_epi16(both, _mm_set1_epi16(-8))),
        _mm_cvtsi128_si32(_mm_mullo_epi16(first, _mm_set1_epi16(-32))),
        _mm_cvtsi128_si32(_mm_mullo_epi16(second, _mm_set1_epi16(-32))),
    };
    const float scales[2] = {scale.d, scale.d * static_cast<float>(sum)};
    std::memcpy(to + kXd, scales, 8);
    std::memcpy(to + kX128, starts, 16);
  }
};

}  // namespace quant_avx2

const QuantKernels kQuantAvx2 = {"AVX2", true, quant_avx2::QuantKernel<quant_avx2::Policy>::QuantizeRows,
                                 quant_avx2::QuantProduct<quant_avx2::QuantKernel<quant_avx2::Policy>>::Product};

}  // namespace kvrm::cpu

#pragma GCC pop_options
#endif  // __x86_64__
