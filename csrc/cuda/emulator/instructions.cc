#include "instructions.h"

#include <cstring>

#include "block.h"

namespace kvrm::cuda {

namespace emulator {

void MultiplyTiles(const float (&a)[16][16], const float (&b)[16][8], float (&d)[16][8]) {
  for (int m = 0; m < 16; ++m) {
    float sum[8];
    for (int n = 0; n < 8; ++n) sum[n] = d[m][n];
    for (int k = 0; k < 16; ++k) {
      for (int n = 0; n < 8; ++n) sum[n] += a[m][k] * b[k][n];
    }
    for (int n = 0; n < 8; ++n) d[m][n] = sum[n];
  }
}

void RequireAligned(const void* pointer, const char* what, const Where& where) {
  if (reinterpret_cast<uintptr_t>(pointer) % 16 != 0) Die(what, where);
}

MatrixRegisters LoadMatrices(const char* what, const void* row, bool transposed, const Where& where) {
  RequireAligned(row, "a matrix row's address must be a multiple of 16", where);
  if (current->warp->exists != ~0u) Die("ldmatrix in a warp of less than 32 threads", where);
  return Collective<MatrixRegisters>(what, ~0u, row, where,
                                     [transposed](const void* const* const* in, MatrixRegisters* const* out) {
                                       for (uint32_t matrix = 0; matrix < 4; ++matrix) {
                                         uint16_t element[8][8];
                                         for (uint32_t i = 0; i < 8; ++i)
                                           std::memcpy(element[i], *in[matrix * 8 + i], 16);
                                         for (uint32_t l = 0; l < kWarp; ++l) {
                                           const uint32_t i = l / 4, j = l % 4 * 2;
                                           const uint32_t lo = transposed ? element[j][i] : element[i][j];
                                           const uint32_t hi = transposed ? element[j + 1][i] : element[i][j + 1];
                                           out[l]->r[matrix] = lo | hi << 16;
                                         }
                                       }
                                     });
}

void CopyLater(void* shared, const void* global, bool valid, const Where& where) {
  RequireAligned(shared, "CpAsync16 needs a shared address that is a multiple of 16", where);
  RequireAligned(global, "CpAsync16 needs a global address that is a multiple of 16", where);
  std::memset(shared, 0xff, 16);
  Lane& lane = *current;
  lane.copies.push_back(
      {static_cast<unsigned char*>(shared), static_cast<const unsigned char*>(global), 16, valid, lane.group, nullptr});
}

void WaitForGroups(uint64_t under_way) {
  Lane& lane = *current;
  size_t done = 0;
  for (; done < lane.copies.size() && lane.copies[done].group + under_way < lane.group; ++done) {
    const PendingCopy& copy = lane.copies[done];
    if (copy.valid) {
      std::memcpy(copy.to, copy.from, copy.bytes);
    } else {
      std::memset(copy.to, 0, copy.bytes);
    }
  }
  lane.copies.erase(lane.copies.begin(), lane.copies.begin() + static_cast<ptrdiff_t>(done));
}

namespace {

// What the 64 bits of an mbarrier hold here.
struct BarrierState {
  uint32_t phase : 1;
  uint32_t count : 15;     // arrivals that end a phase
  uint32_t arrivals : 16;  // still to come
  int32_t bytes;           // expected and not copied yet
};
static_assert(sizeof(BarrierState) == sizeof(uint64_t));

BarrierState Load(const uint64_t* bar) { return BitsAs<BarrierState>(*bar); }

void Store(uint64_t* bar, BarrierState state) {
  if (state.arrivals == 0 && state.bytes == 0) {
    state.phase ^= 1u;
    state.arrivals = state.count;
    *bar = BitsAs<uint64_t>(state);
    current->block->WakeBarrierWaiters();
  } else {
    *bar = BitsAs<uint64_t>(state);
  }
}

}  // namespace
}  // namespace emulator

void BarrierInit(uint64_t* bar, uint32_t count) {
  *bar = BitsAs<uint64_t>(
      emulator::BarrierState{0, static_cast<uint16_t>(count & 0x7fffu), static_cast<uint16_t>(count), 0});
}

void BarrierExpect(uint64_t* bar, uint32_t bytes) {
  emulator::BarrierState state = emulator::Load(bar);
  state.bytes += static_cast<int32_t>(bytes);
  state.arrivals -= 1;
  emulator::Store(bar, state);
  emulator::current->block->WakeBarrierWaiters();
}

void BulkCopy(void* shared, const void* global, uint32_t bytes, uint64_t* bar, emulator::Where where) {
  emulator::RequireAligned(shared, "BulkCopy needs a shared address that is a multiple of 16", where);
  emulator::RequireAligned(global, "BulkCopy needs a global address that is a multiple of 16", where);
  if (bytes % 16 != 0) emulator::Die("BulkCopy needs a size that is a multiple of 16", where);
  std::memset(shared, 0xff, bytes);
  emulator::Block& block = *emulator::current->block;
  block.bulk_copies().push_back(
      {static_cast<unsigned char*>(shared), static_cast<const unsigned char*>(global), bytes, true, 0, bar});
  block.WakeBarrierWaiters();
}

void BarrierWait(uint64_t* bar, uint32_t parity, emulator::Where where) {
  emulator::Lane& lane = *emulator::current;
  auto& copies = lane.block->bulk_copies();
  while (emulator::Load(bar).phase == (parity & 1u)) {
    // The copies that this barrier counts happen here, and no earlier.
    bool copied = false;
    for (size_t i = 0; i < copies.size();) {
      if (copies[i].barrier != bar) {
        ++i;
        continue;
      }
      const emulator::PendingCopy copy = copies[i];
      copies.erase(copies.begin() + static_cast<ptrdiff_t>(i));
      std::memcpy(copy.to, copy.from, copy.bytes);
      emulator::BarrierState state = emulator::Load(bar);
      state.bytes -= static_cast<int32_t>(copy.bytes);
      emulator::Store(bar, state);
      copied = true;
    }
    if (copied) continue;
    lane.waits_for = "BarrierWait";
    lane.where = where;
    lane.block->barrier_waiters().push_back(&lane);
    emulator::Yield();
  }
}

}  // namespace kvrm::cuda
