#include "model.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "backend.h"
#include "random_tensor.h"

namespace kvrm {
namespace {

constexpr const char* kRoleNames[KVRM_ROLE_COUNT] = {
    "EMBED",  "FINAL_NORM", "LM_HEAD", "ATTN_NORM", "Q",      "K",        "V",    "O",  "Q_BIAS",
    "K_BIAS", "V_BIAS",     "O_BIAS",  "Q_NORM",    "K_NORM", "FFN_NORM", "GATE", "UP", "DOWN"};

constexpr bool IsGlobal(uint32_t role) { return role < KVRM_ATTN_NORM; }
constexpr bool IsNorm(uint32_t role) {
  return role == KVRM_FINAL_NORM || role == KVRM_ATTN_NORM || role == KVRM_FFN_NORM || role == KVRM_Q_NORM ||
         role == KVRM_K_NORM;
}
constexpr bool IsOptional(uint32_t role) {
  return role == KVRM_LM_HEAD || (KVRM_Q_BIAS <= role && role <= KVRM_K_NORM);
}

// "tensor DOWN of layer 3", for messages.
struct Name {
  char text[48];
  Name(uint32_t role, uint32_t layer) {
    if (IsGlobal(role)) {
      std::snprintf(text, sizeof(text), "tensor %s", kRoleNames[role]);
    } else {
      std::snprintf(text, sizeof(text), "tensor %s of layer %u", kRoleNames[role], layer);
    }
  }
};

// What RoPE turns.
constexpr bool IsRotated(uint32_t role) {
  return role == KVRM_Q || role == KVRM_K || role == KVRM_Q_BIAS || role == KVRM_K_BIAS || role == KVRM_Q_NORM ||
         role == KVRM_K_NORM;
}

struct Shape {
  uint32_t rows, cols;
};

Shape WantedShape(const kvrm_model_config& c, uint32_t role) {
  const uint32_t q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
  switch (role) {
    case KVRM_EMBED:
    case KVRM_LM_HEAD:
      return {c.vocab, c.hidden};
    case KVRM_Q:
      return {q, c.hidden};
    case KVRM_K:
    case KVRM_V:
      return {kv, c.hidden};
    case KVRM_O:
      return {c.hidden, q};
    case KVRM_Q_BIAS:
      return {q, 1};
    case KVRM_K_BIAS:
    case KVRM_V_BIAS:
      return {kv, 1};
    case KVRM_Q_NORM:
    case KVRM_K_NORM:
      return {c.head_dim, 1};
    case KVRM_GATE:
    case KVRM_UP:
      return {c.intermediate, c.hidden};
    case KVRM_DOWN:
      return {c.hidden, c.intermediate};
    default:  // the norms and O_BIAS
      return {c.hidden, 1};
  }
}

kvrm_status CheckRange(const char* field, uint32_t found, uint32_t low, uint32_t high) {
  if (low <= found && found <= high) return KVRM_OK;
  return Fail(KVRM_INVALID_ARGUMENT, "load model: config.%s is %u, wanted %u to %u", field, found, low, high);
}

kvrm_status CheckConfig(const kvrm_model_config& c) {
  // The limits keep every product of two of them, times four, within 64 bits.
  KVRM_TRY(CheckRange("abi_version", c.abi_version, KVRM_ABI_VERSION, KVRM_ABI_VERSION));
  KVRM_TRY(CheckRange("hidden", c.hidden, 1, 1u << 20));
  KVRM_TRY(CheckRange("intermediate", c.intermediate, 1, 1u << 20));
  KVRM_TRY(CheckRange("layers", c.layers, 1, 4096));
  KVRM_TRY(CheckRange("heads", c.heads, 1, 4096));
  KVRM_TRY(CheckRange("kv_heads", c.kv_heads, 1, c.heads));
  KVRM_TRY(CheckRange("head_dim", c.head_dim, 2, 1024));
  KVRM_TRY(CheckRange("vocab", c.vocab, 1, 1u << 26));
  KVRM_TRY(CheckRange("max_position", c.max_position, 1, 1u << 28));
  KVRM_TRY(CheckRange("quantize", c.quantize, KVRM_QUANTIZE_NONE, KVRM_QUANTIZE_BF16));
  KVRM_TRY(CheckRange("rope_interleaved", c.rope_interleaved, 0, 1));
  if (c.heads % c.kv_heads != 0) {
    return Fail(KVRM_INVALID_ARGUMENT, "load model: config.kv_heads is %u, wanted a divisor of heads (%u)", c.kv_heads,
                c.heads);
  }
  if (c.head_dim % 2 != 0) {
    return Fail(KVRM_INVALID_ARGUMENT, "load model: config.head_dim is %u, wanted an even number", c.head_dim);
  }
  if (!(c.rms_eps >= 0) || !std::isfinite(c.rms_eps)) {
    return Fail(KVRM_INVALID_ARGUMENT, "load model: config.rms_eps is %g, wanted at least 0", double(c.rms_eps));
  }
  if (!(c.attention_scale > 0) || !std::isfinite(c.attention_scale)) {
    return Fail(KVRM_INVALID_ARGUMENT, "load model: config.attention_scale is %g, wanted more than 0",
                double(c.attention_scale));
  }
  return KVRM_OK;
}

class Loader {
 public:
  Loader(Model* model, const std::vector<std::string>& paths) : model_(*model), paths_(paths) {}

