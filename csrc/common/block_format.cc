#include "block_format.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "random_tensor.h"

namespace kvrm {
namespace {

float LoadF16(const uint8_t* p) {
  float value;
  Widen(p, 1, KVRM_F16, &value);
  return value;
}

void StoreF16(float value, uint8_t* p) { Narrow(&value, 1, KVRM_F16, p); }

void DequantizeQ8(const uint8_t* block, float* out) {
  const float d = LoadF16(block);
  for (int i = 0; i < 32; ++i) out[i] = d * float(static_cast<int8_t>(block[2 + i]));
}

void DequantizeQ4(const uint8_t* block, float* out) {
  const float d = LoadF16(block);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * float((block[2 + i] & 15) - 8);
    out[i + 16] = d * float((block[2 + i] >> 4) - 8);
  }
}

// Q4_K, and Q5_K where there are high bits.
void DequantizeK(const uint8_t* block, const uint8_t* high, const uint8_t* qs, float* out) {
  const float d = LoadF16(block), dmin = LoadF16(block + 2);
  uint8_t scales[16];
  UnpackScales(block + 4, scales);
  for (int i = 0; i < 256; ++i) {
    const int t = i / 32, j = i % 32;
    int q = qs[t / 2 * 32 + j] >> (t % 2 * 4) & 15;
    if (high) q |= (high[j] >> t & 1) << 4;
    out[i] = d * float(scales[t]) * float(q) - dmin * float(scales[8 + t]);
  }
}

void DequantizeQ6(const uint8_t* block, float* out) {
  const float d = LoadF16(block + 208);
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, t = i / 32 % 4, j = i % 32;
    const int low = block[half * 64 + t % 2 * 32 + j] >> (t / 2 * 4) & 15;
    const int high = block[128 + half * 32 + j] >> (2 * t) & 3;
    out[i] = d * float(static_cast<int8_t>(block[192 + i / 16])) * float((low | high << 4) - 32);
  }
}

// Four numbers at once, on any machine.
typedef float V4 __attribute__((vector_size(16)));

V4 LoadV4(const float* p) {
  V4 v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

// To the nearest integer, half to even, for magnitudes below 2^22: 1.5 * 2^23 has no room for a fraction.
V4 Round(V4 v) { return (v + 0x1.8p23f) - 0x1.8p23f; }

V4 Clamp(V4 v, float low, float high) {
  const V4 lows = {low, low, low, low}, highs = {high, high, high, high};
  v = v < lows ? lows : v;
  return v > highs ? highs : v;
}

void QuantizeQ8(const float* x, uint8_t* block) {
  float most = 0;
  for (int i = 0; i < 32; ++i) most = std::max(most, std::fabs(x[i]));
  StoreF16(most / 127, block);
  const float d = LoadF16(block), inverse = d > 0 ? 1 / d : 0;
  for (int i = 0; i < 32; i += 4) {
    const V4 q = Clamp(Round(LoadV4(x + i) * inverse), -127, 127);
    for (int j = 0; j < 4; ++j) block[2 + i + j] = static_cast<uint8_t>(static_cast<int8_t>(q[j]));
  }
}

// For given integers q the best scale is sum(x q) / sum(q^2), which leaves sum(x^2) - sum(x q)^2 / sum(q^2). The
// integers are tried that come of scales around the one that puts the largest magnitude at -8.
void QuantizeQ4(const float* x, uint8_t* block) {
  constexpr int kTries = 9;
  float most = 0;
  for (int i = 0; i < 32; ++i) {
    if (std::fabs(x[i]) > std::fabs(most)) most = x[i];
  }
  float best = 0, d = 0;
  for (int attempt = 0; most != 0 && attempt < kTries; ++attempt) {
    const float inverse = -(6.8f + 0.25f * float(attempt)) / most;
    V4 products = {}, squares = {};
    for (int i = 0; i < 32; i += 4) {
      const V4 v = LoadV4(x + i), q = Clamp(Round(v * inverse), -8, 7);
      products += v * q;
      squares += q * q;
    }
    const float xq = products[0] + products[1] + (products[2] + products[3]);
    const float qq = squares[0] + squares[1] + (squares[2] + squares[3]);
    if (qq > 0 && xq * xq > best * qq) {
      best = xq * xq / qq;
      d = xq / qq;
    }
  }
  StoreF16(d, block);
  d = LoadF16(block);
  const float inverse = d != 0 ? 1 / d : 0;
  for (int i = 0; i < 16; i += 4) {
    const V4 low = Clamp(Round(LoadV4(x + i) * inverse), -8, 7);
    const V4 high = Clamp(Round(LoadV4(x + i + 16) * inverse), -8, 7);
    for (int j = 0; j < 4; ++j) {
      block[2 + i + j] = static_cast<uint8_t>((static_cast<int>(low[j]) + 8) | (static_cast<int>(high[j]) + 8) << 4);
    }
  }
}

}  // namespace

