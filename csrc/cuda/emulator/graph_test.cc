// Captures and their replay.
#include <set>
#include <thread>
#include <vector>

#include "test_util.h"

namespace kvrm::cuda::emulator {
namespace {

// Two streams and two events, as a capture that forks and joins needs them.
struct Fork {
  Fork() {
    for (cudaStream_t* stream : {&main, &side}) {
      CHECK_EQ(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking), cudaSuccess);
    }
    for (cudaEvent_t* event : {&forked, &joined}) {
      CHECK_EQ(cudaEventCreateWithFlags(event, cudaEventDisableTiming), cudaSuccess);
    }
  }
  ~Fork() {
    cudaStreamDestroy(main);
    cudaStreamDestroy(side);
    cudaEventDestroy(forked);
    cudaEventDestroy(joined);
  }
  Fork(const Fork&) = delete;
  Fork& operator=(const Fork&) = delete;

  void Begin(cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal) {
    CHECK_EQ(cudaStreamBeginCapture(main, mode), cudaSuccess);
  }

  cudaStream_t main, side;
  cudaEvent_t forked, joined;
};

__global__ void AddValue(int* to, int value) { *to += value; }
__global__ void Sum(int* to, const int* a, const int* b) { *to = *a + *b; }

// { a += 10 } and { b += 20 } side by side, then c = a + b, then to the host. joins: c waits for b.
std::set<int> ForkAndJoin(bool joins) {
  std::set<int> found;
  for (int seed = 0; seed < 16; ++seed) {
    const Setting setting("KVRM_EMULATOR_SEED", std::to_string(seed));
    Fork f;
    const Array<int> v(std::vector<int>{1, 2, 0});
    int *a = v.get(), *b = a + 1, *c = a + 2;
    int host = 0;
    f.Begin();
    cudaStreamCaptureStatus status;
    CHECK_EQ(cudaStreamIsCapturing(f.main, &status), cudaSuccess);
    CHECK_EQ(status, cudaStreamCaptureStatusActive);
    CHECK_EQ(cudaEventRecord(f.forked, f.main), cudaSuccess);
    CHECK_EQ(cudaStreamWaitEvent(f.side, f.forked, 0), cudaSuccess);
    Launch({.grid = 1, .block = 1, .stream = f.main}, &AddValue, a, 10);
    Launch({.grid = 1, .block = 1, .stream = f.side}, &AddValue, b, 20);
    CHECK_EQ(cudaEventRecord(f.joined, f.side), cudaSuccess);
    if (joins) CHECK_EQ(cudaStreamWaitEvent(f.main, f.joined, 0), cudaSuccess);
    Launch({.grid = 1, .block = 1, .stream = f.main}, &Sum, c, a, b);
    CHECK_EQ(cudaMemcpyAsync(&host, c, 4, cudaMemcpyDeviceToHost, f.main), cudaSuccess);
    CHECK_EQ(cudaStreamWaitEvent(f.main, f.joined, 0), cudaSuccess);
    cudaGraph_t graph;
    CHECK_EQ(cudaStreamEndCapture(f.main, &graph), cudaSuccess);
    CHECK_EQ(cudaStreamIsCapturing(f.side, &status), cudaSuccess);
    CHECK_EQ(status, cudaStreamCaptureStatusNone);
    size_t nodes = 0;
    CHECK_EQ(cudaGraphGetNodes(graph, nullptr, &nodes), cudaSuccess);
    CHECK_EQ(nodes, 4u);
    cudaGraphExec_t executable;
    CHECK_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
    CHECK_EQ(cudaGraphDestroy(graph), cudaSuccess);
    CHECK_EQ(cudaGraphUpload(executable, f.main), cudaSuccess);
    for (int i = 1; i <= 3; ++i) {
      CHECK_EQ(cudaGraphLaunch(executable, f.main), cudaSuccess);
      if (i == 1) CHECK_EQ(host, 0);
      CHECK_EQ(cudaStreamSynchronize(f.main), cudaSuccess);
      found.insert(host - 30 * i);
    }
    CHECK_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
  }
  return found;
}

TEST(EmulatorReplaysACaptureThatForks) {
  CHECK(ForkAndJoin(true) == std::set<int>{3});
  CHECK(ForkAndJoin(false) == (std::set<int>{3, -17}));  // without the wait, b is sometimes late
}

TEST(EmulatorDropsBatchesInACapture) {
  Fork f;
  const Array<int> v(std::vector<int>{1, 2});
  f.Begin();
  void* to = v.get();
  const void* from = v.get() + 1;
  size_t bytes = 4, first = 0;
  cudaMemcpyAttributes attributes = {};
  attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
  CHECK_EQ(cudaMemcpyBatchAsync(&to, &from, &bytes, 1, &attributes, &first, 1, f.main), cudaSuccess);
  cudaGraph_t graph;
  CHECK_EQ(cudaStreamEndCapture(f.main, &graph), cudaSuccess);
  size_t nodes = 9;
  CHECK_EQ(cudaGraphGetNodes(graph, nullptr, &nodes), cudaSuccess);
  CHECK_EQ(nodes, 0u);
  cudaGraphExec_t executable;
  CHECK_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
  CHECK_EQ(cudaGraphLaunch(executable, f.main), cudaSuccess);
  CHECK_EQ(cudaStreamSynchronize(f.main), cudaSuccess);
  CHECK_EQ(v.Read()[0], 1);
  CHECK_EQ(cudaGraphDestroy(graph), cudaSuccess);
  CHECK_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
}

TEST(EmulatorRefusesAForkThatIsNotJoined) {
  Fork f;
  const Array<int> v(std::vector<int>{1});
  f.Begin();
  CHECK_EQ(cudaEventRecord(f.forked, f.main), cudaSuccess);
  CHECK_EQ(cudaStreamWaitEvent(f.side, f.forked, 0), cudaSuccess);
  Launch({.grid = 1, .block = 1, .stream = f.side}, &AddValue, v.get(), 1);
  cudaGraph_t graph;
  CHECK_EQ(cudaStreamEndCapture(f.main, &graph), cudaErrorStreamCaptureUnjoined);
  CHECK(graph == nullptr);
  cudaGetLastError();
  CHECK_EQ(v.Read()[0], 1);
}

// A capture that `call` spoils, with `error`.
template <class Call>
void CheckSpoils(cudaStreamCaptureMode mode, cudaError_t error, Call call) {
  Fork f;
  f.Begin(mode);
  CHECK_EQ(call(f), error);
  cudaGraph_t graph;
  CHECK_EQ(cudaStreamEndCapture(f.main, &graph),
           error == cudaSuccess ? cudaSuccess : cudaErrorStreamCaptureInvalidated);
  if (graph != nullptr) CHECK_EQ(cudaGraphDestroy(graph), cudaSuccess);
  cudaGetLastError();
}

TEST(EmulatorSpoilsCapturesAsCudaDoes) {
  const auto allocate = [](Fork&) {
    void* memory = nullptr;
    const cudaError_t error = cudaMalloc(&memory, 16);
    if (memory != nullptr) CHECK_EQ(cudaFree(memory), cudaSuccess);
    return error;
  };
  const auto elsewhere = [&](Fork& f) {
    cudaError_t error = cudaSuccess;
    std::thread([&] { error = allocate(f); }).join();
    return error;
  };
  CheckSpoils(cudaStreamCaptureModeGlobal, cudaErrorStreamCaptureUnsupported, allocate);
  CheckSpoils(cudaStreamCaptureModeThreadLocal, cudaErrorStreamCaptureUnsupported, allocate);
  CheckSpoils(cudaStreamCaptureModeRelaxed, cudaSuccess, allocate);
  CheckSpoils(cudaStreamCaptureModeGlobal, cudaErrorStreamCaptureUnsupported, elsewhere);
  CheckSpoils(cudaStreamCaptureModeThreadLocal, cudaSuccess, elsewhere);
  CheckSpoils(cudaStreamCaptureModeRelaxed, cudaErrorStreamCaptureUnsupported,
              [](Fork& f) { return cudaStreamSynchronize(f.main); });
  CheckSpoils(cudaStreamCaptureModeRelaxed, cudaErrorStreamCaptureIsolation, [](Fork& f) {
    CHECK_EQ(cudaEventRecord(f.forked, f.side), cudaSuccess);
    return cudaStreamWaitEvent(f.main, f.forked, 0);
  });
}

}  // namespace
}  // namespace kvrm::cuda::emulator
