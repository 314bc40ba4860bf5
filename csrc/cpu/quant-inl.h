// quant-inl.h - the products of quant.h in registers, as templates over a policy P, the vector instructions of one
// target. Included once by each quant_<target>.cc, between quant_unpack-inl.h and quant_product-inl.h, inside a
// namespace of its own and after its policy's instructions are switched on: no header of the standard library may come
// after that.
//
// A policy has
//   VI, VF           a register of kLanes 32-bit integers (or 4 kLanes bytes), or of kLanes floats
//   kLanes           4, 8 or 16; a group of 16 rows is kHalves = 16 / kLanes registers
//   kTogether<Mr>    of these, how many a tile of Mr rows works on at once, so that its sums stay in registers
//   kTile            rows of x that a tile of products has at most, a multiple of kXRows
//   kPairTile        the same of a tile with two groups of rows of w, for which kHalves is 1; 0: there are none
//   kWide            activations are kept as 16-bit integers as well, for Q8_0
//   kSigned          unpacked weights are signed bytes; else what they start from takes the difference
//   arithmetic       Load, Store, LoadF, StoreF, Set32, And, Or, Srl<n>, Sll<n>, ToF32, SetF, MulF, Fma,
//                    LowHalf, HighHalf (the f16 in the low or high half of each lane), LoadHalves,
//                    HighNibbles (the high four bits of each byte)
//   PutScale         stores integer scales in the form that SubBlock wants
//   PutX             a block of 32 activations
//   SubBlock         the integer sums of a block of 32, as floats, [Mr][kTogether<Mr>]; of the scales, each 16 further,
//                    and of the registers as Apart says
// and quant_avx2.cc shows their exact form.

// The integers of a block of x [64 bytes]: q[32], xd, xs, and what sums start from: -128 sum(q), and -8 sum(q) and
// -32 sum(q) of either half, in the form the target adds them in.
constexpr int kXd = 32, kXs = 36, kX128 = 40, kX8 = 44, kX32 = 48;
constexpr size_t kXBlock = 64;

// Bytes from the weights that are multiplied to those that are asked for meanwhile, for the second cache and then for
// the first. Processors ask for the next lines by themselves, but not across a page of 4 KB, which is one block of 256:
// memory idled while a tile was worked on. The first cache has room for too few requests to wait for memory.
constexpr size_t kFar = 16384, kNear = 4096;
// So many rows of activations give time between two requests, and blocks of so many bytes still wait for memory then.
constexpr uint32_t kTurnRows = 4;
constexpr size_t kTurnBytes = 400;

// What is asked for while eight blocks of 32 of G groups of 16 rows are multiplied, one after the other.
template <int G>
struct Ahead {
  const uint8_t* near[G];  // for the first cache
  const uint8_t* far[G];   // for the second
  bool in_turns;
  int first, last;  // groups for which something is asked

  // Behind the groups at w, group_bytes from each other, with m rows of activations. With several rows there is time
  // between two requests, and processors that fetch ahead in a page once they see it asked for would do so in one page
  // at a time: the eight times eight blocks that follow are asked for in 64 steps, an eighth of a block of each eight
  // in one.
  template <size_t kBlock>
  static KVRM_INLINE Ahead Of(const uint8_t* w, size_t group_bytes, uint32_t m) {
    Ahead ahead;
    ahead.in_turns = m >= kTurnRows && kBlock >= kTurnBytes;
    ahead.first = 0, ahead.last = G;
    for (int g = 0; g < G; ++g) {
      ahead.near[g] = w + g * group_bytes + kNear;
      // The other groups that are multiplied now lie between.
      const uint8_t* from = w + (g + G - 1) * group_bytes;
      ahead.far[g] = from + kFar;
      if (!ahead.in_turns) continue;
      constexpr size_t kEight = kSubs * kBlock, kWindow = kSubs * kEight;
      const uintptr_t at = reinterpret_cast<uintptr_t>(from), place = at % kWindow / kEight;
      ahead.far[g] = reinterpret_cast<const uint8_t*>(at - at % kWindow + kWindow + place * kBlock);
    }
    return ahead;
  }
  template <size_t kBlock>
  KVRM_INLINE void Ask(size_t sub) const {
    for (int g = first; g < last; ++g) {
      for (size_t line = 0; line < kBlock; line += 64) __builtin_prefetch(near[g] + sub * kBlock + line);
      if (in_turns) {
        for (size_t eight = 0; eight < kSubs; ++eight) {
          __builtin_prefetch(far[g] + eight * kSubs * kBlock + sub * kBlock / kSubs, 0, 2);
        }
      } else {
        for (size_t line = 0; line < kBlock; line += 64) __builtin_prefetch(far[g] + sub * kBlock + line, 0, 2);
      }
    }
  }
};

