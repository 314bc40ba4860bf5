// Products whose sums are written plainly; those of Q, K and V have a test of their own.
#include "common/test.h"
#include "gemm_test_util.h"

namespace kvrm::cuda::test {
namespace {

struct Type {
  WeightType weight;
  uint32_t act;
};
constexpr Type kTypes[] = {{WeightType::kF32, KVRM_F32},   {WeightType::kF16, KVRM_F16},
                           {WeightType::kBf16, KVRM_BF16}, {WeightType::kFp8, KVRM_BF16},
                           {WeightType::kFp8, KVRM_F16},   {WeightType::kInt8, KVRM_BF16},
                           {WeightType::kInt8, KVRM_F16},  {WeightType::kInt4, KVRM_BF16},
                           {WeightType::kInt4, KVRM_F16},  {WeightType::kInt8, KVRM_F32}};
constexpr uint32_t kSmallGpu = 4, kLargeGpu = 132;  // multiprocessors: they decide how products are cut

std::vector<float> Activations(Random& random, size_t count, uint32_t dtype) {
  std::vector<float> x = Normals(random, count);
  for (float& value : x) value = Rounded(value, dtype);
  return x;
}

std::vector<float> Logits(const HostWeight& w, uint32_t act, const float* x, uint32_t rows, uint32_t max_rows,
                          uint32_t sms) {
  const Product product(w, act, x, rows, max_rows, sms);
  const Buffer logits(size_t{max_rows} * w.n * sizeof(float));
  LaunchLogits(product.context(), product.weight(), product.in(), logits.As<float>());
  Succeed(cudaGetLastError(), "LaunchLogits");
  CHECK(product.WorkspaceIsReady());
  return logits.Read<float>();
}

// Some sums against float64, and nothing written beyond the rows in use.
void CheckLogits(Random& random, const HostWeight& w, const std::vector<float>& x, uint32_t rows,
                 const std::vector<float>& found) {
  for (uint32_t i = 0; i < 60; ++i) {
    const uint32_t r = i == 0 ? rows - 1 : random() % rows, n = i < 2 ? i * (w.n - 1) : random() % w.n;
    const Wanted wanted = Reference(w, &x[size_t{r} * w.k], n);
    CHECK_NEAR(found[size_t{r} * w.n + n], wanted.sum, 2e-6 * (wanted.magnitude + 1));
  }
  size_t written = 0;
  for (size_t i = size_t{rows} * w.n; i < found.size(); ++i) written += !std::isnan(found[i]);
  CHECK_EQ(written, 0u);
}

TEST(ProductsMatchFloat64ForEveryTypeAndNumberOfRows) {
  Random random(1);
  for (const Type& type : kTypes) {
    for (const uint32_t k : {32u, 96u, 1024u, 1056u, 2080u}) {
      const HostWeight w = RandomWeight(random, type.weight, 16 * (1 + 2 * (random() % 3)), k);
      for (const uint32_t rows : {1u, 3u, 8u, 9u, 17u, 64u, 65u, 130u}) {
        if (k > 96 && random() % 3 != 0) continue;
        const std::vector<float> x = Activations(random, size_t{rows} * k, type.act);
        CheckLogits(random, w, x, rows, Logits(w, type.act, x.data(), rows, rows + random() % 4, kSmallGpu));
      }
    }
  }
}

TEST(ProductsOfShapesThatTensorCoresDoNotFit) {
  Random random(2);
  for (const Type& type : kTypes) {
    for (const auto& [n, k] : {std::pair{1u, 1u}, {7u, 31u}, {65u, 132u}, {130u, 200u}}) {
      const HostWeight w = RandomWeight(random, type.weight, n, k);
      for (const uint32_t rows : {1u, 8u, 11u}) {
        const std::vector<float> x = Activations(random, size_t{rows} * k, type.act);
        CheckLogits(random, w, x, rows, Logits(w, type.act, x.data(), rows, rows + 2, kSmallGpu));
      }
    }
  }
}

TEST(FeaturesThatFillNoTile) {
  Random random(3);
  for (const uint32_t n : {1u, 17u, 130u, 272u}) {
    const HostWeight w = RandomWeight(random, WeightType::kBf16, n, 64);
    for (const uint32_t rows : {2u, 20u, 70u}) {
      const std::vector<float> x = Activations(random, size_t{rows} * 64, KVRM_BF16);
      CheckLogits(random, w, x, rows, Logits(w, KVRM_BF16, x.data(), rows, rows, kSmallGpu));
    }
  }
}

// Streamed or tiled, by one block or several, alone or among others: the same bits.
TEST(RowsHaveTheSameBitsInEveryBatchAndOnEveryGpu) {
  Random random(4);
  constexpr uint32_t kRows = 130, kN = 144, kK = 2080;
  for (const Type& type : kTypes) {
    const HostWeight w = RandomWeight(random, type.weight, kN, kK);
    const std::vector<float> x = Activations(random, size_t{kRows} * kK, type.act);
    const std::vector<float> all = Logits(w, type.act, x.data(), kRows, kRows, kSmallGpu);
    struct Case {
      uint32_t first, rows, max_rows, sms;
    };
    for (const Case& c : {Case{0, 1, 1, kSmallGpu},
                          {129, 1, 64, kLargeGpu},
                          {60, 7, 8, kLargeGpu},
                          {3, 16, 16, 1},
                          {40, 13, 64, kSmallGpu},
                          {5, 64, 64, kSmallGpu},
                          {66, 33, 64, kLargeGpu},
                          {20, 70, 128, kLargeGpu},
                          {9, 5, 256, kSmallGpu},
                          {17, 40, 64, 1}}) {
      const std::vector<float> some = Logits(w, type.act, &x[size_t{c.first} * kK], c.rows, c.max_rows, c.sms);
      CHECK_EQ(std::memcmp(some.data(), &all[size_t{c.first} * kN], size_t{c.rows} * kN * sizeof(float)), 0);
    }
  }
}

TEST(RowsOfAListStartAtFirst) {
  Random random(5);
  const HostWeight w = RandomWeight(random, WeightType::kBf16, 32, 64);
  const std::vector<float> x = Activations(random, 6 * 64, KVRM_BF16);
  const std::vector<float> all = Logits(w, KVRM_BF16, x.data(), 6, 6, kSmallGpu);
  for (const uint32_t first : {0u, 4u, 6u, 9u}) {
    Product product(w, KVRM_BF16, x.data(), 6, 4, kSmallGpu, first);
    const Buffer logits(size_t{4} * w.n * sizeof(float));
    LaunchLogits(product.context(), product.weight(), product.in(), logits.As<float>());
    Succeed(cudaGetLastError(), "LaunchLogits");
    const std::vector<float> found = logits.Read<float>();
    const uint32_t rows = first >= 6 ? 0 : std::min(4u, 6 - first);
    CHECK_EQ(std::memcmp(found.data(), &all[first * w.n], size_t{rows} * w.n * sizeof(float)), 0);
    for (size_t i = size_t{rows} * w.n; i < found.size(); ++i) CHECK(std::isnan(found[i]));
  }
}

TEST(NanStaysInItsRow) {
  Random random(6);
  for (const uint32_t rows : {8u, 30u, 100u}) {
    const HostWeight w = RandomWeight(random, WeightType::kF16, 48, 96);
    std::vector<float> x = Activations(random, size_t{rows} * 96, KVRM_F16);
    const std::vector<float> clean = Logits(w, KVRM_F16, x.data(), rows, rows, kSmallGpu);
    for (uint32_t i = 0; i < 96; ++i) x[5 * 96 + i] = i % 2 ? NAN : INFINITY;
    const std::vector<float> dirty = Logits(w, KVRM_F16, x.data(), rows, rows, kSmallGpu);
    for (size_t i = 0; i < clean.size(); ++i) {
      if (i / w.n == 5) {
        CHECK(std::isnan(dirty[i]));
      } else {
        CHECK_EQ(dirty[i], clean[i]);
      }
    }
  }
}

// ---- the residual ---------------------------------------------------------------------------------------

TEST(ResidualAddsTheProductAndItsBias) {
  Random random(7);
  for (const Type& type : kTypes) {
    const uint32_t n = 80, k = 1056;
    const HostWeight w = RandomWeight(random, type.weight, n, k);
    for (const uint32_t rows : {2u, 21u, 67u}) {
      const uint32_t max_rows = rows + 1;
      const std::vector<float> x = Activations(random, size_t{rows} * k, type.act);
      const std::vector<float> bias = Normals(random, n), before = Normals(random, size_t{max_rows} * n);
      const Buffer device_bias(bias), hidden(before);
      const Product product(w, type.act, x.data(), rows, max_rows, kSmallGpu);
      const bool biased = rows != 21;
      LaunchResidual(product.context(), product.weight(), product.in(), biased ? device_bias.As<float>() : nullptr,
                     hidden.As<float>());
      Succeed(cudaGetLastError(), "LaunchResidual");
      const std::vector<float> after = hidden.Read<float>();
      const std::vector<float> sums = Logits(w, type.act, x.data(), rows, max_rows, kSmallGpu);
      for (size_t i = 0; i < after.size(); ++i) {
        const float sum = biased ? sums[i] + bias[i % n] : sums[i];
        CHECK_EQ(after[i], i < size_t{rows} * n ? before[i] + sum : before[i]);
      }
    }
  }
}

// ---- SwiGLU ---------------------------------------------------------------------------------------------

TEST(GateAndUpMatchFloat64) {
  Random random(8);
  for (const Type& type : kTypes) {
    for (const uint32_t intermediate : {16u, 72u, 100u}) {
      const uint32_t k = 96, n = (intermediate + 15) / 16 * 32;
      const HostWeight w = RandomWeight(random, type.weight, n, k);
      for (const uint32_t rows : {1u, 12u, 35u, 66u}) {
        const uint32_t max_rows = rows + 2;
        const std::vector<float> x = Activations(random, size_t{rows} * k, type.act);
        const Product product(w, type.act, x.data(), rows, max_rows, kSmallGpu);
        const Buffer y(size_t{max_rows} * intermediate * Product::Bytes(type.act));
        LaunchGateUp(product.context(), product.weight(), product.in(), intermediate, y.As());
        Succeed(cudaGetLastError(), "LaunchGateUp");
        const std::vector<uint8_t> bytes = y.Read<uint8_t>();
        const double unit = type.act == KVRM_F32 ? 1e-6 : type.act == KVRM_F16 ? 0x1p-11 : 0x1p-8;
        for (uint32_t i = 0; i < 80; ++i) {
          const uint32_t r = random() % rows, c = i == 0 ? intermediate - 1 : random() % intermediate;
          const Wanted gate = Reference(w, &x[size_t{r} * k], c / 16 * 32 + c % 16);
          const Wanted up = Reference(w, &x[size_t{r} * k], c / 16 * 32 + 16 + c % 16);
          const double wanted = gate.sum / (1 + std::exp(-gate.sum)) * up.sum;
          const double rounding =
              2e-6 * (gate.magnitude * (std::fabs(up.sum) + 1) + up.magnitude * (std::fabs(gate.sum) + 1));
          CHECK_NEAR(ReadAs(bytes.data(), size_t{r} * intermediate + c, type.act), wanted,
                     std::fabs(wanted) * unit + rounding);
        }
        for (size_t i = size_t{rows} * intermediate; i < size_t{max_rows} * intermediate; ++i) {
          CHECK(std::isnan(ReadAs(bytes.data(), i, type.act)));
        }
      }
    }
  }
}

}  // namespace
}  // namespace kvrm::cuda::test
