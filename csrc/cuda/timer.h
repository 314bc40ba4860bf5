// timer.h - time between two points of a stream, by the device's own clock.
#ifndef KVRM_CUDA_TIMER_H_
#define KVRM_CUDA_TIMER_H_

#include "cuda_status.h"

namespace kvrm::cuda {

class Timer {
 public:
  Timer() = default;
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  ~Timer() {
    if (start_) cudaEventDestroy(start_);
    if (end_) cudaEventDestroy(end_);
  }

  kvrm_status Create() {
    KVRM_CUDA_TRY("create a timer", cudaEventCreateWithFlags(&start_, cudaEventDefault));
    KVRM_CUDA_TRY("create a timer", cudaEventCreateWithFlags(&end_, cudaEventDefault));
    return KVRM_OK;
  }

  cudaError_t Start(cudaStream_t stream) { return cudaEventRecord(start_, stream); }

  // Waits for everything since Start.
  cudaError_t Stop(cudaStream_t stream, float* ms) {
    cudaError_t error = cudaEventRecord(end_, stream);
    if (error == cudaSuccess) error = cudaEventSynchronize(end_);
    if (error == cudaSuccess) error = cudaEventElapsedTime(ms, start_, end_);
    return error;
  }

 private:
  cudaEvent_t start_ = nullptr;
  cudaEvent_t end_ = nullptr;
};

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_TIMER_H_
