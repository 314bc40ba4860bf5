// emulator.h - CUDA without a GPU, for tests: everything that device.h promises, and the runtime API that
// the backend uses. What each part checks is said in its header.
//
// Environment:
//   KVRM_EMULATOR_SEED         of every order that is random; 1
//   KVRM_EMULATOR_DEVICES      0: there is no GPU; 1
//   KVRM_EMULATOR_MEMORY_MIB   device memory; 2048
//   KVRM_EMULATOR_FAIL_AFTER   the kernel of that number fails (the first is 1), and with it everything
//                              that follows, with cudaErrorIllegalAddress; 0: none
#ifndef KVRM_CUDA_EMULATOR_EMULATOR_H_
#define KVRM_CUDA_EMULATOR_EMULATOR_H_

#include "../device_types.h"
#include "instructions.h"
#include "launch.h"
#include "runtime.h"
#include "threads.h"
#include "vector_types.h"

#endif  // KVRM_CUDA_EMULATOR_EMULATOR_H_
