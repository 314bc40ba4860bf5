// Streams, events, captures and graphs.
#include <algorithm>

#include "runtime_state.h"

using namespace kvrm::cuda::emulator;

namespace {

void Append(std::vector<size_t>& to, const std::vector<size_t>& nodes) {
  for (size_t node : nodes) {
    if (std::find(to.begin(), to.end(), node) == to.end()) to.push_back(node);
  }
}

// Every node comes before one of `last`, or is one.
bool AllBefore(const CUgraph_st& graph, const std::vector<size_t>& last) {
  std::vector<bool> seen(graph.nodes.size());
  std::vector<size_t> stack = last;
  while (!stack.empty()) {
    const size_t node = stack.back();
    stack.pop_back();
    if (seen[node]) continue;
    seen[node] = true;
    Append(stack, graph.nodes[node].after);
  }
  return std::find(seen.begin(), seen.end(), false) == seen.end();
}

}  // namespace

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  Call call;
  if (call.Lost() != cudaSuccess) return Return(call.Lost());
  if (flags > cudaStreamNonBlocking) return Return(cudaErrorInvalidValue);
  *stream = new CUstream_st;
  (*stream)->blocking = flags == cudaStreamDefault;
  call.state.streams.insert(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Call call;
  State& state = call.state;
  if (state.streams.count(stream) == 0) return Return(cudaErrorInvalidResourceHandle);
  state.RunUntil(call.lock, [&] { return stream->operations.empty(); });
  if (stream->capture != nullptr) {
    stream->capture->invalid = true;
    if (stream->capture->origin == stream) std::erase(state.captures, stream->capture);
  }
  state.streams.erase(stream);
  delete stream;
  return Return(call.Lost());
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  Call call;
  State& state = call.state;
  if (call.Lost() != cudaSuccess) return Return(call.Lost());
  cudaStream_t stream = state.Find(handle);
  if (stream == nullptr) return Return(cudaErrorInvalidResourceHandle);
  if (const cudaError_t error = state.CheckNoCapture(); error != cudaSuccess) return Return(error);
  if (stream->capture != nullptr) {
    stream->capture->invalid = true;
    return Return(cudaErrorStreamCaptureUnsupported);
  }
  state.RunUntil(call.lock, [&] { return stream->operations.empty(); });
  return Return(call.Lost());
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  Call call;
  State& state = call.state;
  if (call.Lost() != cudaSuccess) return Return(call.Lost());
  cudaStream_t stream = state.Find(handle);
  if (stream == nullptr) return Return(cudaErrorInvalidResourceHandle);
  if (const cudaError_t error = state.CheckNoCapture(); error != cudaSuccess) return Return(error);
  if (stream->capture != nullptr) {
    stream->capture->invalid = true;
    return Return(cudaErrorStreamCaptureUnsupported);
  }
  // Who asks again and again gets there.
  if (!stream->operations.empty()) state.RunOne();
  if (call.Lost() != cudaSuccess) return Return(call.Lost());
  return stream->operations.empty() ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned flags) {
  Call call;
  State& state = call.state;
  if (call.Lost() != cudaSuccess) return Return(call.Lost());
  cudaStream_t stream = state.Find(handle);
  if (stream == nullptr || state.events.count(event) == 0) return Return(cudaErrorInvalidResourceHandle);
  if (flags != 0) return Return(cudaErrorInvalidValue);
  Event& recorded = *event->event;
  if (recorded.capture != nullptr) {
    // Joins the capture, or the stream's own work of it.
    if (stream == &state.null_stream) return Return(cudaErrorStreamCaptureImplicit);
    if (stream->capture != nullptr && stream->capture != recorded.capture) return Return(cudaErrorStreamCaptureMerge);
    if (recorded.capture->invalid) return Return(cudaErrorStreamCaptureInvalidated);
    stream->capture = recorded.capture;
    Append(stream->last, recorded.nodes);
    return cudaSuccess;
  }
  if (stream->capture != nullptr) {
    stream->capture->invalid = true;
    return Return(cudaErrorStreamCaptureIsolation);
  }
  if (recorded.recorded == 0) return cudaSuccess;
  Operation operation;
  operation.event = event->event;
  operation.version = recorded.recorded;
  operation.wait = true;
  state.Push(stream, std::move(operation));
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  Call call;
  State& state = call.state;
  if (call.Lost() != cudaSuccess) return Return(call.Lost());
  if (handle == nullptr) return Return(cudaErrorStreamCaptureUnsupported);
  cudaStream_t stream = state.Find(handle);
  if (stream == nullptr) return Return(cudaErrorInvalidResourceHandle);
  if (stream->capture != nullptr) return Return(cudaErrorInvalidValue);
  stream->capture = std::make_shared<Capture>();
  stream->capture->origin = stream;
  stream->capture->mode = mode;
  stream->capture->thread = std::this_thread::get_id();
  stream->last.clear();
  state.captures.push_back(stream->capture);
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  Call call;
  State& state = call.state;
  *graph = nullptr;
  if (call.Lost() != cudaSuccess && !call.state.present) return Return(call.Lost());
  cudaStream_t origin = state.Find(handle);
  if (origin == nullptr) return Return(cudaErrorInvalidResourceHandle);
  const auto capture = origin->capture;
  if (capture == nullptr) return Return(cudaErrorInvalidValue);
  if (capture->origin != origin) return Return(cudaErrorStreamCaptureUnmatched);
  if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != std::this_thread::get_id()) {
    return Return(cudaErrorStreamCaptureWrongThread);
  }
  const bool joined = AllBefore(capture->graph, origin->last);
  state.captures.erase(std::find(state.captures.begin(), state.captures.end(), capture));
  for (cudaStream_t stream : state.streams) {
    if (stream->capture != capture) continue;
    stream->capture = nullptr;
    stream->last.clear();
  }
  if (call.Lost() != cudaSuccess) return Return(call.Lost());
  if (capture->invalid) return Return(cudaErrorStreamCaptureInvalidated);
  if (!joined) return Return(cudaErrorStreamCaptureUnjoined);
  *graph = new CUgraph_st(std::move(capture->graph));
  capture->invalid = true;  // for events that still name it
  state.graphs.insert(*graph);
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  Call call;
  if (call.Lost() != cudaSuccess) return Return(call.Lost());
  cudaStream_t stream = call.state.Find(handle);
  if (stream == nullptr) return Return(cudaErrorInvalidResourceHandle);
  *status = stream->capture == nullptr ? cudaStreamCaptureStatusNone
            : stream->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                       : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  Call call;
  if (call.Lost() != cudaSuccess) return Return(call.Lost());
  if (flags > 3) return Return(cudaErrorInvalidValue);
  *event = new CUevent_st{std::make_shared<Event>()};
  (*event)->event->timing = (flags & cudaEventDisableTiming) == 0;
  call.state.events.insert(*event);
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  Call call;
  if (call.state.events.erase(event) == 0) return Return(cudaErrorInvalidResourceHandle);
  delete event;
  return Return(call.Lost());
}

cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t stream_handle) {
  Call call;
  State& state = call.state;
  if (call.Lost() != cudaSuccess) return Return(call.Lost());
  cudaStream_t stream = state.Find(stream_handle);
  if (stream == nullptr || state.events.count(handle) == 0) return Return(cudaErrorInvalidResourceHandle);
  Event& event = *handle->event;
  if (stream->capture != nullptr) {
    if (stream->capture->invalid) return Return(cudaErrorStreamCaptureInvalidated);
    event.capture = stream->capture;
    event.nodes = stream->last;
    return cudaSuccess;
  }
  event.capture = nullptr;
  Operation operation;
  operation.event = handle->event;
  operation.version = ++event.recorded;
  state.Push(stream, std::move(operation));
  return cudaSuccess;
}

namespace {

cudaError_t CheckEvent(const Call& call, cudaEvent_t event) {
  if (call.Lost() != cudaSuccess) return call.Lost();
  if (call.state.events.count(event) == 0) return cudaErrorInvalidResourceHandle;
  if (const cudaError_t error = call.state.CheckNoCapture(); error != cudaSuccess) return error;
  return event->event->capture != nullptr ? cudaErrorCapturedEvent : cudaSuccess;
}

}  // namespace

cudaError_t cudaEventQuery(cudaEvent_t handle) {
  Call call;
  if (const cudaError_t error = CheckEvent(call, handle); error != cudaSuccess) return Return(error);
  const auto event = handle->event;
  if (event->completed < event->recorded) call.state.RunOne();
  if (call.Lost() != cudaSuccess) return Return(call.Lost());
  return event->completed < event->recorded ? cudaErrorNotReady : cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  Call call;
  if (const cudaError_t error = CheckEvent(call, handle); error != cudaSuccess) return Return(error);
  const auto event = handle->event;
  const uint64_t version = event->recorded;
  call.state.RunUntil(call.lock, [&] { return event->completed >= version; });
  return Return(call.Lost());
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  Call call;
  for (cudaEvent_t event : {start, end}) {
    if (const cudaError_t error = CheckEvent(call, event); error != cudaSuccess) return Return(error);
    if (event->event->recorded == 0 || !event->event->timing) return Return(cudaErrorInvalidResourceHandle);
    if (event->event->completed < event->event->recorded) return cudaErrorNotReady;
  }
  *milliseconds = std::chrono::duration<float, std::milli>(end->event->time - start->event->time).count();
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  Call call;
  if (call.Lost() != cudaSuccess) return Return(call.Lost());
  if (call.state.graphs.count(graph) == 0) return Return(cudaErrorInvalidValue);
  *executable = new CUgraphExec_st{std::make_shared<const CUgraph_st>(*graph)};
  call.state.executables.insert(*executable);
  return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t executable, cudaStream_t stream) {
  Call call;
  if (call.Lost() != cudaSuccess) return Return(call.Lost());
  const bool known = call.state.executables.count(executable) > 0 && call.state.Find(stream) != nullptr;
  return Return(known ? cudaSuccess : cudaErrorInvalidResourceHandle);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t handle) {
  Call call;
  State& state = call.state;
  if (call.Lost() != cudaSuccess) return Return(call.Lost());
  cudaStream_t stream = state.Find(handle);
  if (stream == nullptr || state.executables.count(executable) == 0) return Return(cudaErrorInvalidResourceHandle);
  if (stream->capture != nullptr) {
    stream->capture->invalid = true;
    return Return(cudaErrorNotSupported);
  }
  Operation operation;
  operation.graph = executable->graph;
  operation.left = executable->graph->nodes.size();
  operation.done.resize(operation.left);
  state.Push(stream, std::move(operation));
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  Call call;
  if (call.state.graphs.erase(graph) == 0) return Return(cudaErrorInvalidValue);
  delete graph;
  return Return(call.Lost());
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  Call call;
  if (call.state.executables.erase(executable) == 0) return Return(cudaErrorInvalidValue);
  delete executable;
  return Return(call.Lost());
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  Call call;
  if (call.Lost() != cudaSuccess) return Return(call.Lost());
  if (call.state.graphs.count(graph) == 0) return Return(cudaErrorInvalidValue);
  const size_t found = graph->nodes.size();
  if (nodes != nullptr) {
    for (size_t i = 0; i < *count; ++i) nodes[i] = i < found ? &graph->nodes[i] : nullptr;
    *count = std::min(*count, found);
  } else {
    *count = found;
  }
  return cudaSuccess;
}
