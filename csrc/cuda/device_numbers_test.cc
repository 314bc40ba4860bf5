// device.h's numbers against their definitions. Runs on the emulator and, built by nvcc, on a GPU.
#include <algorithm>
#include <cmath>
#include <vector>

#include "device.h"
#include "device_test_util.h"

namespace kvrm::cuda {
namespace {

uint32_t Bits(float x) { return BitsAs<uint32_t>(x); }

// The value of a sign, exponent and mantissa format, by its definition.
double Value(uint32_t bits, int exponent_bits, int mantissa_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const uint32_t mantissa = bits & ((1u << mantissa_bits) - 1);
  const int exponent = static_cast<int>(bits >> mantissa_bits & ((1u << exponent_bits) - 1));
  const double magnitude = exponent == 0
                               ? std::ldexp(mantissa, 1 - bias - mantissa_bits)
                               : std::ldexp(mantissa + (1u << mantissa_bits), exponent - bias - mantissa_bits);
  return bits >> (exponent_bits + mantissa_bits) & 1u ? -magnitude : magnitude;
}

// x to the nearest multiple of the format's unit, ties to even.
double Nearest(double x, int mantissa_bits, int lowest_exponent) {
  if (x == 0) return 0;
  const int exponent = std::max(std::ilogb(x), lowest_exponent);
  const double unit = std::ldexp(1.0, exponent - mantissa_bits);
  return std::nearbyint(x / unit) * unit;
}

template <class T>
__global__ void Decode(float* out, uint16_t* back, uint32_t count) {
  const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  T value;
  value.bits = static_cast<decltype(value.bits)>(i);
  out[i] = ToFloat(value);
  back[i] = FromFloat<T>(out[i]).bits;
}

template <class T>
void CheckDecode(int exponent_bits, int mantissa_bits, uint32_t count, bool has_infinity) {
  Array<float> out(count);
  Array<uint16_t> back(count);
  Launch({.grid = count / 256, .block = 256}, &Decode<T>, out.get(), back.get(), count);
  const std::vector<float> values = out.Read();
  const std::vector<uint16_t> codes = back.Read();
  const uint32_t magnitudes = count / 2;
  const uint32_t first_special =
      has_infinity ? magnitudes - (1u << mantissa_bits) : magnitudes - 1;  // E4M3 has NaN alone
  for (uint32_t i = 0; i < count; ++i) {
    T value;
    value.bits = static_cast<decltype(value.bits)>(i);
    const uint32_t magnitude = i % magnitudes;
    if (magnitude >= first_special && !(has_infinity && magnitude == first_special)) {
      CHECK(std::isnan(values[i]) && std::isnan(ToFloat(value)));
      CHECK(codes[i] % magnitudes >= first_special);
      CHECK(std::isnan(ToFloat(FromFloat<T>(ToFloat(value)))));
      continue;
    }
    CHECK_EQ(codes[i], i);
    CHECK_EQ(FromFloat<T>(values[i]).bits, i);
    CHECK_EQ(Bits(ToFloat(value)), Bits(values[i]));
    if (magnitude == first_special) {
      CHECK_EQ(values[i], i < magnitudes ? INFINITY : -INFINITY);
    } else {
      CHECK_EQ(static_cast<double>(values[i]), Value(i, exponent_bits, mantissa_bits));
    }
  }
}

TEST(DeviceDecodesEveryHalf) { CheckDecode<f16_t>(5, 10, 65536, true); }
TEST(DeviceDecodesEveryBf16) { CheckDecode<bf16_t>(8, 7, 65536, true); }
TEST(DeviceDecodesEveryFp8) { CheckDecode<fp8_t>(4, 3, 256, false); }

__global__ void Encode(const float* in, uint32_t* out, uint32_t count) {
  const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const float x = in[i];
  out[i] = FromFloat<f16_t>(x).bits | static_cast<uint32_t>(FromFloat<bf16_t>(x).bits) << 16;
  out[count + i] = FromFloat<fp8_t>(x).bits;
  out[2 * count + i] = Pack2<f16_t>(x, -x);
  out[3 * count + i] = Pack2<bf16_t>(-x, x);
}

TEST(DeviceRoundsToNearestEven) {
  constexpr uint32_t kCount = 1 << 16;
  std::vector<float> in(kCount);
  uint64_t state = 1;
  for (uint32_t i = 0; i < kCount; ++i) {
    // Ties of f16, of bf16 and of fp8, and any numbers.
    const uint32_t low[] = {0x1fffu, 0xffffu, 0xfffffu, 0};
    const uint32_t tie[] = {0x1000u, 0x8000u, 0x80000u, 0};
    const uint32_t bits = 0x33000000u + Next(state) % 0x15000000u;
    in[i] = BitsAs<float>(((bits & ~low[i % 4]) | tie[i % 4]) | (Next(state) & 1u) << 31);
  }
  const Array<float> x(in);
  Array<uint32_t> out(4 * kCount);
  Launch({.grid = kCount / 256, .block = 256}, &Encode, x.get(), out.get(), kCount);
  const std::vector<uint32_t> found = out.Read();
  for (uint32_t i = 0; i < kCount; ++i) {
    const f16_t half = {static_cast<uint16_t>(found[i])};
    const bf16_t bf16 = {static_cast<uint16_t>(found[i] >> 16)};
    const fp8_t fp8 = {static_cast<uint8_t>(found[kCount + i])};
    const double wanted_half = Nearest(in[i], 10, -14), wanted_fp8 = Nearest(in[i], 3, -6);
    CHECK_EQ(static_cast<double>(ToFloat(half)),
             std::fabs(wanted_half) > 65504 ? std::copysign(INFINITY, in[i]) : wanted_half);
    CHECK_EQ(static_cast<double>(ToFloat(bf16)), Nearest(in[i], 7, -126));
    CHECK_EQ(static_cast<double>(ToFloat(fp8)), std::fabs(wanted_fp8) > 448 ? std::copysign(448.0, in[i]) : wanted_fp8);
    CHECK_EQ(FromFloat<f16_t>(in[i]).bits, half.bits);
    CHECK_EQ(FromFloat<bf16_t>(in[i]).bits, bf16.bits);
    CHECK_EQ(FromFloat<fp8_t>(in[i]).bits, fp8.bits);
    CHECK_EQ(found[2 * kCount + i], half.bits | (half.bits ^ 0x8000u) << 16);
    CHECK_EQ(found[3 * kCount + i], (bf16.bits ^ 0x8000u) | static_cast<uint32_t>(bf16.bits) << 16);
  }
}

template <class T>
__global__ void Widen(uint32_t* out) {
  const uint32_t i = threadIdx.x;
  uint32_t pairs[2];
  // Every code in every place.
  Fp8x4ToHalf<T>(i | (255 - i) << 8 | (i ^ 0x80u) << 16 | (i * 37 & 255u) << 24, pairs);
  out[2 * i] = pairs[0];
  out[2 * i + 1] = pairs[1];
}

template <class T>
void CheckWiden() {
  Array<uint32_t> out(512);
  Launch({.grid = 1, .block = 256}, &Widen<T>, out.get());
  const std::vector<uint32_t> found = out.Read();
  for (uint32_t i = 0; i < 256; ++i) {
    const uint32_t codes[4] = {i, 255 - i, i ^ 0x80u, i * 37 & 255u};
    for (uint32_t j = 0; j < 4; ++j) {
      const float value = ToFloat(T{static_cast<uint16_t>(found[2 * i + j / 2] >> (16 * (j % 2)))});
      const float wanted = ToFloat(fp8_t{static_cast<uint8_t>(codes[j])});
      CHECK(std::isnan(wanted) ? std::isnan(value) : Bits(value) == Bits(wanted));
    }
  }
}

TEST(DeviceWidensFp8) {
  CheckWiden<f16_t>();
  CheckWiden<bf16_t>();
}

__global__ void Compute(const float* in, float* out, uint32_t count) {
  const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const float a = in[3 * i], b = in[3 * i + 1], c = in[3 * i + 2];
  const float results[7] = {Fma(a, b, c), Mul(a, b), Add(a, b), Sub(a, b), Div(a, b), Sqrt(fabsf(a)), ExpF(c)};
  for (uint32_t j = 0; j < 7; ++j) out[7 * i + j] = results[j];
}

TEST(DeviceRoundsEveryOperationOnce) {
  constexpr uint32_t kCount = 1 << 15;
  std::vector<float> in(3 * kCount);
  uint64_t state = 2;
  for (float& x : in) x = (static_cast<float>(Next(state)) - 0x1p30f) * 0x1p-24f;
  for (uint32_t i = 0; i < kCount; i += 2) in[3 * i + 2] = -in[3 * i] * in[3 * i + 1];  // cancels but for the rounding
  const Array<float> x(in);
  Array<float> out(7 * kCount);
  Launch({.grid = kCount / 256, .block = 256}, &Compute, x.get(), out.get(), kCount);
  const std::vector<float> found = out.Read();
  for (uint32_t i = 0; i < kCount; ++i) {
    const float a = in[3 * i], b = in[3 * i + 1], c = in[3 * i + 2];
    const double products = static_cast<double>(a) * b;
    // A product of two floats is exact in a double; its rounding is then that of one operation.
    const volatile float product = static_cast<float>(products);
    CHECK_EQ(Bits(found[7 * i]), Bits(std::fma(a, b, c)));
    CHECK_EQ(Bits(found[7 * i + 1]), Bits(product));
    CHECK_EQ(Bits(found[7 * i + 2]), Bits(static_cast<float>(static_cast<double>(a) + b)));
    CHECK_EQ(Bits(found[7 * i + 3]), Bits(static_cast<float>(static_cast<double>(a) - b)));
    CHECK_EQ(Bits(found[7 * i + 4]), Bits(static_cast<float>(static_cast<double>(a) / b)));
    CHECK_EQ(Bits(found[7 * i + 5]), Bits(static_cast<float>(std::sqrt(static_cast<double>(std::fabs(a))))));
    CHECK_EQ(Bits(found[7 * i + 6]), Bits(ExpF(c)));
    if (c > -87 && c < 88) CHECK_NEAR(found[7 * i + 6] / std::exp(static_cast<double>(c)), 1.0, 3e-7);
  }
  CHECK_EQ(ExpF(-200.0f), 0.0f);
  CHECK_EQ(ExpF(-INFINITY), 0.0f);
  CHECK_EQ(ExpF(1000.0f), ExpF(88.0f));
  CHECK_EQ(ExpF(0.0f), 1.0f);
  CHECK(std::isnan(ExpF(NAN)));
}

}  // namespace
}  // namespace kvrm::cuda
