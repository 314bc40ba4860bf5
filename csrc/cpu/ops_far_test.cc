// Summary rows: what a row scores, and that rows of single tokens are the exact tokens, bit for bit.
#include <algorithm>
#include <limits>

#include "common/test.h"
#include "ops_test_util.h"

namespace kvrm::cpu {
namespace {

// Rows [count] over keys and values [tokens][dim], and the exact tokens in a pool, for one KV head.
struct Rows {
  Rows(uint32_t dim, uint32_t count) : dim(dim), memory(FarFloats(dim, count)) {
    view = {FarRowsAt(memory.data(), dim, count), count, dim, FarStride(dim)};
  }

  // Row `row` from tokens of keys and values, [count][dim] each.
  void Summarise(uint32_t row, const float* keys, const float* values, uint32_t count) {
    const size_t at = size_t{row} * view.stride;
    for (uint32_t n = 0; n < dim; ++n) {
      FarMoments moments = {};
      float mean = 0;
      for (uint32_t t = 0; t < count; ++t) {
        const float inverse = 1.0f / float(t + 1);
        AddKey(keys[t * dim + n], t, inverse, moments);
        mean = AddValue(values[t * dim + n], t, inverse, mean);
      }
      view.at.keys[at + n] = moments.mean;
      view.at.values[at + n] = mean;
      view.at.variances[at + n] = moments.squares / float(count);
      view.at.lows[at + n] = moments.low;
      view.at.highs[at + n] = moments.high;
    }
    view.at.counts[row] = float(count);
    view.at.log_counts[row] = FarLogCount(float(count));
  }

