// quant_amx-inl.h - the integer products of quant.h in tiles: rows of x, 16 rows of w and a block of 32 of k, or two
// such blocks, are one instruction, whose sums go through memory to registers, where their scales wait. Included after
// quant_avx512-inl.h.
//
// A tile has 16 rows, and getting at its sums takes as long however many are used. So up to eight rows of x are there
// twice, once with a block's numbers and zeros, once with zeros and the next block's, and one instruction multiplies
// two blocks. One or two rows are multiplied in registers, as without tiles: formats that come apart save the panel.

// Weights come apart into signed bytes.
struct AmxPolicy : Policy {
  static constexpr bool kSigned = true;
  static KVRM_INLINE VI SubBytes(VI a, VI b) { return _mm512_sub_epi8(a, b); }

  // Q6_K has a scale for each 16 numbers: either half of a block is a tile of its own, with zeros in place of the
  // other, and so are those of two blocks together: [pair of blocks][half][block][dword]. Nobody writes the zeros.
  static constexpr size_t kQ6Pair = 4 * kSubBytes, kQ6Half = 2 * kSubBytes;
  static KVRM_INLINE size_t PlaceOfQ6(size_t sub, size_t dword) {
    return sub / 2 * kQ6Pair + dword / 4 * kQ6Half + sub % 2 * kSubBytes + dword * 64;
  }
};

struct AmxKernel {
  using P = AmxPolicy;
  using Unpack = QuantUnpack<P>;
  using VI = P::VI;
  using VF = P::VF;
  static constexpr bool kPairs = false;
  static constexpr uint32_t kPassRows = 128;
  static constexpr int kRows = kXTileRows;
  static constexpr uint32_t kPairedRows = 8;  // at most these are there twice
  static constexpr uint32_t kFewRows = 2;     // at most these take no tiles

  // Activations. Sixteen rows, each block of 32: q [16][32], d [16] f32, the sum times d [16] f32. Few rows, of which
  // there are room for `half`, each pair of blocks: q [2 half][64], and the same floats [2 half]; row half + i has row
  // i's second block.
  struct Form {
    uint32_t half;  // 4 or 8; 0: sixteen rows
    explicit Form(uint32_t m) : half(m > kPairedRows ? 0 : m > kXRows ? 8 : 4) {}
    KVRM_INLINE size_t ItemBytes() const { return half == 0 ? kXTileBlock : size_t{half} * 2 * (64 + 8); }
    KVRM_INLINE size_t Blocks() const { return half == 0 ? 1 : 2; }
  };
  struct X {
    const uint8_t* x;
    size_t group;  // bytes of sixteen rows
    Form form;
    KVRM_INLINE X Block(size_t b) const { return {x + b / form.Blocks() * form.ItemBytes(), group, form}; }
  };

  static X At(const PackedProduct& p, uint32_t row) {
    const size_t group = XTileBytes(p.w.cols);
    return {static_cast<const uint8_t*>(p.x) + row / kRows * group, group, Form(p.m)};
  }

  static void QuantizeRows(const float* x, size_t x_stride, uint32_t m, uint32_t cols, uint32_t begin, uint32_t end,
                           void* out) {
    if (m <= kFewRows) return QuantKernel<Policy>::QuantizeRows(x, x_stride, m, cols, begin, end, out);
    const Form form(m);
    const size_t rows = form.half == 0 ? kRows : 2 * form.half, row_bytes = form.half == 0 ? 32 : 64;
    const size_t blocks = cols / 32;
    // Rows that no one else makes are there too, for tiles have whole fours of them.
    const uint32_t last = (end + kXRows - 1) / kXRows * kXRows;
    for (uint32_t row = begin; row < last; ++row) {
      uint8_t* item = static_cast<uint8_t*>(out) + row / kRows * XTileBytes(cols);
      for (size_t b = 0; b < (blocks + form.Blocks() - 1) / form.Blocks() * form.Blocks(); ++b) {
        const size_t second = b % form.Blocks(), at = row % kRows + second * form.half;
        alignas(64) uint8_t block[kXBlock] = {};
        if (row < end && b < blocks) P::PutX(x + row * x_stride + b * 32, block, nullptr);
        uint8_t* q = item + at * row_bytes;
        if (form.half != 0)
          _mm256_storeu_si256(reinterpret_cast<__m256i*>(q + 32 - 32 * second), _mm256_setzero_si256());
        std::memcpy(q + 32 * second, block, 32);
        std::memcpy(item + rows * row_bytes + 4 * at, block + kXd, 4);
        std::memcpy(item + rows * (row_bytes + 4) + 4 * at, block + kXs, 4);
        if (second + 1 == form.Blocks()) item += form.ItemBytes();
      }
    }
  }

