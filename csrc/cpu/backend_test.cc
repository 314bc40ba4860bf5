// What is the CPU's own behind the ABI: memory that is taken late, and what it does not have.
#include "../tests/test_engine.h"

namespace kvrm::test {
namespace {

const TestModel& Model() {
  static const TestModel model{ModelShape()};
  return model;
}

// A pool, and the host tier, are address space until they are touched.
TEST(ABigPoolCostsNothingUntilItIsTouched) {
  auto resident_kib = [] {
    long pages = 0, ignored = 0;
    FILE* file = std::fopen("/proc/self/statm", "r");
    CHECK_EQ(std::fscanf(file, "%ld %ld", &ignored, &pages), 2);
    std::fclose(file);
    return pages * sysconf(_SC_PAGESIZE) / 1024;
  };
  kvrm_engine_config config = EngineConfig();
  config.num_blocks = config.host_blocks = 100'000;
  const long before = resident_kib();
  TestEngine engine(Model(), config);
  CHECK(uint64_t{config.num_blocks} * engine.info.block_bytes > uint64_t{1} << 30);
  CHECK(resident_kib() - before < 64 << 10);
}

TEST(TheBackendIsTheCpu) {
  uint8_t name[64];
  const uint32_t length = kvrm_backend(name, sizeof(name));
  CHECK_EQ(std::string(reinterpret_cast<char*>(name), length).substr(0, 4), "cpu/");
}

TEST(WhatTheCpuDoesNotHaveIsUnsupported) {
  ModelData data{ModelShape()};
  const TemporaryFile file(data.file);
  uint32_t model = 0;
  data.config.quantize = KVRM_QUANTIZE_FP8;
  CHECK_REFUSED(data.Load(file.path(), &model), KVRM_UNSUPPORTED,
                "quantize is FP8, wanted NONE, INT8, INT4 or BF16 on the CPU");
  data.config.quantize = 5;
  CHECK_REFUSED(data.Load(file.path(), &model), KVRM_INVALID_ARGUMENT, "config.quantize is 5, wanted 0 to 4");
  data.config.quantize = KVRM_QUANTIZE_NONE;
  data.config.device = 1;
  CHECK_REFUSED(data.Load(file.path(), &model), KVRM_INVALID_ARGUMENT, "config.device is 1, wanted 0");

  kvrm_engine_config config = EngineConfig();
  config.kv_dtype = KVRM_F8_E4M3;
  kvrm_engine_info info;
  uint32_t engine = 0;
  CHECK_REFUSED(kvrm_engine_create(Model().handle, reinterpret_cast<const uint8_t*>(&config),
                                   reinterpret_cast<uint8_t*>(&info), &engine),
                KVRM_UNSUPPORTED, "kv_dtype is F8_E4M3, wanted F32, F16, BF16 or Q8_0");
}

}  // namespace
}  // namespace kvrm::test
