#include "block_format.h"

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "test.h"

namespace kvrm {
namespace {

void PutF16(float value, uint8_t* to) { Narrow(&value, 1, KVRM_F16, to); }

TEST(EachFormatIsReadAsItIsDefined) {
  std::vector<uint8_t> block(210);
  std::vector<float> out(256);

  PutF16(0.5f, block.data());
  block[2] = 3;
  block[2 + 31] = 0x80;
  Dequantize(KVRM_Q8_0, block.data(), 32, out.data());
  CHECK_EQ(out[0], 1.5f);
  CHECK_EQ(out[1], 0.0f);
  CHECK_EQ(out[31], -64.0f);

  block.assign(210, 0x88);
  PutF16(2.0f, block.data());
  block[2 + 5] = 0xf1;
  Dequantize(KVRM_Q4_0, block.data(), 32, out.data());
  CHECK_EQ(out[4], 0.0f);
  CHECK_EQ(out[5], -14.0f);
  CHECK_EQ(out[5 + 16], 14.0f);

  // s[1] = 5, m[1] = 7; s[6] = 0b10'0011, m[6] = 0b01'1100.
  block.assign(210, 0);
  PutF16(2.0f, block.data());
  PutF16(0.5f, block.data() + 2);
  uint8_t* scales = block.data() + 4;
  scales[1] = 5;
  scales[5] = 7;
  scales[2] |= 2 << 6;
  scales[6] |= 1 << 6;
  scales[10] = 0xc3;
  block[16 + 9] = 0xb0;        // number 41 of Q4_K: chunk 0, high half
  block[16 + 96 + 20] = 0x0d;  // number 212: chunk 3, low half
  Dequantize(KVRM_Q4_K, block.data(), 256, out.data());
  CHECK_EQ(out[0], 0.0f);
  CHECK_EQ(out[41], 2.0f * 5 * 11 - 0.5f * 7);
  CHECK_EQ(out[40], -0.5f * 7);
  CHECK_EQ(out[212], 2.0f * 35 * 13 - 0.5f * 28);

  std::memmove(block.data() + 48, block.data() + 16, 128);
  std::memset(block.data() + 16, 0, 32);
  block[16 + 9] = 1 << 1;   // bit 4 of number 41
  block[16 + 20] = 1 << 6;  // of number 212
  Dequantize(KVRM_Q5_K, block.data(), 256, out.data());
  CHECK_EQ(out[41], 2.0f * 5 * 27 - 0.5f * 7);
  CHECK_EQ(out[212], 2.0f * 35 * 29 - 0.5f * 28);
  CHECK_EQ(out[211], -0.5f * 28);

  block.assign(210, 0);
  PutF16(0.25f, block.data() + 208);
  for (int t = 0; t < 16; ++t) block[192 + t] = static_cast<uint8_t>(t - 8);
  block[3] = 0x72;              // number 3: 2; number 67: 7
  block[64 + 32 + 30] = 0x50;   // number 128 + 96 + 30: 5
  block[128 + 3] = 2 | 1 << 4;  // of 3: 2 << 4; of 67: 1 << 4
  block[128 + 32 + 30] = 3 << 6;
  Dequantize(KVRM_Q6_K, block.data(), 256, out.data());
  CHECK_EQ(out[3], 0.25f * -8 * (34 - 32));
  CHECK_EQ(out[67], 0.25f * -4 * (23 - 32));
  CHECK_EQ(out[254], 0.25f * 7 * (53 - 32));
  CHECK_EQ(out[16], 0.25f * -7 * -32);
}

TEST(QuantizeIsCloseAndKeepsZeros) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 0.02f);
  std::vector<float> x(32 * 300), back(x.size());
  for (float& value : x) value = normal(random);
  std::fill_n(x.begin(), 32, 0.0f);
  std::vector<uint8_t> blocks(RowBytes(KVRM_Q8_0, x.size()));
  const auto check = [&](uint32_t dtype, double most, double relative) {
    Quantize(dtype, x.data(), x.size(), blocks.data());
    Dequantize(dtype, blocks.data(), x.size(), back.data());
    double error = 0, all = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      if (i < 32) CHECK_EQ(back[i], 0.0f);
      float largest = 0;
      for (size_t j = i / 32 * 32; j < i / 32 * 32 + 32; ++j) largest = std::max(largest, std::fabs(x[j]));
      CHECK_NEAR(back[i], x[i], most * largest + 1e-12);
      error += (double(back[i]) - x[i]) * (double(back[i]) - x[i]);
      all += double(x[i]) * x[i];
    }
    CHECK(std::sqrt(error / all) < relative);
  };
  check(KVRM_Q8_0, 0.5 / 127 + 0.001, 0.0075);
  // A step of max / 8 and normal numbers, the largest of 32 of which is near 2.1 deviations: 7.6 % is what uniform
  // rounding leaves at such a step, the search takes a tenth off the usual 9 %.
  check(KVRM_Q4_0, 0.25, 0.085);
}

TEST(FilledBlocksHaveTheDeviationAndNoMean) {
  for (const uint32_t dtype : {KVRM_Q8_0, KVRM_Q4_0, KVRM_Q4_K, KVRM_Q5_K, KVRM_Q6_K}) {
    const uint64_t count = 256 * 500;
    std::vector<uint8_t> blocks(RowBytes(dtype, count)), again(blocks.size());
    FillBlocks(9, 0.5f, dtype, count, blocks.data());
    FillBlocks(9, 0.5f, dtype, count, again.data());
    CHECK(blocks == again);
    std::vector<float> x(count);
    Dequantize(dtype, blocks.data(), count, x.data());
    double sum = 0, squares = 0;
    for (const float value : x) sum += value, squares += double(value) * value;
    CHECK_NEAR(sum / double(count), 0, 0.06);  // the integers of Q4_0 have mean -0.5
    CHECK_NEAR(std::sqrt(squares / double(count)), 0.5, 0.06);
  }
}

}  // namespace
}  // namespace kvrm
