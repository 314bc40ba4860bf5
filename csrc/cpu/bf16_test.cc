// Products in BF16 against float64 and against the arithmetic that bf16.h promises, one multiplication at a time.
// Nothing to test on a processor without the instruction.
#include "bf16.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "common/test.h"
#include "ops_test_util.h"

namespace kvrm::cpu {
namespace {

float ToFloat(uint16_t bits) {
  float value;
  Widen(&bits, 1, KVRM_BF16, &value);
  return value;
}

std::vector<uint16_t> Rounded(const std::vector<float>& values) {
  std::vector<uint16_t> out(values.size());
  Narrow(values.data(), values.size(), KVRM_BF16, out.data());
  return out;
}

std::vector<float> Multiply(const Weight& w, const Weight* bias, const std::vector<float>& x, uint32_t m,
                            const std::vector<float>& start, bool add, uint32_t cut) {
  const Aligned rounded = Allocate(m * Bf16RowBytes(w.cols));
  for (uint32_t row = 0; row < m; row += 5)
    RoundRows(x.data(), w.cols, w.cols, row, std::min(m, row + 5), rounded.get());
  const uint32_t groups = (w.rows + kGroupRows - 1) / kGroupRows;
  const Aligned packed = Allocate(groups * PackedGroupBytes(KVRM_BF16, w.cols));
  PackGroups(w, 0, groups, false, packed.get());
  const Aligned scratch = Allocate(PackedGroupBytes(KVRM_BF16, w.cols));
  std::vector<float> out = start, from_file = start;
  for (uint32_t n = 0; n < w.rows; n += cut) {
    PackedProduct product{{packed.get(), KVRM_BF16, w.rows, w.cols},
                          bias,
                          rounded.get(),
                          m,
                          out.data(),
                          w.rows,
                          n,
                          std::min(w.rows, n + cut),
                          add};
    MultiplyBf16(product);
    product.out = from_file.data();
    ProductFromFile(MultiplyBf16, w, false, product, scratch.get());
  }
  CHECK(SameBits(out.data(), from_file.data(), out.size()));
  return out;
}

// As the header says.
float Promised(const uint16_t* w, const uint16_t* x, uint32_t cols) {
  float sum = 0;
  for (uint32_t k = 0; k < cols; k += 2) {
    for (const uint32_t at : {k + 1, k}) sum = std::fma(ToFloat(x[at]), ToFloat(w[at]), sum);
  }
  return sum;
}

void CheckShape(Random& random, uint32_t m, uint32_t rows, uint32_t cols) {
  const std::vector<uint16_t> weights = Rounded(Normals(random, size_t{rows} * cols));
  const Weight w{weights.data(), KVRM_BF16, rows, cols};
  const std::vector<float> biases = Normals(random, rows);
  const Weight bias_weight{biases.data(), KVRM_F32, rows, 1};
  const Weight* bias = Between(random, 0, 1) == 1 ? &bias_weight : nullptr;
  const bool add = Between(random, 0, 1) == 1;
  const std::vector<float> x = Normals(random, size_t{m} * cols), start = Normals(random, size_t{m} * rows);
  const std::vector<uint16_t> rounded = Rounded(x);

  const std::vector<float> out = Multiply(w, bias, x, m, start, add, rows);
  for (uint32_t i = 0; i < m; ++i) {
    for (uint32_t n = 0; n < rows; ++n) {
      float wanted = Promised(&weights[size_t{n} * cols], &rounded[size_t{i} * cols], cols);
      if (bias) wanted += biases[n];
      if (add) wanted = start[i * rows + n] + wanted;
      CHECK(SameBits(&out[i * rows + n], &wanted, 1));
    }
  }
  // Rounding to 8 bits leaves at most 2^-9 of each activation.
  for (int check = 0; check < 20; ++check) {
    const size_t i = Between(random, 0, m - 1), n = Between(random, 0, rows - 1);
    double sum = (bias ? biases[n] : 0.0) + (add ? start[i * rows + n] : 0.0), terms = 0;
    for (size_t k = 0; k < cols; ++k) {
      const double product = double(ToFloat(weights[n * cols + k])) * x[i * cols + k];
      sum += product;
      terms += std::fabs(product);
    }
    CHECK_NEAR(out[i * rows + n], sum, terms * (1.0 / 512 + 4e-5) + 1e-6);
  }
  // Cut over n, and one row at a time.
  const std::vector<float> parts = Multiply(w, bias, x, m, start, add, Between(random, 1, rows));
  CHECK(SameBits(parts.data(), out.data(), out.size()));
  for (uint32_t i = 0; i < m; i += 1 + m / 3) {
    const std::vector<float> row(x.begin() + long(i * cols), x.begin() + long((i + 1) * cols));
    const std::vector<float> row_start(start.begin() + long(i * rows), start.begin() + long((i + 1) * rows));
    const std::vector<float> alone = Multiply(w, bias, row, 1, row_start, add, rows);
    CHECK(SameBits(alone.data(), &out[i * rows], rows));
  }
}

TEST(ProductsInBf16AreThePromisedChains) {
  if (!HasBf16Products()) return;
  Random random(1);
  for (const uint32_t m : {1u, 2u, 3u, 4u, 5u, 6u, 7u, 12u, 13u, 16u, 23u, 24u, 25u, 26u, 37u}) {
    CheckShape(random, m, Between(random, 1, 70), 32 * Between(random, 1, 9));
  }
  CheckShape(random, 200, 40, 64);   // two passes
  CheckShape(random, 31, 19, 3104);  // three blocks of k
  CheckShape(random, 193, 9, 1536);
}

TEST(ARowWithNanOrInfinityKeepsItToItself) {
  if (!HasBf16Products()) return;
  Random random(2);
  const std::vector<uint16_t> weights = Rounded(Normals(random, 40 * 64));
  const Weight w{weights.data(), KVRM_BF16, 40, 64};
  std::vector<float> x = Normals(random, 30 * 64);
  const std::vector<float> start(30 * 40), clean = Multiply(w, nullptr, x, 30, start, false, 40);
  x[2 * 64 + 7] = NAN;
  x[4 * 64 + 63] = INFINITY;
  const std::vector<float> dirty = Multiply(w, nullptr, x, 30, start, false, 40);
  for (size_t i = 0; i < 30; ++i) {
    if (i == 2 || i == 4) {
      for (size_t n = 0; n < 40; ++n) CHECK(!std::isfinite(dirty[i * 40 + n]));
    } else {
      CHECK(SameBits(&dirty[i * 40], &clean[i * 40], 40));
    }
  }
}

}  // namespace
}  // namespace kvrm::cpu
