#include "common/test.h"
#include "gemm_test_util.h"

namespace kvrm::cuda::test {
namespace {

struct Shape {
  WeightType weight;
  uint32_t act, kv_dtype;
  uint32_t head_dim, heads, kv_heads, hidden;
  bool biased, normed;
};

// Q, K and V of random rows on the device.
class QkvRun {
 public:
  static constexpr uint32_t kBlockTokens = 16, kLayers = 2, kLayer = 1;

  QkvRun(Random& random, const Shape& shape, uint32_t rows)
      : shape(shape),
        rows(rows),
        weight(RandomWeight(random, shape.weight, (shape.heads + 2 * shape.kv_heads) * shape.head_dim, shape.hidden)),
        x(Normals(random, size_t{rows} * shape.hidden)),
        bias(Normals(random, weight.n)),
        q_norm(Normals(random, shape.head_dim)),
        k_norm(Normals(random, shape.head_dim)),
        cosine(size_t{rows} * shape.head_dim / 2),
        sine(cosine.size()) {
    for (float& value : x) value = Rounded(value, shape.act);
    for (size_t i = 0; i < cosine.size(); ++i) {
      const float angle = static_cast<float>(random() % 1000);
      cosine[i] = std::cos(angle);
      sine[i] = std::sin(angle);
    }
    // Every row has a place of its own, in any order.
    std::vector<uint32_t> places(rows + 20);
    for (uint32_t i = 0; i < places.size(); ++i) places[i] = i;
    std::shuffle(places.begin(), places.end(), random);
    blocks = static_cast<uint32_t>(places.size()) / kBlockTokens + 1;
    for (uint32_t r = 0; r < rows; ++r) row.push_back({0, r, r, places[r] / kBlockTokens, places[r] % kBlockTokens, 0});
  }

  uint32_t KvBytes() const { return shape.kv_dtype == KVRM_F32 ? 4 : shape.kv_dtype == KVRM_F8_E4M3 ? 1 : 2; }
  size_t KvAt(uint32_t r, bool is_v, uint32_t head, uint32_t d) const {
    size_t at = ((size_t{row[r].block} * kLayers + kLayer) * 2 + is_v) * shape.kv_heads + head;
    return (at * kBlockTokens + row[r].offset) * shape.head_dim + d;
  }

  // Rows first to first + count, as a batch of their own.
  void Run(uint32_t first, uint32_t count, uint32_t max_rows, uint32_t sms) {
    const size_t half = shape.head_dim / 2;
    const Product product(weight, shape.act, &x[size_t{first} * shape.hidden], count, max_rows, sms);
    const auto part = [&](const std::vector<float>& all, size_t width) {
      return std::vector<float>(all.begin() + first * width, all.begin() + (first + count) * width);
    };
    const Buffer device_bias(bias), device_q_norm(q_norm), device_k_norm(k_norm), device_cos(part(cosine, half)),
        device_sin(part(sine, half)), device_q(size_t{max_rows} * shape.heads * shape.head_dim * sizeof(float)),
        device_row(std::vector<Row>(row.begin() + first, row.begin() + first + count)),
        device_pool(size_t{blocks} * kLayers * 2 * shape.kv_heads * kBlockTokens * shape.head_dim * KvBytes());
    StepView step = {};
    step.max_rows = max_rows;
    step.block_tokens = kBlockTokens;
    step.layers = kLayers;
    step.heads = shape.heads;
    step.kv_heads = shape.kv_heads;
    step.head_dim = shape.head_dim;
    step.rows = device_row.As<Row>();
    step.pool = device_pool.As<uint8_t>();
    step.kv_dtype = shape.kv_dtype;
    QkvEpilogue out = {};
    out.bias = shape.biased ? device_bias.As<float>() : nullptr;
    out.q_norm = shape.normed ? device_q_norm.As<float>() : nullptr;
    out.k_norm = shape.normed ? device_k_norm.As<float>() : nullptr;
    out.eps = 1e-5f;
    out.cos_table = device_cos.As<float>();
    out.sin_table = device_sin.As<float>();
    out.q = device_q.As<float>();
    out.layer = kLayer;
    LaunchQkv(product.context(), step, product.weight(), product.in(), out);
    Succeed(cudaGetLastError(), "LaunchQkv");
    q = device_q.Read<float>();
    pool = device_pool.Read<uint8_t>();
    CHECK(product.WorkspaceIsReady());
  }

