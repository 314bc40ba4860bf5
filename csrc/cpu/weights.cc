#include "weights.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "quant.h"
#include "thread_pool.h"

namespace kvrm::cpu {
namespace {

// What a matrix is packed as; its own type where it stays as it is.
uint32_t PackedType(const Weight& w, uint32_t quantize) {
  if (IsBlocks(w.dtype) || quantize == KVRM_QUANTIZE_NONE || w.cols % kQuantBlock != 0) return w.dtype;
  return quantize == KVRM_QUANTIZE_INT8 ? KVRM_Q8_0 : KVRM_Q4_0;
}

// Numbers of a row of w, of any type but blocks, to blocks of dtype.
void QuantizeRow(const Weight& w, uint32_t row, uint32_t dtype, std::vector<float>& values, uint8_t* to) {
  Widen(static_cast<const uint8_t*>(w.data) + w.FileRow(row) * RowBytes(w.dtype, w.cols), w.cols, w.dtype,
        values.data());
  Quantize(dtype, values.data(), w.cols, to);
}

// Groups [begin, end) of a matrix that is quantised on the way.
void QuantizeGroups(const Weight& w, uint32_t dtype, uint32_t begin, uint32_t end, uint8_t* packed) {
  const uint64_t row_bytes = RowBytes(dtype, w.cols);
  std::vector<float> values(w.cols);
  std::vector<uint8_t> blocks(kGroupRows * row_bytes);
  for (uint32_t g = begin; g < end; ++g) {
    const uint32_t rows = std::min(kGroupRows, w.rows - g * kGroupRows);
    for (uint32_t r = 0; r < rows; ++r) {
      QuantizeRow(w, g * kGroupRows + r, dtype, values, blocks.data() + r * row_bytes);
    }
    PackGroups({blocks.data(), dtype, rows, w.cols}, 0, 1, packed + g * PackedGroupBytes(dtype, w.cols));
  }
}

class Preparer {
 public:
  explicit Preparer(Model* model) : model_(*model), threads_(ThreadCount(0)) {}

  kvrm_status Prepare(Weight* w) {
    const uint32_t dtype = PackedType(*w, model_.config.quantize);
    if (IsBlocks(dtype)) return Pack(w, dtype);
    return w->interleaved_head == 0 ? KVRM_OK : Straighten(w);
  }

 private:
  kvrm_status Pack(Weight* w, uint32_t dtype) {
    const uint32_t groups = (w->rows + kGroupRows - 1) / kGroupRows;
    Mapping region;
    KVRM_TRY(Mapping::Reserve(groups * PackedGroupBytes(dtype, w->cols), "a matrix", &region));
    const uint32_t tiles = std::min(groups, 8 * threads_.threads());
    threads_.Run(tiles, [&](uint32_t tile, uint32_t) noexcept {
      const uint32_t begin = uint32_t(uint64_t{groups} * tile / tiles);
      const uint32_t end = uint32_t(uint64_t{groups} * (tile + 1) / tiles);
      if (dtype == w->dtype) {
        PackGroups(*w, begin, end, region.data());
      } else {
        QuantizeGroups(*w, dtype, begin, end, region.data());
      }
    });
    w->dtype = dtype;
    w->packed = true;
    return Keep(std::move(region), w);
  }

  kvrm_status Straighten(Weight* w) {
    const uint64_t bytes = RowBytes(w->dtype, w->cols);
    Mapping region;
    KVRM_TRY(Mapping::Reserve(w->rows * bytes, "a matrix", &region));
    for (uint32_t n = 0; n < w->rows; ++n) {
      std::memcpy(region.data() + n * bytes, static_cast<const uint8_t*>(w->data) + w->FileRow(n) * bytes, bytes);
    }
    return Keep(std::move(region), w);
  }

  kvrm_status Keep(Mapping region, Weight* w) {
    w->data = region.data();
    w->interleaved_head = 0;
    model_.memory.push_back(std::move(region));
    return KVRM_OK;
  }

  Model& model_;
  ThreadPool threads_;
};

}  // namespace

kvrm_status PrepareWeights(Model* model) {
  if (model->config.quantize == KVRM_QUANTIZE_FP8) {
    return Fail(KVRM_UNSUPPORTED, "load model: config.quantize is FP8, wanted NONE, INT8 or INT4 on the CPU");
  }
  Preparer preparer(model);
  for (LayerWeights& layer : model->layers) {
    for (const kvrm_role role : {KVRM_Q, KVRM_K, KVRM_V, KVRM_O, KVRM_GATE, KVRM_UP, KVRM_DOWN}) {
      KVRM_TRY(preparer.Prepare(&layer.by_role[role]));
    }
  }
  return preparer.Prepare(&model->lm_head);
}

}  // namespace kvrm::cpu
