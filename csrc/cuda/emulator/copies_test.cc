// Asynchronous copies take place when they are waited for, and no earlier.
#include <vector>

#include "test_util.h"

namespace kvrm::cuda::emulator {
namespace {

constexpr uint32_t kNone = 0xffffffffu;

// What thread 0 sees of its four copies, one group each, after it waited until `under_way` are left. The
// last group is not committed.
template <int kUnderWay>
__global__ void See(const uint32_t* in, uint32_t* out, bool wait) {
  uint32_t* shared = DynamicShared<uint32_t>();
  for (uint32_t i = 0; i < 4; ++i) {
    CpAsync16(shared + 4 * i, in + 4 * i, i != 1);
    if (i < 3) CpAsyncCommit();
  }
  if (wait) CpAsyncWait<kUnderWay>();
  for (uint32_t i = 0; i < 4; ++i) out[i] = shared[4 * i];
}

template <int kUnderWay>
std::vector<uint32_t> Seen(bool wait) {
  Array<uint32_t> in(std::vector<uint32_t>{1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0}), out(4);
  Launch({.grid = 1, .block = 1, .shared_bytes = 64}, &See<kUnderWay>, in.get(), out.get(), wait);
  return out.Read();
}

TEST(EmulatorCopiesWhenWaitedFor) {
  CHECK(Seen<0>(false) == (std::vector<uint32_t>{kNone, kNone, kNone, kNone}));
  CHECK(Seen<3>(true) == (std::vector<uint32_t>{kNone, kNone, kNone, kNone}));
  CHECK(Seen<2>(true) == (std::vector<uint32_t>{1, kNone, kNone, kNone}));
  CHECK(Seen<1>(true) == (std::vector<uint32_t>{1, 0, kNone, kNone}));
  CHECK(Seen<0>(true) == (std::vector<uint32_t>{1, 0, 3, kNone}));
}

__global__ void SeeOthers(const uint32_t* in, uint32_t* out) {
  uint32_t* shared = DynamicShared<uint32_t>();
  CpAsync16(shared + 4 * threadIdx.x, in + 4 * threadIdx.x);
  CpAsyncCommit();
  // Only even threads wait for theirs.
  if (threadIdx.x % 2 == 0) CpAsyncWait<0>();
  __syncthreads();
  out[threadIdx.x] = shared[4 * (threadIdx.x ^ 1u)];
}

TEST(EmulatorWaitsForEachThreadsOwnCopies) {
  std::vector<uint32_t> numbers(256);
  for (uint32_t i = 0; i < 256; ++i) numbers[i] = i;
  Array<uint32_t> in(numbers), out(64);
  Launch({.grid = 1, .block = 64, .shared_bytes = 1024}, &SeeOthers, in.get(), out.get());
  const std::vector<uint32_t> found = out.Read();
  for (uint32_t i = 0; i < 64; ++i) CHECK_EQ(found[i], i % 2 == 0 ? kNone : 4 * (i ^ 1u));
}

__global__ void SeeBulk(const uint32_t* in, uint32_t* out, bool wait) {
  __shared__ uint64_t bars[2];
  uint32_t* shared = DynamicShared<uint32_t>();
  if (threadIdx.x == 0) {
    BarrierInit(&bars[0], 1);
    BarrierInit(&bars[1], 2);
    FenceBarrierInit();
    BarrierExpect(&bars[0], 64);
    BulkCopy(shared, in, 64, &bars[0]);
    BarrierExpect(&bars[1], 64);
    BulkCopy(shared + 16, in + 16, 64, &bars[1]);
  }
  __syncthreads();
  if (threadIdx.x == 1) BarrierExpect(&bars[1], 0);
  if (wait) BarrierWait(&bars[0], 0);
  __syncthreads();
  if (threadIdx.x == 0) {
    out[0] = shared[0];
    out[1] = shared[16];
    BarrierWait(&bars[1], 0);
    out[2] = shared[31];
    BarrierWait(&bars[1], 0);  // that phase stays over
  }
}

TEST(EmulatorCopiesInBulkWhenWaitedFor) {
  for (const bool wait : {false, true}) {
    std::vector<uint32_t> numbers(32);
    for (uint32_t i = 0; i < 32; ++i) numbers[i] = i + 1;
    Array<uint32_t> in(numbers), out(3);
    Launch({.grid = 1, .block = 32, .shared_bytes = 128}, &SeeBulk, in.get(), out.get(), wait);
    const std::vector<uint32_t> found = out.Read();
    CHECK_EQ(found[0], wait ? 1u : kNone);
    CHECK_EQ(found[1], kNone);
    CHECK_EQ(found[2], 32u);
  }
}

__global__ void Fresh(const uint32_t* in, uint32_t* out) {
  uint32_t* shared = DynamicShared<uint32_t>();
  out[2 * blockIdx.x] = shared[threadIdx.x];
  out[2 * blockIdx.x + 1] = in[0];
  shared[threadIdx.x] = 5;
}

TEST(EmulatorFillsFreshMemory) {
  Array<uint32_t> in(size_t{1}), out(32);
  Launch({.grid = 16, .block = 1, .shared_bytes = 4}, &Fresh, in.get(), out.get());
  for (uint32_t value : out.Read()) CHECK_EQ(value, kNone);
}

__global__ void MultiplyInOrder(float* out) {
  // 2^24 + 1 + 1 + ... loses each 1 in f32, were they added first they would not be lost.
  const uint32_t one = Pack2<f16_t>(1, 1);
  const uint32_t a[4] = {one, one, one, one}, b[2] = {one, one};
  float d[4] = {0x1p24f, 0, 0, 0};
  MmaM16N8K16<f16_t>(d, a, b);
  if (threadIdx.x == 0) {
    out[0] = d[0];
    out[1] = d[1];
  }
}

TEST(EmulatorAddsProductsOneByOne) {
  Array<float> out(2);
  Launch({.grid = 1, .block = 32}, &MultiplyInOrder, out.get());
  CHECK(out.Read() == (std::vector<float>{0x1p24f, 16}));
}

}  // namespace
}  // namespace kvrm::cuda::emulator
