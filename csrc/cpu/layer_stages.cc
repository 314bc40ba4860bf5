#include "layer_stages.h"

#include <cstring>

#include "product.h"

namespace kvrm::cpu {
namespace {

// Tiles of a product start at multiples of this many output columns: whole register tiles.
constexpr uint32_t kColumns = 32;

// One range of output columns of the query, key and value products, which lie side by side in kQkv.
void QkvColumns(const Step& step, uint32_t member, const LayerWeights& w, uint32_t begin, uint32_t end) {
  const uint32_t hidden = step.model.config.hidden, q = step.model.QRows(), kv = step.model.KvRows();
  const uint32_t stride = q + 2 * kv;
  const struct {
    kvrm_role weight, bias;
    uint32_t first, last;
  } parts[] = {{KVRM_Q, KVRM_Q_BIAS, 0, q}, {KVRM_K, KVRM_K_BIAS, q, q + kv}, {KVRM_V, KVRM_V_BIAS, q + kv, stride}};
  for (const auto& part : parts) {
    const uint32_t from = std::max(begin, part.first), to = std::min(end, part.last);
    if (from >= to) continue;
    Product(step, member, w[part.weight], w.Optional(part.bias), step.F32(kNormed), hidden, step.Rows(),
            step.F32(kQkv) + part.first, stride, from - part.first, to - part.first, false);
  }
}

void RopeWriteRow(const Step& step, uint32_t layer, uint32_t r) {
  const kvrm_model_config& c = step.model.config;
  const LayerWeights& w = step.model.layers[layer];
  const uint32_t dim = c.head_dim, half = dim / 2, group = step.Group();
  const Row& row = step.batch.rows[r];
  const float* cos = step.F32(kCos) + size_t{r} * half;
  const float* sin = step.F32(kSin) + size_t{r} * half;
  float* q = step.F32(kQkv) + size_t{r} * (step.model.QRows() + 2 * step.model.KvRows());
  float* k = q + step.model.QRows();
  float* v = k + step.model.KvRows();
  for (uint32_t h = 0; h < c.heads; ++h) {
    float* out = step.F32(kQuery) + ((size_t{h / group} * step.plan.rows + r) * group + h % group) * dim;
    if (const Weight* norm = w.Optional(KVRM_Q_NORM)) {
      RmsNorm(*norm, c.rms_eps, q + h * dim, dim, out);
    } else {
      std::memcpy(out, q + h * dim, dim * sizeof(float));
    }
    RopeHead(out, cos, sin, half);
  }
  const KvView kv = step.Kv(layer, step.view.slots[0]);  // KvRow looks at no group
  for (uint32_t h = 0; h < c.kv_heads; ++h) {
    float* key = k + h * dim;
    if (const Weight* norm = w.Optional(KVRM_K_NORM)) RmsNorm(*norm, c.rms_eps, key, dim, key);
    RopeHead(key, cos, sin, half);
    Convert(key, dim, kv.dtype, KvRow(kv, row.block, false, h, row.offset));
    Convert(v + h * dim, dim, kv.dtype, KvRow(kv, row.block, true, h, row.offset));
  }
}

}  // namespace

void RunEmbed(const Step& step) {
  const kvrm_model_config& c = step.model.config;
  const uint32_t half = c.head_dim / 2;
  // A sine and a cosine take some 20 ns, an element of the embedding a fraction of one.
  const double ns = double(step.Rows()) * (20.0 * half + c.hidden / 8);
  ForRanges(step.threads, ns, step.Rows(), 1, [&](uint32_t begin, uint32_t end, uint32_t) noexcept {
    for (uint32_t r = begin; r < end; ++r) {
      const Row& row = step.batch.rows[r];
      EmbedRow(step.model.embed, row.token, step.F32(kHidden) + size_t{r} * c.hidden);
      RopeTable(step.model.inv_freq.data(), half, row.position, step.F32(kCos) + size_t{r} * half,
                step.F32(kSin) + size_t{r} * half);
    }
  });
}

void RunNorm(const Step& step, const Weight& weight) {
  const uint32_t hidden = step.model.config.hidden;
  const float eps = step.model.config.rms_eps;
  const double ns = double(step.Rows()) * hidden / 4;
  ForRanges(step.threads, ns, step.Rows(), 1, [&](uint32_t begin, uint32_t end, uint32_t) noexcept {
    for (uint32_t r = begin; r < end; ++r) {
      const size_t at = size_t{r} * hidden;
      RmsNorm(weight, eps, step.F32(kHidden) + at, hidden, step.F32(kNormed) + at);
    }
  });
}

void RunQkv(const Step& step, const LayerWeights& weights) {
  const uint32_t columns = step.model.QRows() + 2 * step.model.KvRows();
  QuantizeInput(step, {&weights[KVRM_Q], &weights[KVRM_K], &weights[KVRM_V]}, step.F32(kNormed), step.Rows());
  const double ns = MatMulNs(step.Rows(), columns, step.model.config.hidden, weights[KVRM_Q].dtype);
  ForRanges(step.threads, ns, columns, kColumns, [&](uint32_t begin, uint32_t end, uint32_t member) noexcept {
    QkvColumns(step, member, weights, begin, end);
  });
}

void RunRopeWrite(const Step& step, uint32_t layer) {
  const double ns = double(step.Rows()) * (step.model.QRows() + 2 * step.model.KvRows()) / 2;
  ForRanges(step.threads, ns, step.Rows(), 1, [&](uint32_t begin, uint32_t end, uint32_t) noexcept {
    for (uint32_t r = begin; r < end; ++r) RopeWriteRow(step, layer, r);
  });
}

void RunAttnOut(const Step& step, const LayerWeights& weights) {
  const uint32_t hidden = step.model.config.hidden, inputs = step.model.QRows();
  QuantizeInput(step, {&weights[KVRM_O]}, step.F32(kAttended), step.Rows());
  const double ns = MatMulNs(step.Rows(), hidden, inputs, weights[KVRM_O].dtype);
  ForRanges(step.threads, ns, hidden, kColumns, [&](uint32_t begin, uint32_t end, uint32_t member) noexcept {
    Product(step, member, weights[KVRM_O], weights.Optional(KVRM_O_BIAS), step.F32(kAttended), inputs, step.Rows(),
            step.F32(kHidden), hidden, begin, end, true);
  });
}

void RunGateUp(const Step& step, const LayerWeights& weights) {
  const uint32_t hidden = step.model.config.hidden, columns = step.model.config.intermediate, rows = step.Rows();
  const double ns = MatMulNs(rows, 2.0 * columns, hidden, weights[KVRM_GATE].dtype);
  QuantizeInput(step, {&weights[KVRM_GATE], &weights[KVRM_UP]}, step.F32(kNormed), rows);
  float* gate = step.F32(kGate);
  float* up = step.F32(kUp);
  ForRanges(step.threads, ns, columns, kColumns, [&](uint32_t begin, uint32_t end, uint32_t member) noexcept {
    Product(step, member, weights[KVRM_GATE], nullptr, step.F32(kNormed), hidden, rows, gate, columns, begin, end,
            false);
    Product(step, member, weights[KVRM_UP], nullptr, step.F32(kNormed), hidden, rows, up, columns, begin, end, false);
    for (uint32_t r = 0; r < rows; ++r) {
      const size_t at = size_t{r} * columns + begin;
      SiluMul(gate + at, up + at, end - begin, gate + at);
    }
  });
}

void RunDown(const Step& step, const LayerWeights& weights) {
  const uint32_t hidden = step.model.config.hidden, inputs = step.model.config.intermediate;
  QuantizeInput(step, {&weights[KVRM_DOWN]}, step.F32(kGate), step.Rows());
  const double ns = MatMulNs(step.Rows(), hidden, inputs, weights[KVRM_DOWN].dtype);
  ForRanges(step.threads, ns, hidden, kColumns, [&](uint32_t begin, uint32_t end, uint32_t member) noexcept {
    Product(step, member, weights[KVRM_DOWN], nullptr, step.F32(kGate), inputs, step.Rows(), step.F32(kHidden), hidden,
            begin, end, true);
  });
}

}  // namespace kvrm::cpu
