// grid.h - runs one kernel: its blocks in random order, on a processor each.
#ifndef KVRM_CUDA_EMULATOR_GRID_H_
#define KVRM_CUDA_EMULATOR_GRID_H_

#include <cstdint>
#include <functional>
#include <source_location>

#include "vector_types.h"

namespace kvrm::cuda::emulator {

// A kernel with its arguments, and how it was launched.
struct Kernel {
  std::function<void()> body;  // of one thread
  dim3 grid;
  dim3 block;
  uint32_t shared_bytes = 0;
  bool dependent = false;
  std::source_location where;  // of the launch
};

// Returns when every thread has ended. One kernel at a time. seed: of every order that is random.
void RunGrid(const Kernel& kernel, uint64_t seed);

}  // namespace kvrm::cuda::emulator
#endif  // KVRM_CUDA_EMULATOR_GRID_H_
