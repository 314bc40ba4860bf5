#include "common/test.h"
#include "ops_test_util.h"

namespace kvrm::cpu {
namespace {

// What each output must be: sum in float64, and the size of its terms, which bounds the rounding.
struct Wanted {
  double sum = 0;
  double magnitude = 0;
};

Wanted Reference(const Tensor& w, const Tensor* bias, const float* x, size_t n) {
  Wanted wanted;
  for (size_t k = 0; k < w.weight.cols; ++k) {
    wanted.sum += x[k] * w.At(n, k);
    wanted.magnitude += std::fabs(x[k] * w.At(n, k));
  }
  if (bias != nullptr) wanted.sum += bias->At(n, 0);
  return wanted;
}

void CheckShape(Random& random, uint32_t dtype, uint32_t m, uint32_t rows, uint32_t cols) {
  const Tensor w(random, dtype, rows, cols);
  const Tensor bias(random, dtype, rows, 1);
  const Tensor* added = Between(random, 0, 1) == 1 ? &bias : nullptr;
  const Weight* bias_weight = added == nullptr ? nullptr : &added->weight;
  const bool add = Between(random, 0, 1) == 1;
  const size_t x_stride = cols + Between(random, 0, 3), out_stride = rows + Between(random, 0, 3);
  const std::vector<float> x = Normals(random, (m - 1) * x_stride + cols);
  const std::vector<float> residual = Normals(random, (m - 1) * out_stride + rows);

  std::vector<float> whole = residual;
  MatMul(w.weight, bias_weight, x.data(), x_stride, m, whole.data(), out_stride, 0, rows, add);
  for (int i = 0; i < 40; ++i) {
    const size_t row = Between(random, 0, m - 1), n = Between(random, 0, rows - 1);
    const Wanted wanted = Reference(w, added, &x[row * x_stride], n);
    const double sum = wanted.sum + (add ? residual[row * out_stride + n] : 0.0);
    CHECK_NEAR(whole[row * out_stride + n], sum, 1e-6 * (wanted.magnitude + 4));
  }

  // Cut over n at random places: the same bits.
  std::vector<float> cut = residual;
  for (uint32_t n = 0; n < rows;) {
    const uint32_t end = std::min(rows, n + Between(random, 1, 40));
    MatMul(w.weight, bias_weight, x.data(), x_stride, m, cut.data(), out_stride, n, end, add);
    n = end;
  }
  CHECK(SameBits(whole.data(), cut.data(), whole.size()));

  // One row, one column at a time: the same bits.
  std::vector<float> single = residual;
  for (uint32_t row = 0; row < m; ++row) {
    for (uint32_t n = 0; n < rows; ++n) {
      MatMul(w.weight, bias_weight, &x[row * x_stride], x_stride, 1, &single[row * out_stride], out_stride, n, n + 1,
             add);
    }
  }
  CHECK(SameBits(whole.data(), single.data(), whole.size()));
}

constexpr uint32_t kDtypes[] = {KVRM_F32, KVRM_F16, KVRM_BF16};

TEST(MatMulMatchesFloat64AndIsTheSameForEveryRowAloneAndEveryCut) {
  Random random(1);
  for (const uint32_t dtype : kDtypes) {
    for (const uint32_t m : {1u, 2u, 3u, 4u, 5u, 7u, 12u, 16u, 33u}) {
      CheckShape(random, dtype, m, Between(random, 1, 70), Between(random, 1, 300));
    }
  }
}

TEST(MatMulCrossesItsBlocksOfKAndItsPassesOfRows) {
  Random random(2);
  for (const uint32_t dtype : kDtypes) {
    CheckShape(random, dtype, 97, 9, 65);
    CheckShape(random, dtype, 205, 19, 767);
    CheckShape(random, dtype, 5, 10, 768);
    CheckShape(random, dtype, 9, 11, 1537);
    CheckShape(random, dtype, 26, 5, 4097);
  }
}

TEST(MatMulOfTinyShapes) {
  Random random(3);
  for (uint32_t m = 1; m <= 6; ++m) {
    for (uint32_t rows = 1; rows <= 9; ++rows) {
      for (uint32_t cols = 1; cols <= 18; ++cols) CheckShape(random, kDtypes[cols % 3], m, rows, cols);
    }
  }
}

TEST(MatMulKeepsNanAndInfinityInTheirRow) {
  Random random(4);
  const Tensor w(random, KVRM_BF16, 24, 96);
  std::vector<float> x = Normals(random, 7 * 96);
  std::vector<float> clean(7 * 24), dirty(7 * 24);
  MatMul(w.weight, nullptr, x.data(), 96, 7, clean.data(), 24, 0, 24, false);
  for (size_t k = 0; k < 96; ++k) x[4 * 96 + k] = k % 2 == 0 ? NAN : INFINITY;
  MatMul(w.weight, nullptr, x.data(), 96, 7, dirty.data(), 24, 0, 24, false);
  CHECK(SameBits(clean.data(), dirty.data(), 4 * 24));
  CHECK(SameBits(&clean[5 * 24], &dirty[5 * 24], 2 * 24));
  for (size_t n = 0; n < 24; ++n) CHECK(std::isnan(dirty[4 * 24 + n]));
}

TEST(MatMulOfNothingWritesNothing) {
  float out = 7;
  const Weight w{nullptr, KVRM_F32, 4, 4};
  MatMul(w, nullptr, nullptr, 4, 0, &out, 4, 0, 4, false);
  MatMul(w, nullptr, nullptr, 4, 1, &out, 4, 2, 2, false);
  CHECK_EQ(out, 7.0f);
}

}  // namespace
}  // namespace kvrm::cpu
