// quant_product-inl.h - a product with weights in blocks, 16 rows of w at a time, with a kernel K: of quant-inl.h or of
// quant_amx-inl.h. Included like those, and after them.

template <class K>
struct QuantProduct {
  using Unpack = typename K::Unpack;

  // All of k for G groups of 16 rows of w and rows [0, m) of x, into acc [G][kPassRows][16].
  template <uint32_t F, int G>
  static KVRM_INLINE void Groups(const uint8_t* w, size_t group_bytes, size_t blocks, typename K::X x, uint32_t m,
                                 Panel* panel, float* acc) {
    constexpr size_t kBlockBytes = Unpack::template kBlockBytes<F>, kDBytes = Unpack::template kDBytes<F>;
    const uint8_t* d = w + blocks * kBlockBytes;
    for (size_t b = 0; b < blocks; b += kSubs) {
      const size_t subs = blocks - b < kSubs ? blocks - b : kSubs;
      if constexpr (kDBytes != 0) {
        // Those of the next groups, for they lie where nothing goes by before they are wanted.
        for (int g = G; g < 2 * G; ++g) {
          const uint8_t* next = d + g * group_bytes + b * kDBytes;
          for (size_t line = 0; line < kSubs * kDBytes; line += 64) __builtin_prefetch(next + line, 0, 2);
        }
      }
      K::template Multiply<F, G>(w + b * kBlockBytes, d + b * kDBytes, group_bytes, subs, x.Block(b), m, panel, acc);
    }
  }

  // Groups g to g + G - 1 of a product, and rows [row, row + m) of x.
  template <uint32_t F, int G>
  static KVRM_INLINE void Outputs(const PackedProduct& p, uint32_t g, uint32_t row, uint32_t m, const typename K::X& x,
                                  Panel* panel, float* acc) {
    const size_t group_bytes = PackedGroupBytes(p.w.dtype, p.w.cols);
    for (uint32_t i = 0; i < G * K::kPassRows * 16; i += K::kPassRows * 16)
      std::memset(acc + i, 0, m * 16 * sizeof(float));
    Groups<F, G>(p.w.data + g * group_bytes, group_bytes, p.w.cols / 32, x, m, panel, acc);
    for (const uint32_t end = g + G; g < end; ++g, acc += K::kPassRows * 16) {
      const uint32_t first = g * 16 < p.n_begin ? p.n_begin - g * 16 : 0;
      const uint32_t last = p.n_end - g * 16 < 16 ? p.n_end - g * 16 : 16;
      if (p.bias) AddBias(*p.bias, g * 16, first, last, m, acc);
      for (uint32_t i = 0; i < m; ++i) {
        float* out = p.out + size_t{row + i} * p.out_stride + size_t{g} * 16;
        for (uint32_t n = first; n < last; ++n) out[n] = p.add ? out[n] + acc[i * 16 + n] : acc[i * 16 + n];
      }
    }
  }

  template <uint32_t F>
  static void Rows(const PackedProduct& p) {
    constexpr int kGroups = K::kPairs ? 2 : 1;
    alignas(64) Panel panel[kGroups];
    if (F == KVRM_Q6_K) std::memset(panel, 0, sizeof(panel));
    alignas(64) float acc[kGroups * K::kPassRows * 16];
    for (uint32_t row = 0; row < p.m; row += K::kPassRows) {
      const uint32_t m = p.m - row < K::kPassRows ? p.m - row : K::kPassRows;
      const typename K::X x = K::At(p, row);
      uint32_t g = p.n_begin / 16;
      if constexpr (K::kPairs) {
        if (m >= K::template kPairRows<F>) {
          for (; (g + 1) * 16 < p.n_end; g += 2) Outputs<F, 2>(p, g, row, m, x, panel, acc);
        }
      }
      for (; g * 16 < p.n_end; ++g) Outputs<F, 1>(p, g, row, m, x, panel, acc);
    }
  }

  static void AddBias(const Weight& bias, uint32_t row, uint32_t first, uint32_t last, uint32_t m, float* acc) {
    float values[16] = {};
    Widen(static_cast<const uint8_t*>(bias.data) + size_t{row + first} * ElementBytes(bias.dtype), last - first,
          bias.dtype, values + first);
    for (uint32_t i = 0; i < m; ++i) {
      for (uint32_t n = 0; n < 16; ++n) acc[i * 16 + n] += values[n];
    }
  }

  static void Product(const PackedProduct& p) {
    if (p.m == 0 || p.n_begin >= p.n_end) return;
    switch (p.w.dtype) {
      case KVRM_Q8_0:
        return Rows<KVRM_Q8_0>(p);
      case KVRM_Q4_0:
        return Rows<KVRM_Q4_0>(p);
      case KVRM_Q4_K:
        return Rows<KVRM_Q4_K>(p);
      case KVRM_Q5_K:
        return Rows<KVRM_Q5_K>(p);
      default:
        return Rows<KVRM_Q6_K>(p);
    }
  }
};
