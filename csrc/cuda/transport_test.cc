#include "transport.h"

#include <cstdlib>
#include <string>

#include "../common/test.h"
#include "step_test_util.h"

namespace kvrm::cuda {
namespace {

using test::Between;
using test::Random;
using test::SameBytes;
using test::Succeed;

constexpr uint32_t kToHost = KVRM_TIER_POOL | KVRM_TIER_HOST << 16;
constexpr uint32_t kFromHost = KVRM_TIER_HOST | KVRM_TIER_POOL << 16;

std::vector<TierCopy> Join(const std::vector<kvrm_move>& moves) {
  std::vector<TierCopy> copies;
  JoinMoves(moves.data(), static_cast<uint32_t>(moves.size()), &copies);
  return copies;
}

TEST(JoinMovesOfAdjacentBlocks) {
  // In any order; blocks 3..7 of the pool go to 10..14 of the host.
  const std::vector<TierCopy> copies =
      Join({{kToHost, 6, 13, 2}, {0, 1, 2, 1}, {kToHost, 3, 10, 1}, {kFromHost, 5, 12, 1}, {kToHost, 4, 11, 2}});
  CHECK_EQ(copies.size(), 2u);
  CHECK_EQ(copies[0].to_host, false);
  CHECK_EQ(copies[1].to_host, true);
  CHECK_EQ(copies[1].from, 3u);
  CHECK_EQ(copies[1].to, 10u);
  CHECK_EQ(copies[1].count, 5u);
}

TEST(JoinMovesLeavesGapsAlone) {
  CHECK_EQ(Join({{kToHost, 0, 0, 1}, {kToHost, 1, 2, 1}}).size(), 2u);    // a gap at the host
  CHECK_EQ(Join({{kToHost, 0, 0, 1}, {kToHost, 2, 1, 1}}).size(), 2u);    // a gap in the pool
  CHECK_EQ(Join({{kFromHost, 0, 0, 1}, {kToHost, 1, 1, 1}}).size(), 2u);  // two directions
  CHECK_EQ(Join({{kToHost, 0, 5, 1}, {kToHost, 1, 4, 1}}).size(), 2u);    // backwards
  CHECK_EQ(Join({{0, 0, 5, 1}}).size(), 0u);                              // within the pool
  CHECK_EQ(Join({}).size(), 0u);
}

constexpr uint32_t kBlocks = 24, kHostBlocks = 16, kBlockBytes = 4096;

// Moves between the tiers that share no block.
std::vector<kvrm_move> RandomMoves(Random& random) {
  std::vector<kvrm_move> moves;
  std::vector<bool> pool_taken(kBlocks), host_taken(kHostBlocks);
  for (uint32_t tries = Between(random, 0, 14); tries > 0; --tries) {
    const uint32_t count = Between(random, 1, 4);
    const uint32_t in_pool = Between(random, 0, kBlocks - count), in_host = Between(random, 0, kHostBlocks - count);
    bool free = true;
    for (uint32_t i = 0; i < count; ++i) free = free && !pool_taken[in_pool + i] && !host_taken[in_host + i];
    if (!free) continue;
    for (uint32_t i = 0; i < count; ++i) pool_taken[in_pool + i] = host_taken[in_host + i] = true;
    if (Between(random, 0, 1)) {
      moves.push_back({kToHost, in_pool, in_host, count});
    } else {
      moves.push_back({kFromHost, in_host, in_pool, count});
    }
  }
  return moves;
}

// Steps that each overwrite some blocks of the pool, with moves between them, all in flight at once; against
// the same one after another. The emulator keeps no order between streams but that of their events.
void RunSteps(uint32_t seed) {
  Random random(seed);
  std::vector<uint8_t> pool(kBlocks * kBlockBytes), host(kHostBlocks * kBlockBytes);
  for (uint8_t& byte : pool) byte = static_cast<uint8_t>(random());
  test::Array<uint8_t> memory(pool);
  std::unique_ptr<HostTier> tier;
  CHECK_EQ(HostTier::Create(kHostBlocks, kBlockBytes, &tier), KVRM_OK);
  std::copy_n(tier->data(), host.size(), host.data());
  cudaStream_t stream = nullptr;
  Succeed(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  for (int step = 1; step <= 12; ++step) {
    const std::vector<kvrm_move> moves = RandomMoves(random);
    CHECK_EQ(tier->Enqueue(moves.data(), static_cast<uint32_t>(moves.size()), memory.data(), stream), KVRM_OK);
    for (const kvrm_move& move : moves) {
      const bool to_host = move.tiers == kToHost;
      std::copy_n((to_host ? pool : host).begin() + move.from * kBlockBytes, move.count * kBlockBytes,
                  (to_host ? host : pool).begin() + move.to * kBlockBytes);
    }
    for (int i = 0; i < 3; ++i) {
      const uint32_t block = Between(random, 0, kBlocks - 1);
      Succeed(cudaMemsetAsync(memory.data() + block * kBlockBytes, step, kBlockBytes, stream), "cudaMemsetAsync");
      std::fill_n(pool.begin() + block * kBlockBytes, kBlockBytes, static_cast<uint8_t>(step));
    }
  }
  Succeed(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  CHECK(SameBytes(memory.Read(), pool));
  CHECK(std::memcmp(tier->data(), host.data(), host.size()) == 0);
  Succeed(cudaStreamDestroy(stream), "cudaStreamDestroy");
}

TEST(HostTierMovesBetweenSteps) {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
#ifdef KVRM_EMULATOR
    setenv("KVRM_EMULATOR_SEED", std::to_string(seed).c_str(), 1);
    emulator::Reset();
#endif
    RunSteps(seed);
  }
}

}  // namespace
}  // namespace kvrm::cuda