  // Sums [rows][16]; of Q6_K those of either half of the blocks.
  struct Sums {
    alignas(64) int32_t of[2][kRows * 16];
  };

  // Starts the products of one item of x, with weights at q. Two sets of tiles take turns, so that neither waits for
  // the other's sums.
  template <uint32_t F>
  static KVRM_INLINE void Start(const uint8_t* x, size_t row_bytes, const uint8_t* q, bool odd, Sums& sums) {
    WrittenBeforeTiles();
    if constexpr (F == KVRM_Q6_K) {
      _tile_loadd(4, x, row_bytes);
      _tile_zero(0);
      _tile_loadd(6, q, 64);
      _tile_dpbssd(0, 4, 6);
      _tile_stored(0, sums.of[0], 64);
      _tile_zero(1);
      _tile_loadd(7, q + P::kQ6Half, 64);
      _tile_dpbssd(1, 4, 7);
      _tile_stored(1, sums.of[1], 64);
    } else if (odd) {
      _tile_zero(1);
      _tile_loadd(5, x, row_bytes);
      _tile_loadd(7, q, 64);
      _tile_dpbssd(1, 5, 7);
      _tile_stored(1, sums.of[0], 64);
    } else {
      _tile_zero(0);
      _tile_loadd(4, x, row_bytes);
      _tile_loadd(6, q, 64);
      _tile_dpbssd(0, 4, 6);
      _tile_stored(0, sums.of[0], 64);
    }
  }

  // Adds the sums of Mr rows with block `sub` of the panel, from row `first` of the tile on, with their scales, to sum.
  template <uint32_t F, int Mr>
  static KVRM_INLINE void Finish(const Sums& sums, int first, const Panel& panel, size_t sub, const uint8_t* xd,
                                 VF (&sum)[Mr]) {
    const VF d = P::LoadF(panel.d[sub]);
    const VF scale = P::Scale(panel.scale[F == KVRM_Q6_K ? 2 * sub : sub]);
    const VF second = P::Scale(panel.scale[2 * sub + 1]);
#pragma GCC unroll 16
    for (int i = 0; i < Mr; ++i) {
      const VF x = P::BroadcastF(xd + 4 * i);
      VF t = P::ToF32(P::Load(sums.of[0] + (first + i) * 16));
      if constexpr (F == KVRM_Q8_0 || F == KVRM_Q4_0) {
        sum[i] = P::Fma(t, P::MulF(d, x), sum[i]);
      } else {
        t = P::MulF(t, scale);
        if constexpr (F == KVRM_Q6_K) t = P::Fma(P::ToF32(P::Load(sums.of[1] + (first + i) * 16)), second, t);
        sum[i] = P::Fma(t, x, sum[i]);
      }
    }
  }

