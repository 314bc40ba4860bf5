// model.h - a model's weights: files mapped, the tensor table checked against the configuration.
#ifndef KVRM_COMMON_MODEL_H_
#define KVRM_COMMON_MODEL_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "../kvrm.h"
#include "block_format.h"
#include "convert.h"
#include "memory.h"
#include "status.h"

namespace kvrm {

// A row-major matrix [rows, cols] of dtype (kvrm_dtype), or a vector [rows, 1], which is never in blocks.
struct Weight {
  const void* data = nullptr;
  uint32_t dtype = KVRM_F32;
  uint32_t rows = 0;
  uint32_t cols = 0;
  // Of a tensor without a file: its elements are NormalAt(made_up_key, i), and where the backend makes
  // them itself data is memory that nobody has written.
  bool made_up = false;
  uint64_t made_up_key = 0;
  // Where a backend's own form of the matrix is; null until it is made. A null pointer: there will be none.
  const std::atomic<const uint8_t*>* packed = nullptr;
  // Products with it round activations to BF16, which it is.
  bool rounds = false;
  // Not 0: products are made in tiles, with activations in so many parts (cpu/tile_matmul.h).
  uint32_t tile_parts = 0;
  // Not 0: the rows are heads of this many, and the file has those that RoPE turns together as neighbours.
  uint32_t interleaved_head = 0;

  // Where row n lies in data.
  uint32_t FileRow(uint32_t n) const {
    if (interleaved_head == 0) return n;
    const uint32_t head = n / interleaved_head * interleaved_head, i = n - head, half = interleaved_head / 2;
    return head + (i < half ? 2 * i : 2 * (i - half) + 1);
  }
};

// The weights of one layer; an absent optional one has data == nullptr.
struct LayerWeights {
  Weight by_role[KVRM_ROLE_COUNT];  // from KVRM_ATTN_NORM on
  uint32_t window = 0;              // tokens a row sees, itself included; 0: all
  const Weight& operator[](kvrm_role role) const { return by_role[role]; }
  const Weight* Optional(kvrm_role role) const { return by_role[role].data ? &by_role[role] : nullptr; }
};

struct Model {
  kvrm_model_config config;
  Weight embed;                      // [vocab, hidden]
  Weight final_norm;                 // [hidden]
  Weight lm_head;                    // [vocab, hidden]; embed when tied
  std::vector<LayerWeights> layers;  // [layers]
  std::vector<float> inv_freq;       // [head_dim / 2]
  uint32_t widest_window = 0;        // over all layers; 0 when one attends to everything

  // What holds the weights. A backend that has copies of its own may clear it in FinishModel.
  std::vector<Mapping> memory;
  // A backend's own form of the weights.
  std::shared_ptr<void> device;

  uint32_t QRows() const { return config.heads * config.head_dim; }
  uint32_t KvRows() const { return config.kv_heads * config.head_dim; }
};

// The arguments are those of kvrm_model_load, the table already in aligned memory. Ends with the
// backend's FinishModel.
kvrm_status LoadModel(const kvrm_model_config& config, const std::vector<kvrm_tensor>& tensors,
                      const std::vector<std::string>& paths, const float* inv_freq, const uint32_t* layer_windows,
                      std::shared_ptr<Model>* out);

}  // namespace kvrm
#endif  // KVRM_COMMON_MODEL_H_
