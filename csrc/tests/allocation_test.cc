// No allocation in a step: counts every malloc of the process while steps are committed, run and taken.
#include <atomic>
#include <cstdlib>

#include "test_engine.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define KVRM_COUNTS_ALLOCATIONS 0  // the sanitizers bring their own malloc
#else
#define KVRM_COUNTS_ALLOCATIONS 1
#endif

namespace {
std::atomic<uint64_t> allocations{0};
}  // namespace

#if KVRM_COUNTS_ALLOCATIONS
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

// operator new ends here as well.
void* malloc(size_t bytes) {
  ++allocations;
  return __libc_malloc(bytes);
}
void* calloc(size_t count, size_t bytes) {
  ++allocations;
  return __libc_calloc(count, bytes);
}
void* realloc(void* old, size_t bytes) {
  ++allocations;
  return __libc_realloc(old, bytes);
}
void* aligned_alloc(size_t align, size_t bytes) {
  ++allocations;
  return __libc_memalign(align, bytes);
}
}
#endif

namespace kvrm::test {
namespace {

// Everything at once: decode, a chunk, prompt logprobs, sampling with filters, penalties, biases and masks,
// moves in both tiers.
void FullStep(TestEngine& engine, uint32_t step) {
  engine.Begin(2);
  const uint32_t mask = engine.Mask(TokenRange(7, 67));
  const Sampling sampling = {0.8f, 20, 0.9f, 0.05f, 3, 1 + 20, true, 1.3f, 0.5f, 0.25f, mask};
  engine.Edit(0, KVRM_EDIT_CLEAR);
  engine.Edit(0, KVRM_EDIT_PROMPT, 9);
  engine.Edit(0, KVRM_EDIT_COUNT, 12, 3);
  engine.Bias(0, 11, 2.5f);
  engine.Decode(0, step == 0 ? 5 : -1, 300 + step, Contiguous(0, 24), step, sampling);
  engine.Prefill(2, {1, 2, 3, 4, 5, 6, 7, 8}, 200, Contiguous(40, 14), true, step, sampling);
  engine.segment(0).flags = KVRM_SEGMENT_PROMPT_LOGPROBS;
  engine.segment(0).top_logprobs = 20;
  std::fill_n(engine.targets(), 8, 9);
  engine.Move(70, 80, 3);
  engine.Move(0, 4, 2, KVRM_TIER_POOL, KVRM_TIER_HOST);
}

TEST(StepsDoNotAllocate) {
  ModelShape shape;
  shape.qk_norm = shape.bias = true;
  shape.windows = {0, 30, 0};
  const TestModel model(shape);
  kvrm_engine_config config = EngineConfig();
  config.threads = 2;
  TestEngine engine(model, config);
  std::vector<std::vector<uint8_t>> steps;  // made beforehand: the test's own vectors allocate
  for (uint32_t step = 0; step < 12; ++step) {
    FullStep(engine, step);
    engine.header().step = step + 1;
    steps.emplace_back(engine.bytes(), engine.bytes() + engine.info.descriptor_bytes);
  }
  uint8_t message[256];
  const uint64_t before = allocations;
  for (size_t step = 0; step < steps.size(); ++step) {
    const int32_t committed = kvrm_commit(engine.handle, steps[step].data(), engine.info.descriptor_bytes);
    const int32_t refused = kvrm_commit(engine.handle, steps[step].data(), engine.info.descriptor_bytes);
    const uint32_t length = kvrm_last_error(message, sizeof(message));
    int32_t waited;
    while ((waited = kvrm_wait(engine.handle, 100, engine.result_bytes(), engine.info.result_bytes)) == KVRM_TIMEOUT) {
    }
    if (committed != KVRM_OK || refused != KVRM_INVALID_DESCRIPTOR || length == 0 || waited != KVRM_OK) break;
  }
  uint64_t after = allocations;
  CHECK_EQ(engine.result().step, uint32_t(steps.size()));
  CHECK_EQ(after - before, 0u);
  after = allocations;
#if KVRM_COUNTS_ALLOCATIONS
  ::operator delete(::operator new(1));
  CHECK_EQ(allocations - after, 1u);  // the counter does count
#endif
}

}  // namespace
}  // namespace kvrm::test
