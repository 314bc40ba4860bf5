// Attention against float64, and the rule that a row's bits depend on the row alone. On the emulator the
// cases are small; built for a GPU they include long histories.
#include "attention_tensor.h"
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
  if (!OnTensorCores(shape)) return 1e-5;
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
  const uint32_t lengths[] = {1, 54, 64, 97, 300, 1025, 4095, 32768};
  std::vector<Sequence> sequences;
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t length = std::min<uint32_t>(lengths[random() % 8], longest);
    Sequence s = {static_cast<uint32_t>(random() % 1000), length, 1, random() % 4 != 0};
    if (!s.decode) s.rows = std::min<uint32_t>(length, 1 + random() % (80 / group + 1));
    sequences.push_back(s);
  }
  return sequences;
}

void CheckBatches(uint32_t seed, const std::vector<uint32_t>& dtypes, const std::vector<uint32_t>& dims,
                  uint32_t sequences, uint32_t longest) {
  std::mt19937 random(seed);
  for (const uint32_t dtype : dtypes) {
    for (const uint32_t dim : dims) {
      Shape shape;
      shape.kv_dtype = dtype;
      shape.head_dim = dim;
      shape.group = 1u << random() % 4;
      shape.kv_heads = 1 + random() % 2;
      shape.block_tokens = 16u << random() % 3;
      shape.window = random() % 2 == 0 ? 0 : 1 + random() % 400;
      shape.split_tokens = random() % 4 == 0 ? 768 : 256;
      CheckAgainstFloat64(shape, Batch(random, sequences, longest, shape.group), static_cast<Scatter>(seed % 3), seed);
      ++seed;
    }
  }
}

TEST(AttentionMatchesFloat64WithPlainArithmetic) {
  CheckBatches(1, {KVRM_F32, KVRM_F16, KVRM_BF16, KVRM_F8_E4M3}, {2, 8, 16, 40, 130}, 6, 1025);
}

TEST(AttentionMatchesFloat64OnTensorCores) {
  CheckBatches(2, {KVRM_F16, KVRM_BF16, KVRM_F8_E4M3}, {64, 80, 96, 128, 256}, 3, 1025);
}

TEST(AttentionMatchesFloat64InBatchesOfManySizes) {
  for (const uint32_t sequences : {1u, 12u, 17u}) CheckBatches(sequences, {KVRM_BF16}, {64}, sequences, 300);
}

// G that one tile of 16 query rows does not hold, and G that tensor cores do not take.
TEST(AttentionMatchesFloat64ForManyHeadsPerKvHead) {
  std::mt19937 random(3);
  for (const uint32_t group : {3u, 5u, 12u, 16u, 17u, 48u, 64u, 71u}) {
    Shape shape;
    shape.group = group;
    shape.kv_heads = 1;
    shape.head_dim = group == 48 ? 256 : 64;
    shape.kv_dtype = group % 2 == 0 ? KVRM_F16 : KVRM_F8_E4M3;
    std::vector<Sequence> sequences = {{1, 700, 1, true}, {2, 97, 1, true}, {3, 40, 9, false}};
    CheckAgainstFloat64(shape, sequences, Scatter::kRandom, group);
  }
}

TEST(AttentionWritesTheTypeThatIsAskedFor) {
  Shape shape;
  shape.group = 4;
  const std::vector<Sequence> sequences = {{1, 400, 1, true}, {2, 30, 5, false}};
  for (const uint32_t dim : {40u, 64u}) {
    shape.head_dim = dim;
    shape.out_dtype = KVRM_F32;
    Attention exact(shape, sequences, Scatter::kNone, 1);
    exact.Run();
    const std::vector<float> wanted = exact.Output<float>();
    for (const uint32_t dtype : {KVRM_F16, KVRM_BF16}) {
      shape.out_dtype = dtype;
      Attention attention(shape, sequences, Scatter::kNone, 1);
      attention.Run();
      const std::vector<uint16_t> out = attention.Output<uint16_t>();
      CHECK_EQ(out.size(), wanted.size());
      for (size_t i = 0; i < out.size(); ++i) {
        const float found = dtype == KVRM_F16 ? ToFloat(f16_t{out[i]}) : ToFloat(bf16_t{out[i]});
        CHECK_EQ(found, test::Rounded(wanted[i], dtype));
      }
    }
  }
}

