// quant_neon-inl.h - the policy of quant-inl.h for NEON. Included after that header, and after kDotProduct: whether
// there is an instruction for four products of bytes (Armv8.2's dot product, SDOT); without it, products fall into
// 16-bit lanes (SMULL, SMLAL).
//
// All bytes are signed: Q8_0 as it is in the file, and the others, which start from 0 to 63, as they come apart.

struct Policy {
  using VI = int32x4_t;
  using VF = float32x4_t;
  static constexpr int kLanes = 4, kHalves = 4;
  static constexpr uint32_t kTile = 4, kPairTile = 0;
  static constexpr bool kWide = false, kSigned = false;
  // 32 registers: four rows by two have 8 sums of integers, 8 of floats, 4 of x, and the weights. Without the
  // instruction a sum of integers takes two registers, and of Q8_0 four.
  template <int Mr>
  static constexpr int kTogether = kDotProduct ? (Mr <= 2 ? 4 : 2)
                                               : (Mr == 1   ? 4
                                                  : Mr == 2 ? 2
                                                            : 1);

  static KVRM_INLINE uint32x4_t Unsigned(VI v) { return vreinterpretq_u32_s32(v); }
  static KVRM_INLINE VI Signed(uint32x4_t v) { return vreinterpretq_s32_u32(v); }
  static KVRM_INLINE int8x16_t Bytes(VI v) { return vreinterpretq_s8_s32(v); }

  static KVRM_INLINE VI Load(const void* p) { return vreinterpretq_s32_u8(vld1q_u8(static_cast<const uint8_t*>(p))); }
  static KVRM_INLINE void Store(void* p, VI v) { vst1q_u8(static_cast<uint8_t*>(p), vreinterpretq_u8_s32(v)); }
  static KVRM_INLINE VF LoadF(const float* p) { return vld1q_f32(p); }
  static KVRM_INLINE void StoreF(float* p, VF v) { vst1q_f32(p, v); }
  static KVRM_INLINE VI Set32(int32_t v) { return vdupq_n_s32(v); }
  static KVRM_INLINE VF SetF(float v) { return vdupq_n_f32(v); }
  static KVRM_INLINE VI And(VI a, VI b) { return vandq_s32(a, b); }
  static KVRM_INLINE VI Or(VI a, VI b) { return vorrq_s32(a, b); }
  template <int n>
  static KVRM_INLINE VI Srl(VI v) {
    return Signed(vshrq_n_u32(Unsigned(v), n));
  }
  template <int n>
  static KVRM_INLINE VI Sra(VI v) {
    return vshrq_n_s32(v, n);
  }
  template <int n>
  static KVRM_INLINE VI Sll(VI v) {
    return vshlq_n_s32(v, n);
  }
  static KVRM_INLINE VI HighNibbles(VI v) { return vreinterpretq_s32_u8(vshrq_n_u8(vreinterpretq_u8_s32(v), 4)); }
  static KVRM_INLINE VF ToF32(VI v) { return vcvtq_f32_s32(v); }
  static KVRM_INLINE VF MulF(VF a, VF b) { return vmulq_f32(a, b); }
  static KVRM_INLINE VF Fma(VF a, VF b, VF c) { return vfmaq_f32(c, a, b); }
  static KVRM_INLINE VI Broadcast(const uint8_t* p) {
    int32_t v;
    std::memcpy(&v, p, 4);
    return vdupq_n_s32(v);
  }
  static KVRM_INLINE VF BroadcastF(const uint8_t* p) {
    float v;
    std::memcpy(&v, p, 4);
    return vdupq_n_f32(v);
  }
  static KVRM_INLINE VF FromHalves(uint16x4_t v) { return vcvt_f32_f16(vreinterpret_f16_u16(v)); }
  static KVRM_INLINE VF LoadHalves(const uint8_t* p) { return FromHalves(vreinterpret_u16_u8(vld1_u8(p))); }
  static KVRM_INLINE VF LowHalf(VI v) { return FromHalves(vmovn_u32(Unsigned(v))); }
  static KVRM_INLINE VF HighHalf(VI v) { return FromHalves(vshrn_n_u32(Unsigned(v), 16)); }

