#include <algorithm>
#include <cstdlib>
#include <limits>

#include "common/test.h"
#include "ops_test_util.h"

namespace kvrm::cpu {
namespace {

// The nearest value of a 16-bit type to x, ties to even, by trying: `value` is ordered over [0, top].
template <typename Value>
uint16_t NearestBits(double x, uint16_t top, Value value) {
  const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  x = std::fabs(x);
  uint16_t low = 0;
  for (uint32_t step = 0x4000; step > 0; step /= 2) {
    if (low + step <= top && value(static_cast<uint16_t>(low + step)) <= x) low = static_cast<uint16_t>(low + step);
  }
  if (low == top) return sign | top;
  // Infinity takes the place of the next power of two.
  const double next =
      low + 1 == top ? 2 * value(low) - value(static_cast<uint16_t>(low - 1)) : value(static_cast<uint16_t>(low + 1));
  const double middle = (value(low) + next) / 2;
  const bool up = x > middle || (x == middle && low % 2 == 1);
  return static_cast<uint16_t>(sign | (low + (up ? 1 : 0)));
}

TEST(ConvertRoundsToNearestEven) {
  Random random(1);
  std::vector<float> x;
  for (int i = 0; i < 60000; ++i) {
    uint32_t bits = static_cast<uint32_t>(random());
    if (i % 3 == 0) bits &= 0xffff8000u;                          // ties of bf16
    if (i % 3 == 1) bits = (bits & 0x8ffff000u) | (0x33u << 24);  // ties and the small end of f16
    float value;
    std::memcpy(&value, &bits, 4);
    if (!std::isnan(value)) x.push_back(value);
  }
  for (const float value : {65504.0f, 65519.9f, 65520.0f, 1e9f, 0.0f, -0.0f, 6.1035156e-5f, 6.1e-5f, 5.9604645e-8f,
                            2.9802322e-8f, 2.9802326e-8f, 3.3895314e38f, 3.4028235e38f, 1e-40f}) {
    x.push_back(value);
    x.push_back(-value);
  }
  x.push_back(std::numeric_limits<float>::infinity());
  std::vector<uint16_t> f16(x.size()), bf16(x.size());
  Convert(x.data(), static_cast<uint32_t>(x.size()), KVRM_F16, f16.data());
  Convert(x.data(), static_cast<uint32_t>(x.size()), KVRM_BF16, bf16.data());
  for (size_t i = 0; i < x.size(); ++i) {
    CHECK_EQ(f16[i], NearestBits(x[i], 0x7c00, F16Value));
    CHECK_EQ(bf16[i], NearestBits(x[i], 0x7f80, Bf16Value));
  }
}

TEST(ConvertKeepsNanAndEmbedRowInvertsConvert) {
  for (const uint32_t dtype : {KVRM_F32, KVRM_F16, KVRM_BF16}) {
    uint32_t bits = 0x7f800001;  // a NaN whose payload lies in the dropped bits
    float x[3];
    std::memcpy(x, &bits, 4);
    x[1] = 1.5f;
    x[2] = -0.25f;
    uint8_t stored[12];
    Convert(x, 3, dtype, stored);
    float back[3];
    EmbedRow({stored, dtype, 1, 3}, 0, back);
    CHECK(std::isnan(back[0]));
    CHECK_EQ(back[1], 1.5f);
    CHECK_EQ(back[2], -0.25f);
  }
}

TEST(EmbedRowReadsEveryF16) {
  std::vector<uint16_t> all(65536);
  for (uint32_t i = 0; i < 65536; ++i) all[i] = static_cast<uint16_t>(i);
  std::vector<float> out(65536);
  EmbedRow({all.data(), KVRM_F16, 1, 65536}, 0, out.data());
  for (uint32_t i = 0; i < 65536; ++i) {
    const double wanted = F16Value(all[i]);
    CHECK(std::isnan(wanted) ? std::isnan(out[i]) : out[i] == wanted && std::signbit(out[i]) == (i >= 0x8000));
  }
}

TEST(EmbedRowReadsItsRow) {
  Random random(2);
  for (const uint32_t dtype : {KVRM_F32, KVRM_F16, KVRM_BF16}) {
    for (const uint32_t cols : {1u, 15u, 16u, 77u}) {
      const Tensor table(random, dtype, 9, cols);
      std::vector<float> out(cols);
      for (uint32_t row = 0; row < 9; ++row) {
        EmbedRow(table.weight, row, out.data());
        for (uint32_t n = 0; n < cols; ++n) CHECK_EQ(out[n], static_cast<float>(table.At(row, n)));
      }
    }
  }
}

TEST(RmsNormMatchesFloat64AndWorksInPlace) {
  Random random(3);
  for (const uint32_t count : {1u, 7u, 16u, 63u, 64u, 65u, 768u, 2049u}) {
    for (const uint32_t dtype : {KVRM_F32, KVRM_F16, KVRM_BF16}) {
      const Tensor w(random, dtype, count, 1);
      std::vector<float> x = Normals(random, count, 3.0f), out(count);
      RmsNorm(w.weight, 1e-5f, x.data(), count, out.data());
      double squares = 0;
      for (const float v : x) squares += double{v} * v;
      for (uint32_t n = 0; n < count; ++n) {
        const double wanted = x[n] / std::sqrt(squares / count + 1e-5f) * w.At(n, 0);
        CHECK_NEAR(out[n], wanted, 1e-6 * std::fabs(wanted) + 1e-12);
      }
      RmsNorm(w.weight, 1e-5f, x.data(), count, x.data());
      CHECK(SameBits(x.data(), out.data(), count));
    }
  }
}

TEST(RopeTableRoundsTheAngleToFloatFirst) {
  float inv_freq[48], cosines[48], sines[48];
  for (int i = 0; i < 48; ++i) inv_freq[i] = std::pow(10000.0f, -static_cast<float>(i) / 48);
  for (const uint32_t position : {0u, 1u, 77u, 4095u, 131071u}) {
    RopeTable(inv_freq, 48, position, cosines, sines);
    for (int i = 0; i < 48; ++i) {
      const float angle = static_cast<float>(position) * inv_freq[i];
      CHECK_NEAR(cosines[i], std::cos(double{angle}), 3e-8);
      CHECK_NEAR(sines[i], std::sin(double{angle}), 3e-8);
    }
  }
}

TEST(RopeHeadRotatesHalves) {
  Random random(4);
  for (const uint32_t half : {1u, 4u, 24u, 32u, 50u, 64u}) {
    std::vector<float> x = Normals(random, 2 * half), c = Normals(random, half), s = Normals(random, half);
    const std::vector<float> before = x;
    RopeHead(x.data(), c.data(), s.data(), half);
    for (uint32_t i = 0; i < half; ++i) {
      const double a = before[i], b = before[half + i];
      CHECK_NEAR(x[i], a * c[i] - b * s[i], 1e-5);
      CHECK_NEAR(x[half + i], b * c[i] + a * s[i], 1e-5);
    }
  }
}

TEST(SiluMulIsAccurateEverywhere) {
  std::vector<float> gate;
  for (float g = -120; g < 120; g += 0.0173f) gate.push_back(g);
  const std::vector<float> up(gate.size(), 1.0f);
  std::vector<float> out(gate.size());
  SiluMul(gate.data(), up.data(), static_cast<uint32_t>(gate.size()), out.data());
  for (size_t i = 0; i < gate.size(); ++i) {
    const double wanted = gate[i] / (1.0 + std::exp(-double{gate[i]}));
    CHECK_NEAR(out[i], wanted, 4e-7 * std::fabs(wanted) + 1e-36);
  }
  std::vector<float> edge = {-std::numeric_limits<float>::max(), std::numeric_limits<float>::max(), NAN, 0.0f, -0.0f};
  SiluMul(edge.data(), up.data(), 5, edge.data());
  CHECK_NEAR(edge[0], 0.0, 5.0);  // -3.4e38 / (1 + e^88)
  CHECK_EQ(edge[1], std::numeric_limits<float>::max());
  CHECK(std::isnan(edge[2]));
  CHECK_EQ(edge[3], 0.0f);
}

TEST(ReadAllReadsEveryByte) {
  Random random(5);
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{9}, size_t{4096}, size_t{5003}}) {
    std::vector<uint8_t> data(bytes, 0);
    CHECK_EQ(ReadAll(data.data(), bytes), 0u);
    for (int i = 0; i < 50 && bytes > 0; ++i) {
      const size_t at = random() % bytes;
      data[at] = 1;
      CHECK(ReadAll(data.data(), bytes) != 0);
      data[at] = 0;
    }
  }
}

TEST(TargetNameObeysTheEnvironment) {
  const char* wanted = std::getenv("KVRM_CPU_TARGET");
  if (wanted != nullptr && std::string(wanted) == "SCALAR") CHECK_EQ(std::string(TargetName()), "SCALAR");
  CHECK(std::strlen(TargetName()) > 0);
}

}  // namespace
}  // namespace kvrm::cpu
