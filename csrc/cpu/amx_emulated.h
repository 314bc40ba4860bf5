// amx_emulated.h - the instructions of AMX in plain C++, after their description in Intel's Software Developer's
// Manual.
#ifndef KVRM_CPU_AMX_EMULATED_H_
#define KVRM_CPU_AMX_EMULATED_H_

#include <cmath>
#include <cstdint>
#include <cstring>

namespace kvrm::cpu {

struct EmulatedTiles {
  uint8_t data[8][16][64];
  uint8_t rows[8];
  uint16_t bytes[8];
};
inline thread_local EmulatedTiles emulated_tiles;

inline void EmulateTileConfig(const void* config) {
  const auto* from = static_cast<const uint8_t*>(config);
  std::memset(&emulated_tiles, 0, sizeof(emulated_tiles));
  std::memcpy(emulated_tiles.bytes, from + 16, sizeof(emulated_tiles.bytes));
  std::memcpy(emulated_tiles.rows, from + 48, sizeof(emulated_tiles.rows));
}
inline void EmulateTileZero(int t) { std::memset(emulated_tiles.data[t], 0, sizeof(emulated_tiles.data[t])); }
inline void EmulateTileLoad(int t, const void* from, int64_t stride) {
  EmulateTileZero(t);
  for (int row = 0; row < emulated_tiles.rows[t]; ++row) {
    std::memcpy(emulated_tiles.data[t][row], static_cast<const uint8_t*>(from) + row * stride, emulated_tiles.bytes[t]);
  }
}
inline void EmulateTileStore(int t, void* to, int64_t stride) {
  for (int row = 0; row < emulated_tiles.rows[t]; ++row) {
    std::memcpy(static_cast<uint8_t*>(to) + row * stride, emulated_tiles.data[t][row], emulated_tiles.bytes[t]);
  }
}

// c += a b, four bytes of k at a time.
template <typename A, typename B>
inline void EmulateTileBytes(int c, int a, int b) {
  EmulatedTiles& t = emulated_tiles;
  for (int m = 0; m < t.rows[c]; ++m) {
    for (int k = 0; k < t.bytes[a] / 4; ++k) {
      for (int n = 0; n < t.bytes[c] / 4; ++n) {
        int32_t sum;
        std::memcpy(&sum, &t.data[c][m][4 * n], 4);
        for (int i = 0; i < 4; ++i) {
          sum += int32_t{static_cast<A>(t.data[a][m][4 * k + i])} * static_cast<B>(t.data[b][k][4 * n + i]);
        }
        std::memcpy(&t.data[c][m][4 * n], &sum, 4);
      }
    }
  }
}

// Subnormal numbers count as zero, and become zero.
inline float EmulateFlush(float v) { return std::fabs(v) < 0x1p-126f ? std::copysign(0.0f, v) : v; }

// c += a b in BF16: the even and the odd numbers of k are a chain each, from zero, and their sum is added to c.
inline void EmulateTileBf16(int c, int a, int b) {
  EmulatedTiles& t = emulated_tiles;
  const auto number = [](const uint8_t* at) {
    uint16_t half;
    std::memcpy(&half, at, 2);
    const uint32_t bits = uint32_t{half} << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return EmulateFlush(value);
  };
  for (int m = 0; m < t.rows[c]; ++m) {
    for (int n = 0; n < t.bytes[c] / 4; ++n) {
      float chain[2] = {0, 0};
      for (int k = 0; k < t.bytes[a] / 4; ++k) {
        for (int i = 0; i < 2; ++i) {
          chain[i] = EmulateFlush(
              std::fma(number(&t.data[a][m][4 * k + 2 * i]), number(&t.data[b][k][4 * n + 2 * i]), chain[i]));
        }
      }
      float sum;
      std::memcpy(&sum, &t.data[c][m][4 * n], 4);
      sum = EmulateFlush(EmulateFlush(sum) + EmulateFlush(chain[0] + chain[1]));
      std::memcpy(&t.data[c][m][4 * n], &sum, 4);
    }
  }
}

}  // namespace kvrm::cpu

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbssd
#undef _tile_dpbsud
#undef _tile_dpbf16ps
#define _tile_loadconfig(config) ::kvrm::cpu::EmulateTileConfig(config)
#define _tile_release() ((void)0)
#define _tile_zero(t) ::kvrm::cpu::EmulateTileZero(t)
#define _tile_loadd(t, from, stride) ::kvrm::cpu::EmulateTileLoad(t, from, stride)
#define _tile_stored(t, to, stride) ::kvrm::cpu::EmulateTileStore(t, to, stride)
#define _tile_dpbssd(c, a, b) ::kvrm::cpu::EmulateTileBytes<int8_t, int8_t>(c, a, b)
#define _tile_dpbsud(c, a, b) ::kvrm::cpu::EmulateTileBytes<int8_t, uint8_t>(c, a, b)
#define _tile_dpbf16ps(c, a, b) ::kvrm::cpu::EmulateTileBf16(c, a, b)

#endif  // KVRM_CPU_AMX_EMULATED_H_
