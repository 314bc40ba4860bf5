#include "executor.h"

#include <algorithm>

#include "../common/convert.h"

namespace kvrm::cuda {
namespace {

constexpr double kMiB = 1 << 20;

}  // namespace

const DeviceModel& WeightsOf(const Model& model) { return *static_cast<const DeviceModel*>(model.device.get()); }

kvrm_status UseDevice(uint32_t device) {
  thread_local uint32_t current = UINT32_MAX;
  if (current == device) return KVRM_OK;
  KVRM_CUDA_TRY("use the GPU", cudaSetDevice(static_cast<int>(device)));
  current = device;
  return KVRM_OK;
}

Executor::Executor(std::shared_ptr<const Model> model, const kvrm_engine_config& config)
    : model_(std::move(model)),
      weights_(WeightsOf(*model_)),
      config_(config),
      at_(LayOutRecords(config, model_->config.vocab)) {}

Executor::~Executor() {
  if (!stream_) return;
  cudaStreamSynchronize(stream_);
  graphs_.clear();
  cudaStreamDestroy(stream_);
}

kvrm_status Executor::Create(std::shared_ptr<const Model> model, const kvrm_engine_config& config,
                             std::unique_ptr<Executor>* out) {
  std::unique_ptr<Executor> executor(new Executor(std::move(model), config));
  KVRM_TRY(executor->Prepare());
  *out = std::move(executor);
  return KVRM_OK;
}

kvrm_status Executor::CheckMemory() const {
  size_t free = 0, total = 0;
  KVRM_CUDA_TRY("create engine", cudaMemGetInfo(&free, &total));
  const uint64_t needed = plan_.arena_bytes + plan_.pool_bytes;
  if (needed <= free) return KVRM_OK;
  return Fail(KVRM_OUT_OF_MEMORY,
              "create engine: %.1f MiB needed on the GPU (%u KV blocks of %.3f MiB, %.1f MiB of activations), wanted "
              "at most the %.1f MiB free of %.1f MiB; lower --kv-memory, or --slots, --max-context or --prefill-chunk",
              double(needed) / kMiB, config_.num_blocks, double(plan_.block_bytes) / kMiB,
              double(plan_.arena_bytes) / kMiB, double(free) / kMiB, double(total) / kMiB);
}

kvrm_status Executor::Prepare() {
  int device = 0, sms = 0, major = 0;
  KVRM_CUDA_TRY("create engine", cudaGetDevice(&device));
  KVRM_CUDA_TRY("create engine", cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device));
  KVRM_CUDA_TRY("create engine", cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  sms_ = static_cast<uint32_t>(sms);
  dependent_launch_ = major >= 9;
  plan_ = MakePlan({model_->config, config_, ElementBytes(weights_.act_dtype), sms_});
  KVRM_TRY(CheckMemory());
  KVRM_TRY(DeviceMemory::Allocate(plan_.arena_bytes, "activations", &arena_));
  KVRM_TRY(DeviceMemory::Allocate(plan_.pool_bytes, "the KV pool", &pool_));
  KVRM_CUDA_TRY("create engine", cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  // Counters and token states start at zero, and so does every sum that is left zero by who used it; the pool,
  // which can be exported, must not show what another process left there.
  KVRM_CUDA_TRY("create engine", cudaMemsetAsync(arena_.As<uint8_t>(), 0, arena_.bytes(), stream_));
  KVRM_CUDA_TRY("create engine", cudaMemsetAsync(pool_.As<uint8_t>(), 0, pool_.bytes(), stream_));

  graphs_.resize(2 * (1 + config_.num_chunks));
  for (uint32_t shape = 0; shape <= config_.num_chunks; ++shape) KVRM_TRY(CaptureShape(shape, false));
  KVRM_CUDA_TRY("create engine", cudaStreamSynchronize(stream_));
  return KVRM_OK;
}

kvrm_status Executor::CaptureShape(uint32_t shape, bool scored) {
  Graph& graph = graphs_[2 * shape + scored];
  KVRM_TRY(Graph::Capture(
      stream_,
      [&](cudaStream_t stream) {
        EnqueueStep({stream, sms_, dependent_launch_}, shape, scored);
      },
      &graph));
  ++captures_;
  KVRM_CUDA_TRY("upload a step's graph", graph.Upload(stream_));
  return KVRM_OK;
}

StepView Executor::ViewFor(uint32_t shape) const {
  const kvrm_model_config& m = model_->config;
  const uint32_t chunk = shape == 0 ? 0 : Chunks(config_)[shape - 1];
  const uint8_t* descriptor = At<uint8_t>(kDescriptor);
  uint8_t* result = At<uint8_t>(kResult);
  const bool edited = config_.max_edits != 0;
  StepView v = {};
  v.slots = config_.slots;
  v.max_rows = config_.slots + chunk;
  v.max_chunk = chunk;
  v.block_tokens = config_.block_tokens;
  v.layers = m.layers;
  v.heads = m.heads;
  v.kv_heads = m.kv_heads;
  v.head_dim = m.head_dim;
  v.vocab = m.vocab;
  v.hidden = m.hidden;
  v.split_tokens = plan_.split_tokens;
  v.max_splits = plan_.max_splits;
  v.max_units = plan_.max_units;
  v.mask_words = (m.vocab + 31) / 32;
  v.header = reinterpret_cast<const kvrm_header*>(descriptor);
  v.slot = reinterpret_cast<const kvrm_slot*>(descriptor + at_.slots);
  v.segments = reinterpret_cast<const kvrm_segment*>(descriptor + at_.segments);
  v.tokens = reinterpret_cast<const int32_t*>(descriptor + at_.tokens);
  v.targets = reinterpret_cast<const int32_t*>(descriptor + at_.targets);
  v.groups = reinterpret_cast<const kvrm_group*>(descriptor + at_.groups);
  v.moves = reinterpret_cast<const kvrm_move*>(descriptor + at_.moves);
  v.edits = reinterpret_cast<const kvrm_edit*>(descriptor + at_.edits);
  v.masks = reinterpret_cast<const uint32_t*>(descriptor + at_.masks);
  v.counts = At<StepCounts>(kCounts);
  v.rows = At<Row>(kRows);
  v.units = At<AttentionUnit>(kUnits);
  v.samples = At<HeadRow>(kSamples);
  v.prompt_rows = At<HeadRow>(kPromptRows);
  v.last_token = At<int32_t>(kLastToken);
  v.token_counts = edited ? At<uint16_t>(kTokenCounts) : nullptr;
  v.bias_count = edited ? At<uint32_t>(kBiasCount) : nullptr;
  v.bias_token = At<int32_t>(kBiasToken);
  v.bias_value = At<float>(kBiasValue);
  v.pool = pool();
  v.block_bytes = plan_.block_bytes;
  v.kv_dtype = config_.kv_dtype;
  v.slot_results = reinterpret_cast<kvrm_slot_result*>(result + at_.result_slots);
  v.slot_tops = reinterpret_cast<kvrm_top*>(result + at_.result_slot_tops);
  v.row_results = reinterpret_cast<kvrm_row_result*>(result + at_.result_rows);
  v.row_tops = reinterpret_cast<kvrm_top*>(result + at_.result_row_tops);
  v.result_header = reinterpret_cast<kvrm_result_header*>(result);
  return v;
}

void Executor::EnqueueStep(const LaunchContext& context, uint32_t shape, bool scored) const {
  const StepView step = ViewFor(shape);
  if (config_.max_moves != 0) LaunchMoves(context, step, config_.max_moves);
  if (config_.max_edits != 0) LaunchEdits(context, step);
  LaunchBuildStep(context, step, At<uint32_t>(kWork));
  LaunchEmbed(context, step, weights_.embed, weights_.inv_freq, At<float>(kHidden), At<float>(kCos), At<float>(kSin));
  for (uint32_t layer = 0; layer < model_->config.layers; ++layer) EnqueueLayer(context, step, layer);
  EnqueueHead(context, step, scored);
}

// Seven kernels.
void Executor::EnqueueLayer(const LaunchContext& context, const StepView& step, uint32_t layer) const {
  const DeviceModel::Layer& w = weights_.layers[layer];
  const float eps = model_->config.rms_eps;
  const uint32_t act = weights_.act_dtype;
  const uint32_t* rows = &step.counts->rows;
  void* workspace = At<void>(kGemmWorkspace);
  const GemmInput normed = {At<void>(kNormed), act, rows, step.max_rows, workspace};
  const GemmInput attended = {At<void>(kAttended), act, rows, step.max_rows, workspace};
  const GemmInput feed_forward = {At<void>(kFeedForward), act, rows, step.max_rows, workspace};

  LaunchRmsNorm(context, step, At<float>(kHidden), w.attn_norm, eps, act, At<void>(kNormed));
  QkvEpilogue qkv = {};
  qkv.bias = w.qkv_bias;
  qkv.q_norm = w.q_norm;
  qkv.k_norm = w.k_norm;
  qkv.eps = eps;
  qkv.cos_table = At<float>(kCos);
  qkv.sin_table = At<float>(kSin);
  qkv.q = At<float>(kQuery);
  qkv.layer = layer;
  LaunchQkv(context, step, w.qkv, normed, qkv);

  AttentionArgs attention = {};
  attention.q = At<float>(kQuery);
  attention.out = At<void>(kAttended);
  attention.out_dtype = act;
  attention.layer = layer;
  attention.window = model_->layers[layer].window;
  attention.scale = model_->config.attention_scale;
  attention.partial_acc = At<float>(kPartialAcc);
  attention.partial_stat = At<float>(kPartialStat);
  attention.arrivals = At<uint32_t>(kArrivals);
  attention.work = At<uint32_t>(kWork) + layer;
  LaunchAttention(context, step, attention);

  LaunchResidual(context, w.o, attended, w.o_bias, At<float>(kHidden));
  LaunchRmsNorm(context, step, At<float>(kHidden), w.ffn_norm, eps, act, At<void>(kNormed));
  LaunchGateUp(context, w.gate_up, normed, model_->config.intermediate, At<void>(kFeedForward));
  LaunchResidual(context, w.down, feed_forward, nullptr, At<float>(kHidden));
}

void Executor::EnqueueHead(const LaunchContext& context, const StepView& step, bool scored) const {
  const float eps = model_->config.rms_eps;
  const uint32_t act = weights_.act_dtype;
  const auto product = [&](const HeadRow* list, const uint32_t* count, uint32_t first, uint32_t max) {
    LaunchGatherNorm(context, step, list, count, first, max, At<float>(kHidden), weights_.final_norm, eps, act,
                     At<void>(kHeadIn));
    const GemmInput in = {At<void>(kHeadIn), act, count, max, At<void>(kGemmWorkspace), first};
    LaunchLogits(context, weights_.head, in, At<float>(kLogits));
  };
  // Samples last: their logits are what kvrm_read_logits reads.
  for (uint32_t first = 0; scored && first < step.max_chunk; first += plan_.logit_rows) {
    const uint32_t max = std::min(plan_.logit_rows, step.max_chunk - first);
    product(step.prompt_rows, &step.counts->prompt_rows, first, max);
    LaunchPromptLogprobs(context, step, At<float>(kLogits), first, max, At<void>(kSampleScratch));
  }
  product(step.samples, &step.counts->samples, 0, config_.slots);
  LaunchSample(context, step, At<float>(kLogits), At<void>(kSampleScratch));
}

kvrm_status Executor::Launch(const uint8_t* descriptor, bool scored, uint8_t* result) {
  const auto& header = *reinterpret_cast<const kvrm_header*>(descriptor);
  const Graph& graph = graphs_[2 * header.shape + scored];
  if (!graph) KVRM_TRY(CaptureShape(header.shape, scored));
  uint8_t* to = At<uint8_t>(kDescriptor);
  // Without the masks the record is small, and one copy of all of it costs less than several.
  KVRM_CUDA_TRY("commit", cudaMemcpyAsync(to, descriptor, at_.masks, cudaMemcpyHostToDevice, stream_));
  if (header.num_masks != 0) {
    const uint64_t bytes = header.num_masks * at_.mask_words * sizeof(uint32_t);
    KVRM_CUDA_TRY("commit",
                  cudaMemcpyAsync(to + at_.masks, descriptor + at_.masks, bytes, cudaMemcpyHostToDevice, stream_));
  }
  KVRM_CUDA_TRY("commit", graph.Launch(stream_));
  const uint64_t bytes = scored ? at_.result_bytes : at_.result_rows;
  KVRM_CUDA_TRY("commit", cudaMemcpyAsync(result, At<uint8_t>(kResult), bytes, cudaMemcpyDeviceToHost, stream_));
  return KVRM_OK;
}

}  // namespace kvrm::cuda
