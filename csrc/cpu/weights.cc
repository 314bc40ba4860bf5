#include "weights.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "bf16.h"
#include "packer.h"
#include "quant.h"
#include "thread_pool.h"
#include "tile_matmul.h"

namespace kvrm::cpu {
namespace {

constexpr kvrm_role kMatrices[] = {KVRM_Q, KVRM_K, KVRM_V, KVRM_O, KVRM_GATE, KVRM_UP, KVRM_DOWN};

// What a matrix is packed as; its own type where it stays as it is.
uint32_t PackedType(const Weight& w, uint32_t quantize) {
  if (IsBlocks(w.dtype) || quantize == KVRM_QUANTIZE_NONE || w.cols % kQuantBlock != 0) return w.dtype;
  if (quantize == KVRM_QUANTIZE_BF16) return KVRM_BF16;
  return quantize == KVRM_QUANTIZE_INT8 ? KVRM_Q8_0 : KVRM_Q4_0;
}

// Numbers of a row of w, of any type but blocks, to blocks of dtype or to BF16.
void QuantizeRow(const Weight& w, uint32_t row, uint32_t dtype, std::vector<float>& values, uint8_t* to) {
  Widen(static_cast<const uint8_t*>(w.data) + w.FileRow(row) * RowBytes(w.dtype, w.cols), w.cols, w.dtype,
        values.data());
  if (dtype == KVRM_BF16) return Narrow(values.data(), w.cols, dtype, to);
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
    PackGroup({blocks.data(), dtype, rows, w.cols}, 0, QuantKernel().flips,
              packed + g * PackedGroupBytes(dtype, w.cols));
  }
}

bool HasBlocks(const Model& model) {
  bool any = IsBlocks(model.lm_head.dtype);
  for (const LayerWeights& layer : model.layers) {
    for (const kvrm_role role : kMatrices) any = any || IsBlocks(layer[role].dtype);
  }
  return any;
}

class Preparer {
 public:
  explicit Preparer(Model* model)
      : model_(*model),
        threads_(ThreadCount(0)),
        packer_(std::make_shared<Packer>()),
        rounds_(model->config.quantize == KVRM_QUANTIZE_BF16 && !HasBlocks(*model)),
        tiles_(TileKernel() != nullptr && !HasBlocks(*model)) {
    model->device = packer_;
  }

  kvrm_status Prepare(Weight* w) {
    const uint32_t dtype = PackedType(*w, model_.config.quantize);
    if (tiles_ && dtype == KVRM_BF16 && w->cols % kTileStep == 0) {
      w->tile_parts = rounds_ ? 1 : 2;
      return w->interleaved_head == 0 && w->dtype == dtype ? KVRM_OK : Straighten(w, dtype);
    }
    w->rounds = rounds_ && dtype == KVRM_BF16 && w->cols % kBf16Step == 0;
    if (IsBlocks(w->dtype) || (w->rounds && w->dtype == KVRM_BF16)) return packer_->Add(w), KVRM_OK;
    if (IsBlocks(dtype) || w->rounds) return Quantize(w, dtype);
    return w->interleaved_head == 0 && w->dtype == dtype ? KVRM_OK : Straighten(w, dtype);
  }

  // What is in blocks is packed later, unless KVRM_PACK is "now".
  kvrm_status Finish() {
    const char* wanted = std::getenv("KVRM_PACK");
    return packer_->Start(wanted && std::strcmp(wanted, "now") == 0 ? &threads_ : nullptr);
  }

 private:
  kvrm_status Quantize(Weight* w, uint32_t dtype) {
    const uint32_t groups = (w->rows + kGroupRows - 1) / kGroupRows;
    Mapping region;
    KVRM_TRY(Mapping::Reserve(groups * PackedGroupBytes(dtype, w->cols), "a matrix", &region));
    const uint32_t tiles = std::min(groups, 8 * threads_.threads());
    threads_.Run(tiles, [&](uint32_t tile, uint32_t) noexcept {
      const uint32_t begin = uint32_t(uint64_t{groups} * tile / tiles);
      const uint32_t end = uint32_t(uint64_t{groups} * (tile + 1) / tiles);
      QuantizeGroups(*w, dtype, begin, end, region.data());
    });
    w->dtype = dtype;
    packer_->Keep(std::move(region), w);
    return KVRM_OK;
  }

  // Its rows in order, as numbers of dtype.
  kvrm_status Straighten(Weight* w, uint32_t dtype) {
    const uint64_t from_bytes = RowBytes(w->dtype, w->cols), bytes = RowBytes(dtype, w->cols);
    Mapping region;
    KVRM_TRY(Mapping::Reserve(w->rows * bytes, "a matrix", &region));
    const uint32_t tiles = std::min(w->rows, 8 * threads_.threads());
    threads_.Run(tiles, [&](uint32_t tile, uint32_t) noexcept {
      std::vector<float> values(w->dtype == dtype ? 0 : w->cols);
      const uint32_t begin = uint32_t(uint64_t{w->rows} * tile / tiles);
      const uint32_t end = uint32_t(uint64_t{w->rows} * (tile + 1) / tiles);
      for (uint32_t n = begin; n < end; ++n) {
        const uint8_t* from = static_cast<const uint8_t*>(w->data) + w->FileRow(n) * from_bytes;
        uint8_t* to = region.data() + n * bytes;
        if (w->dtype == dtype) {
          std::memcpy(to, from, bytes);
        } else {
          Widen(from, w->cols, w->dtype, values.data());
          Narrow(values.data(), w->cols, dtype, to);
        }
      }
    });
    w->dtype = dtype;
    w->data = region.data();
    w->interleaved_head = 0;
    model_.memory.push_back(std::move(region));
    return KVRM_OK;
  }

  Model& model_;
  ThreadPool threads_;
  std::shared_ptr<Packer> packer_;
  // Matrices that share an input get it in one form, so beside blocks nothing is rounded, or made tiles of.
  const bool rounds_;
  const bool tiles_;
};

}  // namespace

kvrm_status PrepareWeights(Model* model) {
  if (model->config.quantize == KVRM_QUANTIZE_FP8) {
    return Fail(KVRM_UNSUPPORTED, "load model: config.quantize is FP8, wanted NONE, INT8, INT4 or BF16 on the CPU");
  }
  if (model->config.quantize == KVRM_QUANTIZE_BF16 && !HasBf16Products() && TileKernel() == nullptr) {
    return Fail(KVRM_UNSUPPORTED,
                "load model: config.quantize is BF16, wanted NONE, INT8 or INT4 on a processor without AVX512_BF16");
  }
  Preparer preparer(model);
  for (LayerWeights& layer : model->layers) {
    for (const kvrm_role role : kMatrices) {
      KVRM_TRY(preparer.Prepare(&layer.by_role[role]));
    }
  }
  KVRM_TRY(preparer.Prepare(&model->lm_head));
  return preparer.Finish();
}

}  // namespace kvrm::cpu
