// The emulator's own conversions against the compiler's, and the exponential against the CPU backend's.
#include <cstring>
#include <limits>

#include "../../cpu/dispatch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cuda/emulator/numbers_test.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "../../cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvrm::cpu {
namespace HWY_NAMESPACE {

// out[i] = exp(in[i]) as the CPU backend computes it; count is a multiple of 16. False: without fused
// multiply-add, where the CPU's bits are others.
bool ExpAllImpl(const float* in, float* out, size_t count) {
  for (size_t i = 0; i < count; i += kLanes) hn::StoreU(Exp(LoadF32(in + i)), DF(), out + i);
  return HWY_NATIVE_FMA != 0;
}

}  // namespace HWY_NAMESPACE
}  // namespace kvrm::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
// The tests of this folder are not linked with the CPU backend.
#include "../../cpu/dispatch.cc"
#include "test_util.h"

namespace kvrm::cpu {
KVRM_EXPORT(ExpAllImpl);
bool ExpAll(const float* in, float* out, size_t count) { return KVRM_CALL(ExpAllImpl)(in, out, count); }
}  // namespace kvrm::cpu

namespace kvrm::cuda::emulator {
namespace {

TEST(EmulatorExpHasTheBitsOfTheCpu) {
  constexpr uint32_t kBlock = 4096;
  // Every 251st float, and every one near the ends and near 0 and 1.
  std::vector<float> in, out(kBlock);
  const auto flush = [&] {
    in.resize((in.size() + 15) / 16 * 16, 0.0f);
    const bool fused = cpu::ExpAll(in.data(), out.data(), in.size());
    for (size_t i = 0; i < in.size(); ++i) {
      const float found = ExpF(in[i]);
      if (std::isnan(in[i])) {
        CHECK(std::isnan(found) && std::isnan(out[i]));
      } else if (fused) {
        if (BitsAs<uint32_t>(found) != BitsAs<uint32_t>(out[i])) CHECK_EQ(found, out[i]);
      } else {
        CHECK_NEAR(found, out[i], 2e-7 * out[i]);
      }
    }
    test::checks += in.size();
    in.clear();
  };
  const auto add = [&](uint64_t bits) {
    in.push_back(BitsAs<float>(static_cast<uint32_t>(bits)));
    if (in.size() == kBlock) flush();
  };
  for (uint64_t bits = 0; bits < uint64_t{1} << 32; bits += 251) add(bits);
  for (const float near : {88.0f, 87.336544f, 0.34657359f, 1.0f, 1e-30f, 0.0f, INFINITY}) {
    for (int sign = 0; sign < 2; ++sign) {
      const uint32_t bits = BitsAs<uint32_t>(sign ? -near : near);
      for (uint32_t i = 0; i < 2000; ++i) add(bits + i - 1000);
    }
  }
  flush();
}

TEST(EmulatorHalvesAreTheCompilers) {
  for (uint32_t i = 0; i < 65536; ++i) {
    const f16_t half = {static_cast<uint16_t>(i)};
    const auto wanted = static_cast<float>(BitsAs<_Float16>(half.bits));
    CHECK(std::isnan(wanted) ? std::isnan(ToFloat(half)) : BitsAs<uint32_t>(ToFloat(half)) == BitsAs<uint32_t>(wanted));
  }
  // Around every half and every middle of two.
  for (uint64_t bits = 0; bits < uint64_t{1} << 32; bits += 0x800) {
    for (const uint32_t offset : {0u, 1u, 0x7ffu}) {
      const float x = BitsAs<float>(static_cast<uint32_t>(bits) + offset);
      const uint16_t found = FromFloat<f16_t>(x).bits;
      if (std::isnan(x)) {
        CHECK_EQ(found, 0x7fff);
      } else {
        CHECK_EQ(found, BitsAs<uint16_t>(static_cast<_Float16>(x)));
      }
    }
  }
}

}  // namespace
}  // namespace kvrm::cuda::emulator
#endif  // HWY_ONCE
