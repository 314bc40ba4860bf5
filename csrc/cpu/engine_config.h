// engine_config.h - what an engine may be asked for.
#ifndef KVRM_CPU_ENGINE_CONFIG_H_
#define KVRM_CPU_ENGINE_CONFIG_H_

#include "../common/status.h"
#include "model.h"

namespace kvrm::cpu {

// Refuses a configuration that is out of range or that the machine's memory cannot hold.
kvrm_status CheckEngineConfig(const Model& model, const kvrm_engine_config& config);

}  // namespace kvrm::cpu
#endif  // KVRM_CPU_ENGINE_CONFIG_H_
