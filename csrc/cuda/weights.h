// weights.h - a model's weights in GPU memory, in the form that the kernels want.
#ifndef KVRM_CUDA_WEIGHTS_H_
#define KVRM_CUDA_WEIGHTS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "../common/model.h"
#include "device_memory.h"
#include "kernels.h"

namespace kvrm::cuda {

struct DeviceModel {
  struct Layer {
    Table attn_norm, ffn_norm;     // [hidden]
    DeviceWeight qkv;              // [(heads + 2 kv_heads) * head_dim, hidden]
    DeviceWeight o;                // [hidden, heads * head_dim]
    DeviceWeight gate_up;          // by turns of 16 rows, see LaunchGateUp
    DeviceWeight down;             // [hidden, intermediate]
    const float* qkv_bias;         // [(heads + 2 kv_heads) * head_dim] or null
    const float* o_bias;           // [hidden] or null
    const float *q_norm, *k_norm;  // [head_dim] or null
  };

  Table embed;        // [vocab, hidden]
  Table final_norm;   // [hidden]
  DeviceWeight head;  // [vocab, hidden]; the memory of embed when tied and of the same type
  std::vector<Layer> layers;
  const float* inv_freq;  // [head_dim / 2]
  uint32_t act_dtype;     // kvrm_dtype of the activations that products read

  DeviceMemory memory;  // holds all of it
};

// Copies the weights to the calling thread's GPU; config.quantize narrows the matrices of the layers and the
// head. Matrices of another type than the activations, which have that of most of the weights, are rounded
// to it. Keeps load_progress.
kvrm_status UploadModel(const Model& model, std::shared_ptr<DeviceModel>* out);

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_WEIGHTS_H_
