// Products in tiles: the kernels' own source with the unit in plain C++, and the unit itself where there is one,
// against the arithmetic that tile_matmul.h promises, bit for bit, and against float64.
#if defined(__x86_64__)
#define KVRM_EMULATE_X86
#define KVRM_TILE_KERNELS kEmulatedTiles
#define KVRM_TILE_NAMESPACE emulated_tiles_test
#include "tile_matmul.cc"

#include <cmath>
#include <cstdio>
#include <vector>

#include "common/test.h"
#include "ops_test_util.h"

namespace kvrm::cpu {
namespace {

struct Named {
  const char* name;
  const TileKernels* kernels;
};

std::vector<Named> AllKernels() {
  std::vector<Named> all = {{"emulated", &kEmulatedTiles}};
  if (TileKernel() != nullptr) all.push_back({"AMX", TileKernel()});
  return all;
}

TEST(TheUnitIsTestedWhereThereIsOne) {
  if (TileKernel() == nullptr) std::printf("skipped: AMX itself, which this processor or KVRM_CPU_TARGET lacks\n");
  CHECK(!AllKernels().empty());
}

float ToFloat(uint16_t bits) {
  float value;
  Widen(&bits, 1, KVRM_BF16, &value);
  return value;
}
float NearestBf16(float value) {
  uint16_t bits;
  Narrow(&value, 1, KVRM_BF16, &bits);
  return ToFloat(bits);
}
float Flushed(float value) { return std::fabs(value) < 0x1p-126f ? std::copysign(0.0f, value) : value; }

// A step's product as the header says, of 32 numbers that BF16 holds.
float AddStep(float acc, const float* w, const float* x) {
  float even = 0, odd = 0;
  for (int k = 0; k < 32; k += 2) {
    even = Flushed(std::fma(Flushed(x[k]), Flushed(w[k]), even));
    odd = Flushed(std::fma(Flushed(x[k + 1]), Flushed(w[k + 1]), odd));
  }
  return Flushed(acc + Flushed(even + odd));
}

float Promised(const Tensor& w, size_t n, const float* x, uint32_t parts) {
  float acc = 0;
  for (uint32_t k = 0; k < w.weight.cols; k += 32) {
    float weights[32], nearest[32], rest[32];
    for (uint32_t i = 0; i < 32; ++i) {
      weights[i] = static_cast<float>(w.At(n, k + i));
      nearest[i] = NearestBf16(x[k + i]);
      rest[i] = NearestBf16(x[k + i] - nearest[i]);
    }
    if (parts == 2) acc = AddStep(acc, weights, rest);
    acc = AddStep(acc, weights, nearest);
  }
  return acc;
}

std::vector<float> Multiply(const TileKernels& kernels, const Weight& w, const Weight* bias, const float* x,
                            size_t x_stride, uint32_t m, uint32_t parts, const std::vector<float>& start, bool add,
                            uint32_t cut) {
  const Aligned split = Allocate(TileRowsBytes(m, w.cols, parts));
  const uint32_t steps = w.cols / kTileStep, half = steps / 2;
  kernels.split(x, x_stride, m, w.cols, parts, half, steps, split.get());
  kernels.split(x, x_stride, m, w.cols, parts, 0, half, split.get());
  std::vector<float> out = start;
  for (uint32_t n = 0; n < w.rows; n += cut) {
    kernels.product({w, bias, split.get(), parts, m, out.data(), w.rows, n, std::min(w.rows, n + cut), add});
  }
  return out;
}

void CheckShape(Random& random, uint32_t parts, uint32_t m, uint32_t rows, uint32_t cols) {
  const Tensor w(random, KVRM_BF16, rows, cols);
  const Tensor bias_tensor(random, KVRM_F16, rows, 1);
  const Weight* bias = Between(random, 0, 1) == 1 ? &bias_tensor.weight : nullptr;
  const bool add = Between(random, 0, 1) == 1;
  const size_t x_stride = cols + Between(random, 0, 3);
  const std::vector<float> x = Normals(random, m * x_stride), start = Normals(random, size_t{m} * rows);
  for (const Named& of : AllKernels()) {
    const std::vector<float> whole =
        Multiply(*of.kernels, w.weight, bias, x.data(), x_stride, m, parts, start, add, rows);
    for (int check = 0; check < 40; ++check) {
      const size_t i = Between(random, 0, m - 1), n = Between(random, 0, rows - 1);
      float wanted = Promised(w, n, &x[i * x_stride], parts);
      if (bias) wanted += static_cast<float>(bias_tensor.At(n, 0));
      if (add) wanted = start[i * rows + n] + wanted;
      if (!SameBits(&whole[i * rows + n], &wanted, 1)) {
        test::Fail(__FILE__, __LINE__, std::string(of.name) + " is not as promised, m " + std::to_string(m));
      }
      double sum = (bias ? bias_tensor.At(n, 0) : 0.0) + (add ? start[i * rows + n] : 0.0), terms = 0;
      for (size_t k = 0; k < cols; ++k) {
        sum += w.At(n, k) * x[i * x_stride + k];
        terms += std::fabs(w.At(n, k) * x[i * x_stride + k]);
      }
      CHECK_NEAR(wanted, sum, parts == 2 ? 4e-6 * (terms + 4) : terms * (1.0 / 512 + 1e-5) + 1e-5);
    }
    // Cut over n, and one row at a time.
    for (const uint32_t cut : {32u, Between(random, 1, rows)}) {
      const std::vector<float> pieces =
          Multiply(*of.kernels, w.weight, bias, x.data(), x_stride, m, parts, start, add, cut);
      CHECK(SameBits(pieces.data(), whole.data(), whole.size()));
    }
    for (uint32_t i = 0; i < m; i += 1 + m / 3) {
      const std::vector<float> row_start(start.begin() + long(i * rows), start.begin() + long((i + 1) * rows));
      const std::vector<float> alone =
          Multiply(*of.kernels, w.weight, bias, &x[i * x_stride], x_stride, 1, parts, row_start, add, rows);
      CHECK(SameBits(alone.data(), &whole[i * rows], rows));
    }
  }
}

TEST(ProductsInTilesAreWhatIsPromisedAndCloseToFloat64) {
  Random random(1);
  for (const uint32_t parts : {1u, 2u}) {
    for (const uint32_t m : {1u, 2u, 3u, 5u, 8u, 15u, 16u, 17u, 32u, 33u, 50u}) {
      CheckShape(random, parts, m, Between(random, 1, 100), 32 * Between(random, 1, 9));
    }
    CheckShape(random, parts, 2, 55, 32 * 33);
    CheckShape(random, parts, 40, 37, 32 * 33);   // three blocks of k
    CheckShape(random, parts, 290, 20, 64);       // more rows than are taken at once
    CheckShape(random, parts, 70, 16, 32 * 280);  // passes, since x is larger than a cache
  }
}

TEST(ARowWithNanOrInfinityKeepsItToItself) {
  Random random(3);
  const Tensor w(random, KVRM_BF16, 40, 64);
  std::vector<float> x = Normals(random, 30 * 64), dirty_x = x;
  const std::vector<float> start(30 * 40);
  dirty_x[2 * 64 + 7] = NAN;
  dirty_x[4 * 64 + 63] = INFINITY;
  for (const Named& of : AllKernels()) {
    const std::vector<float> clean = Multiply(*of.kernels, w.weight, nullptr, x.data(), 64, 30, 2, start, false, 40);
    const std::vector<float> dirty =
        Multiply(*of.kernels, w.weight, nullptr, dirty_x.data(), 64, 30, 2, start, false, 40);
    for (size_t i = 0; i < 30; ++i) {
      if (i == 2 || i == 4) {
        for (size_t n = 0; n < 40; ++n) CHECK(!std::isfinite(dirty[i * 40 + n]));
      } else {
        CHECK(SameBits(&dirty[i * 40], &clean[i * 40], 40));
      }
    }
  }
}

}  // namespace
}  // namespace kvrm::cpu
#else
#include "common/test.h"
TEST(ThereAreNoTilesOnThisArchitecture) { CHECK(true); }
#endif
