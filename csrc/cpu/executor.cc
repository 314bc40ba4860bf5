#include "executor.h"

#include <algorithm>
#include <cstring>

#include "../common/engine_config.h"
#include "head_stage.h"
#include "layer_stages.h"

namespace kvrm::cpu {

Executor::Executor(std::shared_ptr<const Model> model, const kvrm_engine_config& config, uint32_t threads)
    : model_(std::move(model)), config_(config), last_token_(config.slots), threads_(threads) {}

kvrm_status Executor::Create(std::shared_ptr<const Model> model, const kvrm_engine_config& config, uint32_t threads,
                             std::unique_ptr<Executor>* out) {
  std::unique_ptr<Executor> e(new Executor(std::move(model), config, threads));
  const kvrm_model_config& m = e->model_->config;
  e->block_bytes_ = BlockBytes(m, config);
  size_t arena = 0;
  for (uint32_t shape = 0; shape <= config.num_chunks; ++shape) {
    e->plans_.push_back(MakePlan(*e->model_, config, shape == 0 ? 0 : Chunks(config)[shape - 1], threads));
    e->batch_.Reserve(e->plans_.back(), config.slots, m.heads / m.kv_heads);
    arena = std::max(arena, e->plans_.back().arena_bytes);
  }
  e->attention_.Reserve(e->plans_, m.kv_heads, m.heads / m.kv_heads);
  KVRM_TRY(Mapping::Reserve(arena, "the arena", &e->arena_));
  KVRM_TRY(Mapping::Reserve(config.num_blocks * e->block_bytes_, "the KV pool", &e->pool_));
  if (config.host_blocks != 0) {
    KVRM_TRY(Mapping::Reserve(config.host_blocks * e->block_bytes_, "the host tier", &e->host_));
  }
  KVRM_TRY(e->tokens_.Reserve(config, m.vocab));
  KVRM_TRY(e->summaries_.Reserve(m, config));
  *out = std::move(e);
  return KVRM_OK;
}

uint8_t* Executor::TierBlock(uint32_t tier, uint32_t block) {
  return (tier == KVRM_TIER_HOST ? host_ : pool_).data() + block * block_bytes_;
}

// Sources and destinations are disjoint, so the order of the copies does not matter.
void Executor::RunMoves(const DescriptorView& view) {
  for (uint32_t i = 0; i < view.header->num_moves; ++i) {
    const kvrm_move& move = view.moves[i];
    uint8_t* to = TierBlock(move.tiers >> 16, move.to);
    const uint8_t* from = TierBlock(move.tiers & 0xffff, move.from);
    const double ns = double(move.count) * block_bytes_ / 8;
    ForRanges(threads_, ns, move.count, 1, [&](uint32_t begin, uint32_t end, uint32_t) noexcept {
      std::memcpy(to + begin * block_bytes_, from + begin * block_bytes_, (end - begin) * block_bytes_);
    });
  }
}

void Executor::RunOp(const Step& step, const Op& op, const ResultView& result) {
  const LayerWeights& weights = model_->layers[op.layer];
  switch (op.kind) {
    case OpKind::kEmbed:
      return RunEmbed(step);
    case OpKind::kAttnNorm:
      return RunNorm(step, weights[KVRM_ATTN_NORM]);
    case OpKind::kQkv:
      return RunQkv(step, weights);
    case OpKind::kRopeWrite:
      return RunRopeWrite(step, op.layer);
    case OpKind::kAttend:
      return attention_.Run(step, op.layer);
    case OpKind::kAttnOut:
      return RunAttnOut(step, weights);
    case OpKind::kFfnNorm:
      return RunNorm(step, weights[KVRM_FFN_NORM]);
    case OpKind::kGateUp:
      return RunGateUp(step, weights);
    case OpKind::kDown:
      return RunDown(step, weights);
    case OpKind::kHead:
      return RunHead(step, result, last_token_);
  }
}

// Gathers the active rows and clears the part of the result that the step may fill.
void Executor::BuildBatch(const DescriptorView& view, const ResultView& result) {
  const kvrm_header& header = *view.header;
  last_shape_ = header.shape;
  batch_.Build(view, plans_[header.shape], config_.slots, config_.block_tokens,
               model_->config.heads / model_->config.kv_heads, last_token_);
  result.header->moved_blocks = 0;
  for (uint32_t i = 0; i < header.num_moves; ++i) result.header->moved_blocks += view.moves[i].count;
  result.header->rows = static_cast<uint32_t>(batch_.rows.size());
  result.header->num_rows = batch_.prompt_rows.empty() ? 0 : batch_.prompt_rows.back().index + 1;
  std::memset(result.slots, 0, config_.slots * sizeof(kvrm_slot_result));
  std::memset(result.rows, 0, result.header->num_rows * sizeof(kvrm_row_result));
}

void Executor::RunStep(const DescriptorView& view, const ResultView& result) {
  BuildBatch(view, result);
  RunMoves(view);
  tokens_.Edit(view);
  const Plan& plan = plans_[view.header->shape];
  const Step step{*model_, config_, plan, batch_, view, threads_, arena_.data(), pool_.data(), tokens_, summaries_};
  summaries_.Run(step);
  if (batch_.rows.empty()) return;
  for (const Op& op : plan.ops) RunOp(step, op, result);
}

void Executor::RunNoop(const DescriptorView& view, const ResultView& result) {
  BuildBatch(view, result);
  const uint32_t vocab = model_->config.vocab;
  for (const HeadRow& row : batch_.samples) {
    // Never one of the first ids, which often end a text.
    const int32_t token = static_cast<int32_t>(3 + (row.index * 7 + view.slots[row.index].counter) % (vocab - 3));
    result.slots[row.index] = {KVRM_RESULT_SAMPLED, token, 0, 0, 0};
    last_token_[row.index] = token;
  }
  for (const HeadRow& row : batch_.prompt_rows) {
    if (row.target >= 0) result.rows[row.index].flags = KVRM_RESULT_SAMPLED;
  }
}

const float* Executor::Logits(uint32_t slot) const {
  for (size_t i = 0; i < batch_.samples.size(); ++i) {
    if (batch_.samples[i].index != slot) continue;
    const float* logits = reinterpret_cast<const float*>(arena_.data() + plans_[last_shape_].offset[kLogits]);
    return logits + i * model_->config.vocab;
  }
  return nullptr;
}

}  // namespace kvrm::cpu
