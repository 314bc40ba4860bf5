// abi.cc - the functions of kvrm.h: arguments into objects, exceptions into codes. The backend is behind
// backend.h.

#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "../kvrm.h"
#include "backend.h"
#include "engine_config.h"
#include "handle_table.h"
#include "layout_text.h"
#include "progress.h"
#include "status.h"

namespace kvrm {
namespace {

// Never destroyed: engines may still run while the process exits.
HandleTable<Model>& Models() {
  static auto& table = *new HandleTable<Model>(0);
  return table;
}
HandleTable<Engine>& Engines() {
  static auto& table = *new HandleTable<Engine>(1);
  return table;
}

// Nothing that the standard library throws gets across the boundary.
template <typename Body>
int32_t Guarded(const char* action, const Body& body) noexcept {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return Fail(KVRM_OUT_OF_MEMORY, "%s: the system has no more memory", action);
  } catch (const std::exception& e) {
    return Fail(KVRM_INTERNAL, "%s: %s", action, e.what());
  } catch (...) {
    return Fail(KVRM_INTERNAL, "%s: an unknown exception", action);
  }
}

kvrm_status NoSuch(const char* action, const char* what, uint32_t handle) {
  return Fail(KVRM_INVALID_ARGUMENT, "%s: handle %u is no %s, wanted one that was created and not freed", action,
              handle, what);
}

kvrm_status NoBuffer(const char* action, const char* name) {
  return Fail(KVRM_INVALID_ARGUMENT, "%s: %s is null, wanted a buffer", action, name);
}

// Finds the engine and calls body(engine).
template <typename Body>
int32_t WithEngine(const char* action, uint32_t handle, const Body& body) noexcept {
  return Guarded(action, [&]() -> kvrm_status {
    const std::shared_ptr<Engine> engine = Engines().Get(handle);
    return engine ? body(*engine) : NoSuch(action, "engine", handle);
  });
}

// Copies a record out of a buffer of any alignment.
template <typename Record>
Record ReadRecord(const uint8_t* bytes) {
  Record record;
  std::memcpy(&record, bytes, sizeof(record));
  return record;
}

// Writes text if it fits; returns its length.
uint32_t WriteText(const char* text, size_t length, uint8_t* out, uint32_t capacity, bool cut) {
  if (length > capacity && cut) length = capacity;
  if (length <= capacity && out) std::memcpy(out, text, length);
  return static_cast<uint32_t>(length);
}

kvrm_status SplitPaths(const uint8_t* bytes, uint32_t count, std::vector<std::string>* out) {
  for (uint32_t at = 0; at < count;) {
    const void* end = std::memchr(bytes + at, 0, count - at);
    if (!end) return Fail(KVRM_INVALID_ARGUMENT, "load model: the last path has no NUL at its end");
    out->emplace_back(reinterpret_cast<const char*>(bytes + at));
    at = static_cast<uint32_t>(static_cast<const uint8_t*>(end) - bytes) + 1;
  }
  return KVRM_OK;
}

// Says that no load runs once the last one has ended.
struct ProgressReset {
  ~ProgressReset() {
    load_progress.all = 0;
    load_progress.done = 0;
  }
};

}  // namespace
}  // namespace kvrm

using namespace kvrm;  // NOLINT: this file is the library's face

uint32_t kvrm_abi_version(void) { return KVRM_ABI_VERSION; }

uint32_t kvrm_backend(uint8_t* out, uint32_t capacity) {
  return WriteText(BackendText(), std::strlen(BackendText()), out, capacity, true);
}

uint32_t kvrm_last_error(uint8_t* out, uint32_t capacity) {
  return WriteText(LastError(), std::strlen(LastError()), out, capacity, true);
}

uint32_t kvrm_layout(uint8_t* out, uint32_t capacity) {
  const std::string& text = LayoutText();
  return WriteText(text.data(), text.size(), out, capacity, false);
}

int32_t kvrm_model_load(const uint8_t* config, const uint8_t* tensors, uint32_t num_tensors, const uint8_t* paths,
                        uint32_t paths_bytes, const float* inv_freq, const uint32_t* layer_windows, uint32_t* model) {
  return Guarded("load model", [&]() -> kvrm_status {
    if (!config) return NoBuffer("load model", "config");
    if (!tensors && num_tensors != 0) return NoBuffer("load model", "tensors");
    if (!paths && paths_bytes != 0) return NoBuffer("load model", "paths");
    if (!inv_freq) return NoBuffer("load model", "inv_freq");
    if (!layer_windows) return NoBuffer("load model", "layer_windows");
    if (!model) return NoBuffer("load model", "model");
    std::vector<kvrm_tensor> table(num_tensors);
    if (num_tensors != 0) std::memcpy(table.data(), tensors, num_tensors * sizeof(kvrm_tensor));
    std::vector<std::string> files;
    KVRM_TRY(SplitPaths(paths, paths_bytes, &files));
    const ProgressReset reset;
    std::shared_ptr<Model> loaded;
    KVRM_TRY(LoadModel(ReadRecord<kvrm_model_config>(config), table, files, inv_freq, layer_windows, &loaded));
    const uint32_t handle = Models().Add(std::move(loaded));
    if (handle == 0) return Fail(KVRM_OUT_OF_MEMORY, "load model: 255 models are loaded, wanted fewer");
    *model = handle;
    return KVRM_OK;
  });
}