void UnpackScales(const uint8_t* scales, uint8_t out[16]) {
  for (int t = 0; t < 4; ++t) {
    out[t] = scales[t] & 63;
    out[8 + t] = scales[t + 4] & 63;
    out[t + 4] = static_cast<uint8_t>((scales[t + 8] & 15) | scales[t] >> 6 << 4);
    out[12 + t] = static_cast<uint8_t>(scales[t + 8] >> 4 | scales[t + 4] >> 6 << 4);
  }
}

void Dequantize(uint32_t dtype, const void* blocks, uint64_t count, float* out) {
  const BlockFormat& format = FormatOf(dtype);
  const uint8_t* block = static_cast<const uint8_t*>(blocks);
  for (uint64_t i = 0; i < count; i += format.numbers, block += format.bytes, out += format.numbers) {
    switch (dtype) {
      case KVRM_Q8_0:
        DequantizeQ8(block, out);
        break;
      case KVRM_Q4_0:
        DequantizeQ4(block, out);
        break;
      case KVRM_Q4_K:
        DequantizeK(block, nullptr, block + 16, out);
        break;
      case KVRM_Q5_K:
        DequantizeK(block, block + 16, block + 48, out);
        break;
      default:
        DequantizeQ6(block, out);
    }
  }
}

void Quantize(uint32_t dtype, const float* x, uint64_t count, void* out) {
  uint8_t* block = static_cast<uint8_t*>(out);
  for (uint64_t i = 0; i < count; i += 32, block += FormatOf(dtype).bytes) {
    if (dtype == KVRM_Q8_0) {
      QuantizeQ8(x + i, block);
    } else {
      QuantizeQ4(x + i, block);
    }
  }
}

void FillBlocks(uint64_t key, float deviation, uint32_t dtype, uint64_t count, void* out) {
  const BlockFormat& format = FormatOf(dtype);
  uint8_t* block = static_cast<uint8_t*>(out);
  for (uint64_t i = 0; i < count; i += format.numbers, block += format.bytes) {
    for (uint32_t at = 0; at < format.bytes; at += 8) {
      const uint64_t bits = RandomMix(key + (i + at) * kRandomGolden);
      std::memcpy(block + at, &bits, std::min(8u, format.bytes - at));
    }
    // Evenly distributed integers of n values have the deviation n / sqrt(12); the scales are chosen to match.
    switch (dtype) {
      case KVRM_Q8_0:
        StoreF16(deviation / 73.9f, block);
        break;
      case KVRM_Q4_0:
        StoreF16(deviation / 4.62f, block);
        break;
      case KVRM_Q6_K:
        for (int t = 0; t < 16; ++t) block[192 + t] = static_cast<uint8_t>(32 + block[192 + t] % 32);
        StoreF16(deviation / 18.5f / 48, block + 208);
        break;
      default: {
        // s = m, so that with dmin = d (n - 1) / 2 the numbers have mean 0.
        const float values = dtype == KVRM_Q4_K ? 16 : 32, d = deviation / (values / 3.46f) / 36;
        StoreF16(d, block);
        StoreF16(d * (values - 1) / 2, block + 2);
        std::memcpy(block + 8, block + 4, 4);
        for (int t = 12; t < 16; ++t) block[t] = static_cast<uint8_t>((block[t] & 15) * 17);
      }
    }
  }
}

}  // namespace kvrm