  // As floats: a sum of products times a scale is below 2^24, so that no bit is lost.
  static KVRM_INLINE void PutScale(int32_t* to, VI scale) { StoreF(reinterpret_cast<float*>(to), ToF32(scale)); }
  static KVRM_INLINE VF Scale(const int32_t* scale) { return LoadF(reinterpret_cast<const float*>(scale)); }

  using X = QuantKernel<Policy>::X;
  template <Halves kHalf>
  static KVRM_INLINE int8x16_t Weights(const uint8_t* q, int j, int h) {
    return Bytes(QuantKernel<Policy>::Integers<kHalf>(q, j, h));
  }

  // a[i][h] += the products of dword j of a block, which is dword j % 4 of x[i].
  template <Halves kHalf, int j, int Mr, int T>
  static KVRM_INLINE void Dot(const uint8_t* q, const int8x16_t (&x)[Mr], VI (&a)[Mr][T]) {
    for (int h = 0; h < T; ++h) {
      const int8x16_t w = Weights<kHalf>(q, j, h);
      for (int i = 0; i < Mr; ++i) a[i][h] = vdotq_laneq_s32(a[i][h], w, x[i], j % 4);
    }
  }

  // a[i][h] += the products of dwords [4 half, 4 half + 4) of a block.
  template <Halves kHalf, int half, int Mr, int T>
  static KVRM_INLINE void DotHalf(const uint8_t* q, const X& x, VI (&a)[Mr][T]) {
    int8x16_t row[Mr];
    for (int i = 0; i < Mr; ++i) row[i] = Bytes(Load(x.Row(i) + 16 * half));
    Dot<kHalf, 4 * half>(q, row, a);
    Dot<kHalf, 4 * half + 1>(q, row, a);
    Dot<kHalf, 4 * half + 2>(q, row, a);
    Dot<kHalf, 4 * half + 3>(q, row, a);
  }

  // a[i][h] += the products of dwords [first, last) of a block, of which `fit` may be added in 16 bits.
  template <Halves kHalf, int first, int last, int fit, int Mr, int T>
  static KVRM_INLINE void MultiplyAdd(const uint8_t* q, const X& x, VI (&a)[Mr][T]) {
    int16x8_t low[Mr][T], high[Mr][T];  // of outputs 0 and 1 of a register, and of 2 and 3
    VI low_pairs[Mr][T], high_pairs[Mr][T];
#pragma GCC unroll 8
    for (int j = first; j < last; ++j) {
      int8x16_t w[T];
      for (int h = 0; h < T; ++h) w[h] = Weights<kHalf>(q, j, h);
      for (int i = 0; i < Mr; ++i) {
        const int8x16_t row = Bytes(Broadcast(x.Row(i) + 4 * j));
        for (int h = 0; h < T; ++h) {
          if ((j - first) % fit == 0) {
            low[i][h] = vmull_s8(vget_low_s8(w[h]), vget_low_s8(row));
            high[i][h] = vmull_high_s8(w[h], row);
          } else {
            low[i][h] = vmlal_s8(low[i][h], vget_low_s8(w[h]), vget_low_s8(row));
            high[i][h] = vmlal_high_s8(high[i][h], w[h], row);
          }
          if ((j - first) % fit != fit - 1) continue;
          if (j - first == fit - 1) {
            low_pairs[i][h] = vpaddlq_s16(low[i][h]);
            high_pairs[i][h] = vpaddlq_s16(high[i][h]);
          } else {
            low_pairs[i][h] = vpadalq_s16(low_pairs[i][h], low[i][h]);
            high_pairs[i][h] = vpadalq_s16(high_pairs[i][h], high[i][h]);
          }
        }
      }
    }
    for (int i = 0; i < Mr; ++i) {
      for (int h = 0; h < T; ++h) a[i][h] = vaddq_s32(a[i][h], vpaddq_s32(low_pairs[i][h], high_pairs[i][h]));
    }
  }

