// quant-inl.h - the products of quant.h as templates over a policy P, the vector instructions of one target. Included
// once by each quant_<target>.cc, inside a namespace of its own and after its policy's instructions are switched on:
// no header of the standard library may come after that.
//
// A policy has
//   VI, VF           a register of kLanes 32-bit integers (or 4 kLanes bytes), or of kLanes floats
//   kLanes           4, 8 or 16; a group of 16 rows is kHalves = 16 / kLanes registers
//   kTile            rows of x that a tile of products has at most, a multiple of kXRows
//   kWide            activations are kept as 16-bit integers as well, for Q8_0
//   arithmetic       Load, Store, LoadF, StoreF, Set32, And, Or, Srl<n>, Sll<n>, ToF32, SetF, MulF, Fma,
//                    LowHalf, HighHalf (the f16 in the low or high half of each lane), LoadHalves
//   PutScale         stores integer scales in the form that SubBlock wants
//   PutX             a block of 32 activations
//   SubBlock         the integer sums of a block of 32, as floats
// and quant_avx2.cc shows their exact form.

// The integers of a block of x [64 bytes]: q[32], xd, xs, and what sums start from: -128 sum(q), and -8 sum(q) and
// -32 sum(q) of either half, in the form the target adds them in.
constexpr int kXd = 32, kXs = 36, kX128 = 40, kX8 = 44, kX32 = 48;
constexpr size_t kXBlock = 64;

constexpr size_t kSubs = 8;            // blocks of 32 that are worked on at once
constexpr size_t kSubBytes = 32 * 16;  // integers of a block of 32 for 16 rows, a byte each
// Bytes from the weights that are multiplied to those that are asked for meanwhile, for the second cache and then for
// the first. Processors ask for the next lines by themselves, but not across a page of 4 KB, which is one block of 256:
// memory idled while a tile was worked on. The first cache has room for too few requests to wait for memory.
constexpr size_t kFar = 16384, kNear = 4096;
constexpr uint32_t kPassRows = 64;  // rows of x that stay in the second cache while the weights go by

// The integers of eight blocks of 32 for 16 rows, and their scales, unpacked.
struct alignas(64) Panel {
  uint8_t q[kSubs * kSubBytes];  // [block][dword][16 rows][4]
  int32_t scale[2 * kSubs][16];  // Q6_K: of each 16
  float min[kSubs][16];
  float d[kSubs][16];  // K formats: d[0], and d[1] = -dmin
};

// How a tile finds dword j of the integers of a block: as bytes; in the low or the high halves of dword j; or in the
// low halves of dword j and, from the fifth on, the high ones of dword j - 4.
enum Halves { kBytes, kLow, kHigh, kLowThenHigh };

template <class P>
struct QuantKernel {
  using VI = typename P::VI;
  using VF = typename P::VF;
  static constexpr int H = P::kHalves;

  // ---- weights to the panel ---------------------------------------------------------------------------

  static KVRM_INLINE VI W(const uint8_t* w, size_t dword, int h) { return P::Load(w + dword * 64 + h * P::kLanes * 4); }
  template <Halves kHalf>
  static KVRM_INLINE VI Integers(const uint8_t* q, int j, int h) {
    if constexpr (kHalf == kBytes) return W(q, j, h);
    const VI mask = P::Set32(0x0f0f0f0f);
    if (kHalf == kLow || (kHalf == kLowThenHigh && j < 4)) return P::And(W(q, j, h), mask);
    return P::And(P::template Srl<4>(W(q, kHalf == kHigh ? j : j - 4, h)), mask);
  }
  static KVRM_INLINE void PutQ(Panel& panel, size_t sub, size_t dword, int h, VI q) {
    P::Store(panel.q + sub * kSubBytes + dword * 64 + h * P::kLanes * 4, q);
  }

