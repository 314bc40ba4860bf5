// device.h - the dialect that kernels are written in: CUDA, and a few functions for what C++ has no
// words for. nvcc compiles them to instructions (device_ptx.h), g++ -DKVRM_EMULATOR to calls into
// emulator/, which says what it checks. Both offer, in namespace kvrm::cuda:
//
//   bf16_t f16_t fp8_t ToFloat FromFloat<T> Pack2<T> Fma Mul Add Sub Div Sqrt ExpF   device_types.h
//   Fp8x4ToHalf<T>(four, pairs)         4 E4M3 to 2 x 2 f16_t or bf16_t, exactly, the first in the lowest bits
//   MmaM16N8K16<T>(d, a, b)             d += a b over a warp; the PTX fragments of mma.m16n8k16.row.col
//   LdMatrixX4(r, row), LdMatrixX4Trans four 8 x 8 matrices of 16 bits; lane i gives the address of row i
//   CpAsync16(shared, global, valid)    16 bytes to shared memory, later; zeros when not valid
//   CpAsyncCommit, CpAsyncWait<N>       closes a group; waits until at most N groups are under way
//   Load128, Load128Stream              16 aligned bytes of global memory; Stream: read once, not kept in L1
//   Barrier*, BulkCopy                  mbarrier and bulk copies where kHasBulkCopy (sm_90 and later)
//   WaitForPrevious, LaunchDependents   programmatic dependent launch; nothing below sm_90
//   DynamicShared<T>()                  the dynamic shared memory of the block, 128-byte aligned
//   LaunchConfig, Launch, AllowShared   the host's side
//
// Of CUDA itself, kernels may use what emulator/threads.h lists: one-block barriers and warp collectives,
// atomics, static __shared__ arrays (aligned by __align__(n)). No clusters, no cooperative groups.
#ifndef KVRM_CUDA_DEVICE_H_
#define KVRM_CUDA_DEVICE_H_

#ifdef KVRM_EMULATOR
#include "emulator/emulator.h"
#else
#include <cuda_runtime.h>

#include "device_ptx.h"
#endif

#endif  // KVRM_CUDA_DEVICE_H_
