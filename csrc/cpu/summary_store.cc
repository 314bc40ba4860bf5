#include "summary_store.h"

namespace kvrm::cpu {
namespace {

constexpr uint32_t kMaxHeadDim = 512;  // as attention has it

// Row `row` becomes the summary of tokens [first, first + count) of a block's K and V of one head.
void SummariseBlock(const KvView& kv, uint32_t block, uint32_t kv_head, uint32_t first, uint32_t count,
                    const FarRows& rows, uint32_t row) {
  const uint32_t dim = kv.head_dim;
  const size_t at = size_t{row} * FarStride(dim);
  FarMoments moments[kMaxHeadDim];
  float numbers[kMaxHeadDim];
  for (uint32_t t = 0; t < count; ++t) {
    const float inverse = 1.0f / static_cast<float>(t + 1);
    EmbedRow({KvRow(kv, block, false, kv_head, first + t), kv.dtype, 1, dim}, 0, numbers);
    for (uint32_t n = 0; n < dim; ++n) AddKey(numbers[n], t, inverse, moments[n]);
    EmbedRow({KvRow(kv, block, true, kv_head, first + t), kv.dtype, 1, dim}, 0, numbers);
    for (uint32_t n = 0; n < dim; ++n) rows.values[at + n] = AddValue(numbers[n], t, inverse, rows.values[at + n]);
  }
  const float tokens = static_cast<float>(count);
  for (uint32_t n = 0; n < dim; ++n) {
    rows.keys[at + n] = moments[n].mean;
    rows.variances[at + n] = RoundedDiv(moments[n].squares, tokens);
    rows.lows[at + n] = moments[n].low;
    rows.highs[at + n] = moments[n].high;
  }
  rows.counts[row] = tokens;
  rows.log_counts[row] = FarLogCount(tokens);
}

// Row `to` stands also for what row `from` stands for.
void MergeRows(const FarRows& rows, uint32_t dim, uint32_t to, uint32_t from) {
  const FarWeights w = WeighRows(rows.counts[to], rows.counts[from]);
  const size_t a = size_t{to} * FarStride(dim), b = size_t{from} * FarStride(dim);
  for (uint32_t n = 0; n < dim; ++n) {
    float& key = rows.keys[a + n];
    rows.variances[a + n] = MergeVariances(key, rows.variances[a + n], rows.keys[b + n], rows.variances[b + n], w);
    key = MergeMeans(key, rows.keys[b + n], w);
    rows.values[a + n] = MergeMeans(rows.values[a + n], rows.values[b + n], w);
    rows.lows[a + n] = std::min(rows.lows[a + n], rows.lows[b + n]);
    rows.highs[a + n] = std::max(rows.highs[a + n], rows.highs[b + n]);
  }
  rows.counts[to] = RoundedAdd(rows.counts[to], rows.counts[from]);
  rows.log_counts[to] = FarLogCount(rows.counts[to]);
}

}  // namespace

uint64_t SummaryStore::Bytes(const kvrm_model_config& model, const kvrm_engine_config& config) {
  return uint64_t{config.slots} * model.layers * model.kv_heads * FarFloats(model.head_dim, config.far_rows) *
         sizeof(float);
}

kvrm_status SummaryStore::Reserve(const kvrm_model_config& model, const kvrm_engine_config& config) {
  layers_ = model.layers;
  kv_heads_ = model.kv_heads;
  head_dim_ = model.head_dim;
  far_rows_ = config.far_rows;
  return far_rows_ == 0 ? KVRM_OK : Mapping::Reserve(Bytes(model, config), "the summary rows", &store_);
}

FarRows SummaryStore::Rows(uint32_t slot, uint32_t layer, uint32_t kv_head) const {
  const size_t index = (size_t{slot} * layers_ + layer) * kv_heads_ + kv_head;
  return FarRowsAt(reinterpret_cast<float*>(store_.data()) + index * FarFloats(head_dim_, far_rows_), head_dim_,
                   far_rows_);
}

FarView SummaryStore::View(uint32_t slot, uint32_t layer, uint32_t kv_head, uint32_t rows) const {
  return {Rows(slot, layer, kv_head), rows, head_dim_, FarStride(head_dim_)};
}

void SummaryStore::Run(const Step& step) {
  const uint32_t operations = step.view.header->num_summaries;
  if (operations == 0 || far_rows_ == 0) return;
  // Every layer and KV head walks the list on its own: the order within a slot is all that counts.
  const double ns = double(operations) * layers_ * kv_heads_ * step.config.block_tokens * head_dim_ * 2;
  ForRanges(step.threads, ns, layers_ * kv_heads_, 1, [&](uint32_t begin, uint32_t end, uint32_t) noexcept {
    for (uint32_t i = begin; i < end; ++i) {
      const uint32_t layer = i / kv_heads_, kv_head = i % kv_heads_;
      const KvView kv = step.Kv(layer, step.view.slots[0]);  // KvRow looks at no group
      for (uint32_t o = 0; o < operations; ++o) {
        const kvrm_summary& op = step.view.summaries[o];
        const uint32_t kind = op.slot_kind >> 16;
        if (kind == KVRM_SUMMARY_CLEAR) continue;  // how many rows a slot has is the descriptor's to know
        const FarRows rows = Rows(op.slot_kind & 0xffff, layer, kv_head);
        if (kind == KVRM_SUMMARY_BLOCK) {
          SummariseBlock(kv, op.source, kv_head, op.tokens & 0xffff, op.tokens >> 16, rows, op.row);
        } else {
          MergeRows(rows, head_dim_, op.row, op.source);
        }
      }
    }
  });
}

}  // namespace kvrm::cpu