  template <uint32_t F, Halves kHalf, int first, int last, int Mr, int T>
  static KVRM_INLINE void Dwords(const uint8_t* q, const X& x, VI (&a)[Mr][T]) {
    if constexpr (kDotProduct) {
      if constexpr (first == 0) DotHalf<kHalf, 0>(q, x, a);
      if constexpr (last == 8) DotHalf<kHalf, 1>(q, x, a);
    } else {
      // 128 * 127 * 2 = 32,512; 63 * 127 * 4 = 32,004; 31 * 127 * 8 = 31,496.
      constexpr int fit = F == KVRM_Q8_0 ? 2 : F == KVRM_Q6_K ? 4 : 8;
      MultiplyAdd<kHalf, first, last, fit>(q, x, a);
    }
  }

  template <int Mr, int T>
  static KVRM_INLINE void Start(const X& x, int from, VI (&a)[Mr][T]) {
    for (int i = 0; i < Mr; ++i) {
      const VI start = from == 0 ? Set32(0) : Broadcast(x.Row(i) + from);
      for (int h = 0; h < T; ++h) a[i][h] = start;
    }
  }

  template <uint32_t F, Halves kHalf, int Mr, int T>
  static KVRM_INLINE void SubBlock(const uint8_t* q, const X& x, const int32_t* scale, const Apart&, VF (&t)[Mr][T]) {
    asm("" : "+r"(q));  // else what Q4_K's low nibbles came from waits on the stack for the high ones
    VI a[Mr][T];
    Start(x, F == KVRM_Q4_0 ? kX8 : F == KVRM_Q6_K ? kX32 : 0, a);
    if constexpr (F != KVRM_Q6_K) {
      Dwords<F, kHalf, 0, 8>(q, x, a);
      for (int i = 0; i < Mr; ++i) {
        for (int h = 0; h < T; ++h) {
          t[i][h] = ToF32(a[i][h]);
          if constexpr (F == KVRM_Q4_K || F == KVRM_Q5_K) t[i][h] = MulF(t[i][h], Scale(scale + h * kLanes));
        }
      }
    } else {
      Dwords<F, kHalf, 0, 4>(q, x, a);
      for (int i = 0; i < Mr; ++i) {
        for (int h = 0; h < T; ++h) t[i][h] = MulF(ToF32(a[i][h]), Scale(scale + h * kLanes));
      }
      Start(x, kX32 + 4, a);
      Dwords<F, kHalf, 4, 8>(q, x, a);
      for (int i = 0; i < Mr; ++i) {
        for (int h = 0; h < T; ++h) t[i][h] = Fma(ToF32(a[i][h]), Scale(scale + 16 + h * kLanes), t[i][h]);
      }
    }
  }

  static KVRM_INLINE void PutX(const float* x, uint8_t* to, uint8_t*) {
    const VI magnitude = Set32(0x7fffffff);
    VF v[8];
    VI most = Set32(0);
    for (int i = 0; i < 8; ++i) {
      v[i] = vld1q_f32(x + 4 * i);
      most = vmaxq_s32(most, And(vreinterpretq_s32_f32(v[i]), magnitude));
    }
    const QuantScale scale = ScaleOf(vmaxvq_s32(most));
    const VF inverse = SetF(scale.inverse);
    VI q[8];
    for (int i = 0; i < 8; ++i) {
      q[i] = vcvtnq_s32_f32(MulF(v[i], inverse));
      if (scale.inverse == 0) q[i] = Set32(0);
    }
    int32_t sum[2];  // of either half
    for (int half = 0; half < 2; ++half) {
      const VI* from = q + 4 * half;
      const int16x8_t low = vcombine_s16(vmovn_s32(from[0]), vmovn_s32(from[1]));
      const int16x8_t high = vcombine_s16(vmovn_s32(from[2]), vmovn_s32(from[3]));
      vst1q_s8(reinterpret_cast<int8_t*>(to) + 16 * half, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
      sum[half] = vaddvq_s32(vpaddlq_s16(vaddq_s16(low, high)));
    }
    const int32_t all = sum[0] + sum[1];
    const float scales[2] = {scale.d, scale.d * static_cast<float>(all)};
    const int32_t starts[4] = {0, -8 * all, -32 * sum[0], -32 * sum[1]};  // Q8_0 is signed
    std::memcpy(to + kXd, scales, 8);
    std::memcpy(to + kX128, starts, 16);
  }
};
