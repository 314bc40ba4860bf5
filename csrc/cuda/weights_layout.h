// weights_layout.h - where each weight of a model lies in one region of GPU memory, and what it is made of.
// Host arithmetic only.
#ifndef KVRM_CUDA_WEIGHTS_LAYOUT_H_
#define KVRM_CUDA_WEIGHTS_LAYOUT_H_

#include <cstdint>
#include <vector>

#include "weights.h"
#include "weights_kernels.h"

namespace kvrm::cuda {

// One matrix (or vector, as a matrix of one row) in GPU memory and the tensors that its rows come from.
struct Upload {
  uint8_t* to;      // in GPU memory
  float* scales;    // of a quantised matrix
  WeightType type;  // in GPU memory
  uint32_t dtype;   // kvrm_dtype that rows are copied in: before quantisation
  uint32_t rows, cols;
  RowSources sources;
  Weight parts[3];  // those of sources; one without data is zeros

  uint64_t CopiedRowBytes() const { return uint64_t{cols} * ElementBytes(dtype); }
  bool Quantised() const { return scales != nullptr; }
};

// The type of the activations: that of most of the matrices' elements, the wider where they are even. Those in block
// formats count as BF16, which is what a GPU makes of them.
uint32_t ActivationDtype(const Model& model);

// Fills all but `memory` of out, for a region at base, and lists the uploads. Returns the region's size;
// with a null base to find that out.
uint64_t LayOutWeights(const Model& model, uint8_t* base, DeviceModel* out, std::vector<Upload>* uploads);

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_WEIGHTS_LAYOUT_H_
