#include "runtime_state.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace kvrm::cuda::emulator {

namespace {

uint64_t Environment(const char* name, uint64_t standard) {
  const char* text = std::getenv(name);
  return text == nullptr || *text == 0 ? standard : std::strtoull(text, nullptr, 10);
}

}  // namespace

State::State() : random(0) { ReadEnvironment(); }

void State::ReadEnvironment() {
  seed = Environment("KVRM_EMULATOR_SEED", 1);
  present = Environment("KVRM_EMULATOR_DEVICES", 1) != 0;
  memory_bytes = Environment("KVRM_EMULATOR_MEMORY_MIB", 2048) << 20;
  fail_after = Environment("KVRM_EMULATOR_FAIL_AFTER", 0);
  random = Random(seed);
}

State& TheState() {
  // Never destroyed: streams may be closed while the process ends.
  static State& state = *new State;
  return state;
}

cudaStream_t State::Find(cudaStream_t stream) {
  if (stream == nullptr) return &null_stream;
  return streams.count(stream) > 0 ? stream : nullptr;
}

void State::Push(cudaStream_t stream, Operation operation) {
  // The null stream and those that were made without cudaStreamNonBlocking wait for each other.
  if (stream == &null_stream) {
    for (cudaStream_t other : streams) {
      while (other->blocking && !other->operations.empty() && RunOne()) {
      }
    }
  } else if (stream->blocking) {
    while (!null_stream.operations.empty() && RunOne()) {
    }
  }
  stream->operations.push_back(std::move(operation));
}

cudaError_t State::Add(cudaStream_t stream, CUgraph_st graph) {
  if (stream->capture != nullptr) {
    Capture& capture = *stream->capture;
    if (capture.invalid) return cudaErrorStreamCaptureInvalidated;
    const size_t first = capture.graph.nodes.size();
    std::vector<size_t> all;
    for (CUgraphNode_st& node : graph.nodes) {
      for (size_t& before : node.after) before += first;
      node.after.insert(node.after.end(), stream->last.begin(), stream->last.end());
      all.push_back(capture.graph.nodes.size());
      capture.graph.nodes.push_back(std::move(node));
    }
    stream->last = std::move(all);
    return cudaSuccess;
  }
  if (stream == &null_stream) {
    for (const auto& capture : captures) {
      if (!capture->origin->blocking) continue;
      capture->invalid = true;
      return cudaErrorStreamCaptureImplicit;
    }
  }
  Operation operation;
  operation.done.resize(graph.nodes.size());
  operation.left = graph.nodes.size();
  operation.graph = std::make_shared<const CUgraph_st>(std::move(graph));
  Push(stream, std::move(operation));
  return cudaSuccess;
}

cudaError_t State::Add(cudaStream_t stream, std::function<void()> work) {
  CUgraph_st graph;
  graph.nodes.push_back({std::move(work), {}});
  return Add(stream, std::move(graph));
}

bool State::RunOne() {
  std::vector<cudaStream_t> able;
  const auto consider = [&](cudaStream_t stream) {
    if (stream->operations.empty()) return;
    const Operation& head = stream->operations.front();
    if (!head.wait || head.event->completed >= head.version) able.push_back(stream);
  };
  consider(&null_stream);
  for (cudaStream_t stream : streams) consider(stream);
  if (able.empty()) return false;
  CUstream_st& stream = *able[random.Below(static_cast<uint32_t>(able.size()))];
  Operation& head = stream.operations.front();
  if (head.graph == nullptr) {
    if (!head.wait) {
      head.event->completed = std::max(head.event->completed, head.version);
      head.event->time = std::chrono::steady_clock::now();
    }
    stream.operations.pop_front();
    return true;
  }
  if (head.left > 0) {
    const auto graph = head.graph;
    const auto may_run = [&](size_t i) {
      const auto& after = graph->nodes[i].after;
      return !head.done[i] && std::all_of(after.begin(), after.end(), [&](size_t j) { return head.done[j]; });
    };
    // Mostly one chain: look from a random place for the first that may run.
    const size_t count = graph->nodes.size();
    size_t i = random.Below(static_cast<uint32_t>(count));
    while (!may_run(i)) i = (i + 1) % count;
    head.done[i] = true;
    --head.left;
    if (head.left == 0) stream.operations.pop_front();
    graph->nodes[i].work();
    return true;
  }
  stream.operations.pop_front();
  return true;
}

void State::RunUntil(std::unique_lock<std::mutex>& lock, const std::function<bool()>& done) {
  while (!done()) {
    if (!RunOne()) {
      std::fprintf(stderr, "kvrm emulator: streams wait for events that cannot come\n");
      std::abort();
    }
    if (calls > 1) {
      lock.unlock();
      std::this_thread::yield();
      lock.lock();
    }
  }
}

bool State::Idle() const {
  return null_stream.operations.empty() &&
         std::all_of(streams.begin(), streams.end(), [](cudaStream_t s) { return s->operations.empty(); });
}

void State::RunAll(std::unique_lock<std::mutex>& lock) {
  RunUntil(lock, [this] { return Idle(); });
}

void State::Fail(cudaError_t error) {
  sticky = error;
  null_stream.operations.clear();
  for (cudaStream_t stream : streams) stream->operations.clear();
  for (cudaEvent_t event : events) event->event->completed = event->event->recorded;
}

cudaError_t State::CheckNoCapture() {
  bool spoilt = false;
  for (const auto& capture : captures) {
    const bool own = capture->thread == std::this_thread::get_id();
    if (own ? capture->mode != cudaStreamCaptureModeRelaxed : capture->mode == cudaStreamCaptureModeGlobal) {
      capture->invalid = spoilt = true;
    }
  }
  return spoilt ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}

bool State::InDevice(const void* pointer, size_t bytes) const {
  const uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
  auto next = device_memory.upper_bound(address);
  if (next == device_memory.begin()) return false;
  --next;
  return address - next->first <= next->second && bytes <= next->second - (address - next->first);
}

}  // namespace kvrm::cuda::emulator
