// device.h's instructions and launches against plain loops. Runs on the emulator and, built by nvcc, on a GPU.
#include "device.h"

#include <vector>

#include "device_test_util.h"

namespace kvrm::cuda {
namespace {

// ---- a warp's instructions -------------------------------------------------------------------------------

// a [16][16], b [8][16] (row n holds its k), d [16][8], each at the places that PTX names.
template <class T>
__global__ void Multiply(const T* a, const T* b, const float* in, float* out) {
  const uint32_t group = threadIdx.x / 4, column = threadIdx.x % 4 * 2;
  const auto pair = [](const T* p) { return p[0].bits | static_cast<uint32_t>(p[1].bits) << 16; };
  const uint32_t fa[4] = {pair(a + group * 16 + column), pair(a + (group + 8) * 16 + column),
                          pair(a + group * 16 + column + 8), pair(a + (group + 8) * 16 + column + 8)};
  const uint32_t fb[2] = {pair(b + group * 16 + column), pair(b + group * 16 + column + 8)};
  float d[4];
  for (uint32_t i = 0; i < 4; ++i) d[i] = in[(group + i / 2 * 8) * 8 + column + i % 2];
  MmaM16N8K16<T>(d, fa, fb);
  for (uint32_t i = 0; i < 4; ++i) out[(group + i / 2 * 8) * 8 + column + i % 2] = d[i];
}

template <class T>
void CheckMultiply() {
  std::vector<T> a(256), b(128);
  std::vector<float> d(128);
  uint64_t state = 3;
  // Small integers: every order of adding gives the same sum.
  const auto small = [&] { return static_cast<float>(Next(state) % 15) - 7; };
  for (T& x : a) x = FromFloat<T>(small());
  for (T& x : b) x = FromFloat<T>(small());
  for (float& x : d) x = small();
  const Array<T> da(a), db(b);
  const Array<float> in(d);
  Array<float> out(128);
  Launch({.grid = 1, .block = 32}, &Multiply<T>, da.get(), db.get(), in.get(), out.get());
  const std::vector<float> found = out.Read();
  for (uint32_t m = 0; m < 16; ++m) {
    for (uint32_t n = 0; n < 8; ++n) {
      float wanted = d[m * 8 + n];
      for (uint32_t k = 0; k < 16; ++k) wanted += ToFloat(a[m * 16 + k]) * ToFloat(b[n * 16 + k]);
      CHECK_EQ(found[m * 8 + n], wanted);
    }
  }
}

TEST(DeviceMultipliesTiles) {
  CheckMultiply<f16_t>();
  CheckMultiply<bf16_t>();
}

__global__ void LoadMatrix(uint32_t* out) {
  __shared__ __align__(16) uint16_t rows[32][16];  // 8 used, so that rows are apart
  for (uint32_t i = 0; i < 8; ++i) rows[threadIdx.x][i] = static_cast<uint16_t>(threadIdx.x * 8 + i);
  __syncwarp();
  uint32_t r[4], t[4];
  LdMatrixX4(r, rows[threadIdx.x]);
  LdMatrixX4Trans(t, rows[threadIdx.x]);
  for (uint32_t i = 0; i < 4; ++i) {
    out[threadIdx.x * 8 + i] = r[i];
    out[threadIdx.x * 8 + 4 + i] = t[i];
  }
}

TEST(DeviceLoadsMatrices) {
  Array<uint32_t> out(256);
  Launch({.grid = 1, .block = 32}, &LoadMatrix, out.get());
  const std::vector<uint32_t> found = out.Read();
  for (uint32_t lane = 0; lane < 32; ++lane) {
    for (uint32_t matrix = 0; matrix < 4; ++matrix) {
      const uint32_t i = lane / 4, j = lane % 4 * 2, first = matrix * 64;
      CHECK_EQ(found[lane * 8 + matrix], (first + i * 8 + j) | (first + i * 8 + j + 1) << 16);
      CHECK_EQ(found[lane * 8 + 4 + matrix], (first + j * 8 + i) | (first + (j + 1) * 8 + i) << 16);
    }
  }
}

__global__ void Exchange(int* out) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  int* mine = out + threadIdx.x * 10;
  mine[0] = __shfl_sync(~0u, lane, 5);
  mine[1] = __shfl_sync(~0u, lane, lane + 1, 8);
  mine[2] = __shfl_xor_sync(~0u, lane, 12);
  mine[3] = __shfl_down_sync(~0u, lane, 3, 16);
  mine[4] = __shfl_up_sync(~0u, lane, 2);
  mine[5] = static_cast<int>(__ballot_sync(~0u, lane % 3 == 0));
  mine[6] = __any_sync(~0u, lane == 40);
  mine[7] = __all_sync(~0u, lane < 32);
  mine[8] = static_cast<int>(__shfl_sync(~0u, 2.0f * static_cast<float>(lane), 7));
  mine[9] = __all_sync(~0u, lane != 9) * 2 + __any_sync(~0u, lane == 9);
}

TEST(DeviceExchangesWithinWarps) {
  Array<int> out(640);
  Launch({.grid = 1, .block = 64}, &Exchange, out.get());
  const std::vector<int> found = out.Read();
  uint32_t thirds = 0;
  for (int lane = 0; lane < 32; lane += 3) thirds |= 1u << lane;
  for (int i = 0; i < 64; ++i) {
    const int lane = i % 32;
    const int wanted[10] = {5,
                            lane / 8 * 8 + (lane + 1) % 8,
                            lane ^ 12,
                            lane % 16 + 3 < 16 ? lane + 3 : lane,
                            lane >= 2 ? lane - 2 : lane,
                            static_cast<int>(thirds),
                            0,
                            1,
                            14,
                            1};
    for (int j = 0; j < 10; ++j) CHECK_EQ(found[i * 10 + j], wanted[j]);
  }
}

// ---- copies, the launch ------------------------------------------------------------------------------------

__global__ void CopyPipeline(const uint8_t* in, uint8_t* out) {
  uint4* shared = DynamicShared<uint4>();
  const uint32_t i = threadIdx.x;
  CpAsync16(shared + i, in + 16 * i);
  CpAsyncCommit();
  CpAsync16(shared + 64 + i, in + 16 * (64 + i), i % 2 == 0);
  CpAsyncCommit();
  CpAsyncWait<1>();
  __syncthreads();
  const uint4 first = shared[i ^ 1u];
  CpAsyncWait<0>();
  __syncthreads();
  const uint4 second = shared[64 + (i ^ 1u)];
  *reinterpret_cast<uint4*>(out + 16 * i) = first;
  *reinterpret_cast<uint4*>(out + 16 * (64 + i)) = second;
  *reinterpret_cast<uint4*>(out + 16 * (128 + i)) = Load128(in + 16 * i);
  *reinterpret_cast<uint4*>(out + 16 * (192 + i)) = Load128Stream(in + 16 * (64 + i));
}

std::vector<uint8_t> Counting(size_t size) {
  std::vector<uint8_t> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<uint8_t>(i % 251 + 1);
  return bytes;
}

TEST(DeviceCopiesToSharedMemory) {
  const std::vector<uint8_t> in = Counting(2048);
  const Array<uint8_t> from(in);
  Array<uint8_t> to(4096);
  AllowShared(&CopyPipeline, 100 << 10);
  Launch({.grid = 1, .block = 64, .shared_bytes = 100 << 10}, &CopyPipeline, from.get(), to.get());
  const std::vector<uint8_t> found = to.Read();
  for (uint32_t i = 0; i < 2048; ++i) {
    const uint32_t source = i ^ 16u;
    CHECK_EQ(found[i], i < 1024 || source / 16 % 2 == 0 ? in[source] : 0);
    CHECK_EQ(found[2048 + i], in[i]);
  }
}

__global__ void CopyBulk(const uint8_t* in, uint8_t* out) {
  __shared__ __align__(128) uint8_t tile[2][512];
  __shared__ uint64_t bars[2];
  if constexpr (kHasBulkCopy) {
    if (threadIdx.x == 0) {
      for (uint32_t i = 0; i < 2; ++i) BarrierInit(&bars[i], 1);
      FenceBarrierInit();
    }
    __syncthreads();
    // Six pieces through two places: a barrier's parity changes every time.
    for (uint32_t piece = 0; piece < 6; ++piece) {
      const uint32_t at = piece % 2;
      if (threadIdx.x == 0) {
        BarrierExpect(&bars[at], 512);
        BulkCopy(tile[at], in + 512 * piece, 256, &bars[at]);
        BulkCopy(tile[at] + 256, in + 512 * piece + 256, 256, &bars[at]);
      }
      BarrierWait(&bars[at], piece / 2 % 2);
      for (uint32_t i = threadIdx.x; i < 512; i += blockDim.x) out[512 * piece + i] = tile[at][511 - i];
      __syncthreads();
    }
  }
}

TEST(DeviceCopiesInBulk) {
  int major = 0;
  CHECK_EQ(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), cudaSuccess);
  const std::vector<uint8_t> in = Counting(3072);
  const Array<uint8_t> from(in);
  Array<uint8_t> to(in);
  Launch({.grid = 1, .block = 96}, &CopyBulk, from.get(), to.get());
  const std::vector<uint8_t> found = to.Read();
  for (uint32_t i = 0; i < 3072; ++i) CHECK_EQ(found[i], major >= 9 ? in[i / 512 * 512 + 511 - i % 512] : in[i]);
}