// From one register of a tile's outputs to the next: parts of a group, or groups.
struct Apart {
  size_t q;      // bytes of integers
  size_t panel;  // elements of what else a panel has
  size_t acc;    // floats
};

// How a tile finds dword j of the integers of a block: as bytes, unsigned or signed; in the low or the high halves of
// dword j; or in the low halves of dword j and, from the fifth on, the high ones of dword j - 4.
enum Halves { kBytes, kSignedBytes, kLow, kHigh, kLowThenHigh };

template <class P>
struct QuantKernel {
  using VI = typename P::VI;
  using VF = typename P::VF;
  static constexpr int H = P::kHalves;
  using Unpack = QuantUnpack<P>;
  template <uint32_t F>
  static constexpr size_t kBlockBytes = Unpack::template kBlockBytes<F>;
  static constexpr bool kPairs = P::kPairTile != 0;
  // Rows of x from which on two groups are better than one: fewer wait for memory, which likes one stream best.
  template <uint32_t F>
  static constexpr uint32_t kPairRows = kBlockBytes<F> >= kTurnBytes ? 7 : 3;
  static constexpr uint32_t kPassRows = 64;  // rows of x that stay in the second cache while the weights go by

  template <Halves kHalf>
  static KVRM_INLINE VI Integers(const uint8_t* q, int j, int h) {
    if constexpr (kHalf == kBytes) return Unpack::W(q, j, h);
    if constexpr (kHalf == kSignedBytes) return P::Xor(Unpack::W(q, j, h), P::Set32(static_cast<int32_t>(0x80808080u)));
    if (kHalf == kLow || (kHalf == kLowThenHigh && j < 4)) return P::And(Unpack::W(q, j, h), P::Set32(0x0f0f0f0f));
    return P::HighNibbles(Unpack::W(q, kHalf == kHigh ? j : j - 4, h));
  }

  // ---- tiles ------------------------------------------------------------------------------------------

  // Where rows of activations lie: row i of a tile at block b is at x + (i / 4) * group + b * 256 + (i % 4) * 64.
  struct X {
    const uint8_t* x;
    size_t group;  // bytes of four rows
    size_t wide;   // from an 8-bit block to its 16-bit one
    KVRM_INLINE const uint8_t* Row(int i) const { return x + (i / 4) * group + (i % 4) * kXBlock; }
    KVRM_INLINE X Block(size_t b) const { return {x + b * 4 * kXBlock, group, wide}; }
  };

  // Adds the products of Mr rows with `subs` blocks of 32 to acc [Mr][16]. q: a byte for each integer, as in the panel
  // and in packed Q8_0; or with kDirect the packed halves of bytes of Q4_0 or Q4_K, which come apart on the way.
  template <uint32_t F, int Mr, bool kDirect = false>
  static KVRM_INLINE void Tile(const uint8_t* q, const Panel& panel, size_t subs, X at, Ahead<1> ahead, float* acc) {
    // What comes ahead is asked for once.
    for (int h = 0; h < H; h += P::template kTogether<Mr>, ahead.last = 0) {
      constexpr Apart kParts = {P::kLanes * 4, P::kLanes, P::kLanes};
      Part<F, Mr, kDirect, P::template kTogether<Mr>>(q, panel, subs, at, h * P::kLanes, kParts, ahead, acc);
    }
  }

