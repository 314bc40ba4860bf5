// test_reference.h - the forward pass in float64, straight from the formulas: no cache, no blocks, no
// batches. Shares no code with the library.
#ifndef KVRM_TESTS_TEST_REFERENCE_H_
#define KVRM_TESTS_TEST_REFERENCE_H_

#include <algorithm>
#include <cmath>
#include <vector>

#include "test_model.h"

namespace kvrm::test {

using Row64 = std::vector<double>;

// y[n] = sum_k w[n][k] x[k] (+ bias[n])
inline Row64 Product(const std::vector<float>& w, const Row64& x, const std::vector<float>* bias = nullptr) {
  const size_t cols = x.size(), rows = w.size() / cols;
  Row64 y(rows, 0.0);
  for (size_t n = 0; n < rows; ++n) {
    for (size_t k = 0; k < cols; ++k) y[n] += double(w[n * cols + k]) * x[k];
    if (bias) y[n] += (*bias)[n];
  }
  return y;
}

inline void Normalise(const std::vector<float>& w, double eps, double* x, size_t count) {
  double squares = 0;
  for (size_t i = 0; i < count; ++i) squares += x[i] * x[i];
  const double scale = 1 / std::sqrt(squares / double(count) + eps);
  for (size_t i = 0; i < count; ++i) x[i] *= scale * w[i];
}

inline void Rotate(const std::vector<float>& inv_freq, uint32_t position, double* x) {
  const size_t half = inv_freq.size();
  for (size_t i = 0; i < half; ++i) {
    const double angle = double(float(position) * inv_freq[i]);
    const double a = x[i], b = x[i + half];
    x[i] = a * std::cos(angle) - b * std::sin(angle);
    x[i + half] = b * std::cos(angle) + a * std::sin(angle);
  }
}

// One row's attention over rows 0..at of one head.
inline Row64 AttendHead(const Row64& q, size_t q_at, const std::vector<Row64>& k, const std::vector<Row64>& v,
                        size_t kv_at, size_t dim, size_t at, uint32_t window, double scale) {
  const size_t first = window == 0 || at < window ? 0 : at - (window - 1);
  Row64 scores;
  for (size_t p = first; p <= at; ++p) {
    double score = 0;
    for (size_t d = 0; d < dim; ++d) score += q[q_at + d] * k[p][kv_at + d];
    scores.push_back(score * scale);
  }
  const double max = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  Row64 out(dim, 0.0);
  for (size_t p = first; p <= at; ++p) {
    const double weight = std::exp(scores[p - first] - max);
    sum += weight;
    for (size_t d = 0; d < dim; ++d) out[d] += weight * v[p][kv_at + d];
  }
  for (double& value : out) value /= sum;
  return out;
}

// Logits [tokens][vocab] after each token.
inline std::vector<Row64> ReferenceLogits(const ModelData& m, const std::vector<int32_t>& tokens) {
  const ModelShape& s = m.shape;
  const size_t dim = s.head_dim, group = s.heads / s.kv_heads, num = tokens.size();
  const double eps = m.config.rms_eps;
  std::vector<Row64> x;
  for (int32_t token : tokens) {
    const float* row = m.W(KVRM_EMBED).data() + size_t(token) * s.hidden;
    x.emplace_back(row, row + s.hidden);
  }
  for (uint32_t l = 0; l < s.layers; ++l) {
    auto bias = [&](uint32_t role) { return m.Has(role, l) ? &m.W(role, l) : nullptr; };
    std::vector<Row64> q, k, v;
    for (size_t t = 0; t < num; ++t) {
      Row64 h = x[t];
      Normalise(m.W(KVRM_ATTN_NORM, l), eps, h.data(), h.size());
      q.push_back(Product(m.W(KVRM_Q, l), h, bias(KVRM_Q_BIAS)));
      k.push_back(Product(m.W(KVRM_K, l), h, bias(KVRM_K_BIAS)));
      v.push_back(Product(m.W(KVRM_V, l), h, bias(KVRM_V_BIAS)));
      for (auto [rows, role] : {std::pair{&q, KVRM_Q_NORM}, std::pair{&k, KVRM_K_NORM}}) {
        Row64& row = rows->back();
        for (size_t head = 0; head < row.size(); head += dim) {
          if (m.Has(role, l)) Normalise(m.W(role, l), eps, &row[head], dim);
          Rotate(m.inv_freq, uint32_t(t), &row[head]);
        }
      }
    }
    for (size_t t = 0; t < num; ++t) {
      Row64 attended;
      for (size_t h = 0; h < s.heads; ++h) {
        const Row64 out =
            AttendHead(q[t], h * dim, k, v, h / group * dim, dim, t, s.windows[l], double(m.config.attention_scale));
        attended.insert(attended.end(), out.begin(), out.end());
      }
      const Row64 o = Product(m.W(KVRM_O, l), attended, bias(KVRM_O_BIAS));
      for (size_t i = 0; i < o.size(); ++i) x[t][i] += o[i];
      Row64 h = x[t];
      Normalise(m.W(KVRM_FFN_NORM, l), eps, h.data(), h.size());
      Row64 gate = Product(m.W(KVRM_GATE, l), h);
      const Row64 up = Product(m.W(KVRM_UP, l), h);
      for (size_t i = 0; i < gate.size(); ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
      const Row64 down = Product(m.W(KVRM_DOWN, l), gate);
      for (size_t i = 0; i < down.size(); ++i) x[t][i] += down[i];
    }
  }
  std::vector<Row64> logits;
  for (Row64& row : x) {
    Normalise(m.W(KVRM_FINAL_NORM), eps, row.data(), row.size());
    logits.push_back(Product(m.W(s.tied ? KVRM_EMBED : KVRM_LM_HEAD), row));
  }
  return logits;
}

}  // namespace kvrm::test
#endif  // KVRM_TESTS_TEST_REFERENCE_H_