__global__ void Count(unsigned* counters, unsigned long long* wide, int* largest) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  atomicAdd(&counters[0], 2u);
  atomicMax(largest, static_cast<int>(i * 7919 % 1000));
  atomicAdd(wide, 1ull << 33);
  if (atomicCAS(&counters[1], 0u, i + 1) == 0) atomicExch(&counters[2], __ldg(counters + 3));
  __threadfence();
}

TEST(DeviceCountsAtomically) {
  Array<unsigned> counters(std::vector<unsigned>{0, 0, 0, 77});
  Array<unsigned long long> wide(std::vector<unsigned long long>{0});
  Array<int> largest(std::vector<int>{-5});
  Launch({.grid = 10, .block = 100}, &Count, counters.get(), wide.get(), largest.get());
  const std::vector<unsigned> found = counters.Read();
  CHECK_EQ(found[0], 2000u);
  CHECK(found[1] >= 1 && found[1] <= 1000);
  CHECK_EQ(found[2], 77u);
  CHECK_EQ(wide.Read()[0], 1000ull << 33);
  CHECK_EQ(largest.Read()[0], 999);
}

__global__ void Add3D(int* values, int step) {
  WaitForPrevious();
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  LaunchDependents();
  values[block * blockDim.x * blockDim.y * blockDim.z + thread] += step;
}

TEST(DeviceLaunchesDependentKernelsInOrder) {
  Array<int> values(std::vector<int>(1440, 1));
  for (int i = 0; i < 8; ++i) {
    Launch({.grid = dim3(2, 3, 4), .block = dim3(5, 4, 3), .dependent = i > 0}, &Add3D, values.get(), i);
  }
  for (int value : values.Read()) CHECK_EQ(value, 29);
}

}  // namespace
}  // namespace kvrm::cuda
