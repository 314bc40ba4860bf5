// quant_amx-inl.h - the integer products of quant.h in tiles: 16 rows of x, 16 rows of w and a block of 32 of k are one
// instruction, whose sums go through memory to registers, where their scales wait. Included after quant_avx512-inl.h.

// Weights come apart into signed bytes, except Q8_0's, which are multiplied as they lie.
struct AmxPolicy : Policy {
  static constexpr bool kSigned = true;
  static KVRM_INLINE VI SubBytes(VI a, VI b) { return _mm512_sub_epi8(a, b); }
};

struct AmxKernel {
  using P = AmxPolicy;
  using Unpack = QuantUnpack<P>;
  using VI = P::VI;
  using VF = P::VF;
  static constexpr uint32_t kPassRows = 128;
  static constexpr int kRows = kXTileRows;

  // Sixteen rows of activations, from a block of 32 on: q [16][32], then what follows, a number for each row.
  static constexpr size_t kXd = 512, kXs = 576, kX128 = 640;
  struct X {
    const uint8_t* x;
    size_t group;  // bytes of sixteen rows
    KVRM_INLINE X Block(size_t b) const { return {x + b * kXTileBlock, group}; }
    KVRM_INLINE const uint8_t* Number(size_t of, int row) const { return x + of + 4 * row; }
  };

  static X At(const PackedProduct& p, uint32_t row) {
    const size_t group = XTileBytes(p.w.cols);
    return {static_cast<const uint8_t*>(p.x) + row / kRows * group, group};
  }

  static void QuantizeRows(const float* x, size_t x_stride, uint32_t cols, uint32_t begin, uint32_t end, void* out) {
    // Rows that no one else makes are there too, for tiles have whole fours of them.
    const uint32_t last = (end + kXRows - 1) / kXRows * kXRows;
    for (uint32_t row = begin; row < last; ++row) {
      uint8_t* at = static_cast<uint8_t*>(out) + row / kRows * XTileBytes(cols);
      const size_t r = row % kRows;
      for (size_t b = 0; b < cols / 32; ++b, at += kXTileBlock) {
        alignas(64) uint8_t block[kXBlock] = {};
        if (row < end) P::PutX(x + row * x_stride + b * 32, block, nullptr);
        std::memcpy(at + r * 32, block, 32);
        std::memcpy(at + kXd + 4 * r, block + ::kvrm::cpu::KVRM_QUANT_AMX_NAMESPACE::kXd, 4);
        std::memcpy(at + kXs + 4 * r, block + ::kvrm::cpu::KVRM_QUANT_AMX_NAMESPACE::kXs, 4);
        std::memcpy(at + kX128 + 4 * r, block + ::kvrm::cpu::KVRM_QUANT_AMX_NAMESPACE::kX128, 4);
      }
    }
  }

  // Sums [rows][16] of a block of 32; of Q6_K those of either half.
  struct Sums {
    alignas(64) int32_t of[2][kRows * 16];
  };

  // Starts the products of a block. Two sets of tiles take turns, so that neither waits for the other's sums.
  template <uint32_t F>
  static KVRM_INLINE void Start(const uint8_t* x, const uint8_t* q, bool odd, Sums& sums) {
    WrittenBeforeTiles();
    if constexpr (F == KVRM_Q6_K) {
      _tile_zero(0);
      _tile_loadd(4, x, 32);
      _tile_loadd(6, q, 64);
      _tile_dpbssd(0, 4, 6);
      _tile_stored(0, sums.of[0], 64);
      _tile_zero(1);
      _tile_loadd(5, x + 16, 32);
      _tile_loadd(7, q + 256, 64);
      _tile_dpbssd(1, 5, 7);
      _tile_stored(1, sums.of[1], 64);
    } else if (odd) {
      _tile_zero(1);
      _tile_loadd(5, x, 32);
      _tile_loadd(7, q, 64);
      if constexpr (F == KVRM_Q8_0) {
        _tile_dpbsud(1, 5, 7);
      } else {
        _tile_dpbssd(1, 5, 7);
      }
      _tile_stored(1, sums.of[0], 64);
    } else {
      _tile_zero(0);
      _tile_loadd(4, x, 32);
      _tile_loadd(6, q, 64);
      if constexpr (F == KVRM_Q8_0) {
        _tile_dpbsud(0, 4, 6);
      } else {
        _tile_dpbssd(0, 4, 6);
      }
      _tile_stored(0, sums.of[0], 64);
    }
  }

