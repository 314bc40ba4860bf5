// runtime_state.h - what the runtime API is made of. One mutex guards it all; it is held while an
// operation runs and let go between operations.
#ifndef KVRM_CUDA_EMULATOR_RUNTIME_STATE_H_
#define KVRM_CUDA_EMULATOR_RUNTIME_STATE_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "block.h"
#include "runtime.h"

// A kernel or a copy, and the nodes that must have run before it.
struct CUgraphNode_st {
  std::function<void()> work;
  std::vector<size_t> after;
};

struct CUgraph_st {
  std::vector<CUgraphNode_st> nodes;
};

struct CUgraphExec_st {
  std::shared_ptr<const CUgraph_st> graph;
};

namespace kvrm::cuda::emulator {

// A stream's operations recorded instead of run.
struct Capture {
  CUgraph_st graph;
  cudaStream_t origin = nullptr;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id thread;
  bool invalid = false;
};

// An event; it lives on in the operations that name it.
struct Event {
  bool timing = true;
  uint64_t recorded = 0;   // times it was recorded
  uint64_t completed = 0;  // the last of these that has taken place
  std::chrono::steady_clock::time_point time;
  std::shared_ptr<Capture> capture;  // when it was last recorded in one
  std::vector<size_t> nodes;         // which it stands for there
};

struct Operation {
  std::shared_ptr<const CUgraph_st> graph;  // or null:
  std::vector<bool> done;
  size_t left = 0;
  std::shared_ptr<Event> event;
  uint64_t version = 0;
  bool wait = false;  // else record
};

}  // namespace kvrm::cuda::emulator

struct CUstream_st {
  bool blocking = false;  // orders itself with the null stream
  std::deque<kvrm::cuda::emulator::Operation> operations;
  std::shared_ptr<kvrm::cuda::emulator::Capture> capture;
  std::vector<size_t> last;  // nodes that the next one of the capture comes after
};

struct CUevent_st {
  std::shared_ptr<kvrm::cuda::emulator::Event> event;
};

namespace kvrm::cuda::emulator {

struct State {
  State();

  // From the environment.
  uint64_t seed;
  bool present;
  uint64_t memory_bytes;
  uint64_t fail_after;
  void ReadEnvironment();

  std::mutex mutex;
  std::atomic<int> calls = 0;  // that have the mutex or want it
  Random random;
  cudaError_t sticky = cudaSuccess;
  uint64_t kernels = 0;  // that have run
  uint64_t used_bytes = 0;
  std::map<uintptr_t, size_t> device_memory;  // address, size
  std::map<uintptr_t, size_t> host_memory;
  std::map<const void*, uint32_t> shared_bytes;  // that kernels were allowed
  CUstream_st null_stream;
  std::set<cudaStream_t> streams;
  std::set<cudaEvent_t> events;
  std::set<cudaGraph_t> graphs;
  std::set<cudaGraphExec_t> executables;
  std::vector<std::shared_ptr<Capture>> captures;  // under way

  // The mutex is held in all that follow.

  cudaStream_t Find(cudaStream_t stream);  // null: there is no such stream
  // Queues nodes, or records them.
  cudaError_t Add(cudaStream_t stream, CUgraph_st graph);
  cudaError_t Add(cudaStream_t stream, std::function<void()> work);
  void Push(cudaStream_t stream, Operation operation);

  // Runs one operation, or one node of it, of a random stream. False: nothing can run.
  bool RunOne();
  // Runs until done() says so, and lets other threads in between.
  void RunUntil(std::unique_lock<std::mutex>& lock, const std::function<bool()>& done);
  void RunAll(std::unique_lock<std::mutex>& lock);
  bool Idle() const;

  void Fail(cudaError_t error);  // for good
  // What a call that a capture forbids gets; it spoils the capture.
  cudaError_t CheckNoCapture();
  // The range lies within one allocation of the device.
  bool InDevice(const void* pointer, size_t bytes) const;
};

State& TheState();

// Remembers the error for cudaGetLastError().
cudaError_t Return(cudaError_t error);

// A call of the API: the state, locked, and what went wrong before.
class Call {
 public:
  Call() : state(TheState()), lock(state.mutex, std::defer_lock) {
    ++state.calls;
    lock.lock();
  }
  ~Call() { --state.calls; }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  // The error that ends the call at once.
  cudaError_t Lost() const { return !state.present ? cudaErrorNoDevice : state.sticky; }

  State& state;
  std::unique_lock<std::mutex> lock;
};

}  // namespace kvrm::cuda::emulator
#endif  // KVRM_CUDA_EMULATOR_RUNTIME_STATE_H_