  // The same for T registers of outputs, the first one's from output `first` of a group on.
  template <uint32_t F, int Mr, bool kDirect, int T, int G>
  static KVRM_INLINE void Part(const uint8_t* q, const Panel& panel, size_t subs, X at, int first, const Apart& apart,
                               const Ahead<G>& ahead, float* acc) {
    constexpr bool kBlocks32 = F == KVRM_Q8_0 || F == KVRM_Q4_0;
    q += first * 4;
    acc += first;
    VF sum[Mr][T];
    for (int i = 0; i < Mr; ++i) {
      for (int h = 0; h < T; ++h) sum[i][h] = kBlocks32 ? P::LoadF(acc + i * 16 + h * apart.acc) : P::SetF(0);
    }
    for (size_t sub = 0; sub < subs; ++sub) {
      const X x = at.Block(sub);
      ahead.template Ask<kBlockBytes<F>>(sub);
      VF t[Mr][T];
      const int32_t* scale = panel.scale[F == KVRM_Q6_K ? 2 * sub : sub] + first;
      if constexpr (!kDirect) {
        P::template SubBlock<F, kBytes, Mr>(q + sub * kSubBytes, x, scale, apart, t);
      } else if constexpr (F == KVRM_Q4_0) {
        P::template SubBlock<F, kLowThenHigh, Mr>(q + sub * 256, x, scale, apart, t);
      } else if (sub % 2 == 0) {
        P::template SubBlock<F, kLow, Mr>(q + sub / 2 * 512, x, scale, apart, t);
      } else {
        P::template SubBlock<F, kHigh, Mr>(q + sub / 2 * 512, x, scale, apart, t);
      }
      for (int i = 0; i < Mr; ++i) {
        const VF xd = P::BroadcastF(x.Row(i) + kXd);
        for (int h = 0; h < T; ++h) {
          if constexpr (kBlocks32) {
            sum[i][h] = P::Fma(t[i][h], P::MulF(P::LoadF(panel.d[sub] + first + h * apart.panel), xd), sum[i][h]);
          } else {
            sum[i][h] = P::Fma(t[i][h], xd, sum[i][h]);
          }
        }
      }
    }
    if constexpr (kBlocks32) {
      for (int i = 0; i < Mr; ++i) {
        for (int h = 0; h < T; ++h) P::StoreF(acc + i * 16 + h * apart.acc, sum[i][h]);
      }
      return;
    }
    for (int i = 0; i < Mr; ++i) {
      for (int h = 0; h < T; ++h) {
        float* to = acc + i * 16 + h * apart.acc;
        P::StoreF(to, P::Fma(P::LoadF(panel.d[0] + first + h * apart.panel), sum[i][h], P::LoadF(to)));
      }
    }
    if constexpr (F == KVRM_Q4_K || F == KVRM_Q5_K) {
      VF min[Mr][T];
      for (int i = 0; i < Mr; ++i) {
        for (int h = 0; h < T; ++h) min[i][h] = P::SetF(0);
      }
      for (size_t sub = 0; sub < kSubs; ++sub) {
        const X x = at.Block(sub);
        for (int i = 0; i < Mr; ++i) {
          const VF xs = P::BroadcastF(x.Row(i) + kXs);
          for (int h = 0; h < T; ++h)
            min[i][h] = P::Fma(P::LoadF(panel.min[sub] + first + h * apart.panel), xs, min[i][h]);
        }
      }
      for (int i = 0; i < Mr; ++i) {
        for (int h = 0; h < T; ++h) {
          float* to = acc + i * 16 + h * apart.acc;
          P::StoreF(to, P::Fma(P::LoadF(panel.d[1] + first + h * apart.panel), min[i][h], P::LoadF(to)));
        }
      }
    }
  }

  // ---- a product --------------------------------------------------------------------------------------

  // Groups of 16 rows of w at once, and the rows of x of a tile then.
  template <int G>
  static constexpr uint32_t kMostRows = G == 1 ? P::kTile : P::kPairTile;

  // Tile() with two groups, whose integers are q_apart bytes from each other. A function of its own, for in a large one
  // g++ keeps on the stack what the inner loop wants in registers; of the direct ones it does not.
  template <uint32_t F, int Mr>
  static KVRM_NOINLINE void PairTile(const uint8_t* q, size_t q_apart, const Panel* panel, size_t subs, X x,
                                     const Ahead<2>& ahead, float* acc) {
    const Apart groups = {q_apart, sizeof(Panel) / 4, kPassRows * 16};
    Part<F, Mr, false, 2>(q, panel[0], subs, x, 0, groups, ahead, acc);
  }