  // The scales and minima of Q4_K and Q5_K: dword 0 has d and dmin, dwords 1 to 3 the twelve bytes.
  static KVRM_INLINE void UnpackKScales(const uint8_t* w, Panel& panel) {
    const VI six = P::Set32(0x3f), four = P::Set32(0xf), top = P::Set32(0x30);
    for (int h = 0; h < H; ++h) {
      const VI ds = W(w, 0, h), a = W(w, 1, h), b = W(w, 2, h), c = W(w, 3, h);
      P::StoreF(panel.d[0] + h * P::kLanes, P::LowHalf(ds));
      P::StoreF(panel.d[1] + h * P::kLanes, P::MulF(P::HighHalf(ds), P::SetF(-1)));
      const auto put = [&](size_t t, VI s, VI m) KVRM_LAMBDA {
        P::PutScale(panel.scale[t] + h * P::kLanes, s);
        P::StoreF(panel.min[t] + h * P::kLanes, P::ToF32(m));
      };
      put(0, P::And(a, six), P::And(b, six));
      put(1, P::And(P::template Srl<8>(a), six), P::And(P::template Srl<8>(b), six));
      put(2, P::And(P::template Srl<16>(a), six), P::And(P::template Srl<16>(b), six));
      put(3, P::And(P::template Srl<24>(a), six), P::And(P::template Srl<24>(b), six));
      put(4, P::Or(P::And(c, four), P::And(P::template Srl<2>(a), top)),
          P::Or(P::And(P::template Srl<4>(c), four), P::And(P::template Srl<2>(b), top)));
      put(5, P::Or(P::And(P::template Srl<8>(c), four), P::And(P::template Srl<10>(a), top)),
          P::Or(P::And(P::template Srl<12>(c), four), P::And(P::template Srl<10>(b), top)));
      put(6, P::Or(P::And(P::template Srl<16>(c), four), P::And(P::template Srl<18>(a), top)),
          P::Or(P::And(P::template Srl<20>(c), four), P::And(P::template Srl<18>(b), top)));
      put(7, P::Or(P::And(P::template Srl<24>(c), four), P::And(P::template Srl<26>(a), top)),
          P::Or(P::template Srl<28>(c), P::And(P::template Srl<26>(b), top)));
    }
  }

  // Halves of bytes: dwords [0, n) of w become dword of block `low` and of block `high`.
  static KVRM_INLINE void UnpackQ4K(const uint8_t* w, Panel& panel) {
    UnpackKScales(w, panel);
    const VI mask = P::Set32(0x0f0f0f0f);
    for (size_t c = 0; c < 4; ++c) {
      for (size_t j = 0; j < 8; ++j) {
        for (int h = 0; h < H; ++h) {
          const VI v = W(w, 4 + c * 8 + j, h);
          PutQ(panel, 2 * c, j, h, P::And(v, mask));
          PutQ(panel, 2 * c + 1, j, h, P::And(P::template Srl<4>(v), mask));
        }
      }
    }
  }

  static KVRM_INLINE void UnpackQ5K(const uint8_t* w, Panel& panel) {
    UnpackKScales(w, panel);
    const VI mask = P::Set32(0x0f0f0f0f), bit = P::Set32(0x10101010);
    for (size_t j = 0; j < 8; ++j) {
      for (int h = 0; h < H; ++h) {
        VI high = W(w, 4 + j, h);
        for (size_t c = 0; c < 4; ++c) {
          const VI v = W(w, 12 + c * 8 + j, h);
          PutQ(panel, 2 * c, j, h, P::Or(P::And(v, mask), P::And(P::template Sll<4>(high), bit)));
          PutQ(panel, 2 * c + 1, j, h,
               P::Or(P::And(P::template Srl<4>(v), mask), P::And(P::template Sll<3>(high), bit)));
          high = P::template Srl<2>(high);
        }
      }
    }
  }