  uint32_t dim;
  std::vector<float> memory;
  FarView view;
};

// What a query gathers of rows, in float64: max, sum and the numerator are merged into out [dim], normalised.
std::vector<double> Reference(const Rows& rows, const float* q, double scale) {
  const uint32_t dim = rows.dim;
  std::vector<double> scores, out(dim);
  for (uint32_t r = 0; r < rows.view.rows; ++r) {
    double product = 0, spread = 0, bound = 0;
    for (uint32_t n = 0; n < dim; ++n) {
      const size_t at = size_t{r} * rows.view.stride + n;
      product += double(q[n]) * rows.view.at.keys[at];
      spread += double(q[n]) * q[n] * rows.view.at.variances[at];
      bound += std::max(double(q[n]) * rows.view.at.lows[at], double(q[n]) * rows.view.at.highs[at]);
    }
    scores.push_back(std::min(scale * product + scale * scale / 2 * spread, scale * bound) +
                     std::log(double(rows.view.at.counts[r])));
  }
  const double max = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& score : scores) sum += score = std::exp(score - max);
  for (uint32_t r = 0; r < rows.view.rows; ++r) {
    for (uint32_t n = 0; n < dim; ++n) out[n] += scores[r] / sum * rows.view.at.values[r * rows.view.stride + n];
  }
  return out;
}

struct Gathered {
  std::vector<Partial> partials;
  std::vector<float> acc;
};

Gathered Attend(const FarView& far, float scale, const std::vector<float>& q, uint32_t count) {
  Gathered out{std::vector<Partial>(count), std::vector<float>(size_t{count} * far.head_dim)};
  AttendFar(far, scale, q.data(), far.head_dim, count, out.partials.data(), out.acc.data(), far.head_dim);
  return out;
}

TEST(AttendFarMatchesFloat64) {
  Random random(1);
  for (const uint32_t dim : {8u, 20u, 32u, 64u, 100u, 128u}) {
    for (const uint32_t count : {1u, 2u, 15u, 33u, 256u}) {
      Rows rows(dim, count);
      for (uint32_t r = 0; r < count; ++r) {
        const uint32_t tokens = Between(random, 1, 64);
        rows.Summarise(r, Normals(random, size_t{tokens} * dim).data(), Normals(random, size_t{tokens} * dim).data(),
                       tokens);
      }
      const float scale = 1 / std::sqrt(float(dim));
      const std::vector<float> q = Normals(random, 3 * dim, 2.0f);
      const Gathered found = Attend(rows.view, scale, q, 3);
      for (uint32_t i = 0; i < 3; ++i) {
        const std::vector<double> wanted = Reference(rows, &q[i * dim], scale);
        for (uint32_t n = 0; n < dim; ++n) {
          CHECK_NEAR(found.acc[i * dim + n] / found.partials[i].sum, wanted[n], 2e-5);
        }
      }
    }
  }
}

// The whole way of a split: the same maxima, sums and numerators as AttendSplit over the same tokens.
TEST(RowsOfSingleTokensAreTheExactTokens) {
  Random random(2);
  for (int round = 0; round < 60; ++round) {
    const uint32_t dim = round % 3 == 0 ? 32 : 2 * Between(random, 2, 70), tokens = Between(random, 1, kSplitTokens);
    const uint32_t count = Between(random, 1, 70), blocks = (tokens + 15) / 16;
    const float scale = round % 2 ? 1 / std::sqrt(float(dim)) : 0.3f;
    const std::vector<float> keys = Normals(random, size_t{tokens} * dim), values = Normals(random, keys.size());
    const std::vector<float> q = Normals(random, size_t{count} * dim);

    std::vector<float> pool(size_t{blocks} * 2 * 16 * dim, NAN);
    const kvrm_group group = {0, 0, 0, blocks};
    const KvView kv = {reinterpret_cast<uint8_t*>(pool.data()), KVRM_F32, 16, dim, 1, 1, 0, &group, 1};
    Rows rows(dim, tokens);
    for (uint32_t t = 0; t < tokens; ++t) {
      std::copy_n(&keys[t * dim], dim, reinterpret_cast<float*>(KvRow(kv, t / 16, false, 0, t % 16)));
      std::copy_n(&values[t * dim], dim, reinterpret_cast<float*>(KvRow(kv, t / 16, true, 0, t % 16)));
      rows.Summarise(t, &keys[t * dim], &values[t * dim], 1);
    }
    const std::vector<uint32_t> positions(count, tokens - 1);
    std::vector<Partial> partials(count);
    std::vector<float> acc(size_t{count} * dim);
    AttendSplit(kv, 0, scale, 0, 0, q.data(), dim, positions.data(), count, partials.data(), acc.data(), dim);
    const Gathered found = Attend(rows.view, scale, q, count);
    CHECK(SameBits(found.acc.data(), acc.data(), acc.size()));
    CHECK(SameBits(&found.partials[0].max, &partials[0].max, 2 * count));
  }
}

TEST(AttendFarGivesAQueryTheSameBitsInEveryBatch) {
  Random random(3);
  for (const uint32_t dim : {12u, 48u, 128u}) {
    Rows rows(dim, 37);
    for (uint32_t r = 0; r < 37; ++r) {
      rows.Summarise(r, Normals(random, 5 * dim).data(), Normals(random, 5 * dim).data(), 5);
    }
    const std::vector<float> q = Normals(random, 71 * dim);
    const Gathered all = Attend(rows.view, 0.2f, q, 71);
    for (uint32_t i = 0; i < 71; ++i) {
      const Gathered one = Attend(rows.view, 0.2f, {q.begin() + i * dim, q.begin() + (i + 1) * dim}, 1);
      CHECK(SameBits(one.acc.data(), &all.acc[i * dim], dim));
      CHECK(SameBits(&one.partials[0].max, &all.partials[i].max, 2));
    }
  }
}

// What the rows of a constant block give, and its tokens: m exp(s) of the value.
TEST(ARowOfEqualTokensIsExact) {
  Random random(4);
  for (const uint32_t tokens : {2u, 3u, 31u, 64u}) {
    const uint32_t dim = 64;
    const std::vector<float> key = Normals(random, dim), value = Normals(random, dim), q = Normals(random, dim);
    std::vector<float> keys, values;
    for (uint32_t t = 0; t < tokens; ++t) {
      keys.insert(keys.end(), key.begin(), key.end());
      values.insert(values.end(), value.begin(), value.end());
    }
    Rows rows(dim, 1);
    rows.Summarise(0, keys.data(), values.data(), tokens);
    CHECK(SameBits(rows.view.at.keys, key.data(), dim));
    CHECK(SameBits(rows.view.at.values, value.data(), dim));
    for (uint32_t n = 0; n < dim; ++n) CHECK_EQ(rows.view.at.variances[n], 0.0f);
    double product = 0;
    for (uint32_t n = 0; n < dim; ++n) product += double(q[n]) * key[n];
    const Gathered found = Attend(rows.view, 0.125f, q, 1);
    CHECK_NEAR(found.partials[0].max, product * 0.125 + std::log(double(tokens)), 1e-5);
    CHECK(SameBits(found.acc.data(), value.data(), dim));
  }
}

// A row never counts for more than its tokens could, and where keys spread little it counts for what they do.
TEST(AScoreStaysWithinTheTokensBounds) {
  Random random(5);
  const uint32_t dim = 32, tokens = 32;
  for (const float spread : {0.02f, 4.0f}) {
    for (int round = 0; round < 50; ++round) {
      std::vector<float> keys = Normals(random, tokens * dim, spread);
      const std::vector<float> centre = Normals(random, dim), q = Normals(random, dim, 2.0f);
      for (uint32_t i = 0; i < keys.size(); ++i) keys[i] += centre[i % dim];
      Rows rows(dim, 1);
      rows.Summarise(0, keys.data(), keys.data(), tokens);
      const float scale = 1 / std::sqrt(float(dim));
      double sum = 0, most = 0;
      for (uint32_t t = 0; t < tokens; ++t) {
        double product = 0;
        for (uint32_t n = 0; n < dim; ++n) product += double(q[n]) * keys[t * dim + n];
        sum += std::exp(product * scale);
      }
      for (uint32_t n = 0; n < dim; ++n) {
        most += std::max(double(q[n]) * rows.view.at.lows[n], double(q[n]) * rows.view.at.highs[n]);
      }
      const double found = Attend(rows.view, scale, q, 1).partials[0].max;
      CHECK(found <= most * scale + std::log(double(tokens)) + 1e-4);
      if (spread < 1) CHECK_NEAR(found, std::log(sum), 2e-3);
    }
  }
}

TEST(MergedRowsAreTheRowOfAllTokens) {
  Random random(6);
  for (int round = 0; round < 200; ++round) {
    const uint32_t a = Between(random, 1, 40), b = Between(random, 1, 2000);
    const std::vector<float> numbers = Normals(random, a + b, 3.0f);
    FarMoments all = {}, first = {}, second = {};
    float mean_all = 0, mean_first = 0, mean_second = 0;
    for (uint32_t t = 0; t < a + b; ++t) {
      AddKey(numbers[t], t, 1.0f / float(t + 1), all);
      mean_all = AddValue(numbers[t], t, 1.0f / float(t + 1), mean_all);
      const bool early = t < a;
      const uint32_t at = early ? t : t - a;
      AddKey(numbers[t], at, 1.0f / float(at + 1), early ? first : second);
      float& mean = early ? mean_first : mean_second;
      mean = AddValue(numbers[t], at, 1.0f / float(at + 1), mean);
    }
    const FarWeights w = WeighRows(float(a), float(b));
    CHECK_NEAR(MergeMeans(first.mean, second.mean, w), all.mean, 1e-5);
    CHECK_NEAR(MergeMeans(mean_first, mean_second, w), mean_all, 1e-5);
    const float merged =
        MergeVariances(first.mean, first.squares / float(a), second.mean, second.squares / float(b), w);
    CHECK_NEAR(merged, all.squares / float(a + b), 1e-4 * (1 + merged));
    CHECK_EQ(mean_all, all.mean);
  }
}

}  // namespace
}  // namespace kvrm::cpu