  // Adds a block's sums, with their scales, to sum.
  template <uint32_t F, int Mr>
  static KVRM_INLINE void Finish(const Sums& sums, const Panel& panel, size_t sub, X x, VF (&sum)[Mr]) {
    const VF d = P::LoadF(panel.d[sub]);
    const VF scale = P::Scale(panel.scale[F == KVRM_Q6_K ? 2 * sub : sub]);
    const VF second = P::Scale(panel.scale[2 * sub + 1]);
#pragma GCC unroll 16
    for (int i = 0; i < Mr; ++i) {
      const VF xd = P::BroadcastF(x.Number(kXd, i));
      VI whole = P::Load(sums.of[0] + i * 16);
      if constexpr (F == KVRM_Q8_0) whole = _mm512_add_epi32(whole, P::Broadcast(x.Number(kX128, i)));
      VF t = P::ToF32(whole);
      if constexpr (F == KVRM_Q8_0 || F == KVRM_Q4_0) {
        sum[i] = P::Fma(t, P::MulF(d, xd), sum[i]);
      } else {
        t = P::MulF(t, scale);
        if constexpr (F == KVRM_Q6_K) t = P::Fma(P::ToF32(P::Load(sums.of[1] + i * 16)), second, t);
        sum[i] = P::Fma(t, xd, sum[i]);
      }
    }
  }

  // Adds the products of Mr rows with `subs` blocks of 32 to acc [Mr][16].
  template <uint32_t F, int Mr>
  static void Tile(const uint8_t* q, const Panel& panel, size_t subs, X x, const uint8_t* ahead, float* acc) {
    constexpr bool kBlocks32 = F == KVRM_Q8_0 || F == KVRM_Q4_0;
    constexpr size_t kLead = 2;  // blocks between a product's start and its end
    Sums sums[4];
    VF sum[Mr];
#pragma GCC unroll 16
    for (int i = 0; i < Mr; ++i) sum[i] = kBlocks32 ? P::LoadF(acc + i * 16) : P::SetF(0);
    for (size_t sub = 0; sub < subs + kLead; ++sub) {
      if (sub < subs) {
        if (ahead) Ask<Unpack::template kBlockBytes<F>>(ahead + sub * Unpack::template kBlockBytes<F>);
        Start<F>(x.Block(sub).x, q + sub * kSubBytes, sub % 2 == 1, sums[sub % 4]);
      }
      if (sub >= kLead) {
        Finish<F>(sums[(sub - kLead) % 4], panel, sub - kLead, x.Block(sub - kLead), sum);
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
#pragma GCC unroll 16
        for (int i = 0; i < Mr; ++i) sum[i] = P::Fma(min, P::BroadcastF(x.Block(sub).Number(kXs, i)), sum[i]);
      }
#pragma GCC unroll 16
      for (int i = 0; i < Mr; ++i) {
        P::StoreF(acc + i * 16, P::Fma(P::LoadF(panel.d[1]), sum[i], P::LoadF(acc + i * 16)));
      }
    }
  }

  template <uint32_t F>
  static KVRM_INLINE void Multiply(const uint8_t* w, const uint8_t* d, size_t subs, X x, uint32_t m, Panel& panel,
                                   float* acc) {
    const uint8_t* ahead = w + kFar;
    const uint8_t* q = Unpack::template Blocks<F>(w, d, subs, panel);
    for (uint32_t i = 0; i < m; i += kRows, x.x += x.group, acc += kRows * 16, ahead = nullptr) {
      switch (m - i < kRows ? (m - i + kXRows - 1) / kXRows : 4) {
        case 1:
          Tile<F, 4>(q, panel, subs, x, ahead, acc);
          break;
        case 2:
          Tile<F, 8>(q, panel, subs, x, ahead, acc);
          break;
        case 3:
          Tile<F, 12>(q, panel, subs, x, ahead, acc);
          break;
        default:
          Tile<F, 16>(q, panel, subs, x, ahead, acc);
      }
    }
  }

  static void Product(const PackedProduct& p) {
    if (p.m == 0 || p.n_begin >= p.n_end) return;
    const uint32_t rows = p.m < kRows ? (p.m + kXRows - 1) / kXRows * kXRows : kRows;
    const uint32_t k = p.w.dtype == KVRM_Q6_K ? 16 : 32;
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
