#include "weights_layout.h"

#include <algorithm>

#include "../common/layout.h"
#include "gemm.h"

namespace kvrm::cuda {
namespace {

constexpr uint64_t kAlign = 256;

WeightType TypeOf(uint32_t dtype) {
  return dtype == KVRM_F32 ? WeightType::kF32 : dtype == KVRM_F16 ? WeightType::kF16 : WeightType::kBf16;
}

WeightType QuantizedType(uint32_t quantize, uint32_t dtype) {
  switch (quantize) {
    case KVRM_QUANTIZE_FP8:
      return WeightType::kFp8;
    case KVRM_QUANTIZE_INT8:
      return WeightType::kInt8;
    case KVRM_QUANTIZE_INT4:
      return WeightType::kInt4;
    default:
      return TypeOf(dtype);
  }
}

class Builder {
 public:
  Builder(const Model& model, uint8_t* base, DeviceModel* out, std::vector<Upload>* uploads)
      : model_(model), base_(base), out_(*out), uploads_(*uploads), act_(ActivationDtype(model)) {}

  uint64_t Build() {
    out_.act_dtype = act_;
    out_.embed = AddTable(model_.embed);
    out_.final_norm = AddTable(model_.final_norm);
    const Weight inv_freq = {model_.inv_freq.data(), KVRM_F32, static_cast<uint32_t>(model_.inv_freq.size()), 1};
    out_.inv_freq = AddFloats(inv_freq);
    out_.layers.clear();
    for (const LayerWeights& layer : model_.layers) out_.layers.push_back(AddLayer(layer));
    const bool tied = model_.lm_head.data == model_.embed.data;
    if (tied && model_.config.quantize == KVRM_QUANTIZE_NONE && model_.embed.dtype == act_) {
      out_.head.data = out_.embed.data;
      out_.head.type = TypeOf(act_);
      out_.head.n = model_.embed.rows;
      out_.head.k = model_.embed.cols;
    } else {
      out_.head = AddMatrix({model_.lm_head});
    }
    return bytes_;
  }

 private:
  uint8_t* Place(uint64_t bytes) {
    const uint64_t offset = bytes_;
    bytes_ = AlignUp(bytes_ + bytes, kAlign);
    return reinterpret_cast<uint8_t*>(reinterpret_cast<uintptr_t>(base_) + offset);
  }

  DeviceModel::Layer AddLayer(const LayerWeights& w) {
    DeviceModel::Layer layer = {};
    layer.attn_norm = AddTable(w[KVRM_ATTN_NORM]);
    layer.qkv = AddMatrix({w[KVRM_Q], w[KVRM_K], w[KVRM_V]});
    layer.o = AddMatrix({w[KVRM_O]});
    layer.ffn_norm = AddTable(w[KVRM_FFN_NORM]);
    layer.gate_up = AddGateUp(w[KVRM_GATE], w[KVRM_UP]);
    layer.down = AddMatrix({w[KVRM_DOWN]});
    layer.qkv_bias = AddQkvBias(w);
    if (w.Optional(KVRM_O_BIAS)) layer.o_bias = AddFloats(w[KVRM_O_BIAS]);
    if (w.Optional(KVRM_Q_NORM)) {
      layer.q_norm = AddFloats(w[KVRM_Q_NORM]);
      layer.k_norm = AddFloats(w[KVRM_K_NORM]);
    }
    return layer;
  }

  // The biases of Q, K and V; one that is missing counts as zeros.
  const float* AddQkvBias(const LayerWeights& w) {
    if (!w.Optional(KVRM_Q_BIAS) && !w.Optional(KVRM_K_BIAS) && !w.Optional(KVRM_V_BIAS)) return nullptr;
    Upload upload = {};
    upload.dtype = KVRM_F32;
    upload.cols = 1;
    for (const auto& [bias, matrix] : {std::pair{KVRM_Q_BIAS, KVRM_Q}, {KVRM_K_BIAS, KVRM_K}, {KVRM_V_BIAS, KVRM_V}}) {
      Weight part = w[bias];
      part.rows = w[matrix].rows;
      AddPart(part, &upload);
    }
    return reinterpret_cast<const float*>(Add(upload));
  }

