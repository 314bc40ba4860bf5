// instructions.h - device.h's functions for the emulator: tensor core products, matrix loads,
// asynchronous copies.
//
// An asynchronous copy takes place when it is waited for, not before; until then its destination holds
// 0xff bytes, NaN in every float type. A copy that nobody waits for never takes place.
#ifndef KVRM_CUDA_EMULATOR_INSTRUCTIONS_H_
#define KVRM_CUDA_EMULATOR_INSTRUCTIONS_H_

#include <cstdint>
#include <type_traits>

#include "../device_types.h"
#include "threads.h"

namespace kvrm::cuda {

inline constexpr bool kHasBulkCopy = true;

namespace emulator {

// The fragments of lane l, as lane l passed them.
struct MmaOperands {
  const float* d;
  const uint32_t* a;
  const uint32_t* b;
};
struct MmaResult {
  float d[4];
};

// d += a b of matrices in shared layout: every product is exact in f32 and added in ascending k.
void MultiplyTiles(const float (&a)[16][16], const float (&b)[16][8], float (&d)[16][8]);

struct MatrixRegisters {
  uint32_t r[4];
};
MatrixRegisters LoadMatrices(const char* what, const void* row, bool transposed, const Where& where);

void RequireAligned(const void* pointer, const char* what, const Where& where);
void CopyLater(void* shared, const void* global, bool valid, const Where& where);
void WaitForGroups(uint64_t under_way);

}  // namespace emulator

template <class T>
inline void Fp8x4ToHalf(uint32_t four, uint32_t (&two_pairs)[2]) {
  static_assert(std::is_same_v<T, f16_t> || std::is_same_v<T, bf16_t>);
  for (int i = 0; i < 2; ++i) {
    const fp8_t lo = {static_cast<uint8_t>(four >> (16 * i))};
    const fp8_t hi = {static_cast<uint8_t>(four >> (16 * i + 8))};
    two_pairs[i] = Pack2<T>(ToFloat(lo), ToFloat(hi));
  }
}

template <class T>
inline void MmaM16N8K16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                        emulator::Where where = emulator::Where::current()) {
  static_assert(std::is_same_v<T, f16_t> || std::is_same_v<T, bf16_t>);
  using emulator::kWarp;
  const emulator::MmaOperands operands = {d, a, b};
  const auto finish = [](const emulator::MmaOperands* const* in, emulator::MmaResult* const* out) {
    const auto half = [](uint32_t pair, int which) { return ToFloat(T{static_cast<uint16_t>(pair >> (16 * which))}); };
    alignas(64) float ta[16][16], tb[16][8], td[16][8];
    for (uint32_t l = 0; l < kWarp; ++l) {
      const uint32_t row = l / 4, column = l % 4 * 2;
      for (int i = 0; i < 2; ++i) {
        ta[row][column + i] = half(in[l]->a[0], i);
        ta[row + 8][column + i] = half(in[l]->a[1], i);
        ta[row][column + 8 + i] = half(in[l]->a[2], i);
        ta[row + 8][column + 8 + i] = half(in[l]->a[3], i);
        tb[column + i][row] = half(in[l]->b[0], i);
        tb[column + 8 + i][row] = half(in[l]->b[1], i);
        td[row][column + i] = in[l]->d[i];
        td[row + 8][column + i] = in[l]->d[2 + i];
      }
    }
    emulator::MultiplyTiles(ta, tb, td);
    for (uint32_t l = 0; l < kWarp; ++l) {
      const uint32_t row = l / 4, column = l % 4 * 2;
      *out[l] = {{td[row][column], td[row][column + 1], td[row + 8][column], td[row + 8][column + 1]}};
    }
  };
  if (emulator::current->warp->exists != ~0u) emulator::Die("mma in a warp of less than 32 threads", where);
  const auto result = emulator::Collective<emulator::MmaResult>("MmaM16N8K16", ~0u, operands, where, finish);
  for (int i = 0; i < 4; ++i) d[i] = result.d[i];
}

inline void LdMatrixX4(uint32_t (&r)[4], const void* row, emulator::Where where = emulator::Where::current()) {
  const emulator::MatrixRegisters loaded = emulator::LoadMatrices("LdMatrixX4", row, false, where);
  for (int i = 0; i < 4; ++i) r[i] = loaded.r[i];
}

inline void LdMatrixX4Trans(uint32_t (&r)[4], const void* row, emulator::Where where = emulator::Where::current()) {
  const emulator::MatrixRegisters loaded = emulator::LoadMatrices("LdMatrixX4Trans", row, true, where);
  for (int i = 0; i < 4; ++i) r[i] = loaded.r[i];
}

inline void CpAsync16(void* shared, const void* global, bool valid = true,
                      emulator::Where where = emulator::Where::current()) {
  emulator::CopyLater(shared, global, valid, where);
}

inline void CpAsyncCommit() { ++emulator::current->group; }

template <int N>
inline void CpAsyncWait() {
  emulator::WaitForGroups(N);
}

inline uint4 Load128(const void* global, emulator::Where where = emulator::Where::current()) {
  emulator::RequireAligned(global, "Load128 needs an address that is a multiple of 16", where);
  return *static_cast<const uint4*>(global);
}

inline uint4 Load128Stream(const void* global, emulator::Where where = emulator::Where::current()) {
  emulator::RequireAligned(global, "Load128Stream needs an address that is a multiple of 16", where);
  return *static_cast<const uint4*>(global);
}

// The words of an mbarrier are the emulator's own.
void BarrierInit(uint64_t* bar, uint32_t count);
inline void FenceBarrierInit() {}
void BarrierExpect(uint64_t* bar, uint32_t bytes);
void BulkCopy(void* shared, const void* global, uint32_t bytes, uint64_t* bar,
              emulator::Where where = emulator::Where::current());
void BarrierWait(uint64_t* bar, uint32_t parity, emulator::Where where = emulator::Where::current());

inline void WaitForPrevious() { emulator::current->waited_for_previous = true; }
inline void LaunchDependents() {}

template <class T>
inline T* DynamicShared() {
  return reinterpret_cast<T*>(emulator::current->info->shared);
}

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_EMULATOR_INSTRUCTIONS_H_
