#include "layout_text.h"

#include "../kvrm.h"

namespace kvrm {
namespace {

#define KVRM_RECORDS(R)                       \
  R(model_config, KVRM_MODEL_CONFIG_FIELDS)   \
  R(tensor, KVRM_TENSOR_FIELDS)               \
  R(engine_config, KVRM_ENGINE_CONFIG_FIELDS) \
  R(engine_info, KVRM_ENGINE_INFO_FIELDS)     \
  R(header, KVRM_HEADER_FIELDS)               \
  R(slot, KVRM_SLOT_FIELDS)                   \
  R(segment, KVRM_SEGMENT_FIELDS)             \
  R(group, KVRM_GROUP_FIELDS)                 \
  R(move, KVRM_MOVE_FIELDS)                   \
  R(edit, KVRM_EDIT_FIELDS)                   \
  R(summary, KVRM_SUMMARY_FIELDS)             \
  R(result_header, KVRM_RESULT_HEADER_FIELDS) \
  R(slot_result, KVRM_SLOT_RESULT_FIELDS)     \
  R(row_result, KVRM_ROW_RESULT_FIELDS)       \
  R(top, KVRM_TOP_FIELDS)

struct Constant {
  const char* name;
  uint32_t value;
};

#define KVRM_C(name) \
  { #name, name }
constexpr Constant kConstants[] = {
    KVRM_C(KVRM_ABI_VERSION),
    KVRM_C(KVRM_DESCRIPTOR_MAGIC),
    KVRM_C(KVRM_RESULT_MAGIC),
    KVRM_C(KVRM_MAX_IN_FLIGHT),
    KVRM_C(KVRM_MAX_SHAPES),
    KVRM_C(KVRM_MAX_TOP_LOGPROBS),
    KVRM_C(KVRM_MAX_BIASES),
    KVRM_C(KVRM_MAX_COUNT),
    KVRM_C(KVRM_MAX_FAR_ROWS),
    KVRM_C(KVRM_MAX_DESCRIPTOR_BYTES),
    KVRM_C(KVRM_SECTION_ALIGN),
    KVRM_C(KVRM_OK),
    KVRM_C(KVRM_INVALID_ARGUMENT),
    KVRM_C(KVRM_INVALID_DESCRIPTOR),
    KVRM_C(KVRM_INVALID_MODEL),
    KVRM_C(KVRM_IO),
    KVRM_C(KVRM_UNSUPPORTED),
    KVRM_C(KVRM_OUT_OF_MEMORY),
    KVRM_C(KVRM_TIMEOUT),
    KVRM_C(KVRM_BUSY),
    KVRM_C(KVRM_EMPTY),
    KVRM_C(KVRM_DEVICE_LOST),
    KVRM_C(KVRM_INTERNAL),
    KVRM_C(KVRM_F32),
    KVRM_C(KVRM_F16),
    KVRM_C(KVRM_BF16),
    KVRM_C(KVRM_F8_E4M3),
    KVRM_C(KVRM_Q8_0),
    KVRM_C(KVRM_Q4_0),
    KVRM_C(KVRM_Q4_K),
    KVRM_C(KVRM_Q5_K),
    KVRM_C(KVRM_Q6_K),
    KVRM_C(KVRM_QUANTIZE_NONE),
    KVRM_C(KVRM_QUANTIZE_FP8),
    KVRM_C(KVRM_QUANTIZE_INT8),
    KVRM_C(KVRM_QUANTIZE_INT4),
    KVRM_C(KVRM_QUANTIZE_BF16),
    KVRM_C(KVRM_EMBED),
    KVRM_C(KVRM_FINAL_NORM),
    KVRM_C(KVRM_LM_HEAD),
    KVRM_C(KVRM_ATTN_NORM),
    KVRM_C(KVRM_Q),
    KVRM_C(KVRM_K),
    KVRM_C(KVRM_V),
    KVRM_C(KVRM_O),
    KVRM_C(KVRM_Q_BIAS),
    KVRM_C(KVRM_K_BIAS),
    KVRM_C(KVRM_V_BIAS),
    KVRM_C(KVRM_O_BIAS),
    KVRM_C(KVRM_Q_NORM),
    KVRM_C(KVRM_K_NORM),
    KVRM_C(KVRM_FFN_NORM),
    KVRM_C(KVRM_GATE),
    KVRM_C(KVRM_UP),
    KVRM_C(KVRM_DOWN),
    KVRM_C(KVRM_ROLE_COUNT),
    KVRM_C(KVRM_NO_FILE),
    KVRM_C(KVRM_ENGINE_NOOP),
    KVRM_C(KVRM_SLOT_DECODE),
    KVRM_C(KVRM_SLOT_PREFILL),
    KVRM_C(KVRM_SLOT_TOKEN_LAST),
    KVRM_C(KVRM_SLOT_SAMPLE),
    KVRM_C(KVRM_SLOT_ADJUST),
    KVRM_C(KVRM_SEGMENT_PROMPT_LOGPROBS),
    KVRM_C(KVRM_GROUP_EXACT),
    KVRM_C(KVRM_GROUP_FAR),
    KVRM_C(KVRM_TIER_POOL),
    KVRM_C(KVRM_TIER_HOST),
    KVRM_C(KVRM_EDIT_CLEAR),
    KVRM_C(KVRM_EDIT_PROMPT),
    KVRM_C(KVRM_EDIT_COUNT),
    KVRM_C(KVRM_EDIT_BIAS),
    KVRM_C(KVRM_SUMMARY_CLEAR),
    KVRM_C(KVRM_SUMMARY_BLOCK),
    KVRM_C(KVRM_SUMMARY_MERGE),
    KVRM_C(KVRM_RESULT_SAMPLED),
    KVRM_C(KVRM_COUNT_STEPS),
    KVRM_C(KVRM_COUNT_ROWS),
    KVRM_C(KVRM_COUNT_MOVED_BLOCKS),
    KVRM_C(KVRM_COUNT_BUSY_US),
    KVRM_C(KVRM_COUNT_SHAPES_PREPARED),
    KVRM_C(KVRM_COUNT_GROUPS),
    KVRM_C(KVRM_COUNT_HOST_BLOCKS),
    KVRM_C(KVRM_COUNT_SUMMARIES),
    KVRM_C(KVRM_COUNTER_COUNT),
};
#undef KVRM_C

std::string Build() {
  std::string text;
  auto line = [&text](std::string words) { text += words + "\n"; };
#define KVRM_FIELD_LINE(type, name) line(record + "." #name " " + std::to_string(offset) + " " #type), offset += 4;
#define KVRM_RECORD_LINES(record_name, fields)                                \
  {                                                                           \
    const std::string record = #record_name;                                  \
    size_t offset = 0;                                                        \
    fields(KVRM_FIELD_LINE) line(record + " size " + std::to_string(offset)); \
  }
#define KVRM_RECORD_SIZE(record_name, fields) \
  static_assert(sizeof(kvrm_##record_name) == 4 * (0 fields(KVRM_ONE)), "a record has no padding");
#define KVRM_ONE(type, name) +1
  KVRM_RECORDS(KVRM_RECORD_SIZE)
  KVRM_RECORDS(KVRM_RECORD_LINES)
  for (const Constant& c : kConstants) line(std::string(c.name) + " = " + std::to_string(c.value));
  return text;
}

}  // namespace

const std::string& LayoutText() {
  static const std::string& text = *new std::string(Build());  // leaked: outlives every caller
  return text;
}

}  // namespace kvrm