  static KVRM_INLINE void UnpackQ6K(const uint8_t* w, const uint8_t* d, Panel& panel) {
    const VI mask = P::Set32(0x0f0f0f0f), bits = P::Set32(0x30303030);
    for (int h = 0; h < H; ++h) {
      P::StoreF(panel.d[0] + h * P::kLanes, P::LoadHalves(d + h * P::kLanes * 2));
      for (size_t t = 0; t < 4; ++t) {
        const VI s = W(w, 48 + t, h);
        P::PutScale(panel.scale[4 * t] + h * P::kLanes, P::template Sra<24>(P::template Sll<24>(s)));
        P::PutScale(panel.scale[4 * t + 1] + h * P::kLanes, P::template Sra<24>(P::template Sll<16>(s)));
        P::PutScale(panel.scale[4 * t + 2] + h * P::kLanes, P::template Sra<24>(P::template Sll<8>(s)));
        P::PutScale(panel.scale[4 * t + 3] + h * P::kLanes, P::template Sra<24>(s));
      }
    }
    for (size_t half = 0; half < 2; ++half) {
      for (size_t j = 0; j < 8; ++j) {
        for (int h = 0; h < H; ++h) {
          const VI high = W(w, 32 + half * 8 + j, h), a = W(w, half * 16 + j, h), b = W(w, half * 16 + 8 + j, h);
          PutQ(panel, 4 * half, j, h, P::Or(P::And(a, mask), P::And(P::template Sll<4>(high), bits)));
          PutQ(panel, 4 * half + 1, j, h, P::Or(P::And(b, mask), P::And(P::template Sll<2>(high), bits)));
          PutQ(panel, 4 * half + 2, j, h, P::Or(P::And(P::template Srl<4>(a), mask), P::And(high, bits)));
          PutQ(panel, 4 * half + 3, j, h,
               P::Or(P::And(P::template Srl<4>(b), mask), P::And(P::template Srl<2>(high), bits)));
        }
      }
    }
  }

  static KVRM_INLINE void UnpackQ4(const uint8_t* w, const uint8_t* d, size_t blocks, Panel& panel) {
    const VI mask = P::Set32(0x0f0f0f0f);
    UnpackD(d, blocks, panel);
    for (size_t b = 0; b < blocks; ++b) {
      for (size_t j = 0; j < 4; ++j) {
        for (int h = 0; h < H; ++h) {
          const VI v = W(w, b * 4 + j, h);
          PutQ(panel, b, j, h, P::And(v, mask));
          PutQ(panel, b, j + 4, h, P::And(P::template Srl<4>(v), mask));
        }
      }
    }
  }

  static KVRM_INLINE void UnpackD(const uint8_t* d, size_t blocks, Panel& panel) {
    for (size_t b = 0; b < blocks; ++b) {
      for (int h = 0; h < H; ++h) P::StoreF(panel.d[b] + h * P::kLanes, P::LoadHalves(d + b * 32 + h * P::kLanes * 2));
    }
  }

  // Of 32 numbers of a group's 16 rows, without a separate d.
  template <uint32_t F>
  static constexpr size_t kBlockBytes = F == KVRM_Q8_0   ? 512
                                        : F == KVRM_Q4_0 ? 256
                                        : F == KVRM_Q4_K ? 2304 / 8
                                        : F == KVRM_Q5_K ? 2816 / 8
                                                         : 3328 / 8;

