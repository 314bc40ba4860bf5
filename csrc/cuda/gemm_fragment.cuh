// gemm_fragment.cuh - from weights as they lie in memory to operands of tensor cores. Weights are the A
// operand (16 features), activations the B operand (8 rows). Of a slab of 32 k lane t of a row has the
// elements 8 t to 8 t + 7, which makes two steps of 16 k: 8 t to 8 t + 3, then 8 t + 4 to 8 t + 7.
#ifndef KVRM_CUDA_GEMM_FRAGMENT_CUH_
#define KVRM_CUDA_GEMM_FRAGMENT_CUH_

#include <type_traits>

#include "gemm.h"

namespace kvrm::cuda {

// ---- what CUDA has instructions for ---------------------------------------------------------------------

// Byte i of the result is byte selector[i] (a nibble) of the eight of a (0 to 3) and b (4 to 7).
__device__ __forceinline__ uint32_t BytePermute(uint32_t a, uint32_t b, uint32_t selector) {
#ifdef KVRM_EMULATOR
  const uint64_t bytes = uint64_t{b} << 32 | a;
  uint32_t result = 0;
  for (uint32_t i = 0; i < 4; ++i) {
    result |= static_cast<uint32_t>(bytes >> (8 * (selector >> (4 * i) & 7)) & 0xff) << (8 * i);
  }
  return result;
#else
  return __byte_perm(a, b, selector);
#endif
}

// Both halves: a - b, where that is exact.
template <class T>
__device__ __forceinline__ uint32_t Subtract2(uint32_t a, uint32_t b) {
#ifdef KVRM_EMULATOR
  const auto half = [](uint32_t pair, int i) { return ToFloat(T{static_cast<uint16_t>(pair >> (16 * i))}); };
  return Pack2<T>(half(a, 0) - half(b, 0), half(a, 1) - half(b, 1));
#else
  uint32_t result;
  if constexpr (std::is_same_v<T, f16_t>) {
    asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(result) : "r"(a), "r"(b));
  } else {
    // sm_80 has no bf16 subtraction.
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(b), "r"(0xbf80bf80u), "r"(a));
  }
  return result;
#endif
}

// Both halves, bf16: a * 2^120.
__device__ __forceinline__ uint32_t Raise2(uint32_t a) {
#ifdef KVRM_EMULATOR
  const auto half = [](uint32_t pair, int i) { return ToFloat(bf16_t{static_cast<uint16_t>(pair >> (16 * i))}); };
  return Pack2<bf16_t>(half(a, 0) * 0x1p120f, half(a, 1) * 0x1p120f);
#else
  uint32_t result;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(0x7b807b80u), "r"(0x80008000u));
  return result;
#endif
}

// 16 bytes of shared memory, read where it says so: kept in registers from one place to the next, what is
// read twice would cost more.
__device__ __forceinline__ uint4 LoadShared128(const uint8_t* shared) {
#ifdef KVRM_EMULATOR
  return *reinterpret_cast<const uint4*>(shared);
#else
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(SharedAddress(shared))
               : "memory");
  return v;
#endif
}

// ---- narrow types to pairs of T, exactly -----------------------------------------------------------------

template <class T>
__device__ __forceinline__ void UnpackFp8(uint32_t four, uint32_t (&pairs)[2]) {
  if constexpr (std::is_same_v<T, f16_t>) {
    Fp8x4ToHalf<T>(four, pairs);
  } else {
    // Exponent and mantissa at bf16's places; the product makes up for the other bias. Weights are finite.
    KVRM_UNROLL
    for (uint32_t i = 0; i < 2; ++i) {
      const uint32_t spread = BytePermute(four, 0, i == 0 ? 0x1404 : 0x3424);
      pairs[i] = Raise2((spread & 0x80008000u) | (spread >> 4 & 0x07f007f0u));
    }
  }
}