  // One head of a row in float64, after bias, norm and RoPE; error bounds the rounding of each element.
  void Reference(uint32_t r, uint32_t head, std::vector<double>* out, std::vector<double>* error) const {
    const uint32_t dim = shape.head_dim, half = dim / 2;
    std::vector<double> value(dim), slack(dim);
    double squares = 0;
    for (uint32_t d = 0; d < dim; ++d) {
      const Wanted wanted = test::Reference(weight, &x[size_t{r} * shape.hidden], head * dim + d);
      value[d] = wanted.sum + (shape.biased ? bias[head * dim + d] : 0);
      slack[d] = 3e-6 * (wanted.magnitude + 2);
      squares += value[d] * value[d];
    }
    if (shape.normed && head < shape.heads + shape.kv_heads) {
      const double scale = 1 / std::sqrt(squares / dim + 1e-5f);
      for (uint32_t d = 0; d < dim; ++d) {
        const double factor = scale * (head < shape.heads ? q_norm : k_norm)[d];
        value[d] *= factor;
        slack[d] = slack[d] * std::fabs(factor) + 1e-5 * std::fabs(value[d]);
      }
    }
    *out = value;
    *error = slack;
    if (head >= shape.heads + shape.kv_heads) return;
    for (uint32_t d = 0; d < half; ++d) {
      const double c = cosine[size_t{r} * half + d], s = sine[size_t{r} * half + d];
      (*out)[d] = value[d] * c - value[d + half] * s;
      (*out)[d + half] = value[d + half] * c + value[d] * s;
      (*error)[d] = (*error)[d + half] = slack[d] + slack[d + half] + 1e-6;
    }
  }

