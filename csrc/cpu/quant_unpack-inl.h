// quant_unpack-inl.h - packed weights in blocks as bytes, a panel of eight blocks of 32 at a time, over a policy P of a
// target's instructions (quant-inl.h says what it has). Included like that header, and before it.

constexpr size_t kSubs = 8;            // blocks of 32 that are worked on at once
constexpr size_t kSubBytes = 32 * 16;  // integers of a block of 32 for 16 rows, a byte each

// The integers of eight blocks of 32 for 16 rows, and their scales, unpacked.
struct alignas(64) Panel {
  uint8_t q[2 * kSubs * kSubBytes];  // [block][dword][16 rows][4], or as AmxPolicy says
  int32_t scale[2 * kSubs][16];      // Q6_K: of each 16
  float min[kSubs][16];
  float d[kSubs][16];  // K formats: d[0], and d[1] = -dmin
};

template <class P>
struct QuantUnpack {
  using VI = typename P::VI;
  using VF = typename P::VF;
  static constexpr int H = P::kHalves;

  static KVRM_INLINE VI W(const uint8_t* w, size_t dword, int h) { return P::Load(w + dword * 64 + h * P::kLanes * 4); }
  static KVRM_INLINE void PutQ(Panel& panel, size_t sub, size_t dword, int h, VI q) {
    P::Store(panel.q + sub * kSubBytes + dword * 64 + h * P::kLanes * 4, q);
  }
  // Of Q6_K.
  static KVRM_INLINE void PutQ6(Panel& panel, size_t sub, size_t dword, int h, VI q) {
    if constexpr (P::kSigned) {
      P::Store(panel.q + P::PlaceOfQ6(sub, dword), q);
    } else {
      PutQ(panel, sub, dword, h, q);
    }
  }

  // Bytes that are `offset` too large, for targets that want them signed.
  template <int offset>
  static KVRM_INLINE VI Centred(VI q) {
    if constexpr (P::kSigned) return P::SubBytes(q, P::Set32(offset * 0x01010101));
    return q;
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
          PutQ(panel, 2 * c + 1, j, h, P::HighNibbles(v));
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
          PutQ(panel, 2 * c + 1, j, h, P::Or(P::HighNibbles(v), P::And(P::template Sll<3>(high), bit)));
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
          PutQ6(panel, 4 * half, j, h, Centred<32>(P::Or(P::And(a, mask), P::And(P::template Sll<4>(high), bits))));
          PutQ6(panel, 4 * half + 1, j, h, Centred<32>(P::Or(P::And(b, mask), P::And(P::template Sll<2>(high), bits))));
          PutQ6(panel, 4 * half + 2, j, h, Centred<32>(P::Or(P::HighNibbles(a), P::And(high, bits))));
          PutQ6(panel, 4 * half + 3, j, h,
                Centred<32>(P::Or(P::HighNibbles(b), P::And(P::template Srl<2>(high), bits))));
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
          PutQ(panel, b, j, h, Centred<8>(P::And(v, mask)));
          PutQ(panel, b, j + 4, h, Centred<8>(P::HighNibbles(v)));
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

  // Blocks [0, subs) of 32 of a group's 16 rows; d: their separate ones. Where the integers are then: in the panel, but
  // those of Q8_0 are where they were.
  template <uint32_t F>
  static KVRM_INLINE const uint8_t* Blocks(const uint8_t* w, const uint8_t* d, size_t subs, Panel& panel) {
    if constexpr (F == KVRM_Q8_0) {
      UnpackD(d, subs, panel);
      return w;
    } else if constexpr (F == KVRM_Q4_0) {
      UnpackQ4(w, d, subs, panel);
    } else if constexpr (F == KVRM_Q4_K) {
      UnpackQ4K(w, panel);
    } else if constexpr (F == KVRM_Q5_K) {
      UnpackQ5K(w, panel);
    } else {
      UnpackQ6K(w, d, panel);
    }
    return panel.q;
  }
};
