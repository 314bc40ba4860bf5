// quant_avx512-inl.h - the policy of quant-inl.h for AVX-512 with VNNI. Included after that header, and after kFlipped:
// whether packed Q8_0 has its sign bits flipped.

struct Policy {
  using VI = __m512i;
  using VF = __m512;
  static constexpr int kLanes = 16, kHalves = 1;
  template <int Mr>
  static constexpr int kTogether = kHalves;
  static constexpr uint32_t kTile = 12;     // chains that two multipliers of five cycles keep busy
  static constexpr uint32_t kPairTile = 8;  // x is loaded half as often, and the loads were what took time
  static constexpr bool kWide = false, kSigned = false;

  static KVRM_INLINE VI Load(const void* p) { return _mm512_loadu_si512(p); }
  static KVRM_INLINE void Store(void* p, VI v) { _mm512_storeu_si512(p, v); }
  static KVRM_INLINE VF LoadF(const float* p) { return _mm512_loadu_ps(p); }
  static KVRM_INLINE void StoreF(float* p, VF v) { _mm512_storeu_ps(p, v); }
  static KVRM_INLINE VI Set32(int32_t v) { return _mm512_set1_epi32(v); }
  static KVRM_INLINE VF SetF(float v) { return _mm512_set1_ps(v); }
  static KVRM_INLINE VI And(VI a, VI b) { return _mm512_and_si512(a, b); }
  static KVRM_INLINE VI Or(VI a, VI b) { return _mm512_or_si512(a, b); }
  static KVRM_INLINE VI Xor(VI a, VI b) { return _mm512_xor_si512(a, b); }
  template <int n>
  static KVRM_INLINE VI Srl(VI v) {
    return _mm512_srli_epi32(v, n);
  }
  template <int n>
  static KVRM_INLINE VI Sra(VI v) {
    return _mm512_srai_epi32(v, n);
  }
  template <int n>
  static KVRM_INLINE VI Sll(VI v) {
    return _mm512_slli_epi32(v, n);
  }
  static KVRM_INLINE VI HighNibbles(VI v) { return And(Srl<4>(v), Set32(0x0f0f0f0f)); }
  static KVRM_INLINE VF ToF32(VI v) { return _mm512_cvtepi32_ps(v); }
  static KVRM_INLINE VF MulF(VF a, VF b) { return _mm512_mul_ps(a, b); }
  static KVRM_INLINE VF Fma(VF a, VF b, VF c) { return _mm512_fmadd_ps(a, b, c); }
  static KVRM_INLINE VI Broadcast(const uint8_t* p) {
    int32_t v;
    std::memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
  }
  static KVRM_INLINE VF BroadcastF(const uint8_t* p) {
    float v;
    std::memcpy(&v, p, 4);
    return _mm512_set1_ps(v);
  }
  static KVRM_INLINE VF FromHalves(__m256i v) {
    const __m256 low = _mm256_cvtph_ps(_mm256_castsi256_si128(v));
    const __m256 high = _mm256_cvtph_ps(_mm256_extracti128_si256(v, 1));
    return _mm512_castpd_ps(
        _mm512_insertf64x4(_mm512_castpd256_pd512(_mm256_castps_pd(low)), _mm256_castps_pd(high), 1));
  }
  static KVRM_INLINE VF LoadHalves(const uint8_t* p) {
    return FromHalves(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static KVRM_INLINE VF LowHalf(VI v) { return FromHalves(_mm512_cvtepi32_epi16(v)); }
  static KVRM_INLINE VF HighHalf(VI v) { return LowHalf(Srl<16>(v)); }

  // As floats: a sum of products times a scale is below 2^24, so that no bit is lost.
  static KVRM_INLINE void PutScale(int32_t* to, VI scale) { StoreF(reinterpret_cast<float*>(to), ToF32(scale)); }
  static KVRM_INLINE VF Scale(const int32_t* scale) { return LoadF(reinterpret_cast<const float*>(scale)); }

  template <Halves kHalf, int first, int last, int Mr, int T>
  static KVRM_INLINE void Dwords(const uint8_t* q, const QuantKernel<Policy>::X& x, const Apart& apart,
                                 VI (&a)[Mr][T]) {
#pragma GCC unroll 8
    for (int j = first; j < last; ++j) {
      VI w[T];
      for (int h = 0; h < T; ++h) w[h] = QuantKernel<Policy>::Integers<kHalf>(q + h * apart.q, j, 0);
#pragma GCC unroll 12
      for (int i = 0; i < Mr; ++i) {
        const VI xv = Broadcast(x.Row(i) + 4 * j);
        for (int h = 0; h < T; ++h) a[i][h] = _mm512_dpbusd_epi32(a[i][h], w[h], xv);
      }
    }
  }

  template <int Mr, int T>
  static KVRM_INLINE void Start(const QuantKernel<Policy>::X& x, int from, VI (&a)[Mr][T]) {
    for (int i = 0; i < Mr; ++i) {
      const VI start = from == 0 ? Set32(0) : Broadcast(x.Row(i) + from);
      for (int h = 0; h < T; ++h) a[i][h] = start;
    }
  }

  template <uint32_t F, Halves kHalf, int Mr, int T>
  static KVRM_INLINE void SubBlock(const uint8_t* q, const QuantKernel<Policy>::X& x, const int32_t* scale,
                                   const Apart& apart, VF (&t)[Mr][T]) {
    VI a[Mr][T];
    Start(x, F == KVRM_Q8_0 ? kX128 : F == KVRM_Q4_0 ? kX8 : F == KVRM_Q6_K ? kX32 : 0, a);
    if constexpr (F != KVRM_Q6_K) {
      Dwords<F == KVRM_Q8_0 && !kFlipped ? kSignedBytes : kHalf, 0, 8>(q, x, apart, a);
      for (int i = 0; i < Mr; ++i) {
        for (int h = 0; h < T; ++h) {
          t[i][h] = ToF32(a[i][h]);
          if constexpr (F == KVRM_Q4_K || F == KVRM_Q5_K) t[i][h] = MulF(t[i][h], Scale(scale + h * apart.panel));
        }
      }
    } else {
      Dwords<kHalf, 0, 4>(q, x, apart, a);
      for (int i = 0; i < Mr; ++i) {
        for (int h = 0; h < T; ++h) t[i][h] = MulF(ToF32(a[i][h]), Scale(scale + h * apart.panel));
      }
      Start(x, kX32 + 4, a);
      Dwords<kHalf, 4, 8>(q, x, apart, a);
      for (int i = 0; i < Mr; ++i) {
        for (int h = 0; h < T; ++h) t[i][h] = Fma(ToF32(a[i][h]), Scale(scale + 16 + h * apart.panel), t[i][h]);
      }
    }
  }

  static KVRM_INLINE void PutX(const float* x, uint8_t* to, uint8_t*) {
    const VF low = _mm512_loadu_ps(x), high = _mm512_loadu_ps(x + 16);
    const VI magnitude = Set32(0x7fffffff);
    const VI most =
        _mm512_max_epi32(And(_mm512_castps_si512(low), magnitude), And(_mm512_castps_si512(high), magnitude));
    const int32_t largest = Reduce(_mm256_max_epi32(Lower(most), Upper(most)),
                                   [](__m128i a, __m128i b) KVRM_LAMBDA { return _mm_max_epi32(a, b); });
    const QuantScale scale = ScaleOf(largest);
    const VF inverse = SetF(scale.inverse);
    VI a = _mm512_cvtps_epi32(MulF(low, inverse)), b = _mm512_cvtps_epi32(MulF(high, inverse));
    if (scale.inverse == 0) a = b = Set32(0);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtsepi32_epi8(a));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 16), _mm512_cvtsepi32_epi8(b));
    // Pairs, fours and eights of neighbours: the sum of a's lanes, and of b's.
    const __m256i pairs = _mm256_hadd_epi32(_mm256_add_epi32(Lower(a), Upper(a)), _mm256_add_epi32(Lower(b), Upper(b)));
    const __m128i fours = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    const __m128i sums = _mm_hadd_epi32(fours, fours);
    const int32_t first = _mm_cvtsi128_si32(sums), second = _mm_extract_epi32(sums, 1), sum = first + second;
    const float scales[2] = {scale.d, scale.d * static_cast<float>(sum)};
    const int32_t starts[4] = {-128 * sum, -8 * sum, -32 * first, -32 * second};
    std::memcpy(to + kXd, scales, 8);
    std::memcpy(to + kX128, starts, 16);
  }

  static KVRM_INLINE __m256i Lower(VI v) { return _mm512_castsi512_si256(v); }
  static KVRM_INLINE __m256i Upper(VI v) { return _mm512_extracti64x4_epi64(v, 1); }

  // All lanes together.
  template <typename Combine>
  static KVRM_INLINE int32_t Reduce(__m256i v, const Combine& combine) {
    __m128i r = combine(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    r = combine(r, _mm_shuffle_epi32(r, 0x4e));
    return _mm_cvtsi128_si32(combine(r, _mm_shuffle_epi32(r, 0xb1)));
  }
};