  static void AddPart(const Weight& part, Upload* upload) {
    upload->parts[upload->sources.num] = part;
    upload->sources.rows[upload->sources.num++] = part.rows;
    upload->rows += part.rows;
  }

  // One row, so that a vector is one copy.
  Upload OneRow(const Weight& w, uint32_t dtype) {
    Upload upload = {};
    upload.dtype = dtype;
    upload.rows = w.cols == 1 ? 1 : w.rows;
    upload.cols = w.cols == 1 ? w.rows : w.cols;
    upload.sources.num = 1;
    upload.sources.rows[0] = upload.rows;
    upload.parts[0] = w;
    return upload;
  }

  // Numbers in blocks are taken out of them.
  Table AddTable(const Weight& w) {
    const uint32_t dtype = IsBlocks(w.dtype) ? act_ : w.dtype;
    return {Add(OneRow(w, dtype)), dtype};
  }
  const float* AddFloats(const Weight& w) { return reinterpret_cast<const float*>(Add(OneRow(w, KVRM_F32))); }

  DeviceWeight AddMatrix(std::initializer_list<Weight> parts) {
    Upload upload = {};
    upload.dtype = act_;
    upload.cols = parts.begin()->cols;
    for (const Weight& part : parts) AddPart(part, &upload);
    return AddProduct(upload);
  }

  DeviceWeight AddGateUp(const Weight& gate, const Weight& up) {
    Upload upload = {};
    upload.dtype = act_;
    upload.cols = gate.cols;
    upload.sources.by_turns = true;
    AddPart(gate, &upload);
    AddPart(up, &upload);
    upload.rows = 2 * static_cast<uint32_t>(AlignUp(gate.rows, RowSources::kTurn));
    return AddProduct(upload);
  }

  DeviceWeight AddProduct(Upload upload) {
    const WeightType type = QuantizedType(model_.config.quantize, act_);
    if (type == WeightType::kInt4) {
      const uint64_t groups = (upload.cols + kInt4Group - 1) / kInt4Group;
      upload.scales = reinterpret_cast<float*>(Place(upload.rows * groups * sizeof(float)));
    } else if (type == WeightType::kFp8 || type == WeightType::kInt8) {
      upload.scales = reinterpret_cast<float*>(Place(upload.rows * sizeof(float)));
    }
    DeviceWeight weight;
    weight.type = type;
    weight.n = upload.rows;
    weight.k = upload.cols;
    weight.scales = upload.scales;
    weight.data = Add(upload, type);
    return weight;
  }

  const uint8_t* Add(const Upload& upload) { return Add(upload, TypeOf(upload.dtype)); }

  const uint8_t* Add(Upload upload, WeightType type) {
    upload.type = type;
    upload.to = Place(upload.rows * WeightRowBytes(type, upload.cols));
    uploads_.push_back(upload);
    return upload.to;
  }

  const Model& model_;
  uint8_t* const base_;
  DeviceModel& out_;
  std::vector<Upload>& uploads_;
  const uint32_t act_;
  uint64_t bytes_ = 0;
};

}  // namespace

uint32_t ActivationDtype(const Model& model) {
  uint64_t elements[3] = {};
  const auto count = [&](const Weight& w) {
    elements[IsBlocks(w.dtype) ? uint32_t{KVRM_BF16} : w.dtype] += uint64_t{w.rows} * w.cols;
  };
  for (const LayerWeights& layer : model.layers) {
    for (const kvrm_role role : {KVRM_Q, KVRM_K, KVRM_V, KVRM_O, KVRM_GATE, KVRM_UP, KVRM_DOWN}) count(layer[role]);
  }
  count(model.lm_head);
  uint32_t most = KVRM_F32;
  for (const uint32_t dtype : {KVRM_BF16, KVRM_F16}) {
    if (elements[dtype] > elements[most]) most = dtype;
  }
  return most;
}

uint64_t LayOutWeights(const Model& model, uint8_t* base, DeviceModel* out, std::vector<Upload>* uploads) {
  uploads->clear();
  return Builder(model, base, out, uploads).Build();
}

}  // namespace kvrm::cuda