  kvrm_status MapFiles() {
    files_ = paths_.size();
    model_.memory.resize(files_);
    for (size_t i = 0; i < files_; ++i) KVRM_TRY(Mapping::OpenFile(paths_[i], &model_.memory[i]));
    return KVRM_OK;
  }

  kvrm_status Load(const kvrm_tensor& t) {
    const kvrm_model_config& config = model_.config;
    if (t.role >= KVRM_ROLE_COUNT) {
      return Fail(KVRM_INVALID_MODEL, "load model: a tensor's role is %u, wanted less than %u", t.role,
                  unsigned(KVRM_ROLE_COUNT));
    }
    const uint32_t layers = IsGlobal(t.role) ? 1 : config.layers;
    const Name name(t.role, t.layer);
    const char* path = t.file < files_ ? paths_[t.file].c_str() : "no file";
    if (t.layer >= layers) {
      return Fail(KVRM_INVALID_MODEL, "load model: %s (%s): layer is %u, wanted less than %u", name.text, path, t.layer,
                  layers);
    }
    const Shape want = WantedShape(config, t.role);
    const bool matrix = want.cols != 1;
    if (t.dtype > KVRM_BF16 && !(matrix && IsBlocks(t.dtype))) {
      return Fail(KVRM_INVALID_MODEL, "load model: %s (%s): type is %u, wanted F32 (0), F16 (1)%s BF16 (2)%s",
                  name.text, path, t.dtype, matrix ? "," : " or",
                  matrix ? " or a block format (Q8_0 (4) to Q6_K (8))" : "");
    }
    if (t.rows != want.rows || t.cols != want.cols) {
      return Fail(KVRM_INVALID_MODEL, "load model: %s (%s): shape is [%u, %u], wanted [%u, %u]", name.text, path,
                  t.rows, t.cols, want.rows, want.cols);
    }
    if (IsBlocks(t.dtype) && t.cols % FormatOf(t.dtype).numbers != 0) {
      return Fail(KVRM_INVALID_MODEL,
                  "load model: %s (%s): type is %s and rows have %u numbers, wanted a multiple of %u", name.text, path,
                  FormatOf(t.dtype).name, t.cols, FormatOf(t.dtype).numbers);
    }
    Weight& weight = Place(t.role, t.layer);
    if (weight.data) return Fail(KVRM_INVALID_MODEL, "load model: %s (%s) is given twice", name.text, path);
    weight = {nullptr, t.dtype, t.rows, t.cols};
    if (t.file == KVRM_NO_FILE) return MakeUp(t, &weight);
    KVRM_TRY(FromFile(t, name, &weight));
    if (!config.rope_interleaved || !IsRotated(t.role)) return KVRM_OK;
    weight.interleaved_head = config.head_dim;
    return matrix ? KVRM_OK : Straighten(&weight);
  }

  // What every model must have, once all tensors are in.
  kvrm_status CheckComplete() {
    for (uint32_t role = 0; role < KVRM_ROLE_COUNT; ++role) {
      if (IsOptional(role)) continue;
      for (uint32_t layer = 0; layer < (IsGlobal(role) ? 1 : model_.config.layers); ++layer) {
        if (!Place(role, layer).data) {
          return Fail(KVRM_INVALID_MODEL, "load model: %s is missing", Name(role, layer).text);
        }
      }
    }
    for (uint32_t layer = 0; layer < model_.config.layers; ++layer) {
      const bool q = Place(KVRM_Q_NORM, layer).data, k = Place(KVRM_K_NORM, layer).data;
      if (q != k) {
        return Fail(KVRM_INVALID_MODEL, "load model: %s is missing, wanted both of Q_NORM and K_NORM or neither",
                    Name(q ? KVRM_K_NORM : KVRM_Q_NORM, layer).text);
      }
    }
    if (!model_.lm_head.data) model_.lm_head = model_.embed;  // tied
    return KVRM_OK;
  }

 private:
  Weight& Place(uint32_t role, uint32_t layer) {
    switch (role) {
      case KVRM_EMBED:
        return model_.embed;
      case KVRM_FINAL_NORM:
        return model_.final_norm;
      case KVRM_LM_HEAD:
        return model_.lm_head;
      default:
        return model_.layers[layer].by_role[role];
    }
  }

  uint64_t Bytes(const kvrm_tensor& t) const { return t.rows * RowBytes(t.dtype, t.cols); }

