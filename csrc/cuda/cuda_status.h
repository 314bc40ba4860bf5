// cuda_status.h - CUDA's error codes as the library's: what was being done and what CUDA says.
#ifndef KVRM_CUDA_CUDA_STATUS_H_
#define KVRM_CUDA_CUDA_STATUS_H_

#include "../common/status.h"
#include "device.h"

namespace kvrm::cuda {

// The status that stands for a CUDA error: an allocation that failed is OUT_OF_MEMORY, a machine without a
// usable GPU UNSUPPORTED, and whatever breaks the context DEVICE_LOST.
inline kvrm_status StatusOf(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return KVRM_OK;
    case cudaErrorMemoryAllocation:
      return KVRM_OUT_OF_MEMORY;
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorInvalidDevice:
      return KVRM_UNSUPPORTED;
    default:
      return KVRM_DEVICE_LOST;
  }
}

inline kvrm_status FailCuda(const char* action, cudaError_t error) {
  return Fail(StatusOf(error), "%s: CUDA says %s (%s)", action, cudaGetErrorName(error), cudaGetErrorString(error));
}

}  // namespace kvrm::cuda

// For functions that return kvrm_status: leaves when a CUDA call fails.
#define KVRM_CUDA_TRY(action, expression)                                 \
  do {                                                                    \
    if (const cudaError_t error_ = (expression); error_ != cudaSuccess) { \
      return ::kvrm::cuda::FailCuda(action, error_);                      \
    }                                                                     \
  } while (false)

#endif  // KVRM_CUDA_CUDA_STATUS_H_