  // Of the separate d, for each block of 32.
  template <uint32_t F>
  static constexpr size_t kDBytes = F == KVRM_Q8_0 || F == KVRM_Q4_0 ? 32
                                    : F == KVRM_Q6_K                 ? 4
                                                                     : 0;

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
  // ahead: what to have fetched meanwhile, kBlockBytes<F> for each block of 32; null: nothing.
  template <uint32_t F, int Mr, bool kDirect = false>
  static KVRM_INLINE void Tile(const uint8_t* q, const Panel& panel, size_t subs, X at, const uint8_t* ahead,
                               float* acc) {
    constexpr bool kBlocks32 = F == KVRM_Q8_0 || F == KVRM_Q4_0;
    VF sum[Mr][H];
    for (int i = 0; i < Mr; ++i) {
      for (int h = 0; h < H; ++h) sum[i][h] = kBlocks32 ? P::LoadF(acc + i * 16 + h * P::kLanes) : P::SetF(0);
    }
    for (size_t sub = 0; sub < subs; ++sub) {
      const X x = at.Block(sub);
      if (ahead) {
        for (size_t line = 0; line < kBlockBytes<F>; line += 64) {
          __builtin_prefetch(ahead + sub * kBlockBytes<F> + line, 0, 2);
          __builtin_prefetch(ahead + sub * kBlockBytes<F> + line - (kFar - kNear));
        }
      }
      VF t[Mr][H];
      const int32_t(*scale)[16] = &panel.scale[F == KVRM_Q6_K ? 2 * sub : sub];
      if constexpr (!kDirect) {
        P::template SubBlock<F, kBytes, Mr>(q + sub * kSubBytes, x, scale, t);
      } else if constexpr (F == KVRM_Q4_0) {
        P::template SubBlock<F, kLowThenHigh, Mr>(q + sub * 256, x, scale, t);
      } else if (sub % 2 == 0) {
        P::template SubBlock<F, kLow, Mr>(q + sub / 2 * 512, x, scale, t);
      } else {
        P::template SubBlock<F, kHigh, Mr>(q + sub / 2 * 512, x, scale, t);
      }
      for (int i = 0; i < Mr; ++i) {
        const VF xd = P::BroadcastF(x.Row(i) + kXd);
        for (int h = 0; h < H; ++h) {
          if constexpr (kBlocks32) {
            sum[i][h] = P::Fma(t[i][h], P::MulF(P::LoadF(panel.d[sub] + h * P::kLanes), xd), sum[i][h]);
          } else {
            sum[i][h] = P::Fma(t[i][h], xd, sum[i][h]);
          }
        }
      }
    }
    if constexpr (kBlocks32) {
      for (int i = 0; i < Mr; ++i) {
        for (int h = 0; h < H; ++h) P::StoreF(acc + i * 16 + h * P::kLanes, sum[i][h]);
      }
      return;
    }
    for (int i = 0; i < Mr; ++i) {
      for (int h = 0; h < H; ++h) {
        float* to = acc + i * 16 + h * P::kLanes;
        P::StoreF(to, P::Fma(P::LoadF(panel.d[0] + h * P::kLanes), sum[i][h], P::LoadF(to)));
      }
    }
    if constexpr (F == KVRM_Q4_K || F == KVRM_Q5_K) {
      VF min[Mr][H];
      for (int i = 0; i < Mr; ++i) {
        for (int h = 0; h < H; ++h) min[i][h] = P::SetF(0);
      }
      for (size_t sub = 0; sub < kSubs; ++sub) {
        const X x = at.Block(sub);
        for (int i = 0; i < Mr; ++i) {
          const VF xs = P::BroadcastF(x.Row(i) + kXs);
          for (int h = 0; h < H; ++h) min[i][h] = P::Fma(P::LoadF(panel.min[sub] + h * P::kLanes), xs, min[i][h]);
        }
      }
      for (int i = 0; i < Mr; ++i) {
        for (int h = 0; h < H; ++h) {
          float* to = acc + i * 16 + h * P::kLanes;
          P::StoreF(to, P::Fma(P::LoadF(panel.d[1] + h * P::kLanes), min[i][h], P::LoadF(to)));
        }
      }
    }
  }

  // ---- a product --------------------------------------------------------------------------------------

  // The tile of so many rows, Most of them at most.
  template <uint32_t F, int Most, bool kDirect>
  static KVRM_INLINE void TileOf(uint32_t rows, const uint8_t* q, const Panel& panel, size_t subs, X x,
                                 const uint8_t* ahead, float* acc) {
    if (rows == Most) return Tile<F, Most, kDirect>(q, panel, subs, x, ahead, acc);
    if constexpr (Most > 1) TileOf<F, Most - 1, kDirect>(rows, q, panel, subs, x, ahead, acc);
  }

  template <uint32_t F, bool kDirect>
  static KVRM_INLINE void Tiles(const uint8_t* q, const Panel& panel, size_t subs, X x, uint32_t m,
                                const uint8_t* ahead, float* acc) {
    for (uint32_t i = 0, rows; i < m; i += rows, x.x += rows / 4 * x.group, ahead = nullptr) {
      rows = m - i < P::kTile ? m - i : P::kTile;
      // Of 13 to 16 rows neither tile is a small one: eight and the rest.
      if (P::kTile > 8 && m - i > P::kTile && m - i <= P::kTile + 4) rows = 8;
      TileOf<F, P::kTile, kDirect>(rows, q, panel, subs, x, ahead, acc + i * 16);
    }
  }

