/**
 * The functions of `csrc/kvrm.h`, as Deno's FFI wants them described.
 *
 * @module
 */

/** One entry per function; each parameter with its C declaration. */
export const symbols = {
  kvrm_abi_version: { parameters: [], result: "u32" },

  kvrm_backend: {
    parameters: [
      "buffer", // uint8_t* out
      "u32", // uint32_t capacity
    ],
    result: "u32",
  },

  kvrm_last_error: {
    parameters: [
      "buffer", // uint8_t* out
      "u32", // uint32_t capacity
    ],
    result: "u32",
  },

  kvrm_layout: {
    parameters: [
      "buffer", // uint8_t* out
      "u32", // uint32_t capacity
    ],
    result: "u32",
  },

  kvrm_model_load: {
    parameters: [
      "buffer", // const uint8_t* config
      "buffer", // const uint8_t* tensors
      "u32", // uint32_t num_tensors
      "buffer", // const uint8_t* paths
      "u32", // uint32_t paths_bytes
      "buffer", // const float* inv_freq
      "buffer", // const uint32_t* layer_windows
      "buffer", // uint32_t* model
    ],
    result: "i32",
  },

  kvrm_load_progress: {
    parameters: [
      "buffer", // double* out
    ],
    result: "i32",
  },

  kvrm_memory: {
    parameters: [
      "u32", // uint32_t model
      "buffer", // double* out
    ],
    result: "i32",
  },

  kvrm_model_free: {
    parameters: [
      "u32", // uint32_t model
    ],
    result: "i32",
  },

  kvrm_engine_create: {
    parameters: [
      "u32", // uint32_t model
      "buffer", // const uint8_t* config
      "buffer", // uint8_t* info
      "buffer", // uint32_t* engine
    ],
    result: "i32",
  },

  kvrm_engine_destroy: {
    parameters: [
      "u32", // uint32_t engine
    ],
    result: "i32",
  },

  kvrm_commit: {
    parameters: [
      "u32", // uint32_t engine
      "buffer", // const uint8_t* descriptor
      "u32", // uint32_t bytes
    ],
    result: "i32",
  },

  kvrm_wait: {
    parameters: [
      "u32", // uint32_t engine
      "u32", // uint32_t timeout_us
      "buffer", // uint8_t* result
      "u32", // uint32_t bytes
    ],
    result: "i32",
  },

  kvrm_export_blocks: {
    parameters: [
      "u32", // uint32_t engine
      "u32", // uint32_t first
      "u32", // uint32_t count
      "buffer", // uint8_t* out
      "u32", // uint32_t bytes
    ],
    result: "i32",
  },

  kvrm_import_blocks: {
    parameters: [
      "u32", // uint32_t engine
      "u32", // uint32_t first
      "u32", // uint32_t count
      "buffer", // const uint8_t* in
      "u32", // uint32_t bytes
    ],
    result: "i32",
  },

  kvrm_read_logits: {
    parameters: [
      "u32", // uint32_t engine
      "u32", // uint32_t slot
      "buffer", // float* out
      "u32", // uint32_t count
    ],
    result: "i32",
  },

  kvrm_counters: {
    parameters: [
      "u32", // uint32_t engine
      "buffer", // double* out
      "u32", // uint32_t count
    ],
    result: "i32",
  },

  kvrm_measure_bandwidth: {
    parameters: [
      "u32", // uint32_t threads
      "u32", // uint32_t mib
      "u32", // uint32_t repeat
      "buffer", // double* gb_per_s
    ],
    result: "i32",
  },
} as const satisfies Deno.ForeignLibraryInterface;
