// launch.h - the launch of a kernel in the emulator.
#ifndef KVRM_CUDA_EMULATOR_LAUNCH_H_
#define KVRM_CUDA_EMULATOR_LAUNCH_H_

#include <source_location>
#include <tuple>
#include <utility>

#include "grid.h"
#include "runtime.h"

namespace kvrm::cuda {

struct LaunchConfig {
  dim3 grid;
  dim3 block;
  uint32_t shared_bytes = 0;  // dynamic
  cudaStream_t stream = nullptr;
  bool dependent = false;  // every thread must call WaitForPrevious()
  std::source_location where = std::source_location::current();
};

namespace emulator {

// Queues the kernel on the stream, or records it. Errors are read with cudaGetLastError().
void Enqueue(cudaStream_t stream, const void* function, Kernel kernel);

// Forgets streams' work, the error and the count of kernels, and reads the environment again; for tests,
// between engines.
void Reset();

}  // namespace emulator

// Arguments are converted, as in a call, and copied here.
template <class... P, class... A>
void Launch(const LaunchConfig& config, void (*kernel)(P...), A&&... args) {
  static_assert(sizeof...(P) == sizeof...(A), "a kernel takes as many arguments as it has parameters");
  emulator::Kernel launch;
  launch.body = [kernel, values = std::tuple<P...>(std::forward<A>(args)...)] { std::apply(kernel, values); };
  launch.grid = config.grid;
  launch.block = config.block;
  launch.shared_bytes = config.shared_bytes;
  launch.dependent = config.dependent;
  launch.where = config.where;
  emulator::Enqueue(config.stream, reinterpret_cast<const void*>(kernel), std::move(launch));
}

// Before the first launch with more than 48 KiB of dynamic shared memory.
template <class... P>
void AllowShared(void (*kernel)(P...), uint32_t bytes) {
  (void)cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
}

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_EMULATOR_LAUNCH_H_