int32_t kvrm_load_progress(double* out) {
  if (!out) return NoBuffer("read load progress", "out");
  out[0] = static_cast<double>(load_progress.done.load());
  out[1] = static_cast<double>(load_progress.all.load());
  return KVRM_OK;
}

int32_t kvrm_memory(uint32_t model, double* out) {
  return Guarded("read memory", [&]() -> kvrm_status {
    if (!out) return NoBuffer("read memory", "out");
    const std::shared_ptr<Model> loaded = Models().Get(model);
    return loaded ? ReadMemory(*loaded, out) : NoSuch("read memory", "model", model);
  });
}

int32_t kvrm_model_free(uint32_t model) {
  return Guarded("free model", [&]() -> kvrm_status {
    long users = 0;
    bool found = false;
    // The table holds one reference; every engine holds more.
    const auto removed = Models().RemoveIf(model, [&](const std::shared_ptr<Model>& m) {
      found = true;
      users = m.use_count() - 1;
      return users == 0;
    });
    if (!found) return NoSuch("free model", "model", model);
    if (!removed) return Fail(KVRM_BUSY, "free model: an engine uses it, wanted none");
    return KVRM_OK;
  });
}

int32_t kvrm_engine_create(uint32_t model, const uint8_t* config, uint8_t* info, uint32_t* engine) {
  return Guarded("create engine", [&]() -> kvrm_status {
    if (!config) return NoBuffer("create engine", "config");
    if (!info) return NoBuffer("create engine", "info");
    if (!engine) return NoBuffer("create engine", "engine");
    std::shared_ptr<Model> loaded = Models().Get(model);
    if (!loaded) return NoSuch("create engine", "model", model);
    const auto wanted = ReadRecord<kvrm_engine_config>(config);
    KVRM_TRY(CheckEngineConfig(*loaded, wanted));
    kvrm_engine_info decided = {};
    std::shared_ptr<Engine> created;
    KVRM_TRY(CreateEngine(std::move(loaded), wanted, &decided, &created));
    const uint32_t handle = Engines().Add(std::move(created));
    if (handle == 0) return Fail(KVRM_OUT_OF_MEMORY, "create engine: 255 engines exist, wanted fewer");
    std::memcpy(info, &decided, sizeof(decided));
    *engine = handle;
    return KVRM_OK;
  });
}

int32_t kvrm_engine_destroy(uint32_t engine) {
  return Guarded("destroy engine", [&]() -> kvrm_status {
    const auto removed = Engines().RemoveIf(engine, [](const std::shared_ptr<Engine>&) { return true; });
    return removed ? KVRM_OK : NoSuch("destroy engine", "engine", engine);
  });
}

int32_t kvrm_commit(uint32_t engine, const uint8_t* descriptor, uint32_t bytes) {
  return WithEngine("commit", engine, [&](Engine& e) {
    return descriptor ? e.Commit(descriptor, bytes) : NoBuffer("commit", "descriptor");
  });
}

int32_t kvrm_wait(uint32_t engine, uint32_t timeout_us, uint8_t* result, uint32_t bytes) {
  return WithEngine("wait", engine,
                    [&](Engine& e) { return result ? e.Wait(timeout_us, result, bytes) : NoBuffer("wait", "result"); });
}

int32_t kvrm_export_blocks(uint32_t engine, uint32_t first, uint32_t count, uint8_t* out, uint32_t bytes) {
  return WithEngine("export blocks", engine, [&](Engine& e) {
    return out || bytes == 0 ? e.ExportBlocks(first, count, out, bytes) : NoBuffer("export blocks", "out");
  });
}

int32_t kvrm_import_blocks(uint32_t engine, uint32_t first, uint32_t count, const uint8_t* in, uint32_t bytes) {
  return WithEngine("import blocks", engine, [&](Engine& e) {
    return in || bytes == 0 ? e.ImportBlocks(first, count, in, bytes) : NoBuffer("import blocks", "in");
  });
}

int32_t kvrm_read_logits(uint32_t engine, uint32_t slot, float* out, uint32_t count) {
  return WithEngine("read logits", engine,
                    [&](Engine& e) { return out ? e.ReadLogits(slot, out, count) : NoBuffer("read logits", "out"); });
}

int32_t kvrm_counters(uint32_t engine, double* out, uint32_t count) {
  return WithEngine("read counters", engine, [&](Engine& e) {
    if (!out && count != 0) return NoBuffer("read counters", "out");
    return e.ReadCounters(out, count);
  });
}

int32_t kvrm_measure_bandwidth(uint32_t threads, uint32_t mib, uint32_t repeat, double* gb_per_s) {
  return Guarded("measure bandwidth", [&]() -> kvrm_status {
    if (!gb_per_s) return NoBuffer("measure bandwidth", "gb_per_s");
    if (threads > 1024 || mib == 0 || mib > (1u << 16) || repeat == 0 || repeat > 10000) {
      return Fail(KVRM_INVALID_ARGUMENT,
                  "measure bandwidth: %u threads, %u MiB, %u times, wanted at most 1,024, 1 to 65,536, 1 to 10,000",
                  threads, mib, repeat);
    }
    return MeasureBandwidth(threads, mib, repeat, gb_per_s);
  });
}
