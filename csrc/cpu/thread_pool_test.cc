#include "thread_pool.h"

#include <chrono>
#include <numeric>

#include "../common/test.h"

namespace kvrm::cpu {
namespace {

TEST(EveryTileRunsOnce) {
  for (uint32_t threads : {1u, 2u, 3u, 8u}) {
    ThreadPool pool(threads);
    CHECK_EQ(pool.threads(), threads);
    for (uint32_t tiles : {0u, 1u, 2u, 7u, 64u, 1000u}) {
      std::vector<std::atomic<uint32_t>> runs(tiles);
      pool.Run(tiles, [&](uint32_t tile, uint32_t member) noexcept { runs[tile] += member < threads ? 1 : 100; });
      for (const auto& count : runs) CHECK_EQ(count.load(), 1u);
    }
  }
}

// Jobs in quick succession, each reading what the one before wrote: tiles of two jobs must never mix,
// and no worker may still be in a job that has ended.
TEST(JobsFollowEachOther) {
  ThreadPool pool(4);
  std::vector<uint64_t> values(16, 1), next(16);
  for (uint32_t round = 0; round < 20000; ++round) {
    const uint32_t tiles = 2 + round % 15;
    pool.Run(tiles, [&](uint32_t tile, uint32_t) noexcept { next[tile] = values[tile] + values[(tile + 1) % tiles]; });
    pool.Run(tiles, [&](uint32_t tile, uint32_t) noexcept { values[tile] = next[tile] % 1000003; });
  }
  std::vector<uint64_t> wanted(16, 1);
  for (uint32_t round = 0; round < 20000; ++round) {
    const uint32_t tiles = 2 + round % 15;
    std::vector<uint64_t> sums(tiles);
    for (uint32_t t = 0; t < tiles; ++t) sums[t] = wanted[t] + wanted[(t + 1) % tiles];
    for (uint32_t t = 0; t < tiles; ++t) wanted[t] = sums[t] % 1000003;
  }
  CHECK(values == wanted);
}

TEST(WorkersWakeAfterSleeping) {
  ThreadPool pool(3);
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // longer than they spin
    std::atomic<uint32_t> sum{0};
    pool.Run(100, [&](uint32_t tile, uint32_t) noexcept { sum += tile; });
    CHECK_EQ(sum.load(), 4950u);
  }
}

// The caller sleeps as well when a tile takes long elsewhere.
TEST(TheCallerWaitsForASlowTile) {
  ThreadPool pool(2);
  for (int round = 0; round < 20; ++round) {
    std::atomic<uint32_t> done{0};
    pool.Run(2, [&](uint32_t, uint32_t member) noexcept {
      if (member != 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      ++done;
    });
    CHECK_EQ(done.load(), 2u);
  }
}

TEST(APoolMayEndWithoutWork) {
  for (int round = 0; round < 50; ++round) ThreadPool pool(1 + round % 5);
  CHECK(ThreadCount(0) >= 1);
  CHECK_EQ(ThreadCount(7), 7u);
}

}  // namespace
}  // namespace kvrm::cpu
