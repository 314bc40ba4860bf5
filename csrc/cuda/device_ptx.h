// device_ptx.h - device.h's functions for nvcc: PTX for sm_80 and later, and the launch.
#ifndef KVRM_CUDA_DEVICE_PTX_H_
#define KVRM_CUDA_DEVICE_PTX_H_

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>
#include <utility>

#include "device_types.h"

namespace kvrm::cuda {

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
inline constexpr bool kHasBulkCopy = true;
#else
inline constexpr bool kHasBulkCopy = false;
#endif

__device__ __forceinline__ uint32_t SharedAddress(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// ---- FP8 weights ---------------------------------------------------------------------------------------

namespace internal {

// Two E4M3 (low 16 bits of `two`) to two f16.
__device__ __forceinline__ uint32_t Fp8x2ToF16x2(uint32_t two) {
#if __CUDA_ARCH__ >= 890
  uint32_t pair;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(pair) : "h"(static_cast<uint16_t>(two)));
  return pair;
#else
  // Exponent and mantissa at f16's places, times 2^8 for the difference of the biases; the codes of NaN,
  // the only ones that carry into bit 7 when one is added, get f16's highest exponent.
  const uint32_t spread = (two & 0xffu) | (two & 0xff00u) << 8;
  const uint32_t magnitude = spread & 0x007f007fu;
  const uint32_t nan = (magnitude + 0x00010001u) & 0x00800080u;
  uint32_t pair;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(pair) : "r"(magnitude << 7), "r"(0x5c005c00u));
  return pair | (spread & 0x00800080u) << 8 | nan * 0xf8u;
#endif
}

}  // namespace internal

template <class T>
__device__ __forceinline__ void Fp8x4ToHalf(uint32_t four, uint32_t (&two_pairs)[2]) {
  static_assert(std::is_same_v<T, f16_t> || std::is_same_v<T, bf16_t>);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t pair = internal::Fp8x2ToF16x2(four >> (16 * i) & 0xffffu);
    if constexpr (std::is_same_v<T, f16_t>) {
      two_pairs[i] = pair;
    } else {
      const float lo = __half2float(__ushort_as_half(static_cast<uint16_t>(pair)));
      const float hi = __half2float(__ushort_as_half(static_cast<uint16_t>(pair >> 16)));
      asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(two_pairs[i]) : "f"(hi), "f"(lo));
    }
  }
}

// ---- tensor cores --------------------------------------------------------------------------------------

template <class T>
__device__ __forceinline__ void MmaM16N8K16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  static_assert(std::is_same_v<T, f16_t> || std::is_same_v<T, bf16_t>);
  if constexpr (std::is_same_v<T, f16_t>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
}

__device__ __forceinline__ void LdMatrixX4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(SharedAddress(row))
               : "memory");
}

__device__ __forceinline__ void LdMatrixX4Trans(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(SharedAddress(row))
               : "memory");
}

// ---- copies --------------------------------------------------------------------------------------------

__device__ __forceinline__ void CpAsync16(void* shared, const void* global, bool valid = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(SharedAddress(shared)), "l"(__cvta_generic_to_global(global)), "r"(valid ? 16 : 0)
               : "memory");
}

__device__ __forceinline__ void CpAsyncCommit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int N>
__device__ __forceinline__ void CpAsyncWait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

__device__ __forceinline__ uint4 Load128(const void* global) { return *static_cast<const uint4*>(global); }

__device__ __forceinline__ uint4 Load128Stream(const void* global) {
  uint4 v;
  asm volatile("ld.global.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(__cvta_generic_to_global(global)));
  return v;
}

// Bulk copies: one thread initialises the barrier for `count` arrivals, FenceBarrierInit and
// __syncthreads make it known; a phase ends with the last arrival (BarrierExpect arrives once) and the
// last expected byte. Addresses and sizes are multiples of 16.
__device__ __forceinline__ void BarrierInit([[maybe_unused]] uint64_t* bar, [[maybe_unused]] uint32_t count) {
#if __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(SharedAddress(bar)), "r"(count) : "memory");
#endif
}

__device__ __forceinline__ void FenceBarrierInit() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

__device__ __forceinline__ void BarrierExpect([[maybe_unused]] uint64_t* bar, [[maybe_unused]] uint32_t bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(SharedAddress(bar)), "r"(bytes)
               : "memory");
#endif
}

__device__ __forceinline__ void BulkCopy([[maybe_unused]] void* shared, [[maybe_unused]] const void* global,
                                         [[maybe_unused]] uint32_t bytes, [[maybe_unused]] uint64_t* bar) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
               :
               : "r"(SharedAddress(shared)), "l"(__cvta_generic_to_global(global)), "r"(bytes), "r"(SharedAddress(bar))
               : "memory");
#endif
}

// Returns once the phase of that parity (0 for the first, then by turns) has ended.
__device__ __forceinline__ void BarrierWait([[maybe_unused]] uint64_t* bar, [[maybe_unused]] uint32_t parity) {
#if __CUDA_ARCH__ >= 900
  uint32_t done = 0;
  while (done == 0) {
    asm volatile(
        "{\n\t.reg .pred p;\n\t"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n\t"
        "selp.u32 %0, 1, 0, p;\n\t}"
        : "=r"(done)
        : "r"(SharedAddress(bar)), "r"(parity)
        : "memory");
  }
#endif
}

// ---- the launch ----------------------------------------------------------------------------------------

// Every thread calls it before it reads what an earlier kernel wrote, or writes what an earlier one reads.
__device__ __forceinline__ void WaitForPrevious() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Lets the next kernel start, as far as its WaitForPrevious().
__device__ __forceinline__ void LaunchDependents() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

template <class T>
__device__ __forceinline__ T* DynamicShared() {
  extern __shared__ __align__(128) unsigned char kvrm_dynamic_shared[];
  return reinterpret_cast<T*>(kvrm_dynamic_shared);
}

struct LaunchConfig {
  dim3 grid;
  dim3 block;
  uint32_t shared_bytes = 0;  // dynamic
  cudaStream_t stream = nullptr;
  bool dependent = false;  // may start before the previous kernel of the stream has ended
};

// Errors are read with cudaGetLastError().
template <class... P, class... A>
void Launch(const LaunchConfig& config, void (*kernel)(P...), A&&... args) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t launch = {};
  launch.gridDim = config.grid;
  launch.blockDim = config.block;
  launch.dynamicSmemBytes = config.shared_bytes;
  launch.stream = config.stream;
  launch.attrs = &attribute;
  launch.numAttrs = config.dependent ? 1 : 0;
  (void)cudaLaunchKernelEx(&launch, kernel, std::forward<A>(args)...);
}

// Before the first launch with more than 48 KiB of dynamic shared memory.
template <class... P>
void AllowShared(void (*kernel)(P...), uint32_t bytes) {
  (void)cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
}

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_DEVICE_PTX_H_
