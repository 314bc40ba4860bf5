#include "engine_config.h"

#include <algorithm>

#include "layout.h"

namespace kvrm {
namespace {

constexpr uint32_t kMaxSlots = 4096;
constexpr uint32_t kMaxBlocks = 1u << 24;
constexpr uint32_t kMaxChunk = 1u << 16;
constexpr uint32_t kMaxThreads = 1024;
constexpr uint32_t kMaxContext = 1u << 24;  // keeps counts of partial results within 32 bits

kvrm_status Range(const char* field, uint32_t found, uint32_t low, uint32_t high, const char* why = nullptr) {
  if (low <= found && found <= high) return KVRM_OK;
  return Fail(KVRM_INVALID_ARGUMENT, "create engine: %s is %u, wanted %u to %u%s%s%s", field, found, low, high,
              why ? " (" : "", why ? why : "", why ? ")" : "");
}

kvrm_status CheckChunks(const kvrm_engine_config& config) {
  KVRM_TRY(Range("num_chunks", config.num_chunks, 0, KVRM_MAX_SHAPES - 1));
  uint32_t before = 0;
  for (uint32_t i = 0; i < config.num_chunks; ++i) {
    const uint32_t chunk = Chunks(config)[i];
    if (chunk <= before || chunk > kMaxChunk) {
      return Fail(KVRM_INVALID_ARGUMENT, "create engine: chunk%u is %u, wanted %u to %u (ascending)", i, chunk,
                  before + 1, kMaxChunk);
    }
    before = chunk;
  }
  return KVRM_OK;
}

kvrm_status CheckSizes(const Model& model, const kvrm_engine_config& config) {
  const double mib = 1 << 20;
  const uint64_t block_bytes = BlockBytes(model.config, config);
  if (block_bytes > UINT32_MAX) {
    return Fail(KVRM_INVALID_ARGUMENT, "create engine: a block has %.1f MiB, wanted less than 4,096",
                double(block_bytes) / mib);
  }
  const RecordLayout at = LayOutRecords(config, model.config.vocab);
  if (at.descriptor_bytes > KVRM_MAX_DESCRIPTOR_BYTES || at.result_bytes > UINT32_MAX) {
    return Fail(KVRM_INVALID_ARGUMENT,
                "create engine: the descriptor has %.1f MiB, wanted at most %.1f (slots, groups, moves, edits, masks, "
                "chunks)",
                double(at.descriptor_bytes) / mib, KVRM_MAX_DESCRIPTOR_BYTES / mib);
  }
  return KVRM_OK;
}

kvrm_status CheckFarHistory(const Model& model, const kvrm_engine_config& config) {
  KVRM_TRY(Range("max_summaries", config.max_summaries, 0, KVRM_MAX_DESCRIPTOR_BYTES / sizeof(kvrm_summary)));
  KVRM_TRY(Range("far_rows", config.far_rows, 0, config.max_summaries == 0 ? 0 : KVRM_MAX_FAR_ROWS,
                 "0 without max_summaries"));
  if (config.max_summaries == 0) return KVRM_OK;
  // The second-order term of a score and its bound are those of a positive scale.
  if (!(model.config.attention_scale > 0)) {
    return Fail(KVRM_UNSUPPORTED, "create engine: attention_scale is %g, wanted more than 0 with max_summaries",
                double(model.config.attention_scale));
  }
  for (size_t layer = 0; layer < model.layers.size(); ++layer) {
    if (model.layers[layer].window != 0) {
      return Fail(
          KVRM_UNSUPPORTED,
          "create engine: layer %zu has a sliding window of %u tokens, wanted full attention with max_summaries", layer,
          model.layers[layer].window);
    }
  }
  return KVRM_OK;
}

}  // namespace

uint64_t BlockBytes(const kvrm_model_config& model, const kvrm_engine_config& config) {
  return uint64_t{model.layers} * 2 * model.kv_heads * config.block_tokens * RowBytes(config.kv_dtype, model.head_dim);
}

kvrm_status CheckEngineConfig(const Model& model, const kvrm_engine_config& config) {
  KVRM_TRY(Range("abi_version", config.abi_version, KVRM_ABI_VERSION, KVRM_ABI_VERSION));
  KVRM_TRY(Range("flags", config.flags, 0, KVRM_ENGINE_NOOP));
  KVRM_TRY(Range("slots", config.slots, 1, kMaxSlots));
  if (config.block_tokens != 16 && config.block_tokens != 32 && config.block_tokens != 64) {
    return Fail(KVRM_INVALID_ARGUMENT, "create engine: block_tokens is %u, wanted 16, 32 or 64", config.block_tokens);
  }
  KVRM_TRY(Range("num_blocks", config.num_blocks, 1, kMaxBlocks));
  KVRM_TRY(Range("max_context", config.max_context, 1, std::min(kMaxContext, model.config.max_position),
                 "the model's max_position"));
  KVRM_TRY(Range("max_groups", config.max_groups, 1, KVRM_MAX_DESCRIPTOR_BYTES / sizeof(kvrm_group)));
  KVRM_TRY(Range("max_moves", config.max_moves, 0, KVRM_MAX_DESCRIPTOR_BYTES / sizeof(kvrm_move)));
  KVRM_TRY(Range("max_edits", config.max_edits, 0, KVRM_MAX_DESCRIPTOR_BYTES / sizeof(kvrm_edit)));
  KVRM_TRY(Range("mask_rows", config.mask_rows, 0, config.slots, "slots"));
  KVRM_TRY(Range("host_blocks", config.host_blocks, 0, kMaxBlocks));
  KVRM_TRY(Range("kv_dtype", config.kv_dtype, KVRM_F32, KVRM_Q8_0));
  if (config.kv_dtype == KVRM_Q8_0 && model.config.head_dim % 32 != 0) {
    return Fail(KVRM_INVALID_ARGUMENT,
                "create engine: kv_dtype is %u (Q8_0) and the model's head_dim %u, wanted a multiple of 32",
                config.kv_dtype, model.config.head_dim);
  }
  KVRM_TRY(Range("threads", config.threads, 0, kMaxThreads));
  KVRM_TRY(CheckChunks(config));
  KVRM_TRY(Range("max_segments", config.max_segments, config.num_chunks == 0 ? 0 : 1, config.slots, "slots"));
  KVRM_TRY(CheckFarHistory(model, config));
  if (config.flags & KVRM_ENGINE_NOOP) KVRM_TRY(Range("the model's vocab", model.config.vocab, 4, UINT32_MAX));
  return CheckSizes(model, config);
}

}  // namespace kvrm
