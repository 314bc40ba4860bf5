// quant_product-inl.h - a product with weights in blocks, 16 rows of w at a time, with a kernel K: of quant-inl.h or of
// quant_amx-inl.h. Included like those, and after them.

template <class K>
struct QuantProduct {
  using Unpack = typename K::Unpack;

  // All of k for one group of 16 rows of w and rows [0, m) of x, into acc [m][16].
  template <uint32_t F>
  static KVRM_INLINE void Group(const uint8_t* w, size_t blocks, typename K::X x, uint32_t m, Panel& panel,
                                float* acc) {
    constexpr size_t kBlockBytes = Unpack::template kBlockBytes<F>, kDBytes = Unpack::template kDBytes<F>;
    const uint8_t* d = w + blocks * kBlockBytes;
    for (size_t b = 0; b < blocks; b += kSubs) {
      const size_t subs = blocks - b < kSubs ? blocks - b : kSubs;
      if constexpr (kDBytes != 0) {
        // The next group's, for they lie where nothing goes by before they are wanted.
        const uint8_t* next = d + (blocks * (kBlockBytes + kDBytes)) + b * kDBytes;
        for (size_t line = 0; line < kSubs * kDBytes; line += 64) __builtin_prefetch(next + line, 0, 2);
      }
      K::template Multiply<F>(w + b * kBlockBytes, d + b * kDBytes, subs, x.Block(b), m, panel, acc);
    }
  }

  template <uint32_t F>
  static void Rows(const PackedProduct& p) {
    alignas(64) Panel panel;
    if (F == KVRM_Q6_K) std::memset(panel.q, 0, sizeof(panel.q));
    alignas(64) float acc[K::kPassRows * 16];
    const size_t group_bytes = PackedGroupBytes(p.w.dtype, p.w.cols);
    for (uint32_t row = 0; row < p.m; row += K::kPassRows) {
      const uint32_t m = p.m - row < K::kPassRows ? p.m - row : K::kPassRows;
      const typename K::X x = K::At(p, row);
      for (uint32_t g = p.n_begin / 16; g * 16 < p.n_end; ++g) {
        for (uint32_t i = 0; i < m * 16; ++i) acc[i] = 0;
        Group<F>(p.w.data + g * group_bytes, p.w.cols / 32, x, m, panel, acc);
        const uint32_t first = g * 16 < p.n_begin ? p.n_begin - g * 16 : 0;
        const uint32_t last = p.n_end - g * 16 < 16 ? p.n_end - g * 16 : 16;
        if (p.bias) AddBias(*p.bias, g * 16, first, last, m, acc);
        for (uint32_t i = 0; i < m; ++i) {
          float* out = p.out + size_t{row + i} * p.out_stride + size_t{g} * 16;
          for (uint32_t n = first; n < last; ++n) out[n] = p.add ? out[n] + acc[i * 16 + n] : acc[i * 16 + n];
        }
      }
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