template <class T>
__device__ __forceinline__ void UnpackInt8(uint32_t four, uint32_t (&pairs)[2]) {
  const uint32_t biased = four ^ 0x80808080u;  // plus 128
  KVRM_UNROLL
  for (uint32_t i = 0; i < 2; ++i) {
    if constexpr (std::is_same_v<T, f16_t>) {
      // As the last bits of 1024.
      pairs[i] = Subtract2<T>(BytePermute(biased, 0x64646464u, i == 0 ? 0x4140 : 0x4342), 0x64806480u);
    } else {
      // As the last bits of 2^23; the difference has no more than 8 bits, so its upper half is all of it.
      const float lo = Sub(BitsAs<float>(BytePermute(biased, 0x4b000000u, 0x7440 + 2 * i)), 8388736.0f);
      const float hi = Sub(BitsAs<float>(BytePermute(biased, 0x4b000000u, 0x7441 + 2 * i)), 8388736.0f);
      pairs[i] = BytePermute(BitsAs<uint32_t>(lo), BitsAs<uint32_t>(hi), 0x7632);
    }
  }
}

template <class T>
__device__ __forceinline__ void UnpackInt4(uint32_t eight, uint32_t (&pairs)[4]) {
  // As the last bits of 128 (bf16) or 1024 (f16).
  constexpr uint32_t kBase = std::is_same_v<T, f16_t> ? 0x64006400u : 0x43004300u;
  KVRM_UNROLL
  for (uint32_t i = 0; i < 4; ++i)
    pairs[i] = Subtract2<T>((eight >> (4 * i) & 0x000f000fu) | kBase, kBase + 0x00080008u);
}

// ---- formats --------------------------------------------------------------------------------------------

// A chunk is what 16 bytes of each of the four lanes of a row hold: 64 bytes of the row, kSlabs slabs.
template <WeightType kType>
struct Format {
  static constexpr uint32_t kSlabs = kType == WeightType::kInt4                                ? 4
                                     : kType == WeightType::kFp8 || kType == WeightType::kInt8 ? 2
                                                                                               : 1;
  static constexpr uint32_t kChunk = kSlabs * kSlab;         // k
  static constexpr uint32_t kPieceChunks = kPiece / kChunk;  // of a piece
};
inline constexpr uint32_t kChunkBytes = 64;  // of a row
inline constexpr uint32_t kChunkUnits = 4;   // of 16 bytes

// Weights are addressed by units of 16 bytes: 32 bits reach them all.
__device__ __forceinline__ const uint8_t* UnitAt(const uint8_t* base, uint32_t unit) {
  return base + uint64_t{unit} * 16;
}

// A lane's eight elements of one slab of a chunk.
template <WeightType kType, class T>
__device__ __forceinline__ void Unpack(const uint4& chunk, uint32_t slab, uint32_t (&pairs)[4]) {
  if constexpr (kType == WeightType::kInt4) {
    UnpackInt4<T>(slab == 0 ? chunk.x : slab == 1 ? chunk.y : slab == 2 ? chunk.z : chunk.w, pairs);
  } else if constexpr (kType == WeightType::kFp8 || kType == WeightType::kInt8) {
    uint32_t low[2], high[2];
    if constexpr (kType == WeightType::kFp8) {
      UnpackFp8<T>(slab == 0 ? chunk.x : chunk.z, low);
      UnpackFp8<T>(slab == 0 ? chunk.y : chunk.w, high);
    } else {
      UnpackInt8<T>(slab == 0 ? chunk.x : chunk.z, low);
      UnpackInt8<T>(slab == 0 ? chunk.y : chunk.w, high);
    }
    pairs[0] = low[0];
    pairs[1] = low[1];
    pairs[2] = high[0];
    pairs[3] = high[1];
  } else {
    pairs[0] = chunk.x;
    pairs[1] = chunk.y;
    pairs[2] = chunk.z;
    pairs[3] = chunk.w;
  }
}

// The two steps of one slab: sums += features low (g) and high (g + 8) times 8 rows of x.
template <class T>
__device__ __forceinline__ void MultiplySlab(float (&sums)[4], const uint32_t (&low)[4], const uint32_t (&high)[4],
                                             const uint4& x) {
  MmaM16N8K16<T>(sums, {low[0], high[0], low[1], high[1]}, {x.x, x.y});
  MmaM16N8K16<T>(sums, {low[2], high[2], low[3], high[3]}, {x.z, x.w});
}

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_GEMM_FRAGMENT_CUH_