  // All of k for one group of 16 rows of w and rows [0, m) of x, into acc [m][16].
  template <uint32_t F>
  static KVRM_INLINE void Group(const uint8_t* w, size_t blocks, X at, uint32_t m, Panel& panel, float* acc) {
    const uint8_t* d = w + blocks * kBlockBytes<F>;
    for (size_t b = 0; b < blocks; b += kSubs) {
      const size_t subs = blocks - b < kSubs ? blocks - b : kSubs;
      const uint8_t* from = w + b * kBlockBytes<F>;
      const uint8_t* ahead = from + kFar;
      const uint8_t* q = panel.q;
      if constexpr (kDBytes<F> != 0) {
        // The next group's, for they lie where nothing goes by before they are wanted.
        const uint8_t* next = d + (blocks * (kBlockBytes<F> + kDBytes<F>)) + b * kDBytes<F>;
        for (size_t line = 0; line < kSubs * kDBytes<F>; line += 64) __builtin_prefetch(next + line, 0, 2);
      }
      if constexpr (F == KVRM_Q4_0 || F == KVRM_Q4_K) {
        if (m <= P::kTile) {
          if constexpr (F == KVRM_Q4_0) {
            UnpackD(d + b * 32, subs, panel);
          } else {
            UnpackKScales(from, panel);
          }
          const uint8_t* packed = F == KVRM_Q4_0 ? from : from + 4 * 64;
          Tiles<F, true>(packed, panel, subs, at.Block(b), m, ahead, acc);
          continue;
        }
      }
      if constexpr (F == KVRM_Q8_0) {
        q = from;
        UnpackD(d + b * 32, subs, panel);
      } else if constexpr (F == KVRM_Q4_0) {
        UnpackQ4(from, d + b * 32, subs, panel);
      } else if constexpr (F == KVRM_Q4_K) {
        UnpackQ4K(from, panel);
      } else if constexpr (F == KVRM_Q5_K) {
        UnpackQ5K(from, panel);
      } else {
        UnpackQ6K(from, d + b / kSubs * 32, panel);
      }
      Tiles<F, false>(q, panel, subs, at.Block(b), m, ahead, acc);
    }
  }

  template <uint32_t F>
  static void Rows(const PackedProduct& p) {
    alignas(64) Panel panel;
    alignas(64) float acc[kPassRows * 16];
    const size_t blocks = p.w.cols / 32, wide = blocks * 4 * kXBlock;
    const size_t group_bytes = PackedGroupBytes(p.w.dtype, p.w.cols), x_group = XGroupBytes(p.w.cols, P::kWide);
    for (uint32_t row = 0; row < p.m; row += kPassRows) {
      const uint32_t m = p.m - row < kPassRows ? p.m - row : kPassRows;
      const X x = {static_cast<const uint8_t*>(p.x) + row / 4 * x_group, x_group, wide};
      for (uint32_t g = p.n_begin / 16; g * 16 < p.n_end; ++g) {
        for (uint32_t i = 0; i < m * 16; ++i) acc[i] = 0;
        Group<F>(p.w.data + g * group_bytes, blocks, x, m, panel, acc);
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

  static void QuantizeRows(const float* x, size_t x_stride, uint32_t cols, uint32_t begin, uint32_t end, void* out) {
    const size_t blocks = cols / 32, wide = blocks * 4 * kXBlock;
    for (uint32_t row = begin; row < end; ++row) {
      uint8_t* at = static_cast<uint8_t*>(out) + row / 4 * XGroupBytes(cols, P::kWide) + row % 4 * kXBlock;
      for (size_t b = 0; b < blocks; ++b) {
        P::PutX(x + row * x_stride + b * 32, at + b * 4 * kXBlock, at + b * 4 * kXBlock + wide);
      }
    }
  }
};
