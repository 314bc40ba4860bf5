// executor.h - the static graph on the GPU: buffers, one captured graph per step shape, and their launch.
// Knows nothing of queues, handles or results' owners; the descriptors it is given have been checked.
#ifndef KVRM_CUDA_EXECUTOR_H_
#define KVRM_CUDA_EXECUTOR_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "../common/model.h"
#include "device_memory.h"
#include "graph.h"
#include "kernels.h"
#include "plan.h"
#include "weights.h"

namespace kvrm::cuda {

class Executor {
 public:
  // Allocates everything and captures the graph of every shape. The configuration has been checked.
  static kvrm_status Create(std::shared_ptr<const Model> model, const kvrm_engine_config& config,
                            std::unique_ptr<Executor>* out);
  ~Executor();

  // Enqueues one step on stream(): upload of the descriptor, graph, download of the result. descriptor and
  // result are pinned and stay as they are until the step has ended; scored: the step reports
  // log-probabilities of prompt rows. Allocates nothing, unless a scored shape is met for the first time.
  kvrm_status Launch(const uint8_t* descriptor, bool scored, uint8_t* result);

  cudaStream_t stream() const { return stream_; }
  uint8_t* pool() const { return pool_.As<uint8_t>(); }
  uint64_t block_bytes() const { return plan_.block_bytes; }
  uint64_t arena_bytes() const { return plan_.arena_bytes; }
  // Logits of the row that sampled as the index-th slot of the last step, [vocab] in GPU memory.
  const float* Logits(uint32_t index) const { return At<float>(kLogits) + uint64_t{index} * model_->config.vocab; }
  // Nodes of a shape's graph.
  size_t nodes(uint32_t shape) const { return graphs_[2 * shape].nodes(); }
  // Graphs captured since creation.
  uint32_t captures() const { return captures_; }

 private:
  Executor(std::shared_ptr<const Model> model, const kvrm_engine_config& config);

  kvrm_status CheckMemory() const;
  kvrm_status Prepare();
  kvrm_status CaptureShape(uint32_t shape, bool scored);
  StepView ViewFor(uint32_t shape) const;
  void EnqueueStep(const LaunchContext& context, uint32_t shape, bool scored) const;
  void EnqueueLayer(const LaunchContext& context, const StepView& step, uint32_t layer) const;
  void EnqueueHead(const LaunchContext& context, const StepView& step, bool scored) const;

  template <typename T>
  T* At(BufferId id) const {
    return reinterpret_cast<T*>(arena_.As<uint8_t>() + plan_.offset[id]);
  }

  const std::shared_ptr<const Model> model_;
  const DeviceModel& weights_;
  const kvrm_engine_config config_;
  const RecordLayout at_;
  uint32_t sms_ = 0;
  bool dependent_launch_ = false;
  Plan plan_;
  cudaStream_t stream_ = nullptr;
  DeviceMemory arena_;
  DeviceMemory pool_;          // [num_blocks][layer][K|V][kv_head][token][dim]
  std::vector<Graph> graphs_;  // [shapes][2]: plain, scored
  uint32_t captures_ = 0;
};

// The GPU weights of a model that FinishModel has uploaded.
const DeviceModel& WeightsOf(const Model& model);

// Makes the model's GPU the calling thread's.
kvrm_status UseDevice(uint32_t device);

}  // namespace kvrm::cuda
#endif  // KVRM_CUDA_EXECUTOR_H_
