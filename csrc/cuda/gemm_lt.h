// gemm_lt.h - products by cuBLASLt, to be measured beside the own kernels. Its library is opened when it is
// first asked for; where there is none, or no header when this was compiled, nothing is available. The order
// of its sums is not that of docs/cuda.md.
#ifndef KVRM_CUDA_GEMM_LT_H_
#define KVRM_CUDA_GEMM_LT_H_

#include <cstdint>

#include "kernels.h"

namespace kvrm::cuda {

// Whether KVRM_GEMM=cublaslt asks for these products and they are available.
bool LtWanted();
bool LtAvailable();

// sums[rows][n] = x [rows][k] W^T in f32, for kF16 and kBf16 with activations of the same type. The algorithm
// is chosen at the first call for a shape; later calls only enqueue. False: cuBLASLt cannot do it.
bool LtProduct(cudaStream_t stream, const DeviceWeight& weight, const void* x, uint32_t rows, float* sums);

// GPU memory for the sums of a product, kept for the next that needs as much or less; null when there is none.
// The first call for a size may be made while a stream is captured.
float* LtSums(uint32_t rows, uint32_t n);

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_GEMM_LT_H_
