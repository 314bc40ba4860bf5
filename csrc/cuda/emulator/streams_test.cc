// Streams and events: what is queued runs late, and in any order that nothing forbids.
#include <set>
#include <vector>

#include "test_util.h"

namespace kvrm::cuda::emulator {
namespace {

class Stream {
 public:
  explicit Stream(unsigned flags = cudaStreamNonBlocking) {
    CHECK_EQ(cudaStreamCreateWithFlags(&stream_, flags), cudaSuccess);
  }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return stream_; }

 private:
  cudaStream_t stream_;
};

class OneEvent {
 public:
  explicit OneEvent(unsigned flags = cudaEventDisableTiming) {
    CHECK_EQ(cudaEventCreateWithFlags(&event_, flags), cudaSuccess);
  }
  ~OneEvent() { cudaEventDestroy(event_); }
  OneEvent(const OneEvent&) = delete;
  OneEvent& operator=(const OneEvent&) = delete;
  operator cudaEvent_t() const { return event_; }

 private:
  cudaEvent_t event_;
};

__global__ void Store(int* to, int value) { *to = value; }
__global__ void AddTo(int* to, const int* from) { *to += *from; }

// What stream b reads of what stream a writes, over many seeds.
std::set<int> ReadAcross(bool wait) {
  std::set<int> found;
  for (int seed = 0; seed < 24; ++seed) {
    const Setting setting("KVRM_EMULATOR_SEED", std::to_string(seed));
    const Array<int> value(std::vector<int>{1});
    const Stream a, b;
    const OneEvent event;
    int host = 0;
    Launch({.grid = 1, .block = 1, .stream = a}, &Store, value.get(), 2);
    CHECK_EQ(cudaEventRecord(event, a), cudaSuccess);
    if (wait) CHECK_EQ(cudaStreamWaitEvent(b, event, 0), cudaSuccess);
    CHECK_EQ(cudaMemcpyAsync(&host, value.get(), 4, cudaMemcpyDeviceToHost, b), cudaSuccess);
    CHECK_EQ(host, 0);
    CHECK_EQ(cudaStreamSynchronize(b), cudaSuccess);
    found.insert(host);
  }
  return found;
}

TEST(EmulatorShowsAMissingWait) {
  CHECK(ReadAcross(true) == std::set<int>{2});
  CHECK(ReadAcross(false) == (std::set<int>{1, 2}));
}

TEST(EmulatorReadsHostMemoryWhenTheCopyRuns) {
  const Array<int> value(std::vector<int>{1});
  const Stream stream;
  int* pinned;
  CHECK_EQ(cudaHostAlloc(&pinned, 4, cudaHostAllocDefault), cudaSuccess);
  *pinned = 5;
  CHECK_EQ(cudaMemcpyAsync(value.get(), pinned, 4, cudaMemcpyHostToDevice, stream), cudaSuccess);
  *pinned = 6;  // too early
  CHECK_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  CHECK_EQ(value.Read()[0], 6);
  CHECK_EQ(cudaFreeHost(pinned), cudaSuccess);
}

TEST(EmulatorEventsStandForTheirLastRecord) {
  const Array<int> value(std::vector<int>{0});
  const Stream a, b;
  const OneEvent event;
  CHECK_EQ(cudaEventQuery(event), cudaSuccess);  // never recorded
  CHECK_EQ(cudaStreamWaitEvent(b, event, 0), cudaSuccess);
  Launch({.grid = 1, .block = 1, .stream = a}, &Store, value.get(), 1);
  CHECK_EQ(cudaEventRecord(event, a), cudaSuccess);
  Launch({.grid = 1, .block = 1, .stream = a}, &Store, value.get(), 2);
  CHECK_EQ(cudaEventRecord(event, a), cudaSuccess);
  CHECK_EQ(cudaStreamQuery(a), cudaErrorNotReady);
  CHECK_EQ(cudaEventSynchronize(event), cudaSuccess);
  CHECK_EQ(cudaStreamQuery(a), cudaSuccess);
  CHECK_EQ(cudaEventQuery(event), cudaSuccess);
  CHECK_EQ(cudaGetLastError(), cudaSuccess);
  CHECK_EQ(value.Read()[0], 2);
}

TEST(EmulatorGoesOnForWhoAsksAgain) {
  const Array<int> value(std::vector<int>{0});
  const Stream stream;
  const OneEvent event;
  for (int i = 1; i <= 5; ++i) Launch({.grid = 1, .block = 1, .stream = stream}, &Store, value.get(), i);
  CHECK_EQ(cudaEventRecord(event, stream), cudaSuccess);
  int asked = 0;
  while (cudaEventQuery(event) == cudaErrorNotReady) CHECK(++asked < 100);
  CHECK(asked > 0);
  CHECK_EQ(value.Read()[0], 5);
}

TEST(EmulatorMeasuresBetweenEvents) {
  const Stream stream;
  const OneEvent start(cudaEventDefault), end(cudaEventDefault), untimed;
  float milliseconds = -1;
  CHECK_EQ(cudaEventElapsedTime(&milliseconds, start, end), cudaErrorInvalidResourceHandle);  // not recorded
  for (cudaEvent_t event : {cudaEvent_t(start), cudaEvent_t(end), cudaEvent_t(untimed)}) {
    CHECK_EQ(cudaEventRecord(event, stream), cudaSuccess);
  }
  CHECK_EQ(cudaEventElapsedTime(&milliseconds, start, end), cudaErrorNotReady);
  CHECK_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  CHECK_EQ(cudaEventElapsedTime(&milliseconds, start, end), cudaSuccess);
  CHECK(milliseconds >= 0);
  CHECK_EQ(cudaEventElapsedTime(&milliseconds, start, untimed), cudaErrorInvalidResourceHandle);
  cudaGetLastError();
}

TEST(EmulatorOrdersTheNullStreamWithBlockingStreams) {
  for (int seed = 0; seed < 8; ++seed) {
    const Setting setting("KVRM_EMULATOR_SEED", std::to_string(seed));
    const Array<int> value(std::vector<int>{0});
    const Stream blocking(cudaStreamDefault);
    Launch({.grid = 1, .block = 1, .stream = blocking}, &Store, value.get(), 3);
    CHECK_EQ(cudaMemset(value.get(), 0, 4), cudaSuccess);
    Launch({.grid = 1, .block = 1, .stream = blocking}, &AddTo, value.get(), value.get());
    CHECK_EQ(value.Read()[0], 0);
  }
}

TEST(EmulatorCopiesBatches) {
  std::set<int> partly;
  for (int seed = 0; seed < 24; ++seed) {
    const Setting setting("KVRM_EMULATOR_SEED", std::to_string(seed));
    std::vector<int> source(8);
    for (int i = 0; i < 8; ++i) source[i] = i + 1;
    const Array<int> from(source), to(std::vector<int>(8, 0));
    const Stream stream, other;
    std::vector<void*> tos;
    std::vector<const void*> froms;
    std::vector<size_t> sizes(8, 4);
    for (int i = 0; i < 8; ++i) {
      tos.push_back(to.get() + i);
      froms.push_back(from.get() + 7 - i);
    }
    cudaMemcpyAttributes attributes = {};
    attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
    size_t first = 0;
    CHECK_EQ(cudaMemcpyBatchAsync(tos.data(), froms.data(), sizes.data(), 8, &attributes, &first, 1, stream),
             cudaSuccess);
    // Another stream, unordered: sees the batch half done.
    std::vector<int> seen(8);
    CHECK_EQ(cudaMemcpyAsync(seen.data(), to.get(), 32, cudaMemcpyDeviceToHost, other), cudaSuccess);
    CHECK_EQ(cudaStreamSynchronize(other), cudaSuccess);
    int count = 0;
    for (int value : seen) count += value != 0;
    partly.insert(count);
    const std::vector<int> found = to.Read();
    for (int i = 0; i < 8; ++i) CHECK_EQ(found[i], 8 - i);
    // What the call refuses.
    CHECK_EQ(cudaMemcpyBatchAsync(tos.data(), froms.data(), sizes.data(), 8, &attributes, &first, 1, nullptr),
             cudaErrorInvalidValue);
    attributes.srcAccessOrder = cudaMemcpySrcAccessOrderInvalid;
    CHECK_EQ(cudaMemcpyBatchAsync(tos.data(), froms.data(), sizes.data(), 8, &attributes, &first, 1, stream),
             cudaErrorInvalidValue);
    CHECK_EQ(cudaGetLastError(), cudaErrorInvalidValue);
  }
  CHECK(partly.size() > 2);
}

TEST(EmulatorRefusesCopiesOfTheWrongKind) {
  const Array<int> value(std::vector<int>{1, 2});
  int host[2];
  CHECK_EQ(cudaMemcpy(host, value.get(), 8, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  CHECK_EQ(cudaMemcpy(host, value.get(), 12, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  CHECK_EQ(cudaMemcpy(value.get(), value.get() + 1, 4, cudaMemcpyDeviceToDevice), cudaSuccess);
  CHECK_EQ(cudaMemset(host, 0, 8), cudaErrorInvalidValue);
  CHECK_EQ(cudaGetLastError(), cudaErrorInvalidValue);
  CHECK_EQ(cudaGetLastError(), cudaSuccess);
  CHECK_EQ(value.Read()[0], 2);
}

}  // namespace
}  // namespace kvrm::cuda::emulator
