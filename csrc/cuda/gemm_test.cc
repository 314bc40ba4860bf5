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

std::vector<float> Activations(Random& random, size_t count, uint32_t dtype) {
  std::vector<float> x = Normals(random, count);
  for (float& value : x) value = Rounded(value, dtype);
  return x;
}

std::vector<float> Logits(const HostWeight& w, uint32_t act, const std::vector<float>& x, uint32_t rows,
                          uint32_t max_rows, uint32_t sms) {
  const Product product(w, act, x, rows, max_rows, sms);
  const Buffer logits(size_t{max_rows} * w.n * sizeof(float));
  LaunchLogits(product.context(), product.weight(), product.in(), logits.As<float>());
  Succeed(cudaGetLastError(), "LaunchLogits");
  return logits.Read<float>();
}

// Some rows against float64, and nothing written beyond the rows in use.
void CheckLogits(Random& random, const HostWeight& w, const std::vector<float>& x, uint32_t rows,
                 const std::vector<float>& found) {
  for (uint32_t i = 0; i < 60; ++i) {
    const uint32_t r = random() % rows, n = i < 2 ? i * (w.n - 1) : random() % w.n;
    const Wanted wanted = Reference(w, &x[size_t{r} * w.k], n);
    CHECK_NEAR(found[size_t{r} * w.n + n], wanted.sum, 2e-6 * (wanted.magnitude + 1));
  }
  for (size_t i = size_t{rows} * w.n; i < found.size(); ++i) CHECK(std::isnan(found[i]));
}

TEST(ProductsMatchFloat64ForEveryTypeAndNumberOfRows) {
  Random random(1);
  for (const Type& type : kTypes) {
    for (const uint32_t k : {32u, 96u, 1056u}) {
      const HostWeight w = RandomWeight(random, type.weight, 16 * (1 + 2 * (random() % 4)), k);
      for (const uint32_t rows : {1u, 9u, 17u, 65u}) {
        const std::vector<float> x = Activations(random, size_t{rows} * k, type.act);
        CheckLogits(random, w, x, rows, Logits(w, type.act, x, rows, rows + 3, 4));
      }
    }
  }
}

}  // namespace
}  // namespace kvrm::cuda::test