  // Adds the products of Mr rows with `subs` blocks of 32 to acc [Mr][16]. kPaired: Mr is `half` of x's form.
  template <uint32_t F, int Mr, bool kPaired>
  static void Tile(const uint8_t* q, const Panel& panel, size_t subs, X x, const Ahead<1>& ahead, float* acc) {
    constexpr bool kBlocks32 = F == KVRM_Q8_0 || F == KVRM_Q4_0;
    constexpr size_t kBlocks = kPaired ? 2 : 1;
    constexpr size_t kLead = 2;  // items between a product's start and its end
    constexpr size_t kTileRows = kPaired ? 2 * Mr : kRows, kRowBytes = kPaired ? 64 : 32;
    constexpr size_t kItem = kTileRows * (kRowBytes + 8), kD = kTileRows * kRowBytes, kS = kTileRows * (kRowBytes + 4);
    const size_t items = (subs + kBlocks - 1) / kBlocks;
    Sums sums[4];
    VF sum[Mr];
#pragma GCC unroll 16
    for (int i = 0; i < Mr; ++i) sum[i] = kBlocks32 ? P::LoadF(acc + i * 16) : P::SetF(0);
    for (size_t item = 0; item < items + kLead; ++item) {
      if (item < items) {
        const size_t sub = item * kBlocks;
        for (size_t b = 0; b < kBlocks; ++b) ahead.template Ask<Unpack::template kBlockBytes<F>>(sub + b);
        const size_t place = F == KVRM_Q6_K ? P::PlaceOfQ6(sub, 0) : sub * kSubBytes;
        const uint8_t* w = q + place;
        alignas(64) uint8_t last[2 * kSubBytes];
        if (kPaired && F == KVRM_Q8_0 && sub + 1 == subs) {
          // Half a pair, which x meets with zeros: behind it the matrix may end.
          std::memcpy(last, w, kSubBytes);
          std::memset(last + kSubBytes, 0, kSubBytes);
          w = last;
        }
        Start<F>(x.x + item * kItem, kRowBytes, w, item % 2 == 1, sums[item % 4]);
      }
      if (item >= kLead) {
        const size_t done = item - kLead, sub = done * kBlocks;
        const uint8_t* d = x.x + done * kItem + kD;
        Finish<F>(sums[done % 4], 0, panel, sub, d, sum);
        if (kPaired && sub + 1 < subs) Finish<F>(sums[done % 4], Mr, panel, sub + 1, d + 4 * Mr, sum);
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < Mr; ++i) {
      P::StoreF(acc + i * 16, kBlocks32 ? sum[i] : P::Fma(P::LoadF(panel.d[0]), sum[i], P::LoadF(acc + i * 16)));
    }
    if constexpr (F == KVRM_Q4_K || F == KVRM_Q5_K) {
#pragma GCC unroll 16
      for (int i = 0; i < Mr; ++i) sum[i] = P::SetF(0);
      for (size_t sub = 0; sub < kSubs; ++sub) {
        const VF min = P::LoadF(panel.min[sub]);
        const uint8_t* s = x.x + sub / kBlocks * kItem + kS + sub % kBlocks * Mr * 4;
#pragma GCC unroll 16
        for (int i = 0; i < Mr; ++i) sum[i] = P::Fma(min, P::BroadcastF(s + 4 * i), sum[i]);
      }
#pragma GCC unroll 16
      for (int i = 0; i < Mr; ++i) {
        P::StoreF(acc + i * 16, P::Fma(P::LoadF(panel.d[1]), sum[i], P::LoadF(acc + i * 16)));
      }
    }
  }

  template <uint32_t F, int G>
  static KVRM_INLINE void Multiply(const uint8_t* w, const uint8_t* d, size_t, size_t subs, X x, uint32_t m,
                                   Panel* panels, float* acc) {
    static_assert(G == 1);
    Panel& panel = panels[0];
    Ahead<1> ahead = Ahead<1>::template Of<Unpack::template kBlockBytes<F>>(w, 0, 1);
    const uint8_t* q = Unpack::template Blocks<F>(w, d, subs, panel);
    if (x.form.half == 4) return Tile<F, 4, true>(q, panel, subs, x, ahead, acc);
    if (x.form.half == 8) return Tile<F, 8, true>(q, panel, subs, x, ahead, acc);
    for (uint32_t i = 0; i < m; i += kRows, x.x += x.group, acc += kRows * 16, ahead.last = 0) {
      switch (m - i < kRows ? (m - i + kXRows - 1) / kXRows : 4) {
        case 1:
          Tile<F, 4, false>(q, panel, subs, x, ahead, acc);
          break;
        case 2:
          Tile<F, 8, false>(q, panel, subs, x, ahead, acc);
          break;
        case 3:
          Tile<F, 12, false>(q, panel, subs, x, ahead, acc);
          break;
        default:
          Tile<F, 16, false>(q, panel, subs, x, ahead, acc);
      }
    }
  }

  static void Product(const PackedProduct& p) {
    if (p.m == 0 || p.n_begin >= p.n_end) return;
    if (p.m <= kFewRows) return QuantProduct<QuantKernel<Policy>>::Product(p);
    const Form form(p.m);
    const uint32_t rows = form.half != 0 ? 2 * form.half : p.m > 12 ? 16 : 12, k = form.half != 0 ? 64 : 32;
    TileConfig config;
    for (uint32_t pair = 0; pair < 2; ++pair) {
      config.Set(pair, rows, 64);
      config.Set(4 + pair, rows, k);
      config.Set(6 + pair, k / 4, 64);
    }
    WrittenBeforeTiles();
    _tile_loadconfig(&config);
    QuantProduct<AmxKernel>::Product(p);
    _tile_release();
  }
};
