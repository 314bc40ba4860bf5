// Attention against float64, and the rule that a row's bits depend on the row alone. On the emulator the
// cases are small; built for a GPU they include long histories.
#include "attention_test_util.h"
#include "common/test.h"

namespace kvrm::cuda {
namespace {

using test::Attention;
using test::Scatter;
using test::Sequence;
using test::Shape;

// Rows of the sequence [rows][H * D] in float64; q rounded as the tensor core kernel does.
std::vector<double> Reference(const Shape& shape, const Sequence& s, bool tensor_cores) {
  const uint32_t heads = shape.kv_heads * shape.group, dim = shape.head_dim;
  const uint32_t q_dtype = !tensor_cores ? KVRM_F32 : shape.kv_dtype == KVRM_BF16 ? KVRM_BF16 : KVRM_F16;
  const double scale = 1.0f / std::sqrt(static_cast<float>(dim));
  std::vector<double> out(uint64_t{s.rows} * heads * dim);
  for (uint32_t kv_head = 0; kv_head < shape.kv_heads; ++kv_head) {
    std::vector<float> k, v;
    for (uint32_t t = 0; t < s.length; ++t) {
      for (uint32_t n = 0; n < dim; ++n) k.push_back(test::KvValue(shape, s, false, t, kv_head, n));
      for (uint32_t n = 0; n < dim; ++n) v.push_back(test::KvValue(shape, s, true, t, kv_head, n));
    }
    for (uint32_t row = 0; row < s.rows * shape.group; ++row) {
      const uint32_t position = s.length - s.rows + row / shape.group, head = kv_head * shape.group + row % shape.group;
      const uint32_t first = FirstVisible(position, shape.window);
      std::vector<float> q;
      for (uint32_t n = 0; n < dim; ++n) q.push_back(test::Rounded(test::QueryValue(s, position, head, n), q_dtype));
      std::vector<double> scores;
      for (uint32_t t = first; t <= position; ++t) {
        double score = 0;
        for (uint32_t n = 0; n < dim; ++n) score += double{q[n]} * k[t * dim + n];
        scores.push_back(score * scale);
      }
      const double max = *std::max_element(scores.begin(), scores.end());
      double sum = 0;
      for (double& score : scores) sum += score = std::exp(score - max);
      double* to = &out[(uint64_t{row / shape.group} * heads + head) * dim];
      for (uint32_t t = first; t <= position; ++t) {
        for (uint32_t n = 0; n < dim; ++n) to[n] += scores[t - first] / sum * v[t * dim + n];
      }
    }
  }
  return out;
}

bool OnTensorCores(const Shape& shape) {
  const uint32_t d = shape.head_dim;
  return shape.kv_dtype != KVRM_F32 && (d == 64 || d == 80 || d == 96 || d == 128 || d == 256) && shape.group <= 64;
}

// What rounding p to the type of the product may cost, |v| < 3.
double Tolerance(const Shape& shape) {
  if (!OnTensorCores(shape)) return 3e-6;
  return shape.kv_dtype == KVRM_BF16 ? 4e-3 : 6e-4;
}

void CheckAgainstFloat64(const Shape& shape, const std::vector<Sequence>& sequences, Scatter scatter, uint32_t seed) {
  Attention attention(shape, sequences, scatter, seed);
  attention.Run();
  const std::vector<float> out = attention.Output<float>();
  size_t at = 0;
  for (const Sequence& s : attention.sequences()) {
    for (const double wanted : Reference(shape, s, OnTensorCores(shape))) {
      CHECK_NEAR(out[at++], wanted, Tolerance(shape));
    }
  }
  CHECK_EQ(at, out.size());
  for (const uint32_t arrivals : attention.Arrivals()) CHECK_EQ(arrivals, 0u);
}

// A batch of decoding rows and segments whose lengths are drawn from those that matter.
std::vector<Sequence> Batch(std::mt19937& random, uint32_t count, uint32_t longest, uint32_t group) {
  const uint32_t lengths[] = {1, 54, 64, 97, 300, 1025};
  std::vector<Sequence> sequences;
  for (uint32_t i = 0; i < count; ++i) {
    uint32_t length = lengths[random() % 6];
    length = std::min(length, longest);
    Sequence s = {static_cast<uint32_t>(random() % 1000), length, 1, random() % 4 != 0};
    if (!s.decode) s.rows = std::min<uint32_t>(length, 1 + random() % (80 / group + 1));
    sequences.push_back(s);
  }
  return sequences;
}

TEST(AttentionMatchesFloat64WithPlainArithmetic) {
  std::mt19937 random(1);
  uint32_t seed = 0;
  for (const uint32_t dtype : {KVRM_F32, KVRM_F16, KVRM_BF16, KVRM_F8_E4M3}) {
    for (const uint32_t dim : {8u, 16u, 40u}) {
      Shape shape;
      shape.kv_dtype = dtype;
      shape.head_dim = dim;
      shape.group = 1u << random() % 4;
      shape.block_tokens = 16u << random() % 3;
      shape.window = random() % 2 == 0 ? 0 : 1 + random() % 400;
      CheckAgainstFloat64(shape, Batch(random, 6, 1025, shape.group), static_cast<Scatter>(seed % 3), seed);
      ++seed;
    }
  }
}

TEST(AttentionMatchesFloat64OnTensorCores) {
  std::mt19937 random(2);
  uint32_t seed = 0;
  for (const uint32_t dtype : {KVRM_F16, KVRM_BF16, KVRM_F8_E4M3}) {
    for (const uint32_t dim : {64u, 80u, 96u, 128u, 256u}) {
      Shape shape;
      shape.kv_dtype = dtype;
      shape.head_dim = dim;
      shape.group = 1u << random() % 4;
      shape.block_tokens = 16u << random() % 3;
      shape.window = random() % 2 == 0 ? 0 : 1 + random() % 400;
      CheckAgainstFloat64(shape, Batch(random, 3, 1025, shape.group), static_cast<Scatter>(seed % 3), seed);
      ++seed;
    }
  }
}

}  // namespace
}  // namespace kvrm::cuda