  const Shape shape;
  const uint32_t rows;
  const HostWeight weight;
  std::vector<float> x;
  const std::vector<float> bias, q_norm, k_norm;
  std::vector<float> cosine, sine;
  std::vector<Row> row;
  uint32_t blocks;
  std::vector<float> q;
  std::vector<uint8_t> pool;
};

double Unit(uint32_t dtype) {
  return dtype == KVRM_F32 ? 0 : dtype == KVRM_F16 ? 0x1p-11 : dtype == KVRM_BF16 ? 0x1p-8 : 0x1p-4;
}

void CheckRun(const QkvRun& run) {
  const Shape& s = run.shape;
  std::vector<double> wanted, error;
  for (uint32_t r = 0; r < run.rows; r += 1 + r / 2) {
    for (uint32_t head = 0; head < s.heads + 2 * s.kv_heads; ++head) {
      run.Reference(r, head, &wanted, &error);
      for (uint32_t d = 0; d < s.head_dim; ++d) {
        if (head < s.heads) {
          CHECK_NEAR(run.q[(size_t{r} * s.heads + head) * s.head_dim + d], wanted[d], error[d]);
        } else {
          const bool is_v = head >= s.heads + s.kv_heads;
          const uint32_t kv_head = head - s.heads - (is_v ? s.kv_heads : 0);
          const double found = ReadAs(run.pool.data(), run.KvAt(r, is_v, kv_head, d), s.kv_dtype);
          const double limit = s.kv_dtype == KVRM_F8_E4M3 ? std::clamp(wanted[d], -448.0, 448.0) : wanted[d];
          CHECK_NEAR(found, limit,
                     error[d] + std::fabs(limit) * Unit(s.kv_dtype) + (s.kv_dtype == KVRM_F8_E4M3 ? 0x1p-9 : 0x1p-24));
        }
      }
    }
  }
  // Nothing else is written: q beyond the rows, and places of the pool that are nobody's.
  size_t beyond = 0, written = 0;
  for (size_t i = size_t{run.rows} * s.heads * s.head_dim; i < run.q.size(); ++i) beyond += !std::isnan(run.q[i]);
  for (size_t i = 0; i < run.pool.size() / run.KvBytes(); ++i) {
    bool untouched = true;
    for (uint32_t b = 0; b < run.KvBytes(); ++b) untouched = untouched && run.pool[i * run.KvBytes() + b] == 0xff;
    written += !untouched;
  }
  CHECK_EQ(beyond, 0u);
  CHECK_EQ(written, size_t{2} * run.rows * s.kv_heads * s.head_dim);
}

constexpr Shape kShapes[] = {
    {WeightType::kF32, KVRM_F32, KVRM_F32, 8, 4, 2, 64, false, false},
    {WeightType::kF32, KVRM_F32, KVRM_F16, 40, 3, 1, 50, true, true},
    {WeightType::kBf16, KVRM_BF16, KVRM_BF16, 128, 2, 1, 96, false, false},
    {WeightType::kBf16, KVRM_BF16, KVRM_F8_E4M3, 128, 2, 1, 1056, true, true},
    {WeightType::kF16, KVRM_F16, KVRM_F16, 64, 3, 1, 1056, true, false},
    {WeightType::kF16, KVRM_F16, KVRM_F16, 64, 3, 1, 64, false, true},
    {WeightType::kBf16, KVRM_BF16, KVRM_BF16, 8, 6, 3, 64, false, true},
    {WeightType::kBf16, KVRM_BF16, KVRM_F32, 80, 2, 2, 96, true, true},
    {WeightType::kBf16, KVRM_BF16, KVRM_BF16, 96, 2, 1, 96, false, false},
    {WeightType::kFp8, KVRM_BF16, KVRM_F8_E4M3, 256, 1, 1, 96, true, false},
    {WeightType::kBf16, KVRM_BF16, KVRM_BF16, 256, 1, 1, 1056, false, true},
    {WeightType::kInt8, KVRM_F16, KVRM_F16, 64, 2, 1, 96, true, true},
    {WeightType::kInt4, KVRM_BF16, KVRM_BF16, 64, 2, 1, 288, false, false},
    {WeightType::kBf16, KVRM_BF16, KVRM_BF16, 34, 2, 1, 64, false, true},
    {WeightType::kBf16, KVRM_BF16, KVRM_BF16, 16, 2, 1, 60, true, false},
};

TEST(QueriesKeysAndValuesMatchFloat64) {
  Random random(1);
  for (const Shape& shape : kShapes) {
    for (const uint32_t rows : {1u, 11u, 18u, 67u}) {
      if (rows == 67 && shape.hidden > 500 && shape.weight != WeightType::kBf16) continue;
      QkvRun run(random, shape, rows);
      run.Run(0, rows, rows + 2, 4);
      CheckRun(run);
    }
  }
}

TEST(QueriesKeysAndValuesHaveTheSameBitsInEveryBatch) {
  Random random(2);
  for (const Shape& shape : kShapes) {
    constexpr uint32_t kRows = 70;
    if (shape.hidden > 500 && shape.head_dim != 128) continue;
    QkvRun run(random, shape, kRows);
    run.Run(0, kRows, kRows, 4);
    const std::vector<float> q = run.q;
    const std::vector<uint8_t> pool = run.pool;
    struct Case {
      uint32_t first, rows, max_rows, sms;
    };
    for (const Case& c : {Case{69, 1, 1, 132}, {31, 12, 64, 4}, {3, 40, 64, 132}}) {
      run.Run(c.first, c.rows, c.max_rows, c.sms);
      const size_t width = size_t{shape.heads} * shape.head_dim;
      CHECK_EQ(std::memcmp(run.q.data(), &q[c.first * width], c.rows * width * sizeof(float)), 0);
      for (uint32_t r = c.first; r < c.first + c.rows; ++r) {
        for (uint32_t head = 0; head < shape.kv_heads; ++head) {
          for (const bool is_v : {false, true}) {
            const size_t at = run.KvAt(r, is_v, head, 0) * run.KvBytes();
            CHECK_EQ(std::memcmp(&run.pool[at], &pool[at], shape.head_dim * run.KvBytes()), 0);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace kvrm::cuda::test
