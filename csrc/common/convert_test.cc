#include "convert.h"

#include "test.h"

namespace kvrm {
namespace {

uint16_t Half(float value, uint32_t dtype) {
  uint16_t bits;
  Narrow(&value, 1, dtype, &bits);
  return bits;
}

TEST(NarrowRoundsToNearestEven) {
  CHECK_EQ(Half(1.0f, KVRM_F16), 0x3c00);
  CHECK_EQ(Half(-2.0f, KVRM_F16), 0xc000);
  CHECK_EQ(Half(1.0f + 0x1p-11f, KVRM_F16), 0x3c00);      // a tie, to even
  CHECK_EQ(Half(1.0f + 3 * 0x1p-11f, KVRM_F16), 0x3c02);  // a tie, to even
  CHECK_EQ(Half(1.0f + 0x1.01p-11f, KVRM_F16), 0x3c01);   // just above one
  CHECK_EQ(Half(65519.0f, KVRM_F16), 0x7bff);             // the largest
  CHECK_EQ(Half(65520.0f, KVRM_F16), 0x7c00);             // half a unit more
  CHECK_EQ(Half(0x1p-24f, KVRM_F16), 1);                  // the smallest subnormal
  CHECK_EQ(Half(0x1p-25f, KVRM_F16), 0);                  // a tie with 0
  CHECK_EQ(Half(-0x1.8p-24f, KVRM_F16), 0x8002);          // a tie, to even
  CHECK_EQ(Half(0x1p-14f - 0x1p-26f, KVRM_F16), 0x0400);  // up to the smallest normal number
  CHECK_EQ(Half(-INFINITY, KVRM_F16), 0xfc00);
  CHECK_EQ(Half(1.0f, KVRM_BF16), 0x3f80);
  CHECK_EQ(Half(1.0f + 0x1p-8f, KVRM_BF16), 0x3f80);
  CHECK_EQ(Half(1.0f + 3 * 0x1p-8f, KVRM_BF16), 0x3f82);
  CHECK_EQ(Half(-0x1.ffp127f, KVRM_BF16), 0xff80);  // rounds to infinity
}

TEST(EachHalfSurvivesWidenAndNarrow) {
  for (uint32_t dtype : {KVRM_F16, KVRM_BF16}) {
    for (uint32_t bits = 0; bits < 0x10000; ++bits) {
      const uint16_t half = static_cast<uint16_t>(bits);
      float wide;
      Widen(&half, 1, dtype, &wide);
      if (wide != wide) {
        const uint16_t again = Half(wide, dtype);
        Widen(&again, 1, dtype, &wide);
        CHECK(wide != wide);
      } else {
        CHECK_EQ(Half(wide, dtype), half);
      }
    }
  }
}

}  // namespace
}  // namespace kvrm