  // The tile of so many rows, Most of them at most.
  template <uint32_t F, int Most, bool kDirect, int G>
  static KVRM_INLINE void TileOf(uint32_t rows, const uint8_t* q, const Panel* panel, size_t subs, X x, size_t q_apart,
                                 const Ahead<G>& ahead, float* acc) {
    if (rows == Most) {
      if constexpr (G == 1) {
        return Tile<F, Most, kDirect>(q, panel[0], subs, x, ahead, acc);
      } else {
        if constexpr (!kDirect) return PairTile<F, Most>(q, q_apart, panel, subs, x, ahead, acc);
        const Apart groups = {q_apart, sizeof(Panel) / 4, kPassRows * 16};
        return Part<F, Most, kDirect, 2>(q, panel[0], subs, x, 0, groups, ahead, acc);
      }
    }
    if constexpr (Most > 1) TileOf<F, Most - 1, kDirect, G>(rows, q, panel, subs, x, q_apart, ahead, acc);
  }

  template <uint32_t F, bool kDirect, int G>
  static KVRM_INLINE void Tiles(const uint8_t* q, const Panel* panel, size_t subs, X x, uint32_t m, size_t q_apart,
                                Ahead<G> ahead, float* acc) {
    constexpr uint32_t kMost = kMostRows<G>;
    const bool one = m <= kMost;
    int tile = 0;
    for (uint32_t i = 0, rows; i < m; i += rows, x.x += rows / 4 * x.group, ++tile) {
      // Of several tiles, one asks for each group.
      ahead.first = tile < G ? tile : G;
      ahead.last = one || tile >= G ? G : tile + 1;
      const uint32_t left = m - i;
      rows = left < kMost ? left : kMost;
      // No small tile at the end: of 13 to 16 rows eight and the rest, of nine to eleven four.
      if (kMost == 12 && left > 12 && left <= 16) rows = 8;
      if (kMost == 8 && left > 8 && left < 12) rows = 4;
      TileOf<F, kMost, kDirect, G>(rows, q, panel, subs, x, q_apart, ahead, acc + i * 16);
    }
  }

  // Adds the products of blocks [0, subs) of 32 of G groups of 16 rows of w, group_bytes from each other, and of rows
  // [0, m) of x to acc [G][kPassRows][16].
  template <uint32_t F, int G>
  static KVRM_INLINE void Multiply(const uint8_t* w, const uint8_t* d, size_t group_bytes, size_t subs, X x, uint32_t m,
                                   Panel* panel, float* acc) {
    const Ahead<G> ahead = Ahead<G>::template Of<kBlockBytes<F>>(w, group_bytes, m);
    if constexpr (F == KVRM_Q4_0 || F == KVRM_Q4_K) {
      if (m <= kMostRows<G>) {
        for (int g = 0; g < G; ++g) {
          if constexpr (F == KVRM_Q4_0) {
            Unpack::UnpackD(d + g * group_bytes, subs, panel[g]);
          } else {
            Unpack::UnpackKScales(w + g * group_bytes, panel[g]);
          }
        }
        return Tiles<F, true, G>(F == KVRM_Q4_0 ? w : w + 4 * 64, panel, subs, x, m, group_bytes, ahead, acc);
      }
    }
    const uint8_t* q = Unpack::template Blocks<F>(w, d, subs, panel[0]);
    if constexpr (G == 2) Unpack::template Blocks<F>(w + group_bytes, d + group_bytes, subs, panel[1]);
    Tiles<F, false, G>(q, panel, subs, x, m, F == KVRM_Q8_0 ? group_bytes : sizeof(Panel), ahead, acc);
  }

  // Row `row` of the activations of a product, a multiple of four.
  static X At(const PackedProduct& p, uint32_t row) {
    const size_t group = XGroupBytes(p.w.cols, P::kWide);
    return {static_cast<const uint8_t*>(p.x) + row / 4 * group, group, p.w.cols / 32 * 4 * kXBlock};
  }

  static void QuantizeRows(const float* x, size_t x_stride, uint32_t, uint32_t cols, uint32_t begin, uint32_t end,
                           void* out) {
    const size_t blocks = cols / 32, wide = blocks * 4 * kXBlock;
    for (uint32_t row = begin; row < end; ++row) {
      uint8_t* at = static_cast<uint8_t*>(out) + row / 4 * XGroupBytes(cols, P::kWide) + row % 4 * kXBlock;
      for (size_t b = 0; b < blocks; ++b) {
        P::PutX(x + row * x_stride + b * 32, at + b * 4 * kXBlock, at + b * 4 * kXBlock + wide);
      }
    }
  }
};
