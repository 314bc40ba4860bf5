// graph.h - one captured CUDA graph: recorded once, launched for ever, never updated.
#ifndef KVRM_CUDA_GRAPH_H_
#define KVRM_CUDA_GRAPH_H_

#include <cstddef>
#include <utility>

#include "cuda_status.h"

namespace kvrm::cuda {

class Graph {
 public:
  Graph() = default;
  Graph(Graph&& other) noexcept { *this = std::move(other); }
  Graph& operator=(Graph&& other) noexcept {
    std::swap(exec_, other.exec_);
    std::swap(nodes_, other.nodes_);
    return *this;
  }
  ~Graph() {
    if (exec_) cudaGraphExecDestroy(exec_);
  }

  // Records what enqueue(stream) enqueues. Nothing may run on the stream meanwhile.
  template <typename Enqueue>
  static kvrm_status Capture(cudaStream_t stream, const Enqueue& enqueue, Graph* out) {
    KVRM_CUDA_TRY("capture a step", cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    enqueue(stream);
    const cudaError_t launched = cudaGetLastError();
    cudaGraph_t graph = nullptr;
    const cudaError_t ended = cudaStreamEndCapture(stream, &graph);
    const cudaError_t error = launched != cudaSuccess ? launched : ended;
    if (error != cudaSuccess) {
      if (graph) cudaGraphDestroy(graph);
      return FailCuda("capture a step", error);
    }
    Graph made;
    cudaError_t status = cudaGraphGetNodes(graph, nullptr, &made.nodes_);
    if (status == cudaSuccess) status = cudaGraphInstantiate(&made.exec_, graph, 0);
    cudaGraphDestroy(graph);
    if (status != cudaSuccess) return FailCuda("instantiate a step's graph", status);
    *out = std::move(made);
    return KVRM_OK;
  }

  cudaError_t Upload(cudaStream_t stream) const { return cudaGraphUpload(exec_, stream); }
  cudaError_t Launch(cudaStream_t stream) const { return cudaGraphLaunch(exec_, stream); }
  explicit operator bool() const { return exec_ != nullptr; }
  size_t nodes() const { return nodes_; }

 private:
  cudaGraphExec_t exec_ = nullptr;
  size_t nodes_ = 0;
};

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_GRAPH_H_