  kvrm_status MakeUp(const kvrm_tensor& t, Weight* weight) {
    uint8_t* data;
    KVRM_TRY(Own(Bytes(t), &data));
    const uint64_t count = uint64_t{t.rows} * t.cols;
    if (IsNorm(t.role)) {
      FillOnes(count, t.dtype, data);
    } else {
      weight->made_up = true;
      weight->made_up_key = NormalKey(model_.config.random_seed, t.role, t.layer);
      if (IsBlocks(t.dtype)) {
        weight->made_up = false;  // a backend makes up elements, not blocks
        FillBlocks(weight->made_up_key, 0.02f, t.dtype, count, data);
      } else if (!MakesUpWeights()) {
        FillNormal(model_.config.random_seed, t.role, t.layer, count, t.dtype, data);
      }
    }
    weight->data = data;
    return KVRM_OK;
  }

  kvrm_status FromFile(const kvrm_tensor& t, const Name& name, Weight* weight) {
    if (t.file >= files_) {
      return Fail(KVRM_INVALID_MODEL, "load model: %s: file is %u, wanted less than %zu", name.text, t.file, files_);
    }
    const Mapping& file = model_.memory[t.file];
    const uint64_t offset = uint64_t{t.offset_hi} << 32 | t.offset_lo;
    const uint64_t bytes = Bytes(t);
    if (offset > file.bytes() || bytes > file.bytes() - offset) {
      return Fail(KVRM_IO, "load model: %s has %zu bytes, wanted %llu for %s at offset %llu", paths_[t.file].c_str(),
                  file.bytes(), static_cast<unsigned long long>(offset + bytes), name.text,
                  static_cast<unsigned long long>(offset));
    }
    const uint8_t* data = file.data() + offset;
    if (!IsBlocks(t.dtype) && reinterpret_cast<uintptr_t>(data) % ElementBytes(t.dtype) != 0) {
      // safetensors aligns to bytes only; the operations read whole elements.
      uint8_t* copy;
      KVRM_TRY(Own(bytes, &copy));
      std::memcpy(copy, data, bytes);
      data = copy;
    }
    weight->data = data;
    return KVRM_OK;
  }

  // A vector's numbers in the order of FileRow: few enough to copy, so that only matrices come interleaved.
  kvrm_status Straighten(Weight* vector) {
    const uint32_t bytes = ElementBytes(vector->dtype);
    uint8_t* copy;
    KVRM_TRY(Own(uint64_t{vector->rows} * bytes, &copy));
    for (uint32_t n = 0; n < vector->rows; ++n) {
      std::memcpy(copy + uint64_t{n} * bytes,
                  static_cast<const uint8_t*>(vector->data) + uint64_t{vector->FileRow(n)} * bytes, bytes);
    }
    vector->data = copy;
    vector->interleaved_head = 0;
    return KVRM_OK;
  }

  // Memory that lives as long as the model. Small tensors share a region.
  kvrm_status Own(uint64_t bytes, uint8_t** out) {
    constexpr uint64_t kShared = 1 << 20, kAlign = 64;
    if (bytes > kShared / 4) {
      Mapping region;
      KVRM_TRY(Mapping::Reserve(bytes, "a tensor", &region));
      *out = region.data();
      model_.memory.push_back(std::move(region));
      return KVRM_OK;
    }
    if (shared_left_ < bytes) {
      Mapping region;
      KVRM_TRY(Mapping::Reserve(kShared, "small tensors", &region));
      shared_ = region.data();
      shared_left_ = kShared;
      model_.memory.push_back(std::move(region));
    }
    *out = shared_;
    const uint64_t step = std::min(shared_left_, (bytes + kAlign - 1) / kAlign * kAlign);
    shared_ += step;
    shared_left_ -= step;
    return KVRM_OK;
  }

  Model& model_;
  const std::vector<std::string>& paths_;
  size_t files_ = 0;
  uint8_t* shared_ = nullptr;
  uint64_t shared_left_ = 0;
};

}  // namespace

kvrm_status LoadModel(const kvrm_model_config& config, const std::vector<kvrm_tensor>& tensors,
                      const std::vector<std::string>& paths, const float* inv_freq, const uint32_t* layer_windows,
                      std::shared_ptr<Model>* out) {
  KVRM_TRY(CheckConfig(config));
  auto model = std::make_shared<Model>();
  model->config = config;
  model->layers.resize(config.layers);
  model->inv_freq.assign(inv_freq, inv_freq + config.head_dim / 2);
  for (uint32_t i = 0; i < config.head_dim / 2; ++i) {
    if (!std::isfinite(inv_freq[i])) {
      return Fail(KVRM_INVALID_ARGUMENT, "load model: inv_freq[%u] is %g, wanted a finite number", i,
                  double(inv_freq[i]));
    }
  }
  bool full = false;
  for (uint32_t i = 0; i < config.layers; ++i) {
    model->layers[i].window = layer_windows[i];
    full = full || layer_windows[i] == 0;
    model->widest_window = std::max(model->widest_window, layer_windows[i]);
  }
  if (full) model->widest_window = 0;

  Loader loader(model.get(), paths);
  KVRM_TRY(loader.MapFiles());
  for (const kvrm_tensor& tensor : tensors) KVRM_TRY(loader.Load(tensor));
  KVRM_TRY(loader.CheckComplete());
  KVRM_TRY(FinishModel(*model));
  *out = std::move(model);
  return KVRM_OK;
}

}  // namespace kvrm
