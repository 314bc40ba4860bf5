// engine_config.h - what any engine may be asked for. A backend has further limits of its own.
#ifndef KVRM_COMMON_ENGINE_CONFIG_H_
#define KVRM_COMMON_ENGINE_CONFIG_H_

#include <cstdint>

#include "model.h"
#include "status.h"

namespace kvrm {

// Refuses a configuration that is out of range, or whose records or blocks are too large.
kvrm_status CheckEngineConfig(const Model& model, const kvrm_engine_config& config);

// Bytes of one block, all layers.
uint64_t BlockBytes(const kvrm_model_config& model, const kvrm_engine_config& config);

}  // namespace kvrm
#endif  // KVRM_COMMON_ENGINE_CONFIG_H_