// The copies that only the benchmark uses.
TEST(AttentionGivesTheSameBitsWithBulkCopies) {
#ifndef KVRM_EMULATOR
  int major = 0;
  test::Succeed(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), "cudaDeviceGetAttribute");
  if (major < 9) return;
#endif
  Shape shape;
  shape.head_dim = 128;
  shape.kv_heads = 1;
  shape.group = 4;
  shape.window = 700;
  std::mt19937 random(7);
  const std::vector<Sequence> sequences = Batch(random, 17, 1025, shape.group);
  Attention attention(shape, sequences, Scatter::kRandom, 1), bulk(shape, sequences, Scatter::kWorst, 1);
  attention.Run();
  LaunchTensor<128, bf16_t, 4, true>({nullptr, 4, false}, bulk.view(), bulk.args());
  CHECK(attention.Output<float>() == bulk.Output<float>());
}

// The rows of the sequence of that id, in any batch.
std::vector<float> RowsOf(Attention& attention, uint32_t id) {
  attention.Run();
  const std::vector<float> out = attention.Output<float>();
  const size_t row = out.size() / attention.rows();
  size_t at = 0;
  for (const Sequence& s : attention.sequences()) {
    if (s.id == id) return {out.begin() + at * row, out.begin() + (at + s.rows) * row};
    at += s.rows;
  }
  throw std::runtime_error("the sequence is not in the batch");
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// One history: alone, in batches, in blocks of every size, wherever they lie; its last rows one at a time
// and as a segment.
void CheckSameBits(Shape shape, uint32_t length, uint32_t rows, const std::vector<Sequence>& others) {
  const uint32_t id = 5000;
  const size_t row_floats = shape.kv_heads * shape.group * shape.head_dim;
  shape.block_tokens = 16;
  Attention segment(shape, {{id, length, rows, false}}, Scatter::kNone, 1);
  const std::vector<float> wanted = RowsOf(segment, id);
  CHECK(std::isfinite(wanted[0]));
  for (const uint32_t block_tokens : {16u, 32u, 64u}) {
    shape.block_tokens = block_tokens;
    for (const Scatter scatter : {Scatter::kNone, Scatter::kRandom, Scatter::kWorst}) {
      std::vector<Sequence> batch = others;
      if (scatter != Scatter::kNone) batch.push_back({id, length, rows, false});
      if (scatter != Scatter::kNone) {
        Attention attention(shape, batch, scatter, block_tokens);
        CHECK(SameBits(RowsOf(attention, id), wanted));
      }
      // A row of the segment by itself; which one, is different each time.
      const uint32_t row = (block_tokens / 16 * 7 + static_cast<uint32_t>(scatter) * 5) % rows;
      batch = scatter == Scatter::kWorst ? std::vector<Sequence>() : others;
      batch.push_back({id, length - rows + 1 + row, 1, true});
      Attention decode(shape, batch, scatter, block_tokens);
      const std::vector<float> one(wanted.begin() + row * row_floats, wanted.begin() + (row + 1) * row_floats);
      CHECK(SameBits(RowsOf(decode, id), one));
    }
  }
}

TEST(AttentionGivesARowTheSameBitsWhereverItIs) {
  const std::vector<Sequence> others = {{1, 97, 1, true}, {2, 30, 20, false}, {3, 260, 1, true}};
  std::mt19937 random(4);
  for (const uint32_t dtype : {KVRM_F32, KVRM_F16, KVRM_BF16, KVRM_F8_E4M3}) {
    for (const uint32_t dim : {40u, 64u, 80u, 128u}) {
      Shape shape;
      shape.kv_dtype = dtype;
      shape.head_dim = dim;
      shape.kv_heads = 1;
      shape.group = 1u << random() % 4;
      shape.window = random() % 2 == 0 ? 0 : 1 + random() % 300;
      CheckSameBits(shape, 560 + random() % 40, 1 + random() % 40, others);
    }
  }
}

TEST(AttentionGivesTheSameBitsForTheLargestHeads) {
  for (const uint32_t dtype : {KVRM_BF16, KVRM_F8_E4M3}) {
    Shape shape;
    shape.kv_dtype = dtype;
    shape.head_dim = 256;
    shape.kv_heads = 1;
    shape.group = 2;
    CheckSameBits(shape, 300, 36, {{1, 97, 1, true}});
  }
}

TEST(AttentionGivesTheSameBitsForManyHeadsPerKvHead) {
  Shape shape;
  shape.kv_heads = 1;
  shape.group = 24;
  CheckSameBits(shape, 600, 5, {{1, 97, 1, true}});
}

// A window that hides whole splits, from a history whose first blocks have been given back.
TEST(AttentionReadsNothingBehindTheWindow) {
  for (const uint32_t dim : {40u, 64u}) {
    Shape shape;
    shape.head_dim = dim;
    shape.window = 100;
    const Sequence sequence = {7, 1500, 1, true};
    Attention whole(shape, {sequence}, Scatter::kNone, 1);
    const std::vector<float> wanted = RowsOf(whole, 7);
    Attention tail(shape, {sequence, {8, 900, 3, false}}, Scatter::kWorst, 1);
    tail.ForgetBlocksBehindTheWindow();
    CHECK(SameBits(RowsOf(tail, 7), wanted));
  }
}

// A window that is padded: computed, and no row's bits know of it, NaN or not.
TEST(AttentionGivesTheSameBitsInAPaddedWindow) {
  const std::vector<Sequence> sequences = {{1, 97, 1, true}, {2, 700, 1, true}, {3, 64, 1, true}, {4, 1, 1, true}};
  for (const uint32_t dim : {40u, 64u, 128u}) {
    for (const uint32_t group : {4u, 17u}) {
      for (const uint32_t window : {0u, 100u, 600u}) {
        Shape shape;
        shape.head_dim = dim;
        shape.group = group;
        shape.kv_heads = 1;
        shape.window = window;
        Attention exact(shape, sequences, Scatter::kNone, 1);
        exact.Run();
        const std::vector<float> wanted = exact.Output<float>();
        for (const uint32_t padded : {700u, 1030u}) {
          shape.padded = padded;
          Attention attention(shape, sequences, Scatter::kNone, 1);
          attention.Run();
          CHECK(SameBits(attention.Output<float>(), wanted));
          for (const uint32_t arrivals : attention.Arrivals()) CHECK_EQ(arrivals, 0u);
        }
      }
    }
  }
}

TEST(AttentionOfAnEmptyStepDoesNothing) {
  for (const uint32_t dim : {40u, 64u}) {
    Shape shape;
    shape.head_dim = dim;
    Attention attention(shape, {}, Scatter::kNone, 1);
    attention.Run();
    CHECK_EQ(attention.Output<float>().size(), 0u);
  }
}

// Every batch, length, block size and fragmentation. The sequences of a batch are three different ones, again and
// again, each in blocks of its own.
TEST(AttentionMatchesFloat64InEveryArrangement) {
#ifdef KVRM_EMULATOR
  const std::vector<uint32_t> batches = {1, 12, 17}, lengths = {1, 54, 97, 321};
#else
  const std::vector<uint32_t> batches = {1, 12, 17, 128}, lengths = {1, 54, 97, 4095, 32768};
#endif
  Shape shape;
  shape.group = 4;
  shape.kv_heads = 1;
  shape.layers = 1;
  for (const uint32_t length : lengths) {
    std::vector<std::vector<double>> wanted;
    for (uint32_t id = 0; id < 3; ++id) wanted.push_back(Reference(shape, {id, length, 1, true}, true));
    for (const uint32_t batch : batches) {
      std::vector<Sequence> sequences;
      for (uint32_t i = 0; i < batch; ++i) sequences.push_back({i % 3, length, 1, true});
      for (const uint32_t block_tokens : {16u, 32u, 64u}) {
        shape.block_tokens = block_tokens;
        for (const Scatter scatter : {Scatter::kNone, Scatter::kRandom, Scatter::kWorst}) {
          Attention attention(shape, sequences, scatter, batch);
          attention.Run();
          const std::vector<float> out = attention.Output<float>();
          const size_t row = wanted[0].size();
          CHECK_EQ(out.size(), batch * row);
          for (size_t i = 0; i < out.size(); ++i) {
            CHECK_NEAR(out[i], wanted[i / row % 3][i % row], Tolerance(shape));
          }
        }
      }
    }
  }
}

#ifndef KVRM_EMULATOR
TEST(AttentionMatchesFloat64ForLongHistories) {
  CheckBatches(5, {KVRM_F16, KVRM_BF16, KVRM_F8_E4M3}, {64, 80, 96, 128, 256}, 17, 32768);
  CheckBatches(6, {KVRM_BF16}, {128}, 128, 32768);
}
#endif

}  // namespace
}  // namespace kvrm::cuda
