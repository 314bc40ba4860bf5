#include "weights.h"

#include <cstring>

namespace kvrm::cpu {
namespace {

kvrm_status Prepare(Model* model, Weight* w) {
  if (!IsBlocks(w->dtype) && w->interleaved_head == 0) return KVRM_OK;
  const uint32_t dtype = IsBlocks(w->dtype) ? uint32_t{KVRM_F32} : w->dtype;
  const uint64_t bytes = RowBytes(dtype, w->cols), file_bytes = RowBytes(w->dtype, w->cols);
  Mapping region;
  KVRM_TRY(Mapping::Reserve(w->rows * bytes, "a matrix", &region));
  for (uint32_t n = 0; n < w->rows; ++n) {
    const uint8_t* from = static_cast<const uint8_t*>(w->data) + w->FileRow(n) * file_bytes;
    uint8_t* to = region.data() + n * bytes;
    if (dtype == w->dtype) {
      std::memcpy(to, from, bytes);
    } else {
      Dequantize(w->dtype, from, w->cols, reinterpret_cast<float*>(to));
    }
  }
  w->data = region.data();
  w->dtype = dtype;
  w->interleaved_head = 0;
  model->memory.push_back(std::move(region));
  return KVRM_OK;
}

}  // namespace

kvrm_status PrepareWeights(Model* model) {
  for (LayerWeights& layer : model->layers) {
    for (const kvrm_role role : {KVRM_Q, KVRM_K, KVRM_V, KVRM_O, KVRM_GATE, KVRM_UP, KVRM_DOWN}) {
      KVRM_TRY(Prepare(model, &layer.by_role[role]));
    }
  }
  return Prepare(model, &model->lm_head);
}

}  // namespace kvrm::cpu
