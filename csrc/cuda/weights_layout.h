// weights_layout.h - where each weight of a model lies in one region of GPU memory, and what it is made of.
// Host arithmetic only.
#ifndef KVRM_CUDA_WEIGHTS_LAYOUT_H_
#define KVRM_CUDA_WEIGHTS_LAYOUT_H_

#include <cstdint>
#include <vector>

#include "weights.h"

namespace kvrm::cuda {

// One matrix (or vector, as a matrix of one row) in GPU memory and the tensors that its rows come from.
struct Upload {
  uint8_t* to;      // in GPU memory
  float* scales;    // of a quantised matrix
  WeightType type;  // in GPU memory
  uint32_t dtype;   // kvrm_dtype that rows are copied in: before quantisation
  uint32_t rows, cols;
  bool by_turns;  // parts 0 and 1 by turns of 16 rows; else one part after another
  uint32_t num_parts;
  Weight parts[3];  // a part without data is zeros

  uint64_t CopiedRowBytes() const { return uint64_t{cols} * ElementBytes(dtype); }

  // Elements of row r, or null: a row of zeros.
  const void* SourceRow(uint32_t r, uint32_t* source_dtype) const;
};

// The type of the activations: that of most of the matrices' elements, the wider where they are even.
uint32_t ActivationDtype(const Model& model);

// Fills all but `memory` of out, for a region at base, and lists the uploads. Returns the region's size;
// with a null base to find that out.
uint64_t LayOutWeights(const Model& model, uint8_t* base, DeviceModel* out, std::vector<Upload>* uploads);

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_WEIGHTS_LAYOUT_H_
