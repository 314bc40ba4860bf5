// test_model.h - tiny random models for tests, with their weights at hand for a reference.
#ifndef KVRM_TESTS_TEST_MODEL_H_
#define KVRM_TESTS_TEST_MODEL_H_

#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "../common/block_format.h"
#include "../common/convert.h"
#include "../common/test.h"
#include "../kvrm.h"

namespace kvrm::test {

struct ModelShape {
  uint32_t hidden = 48, intermediate = 80, layers = 3, heads = 4, kv_heads = 2, head_dim = 16, vocab = 101;
  uint32_t max_position = 2048;
  bool bias = false;  // Qwen2: Q, K and V
  bool o_bias = false;
  bool qk_norm = false;  // Qwen3
  bool tied = false;
  uint32_t dtype = KVRM_F32;                  // vectors are F32 beside matrices in blocks
  int key_dtype = -1;                         // of K, where it has another
  bool interleaved = false;                   // Q and K as GGUF has them for the llama architecture
  std::vector<uint32_t> windows = {0, 0, 0};  // [layers]
};

inline std::string LastErrorText() {
  uint8_t text[1024];
  const uint32_t length = kvrm_last_error(text, sizeof(text));
  return std::string(reinterpret_cast<char*>(text), length);
}

#define CHECK_OK(call)                                                                                 \
  do {                                                                                                 \
    const int32_t status_ = (call);                                                                    \
    ++::kvrm::test::checks;                                                                            \
    if (status_ != KVRM_OK) {                                                                          \
      ::kvrm::test::Fail(__FILE__, __LINE__,                                                           \
                         #call ": " + std::to_string(status_) + ": " + ::kvrm::test::LastErrorText()); \
    }                                                                                                  \
  } while (false)

// Expects a refusal whose message contains text.
#define CHECK_REFUSED(call, status, text)                                                                       \
  do {                                                                                                          \
    CHECK_EQ((call), (status));                                                                                 \
    const std::string message_ = ::kvrm::test::LastErrorText();                                                 \
    ++::kvrm::test::checks;                                                                                     \
    if (message_.find(text) == std::string::npos) {                                                             \
      ::kvrm::test::Fail(__FILE__, __LINE__, "message: found \"" + message_ + "\", wanted \"" + (text) + "\""); \
    }                                                                                                           \
  } while (false)

// A file that is gone when the test ends.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::vector<uint8_t>& bytes) {
    const char* folder = std::getenv("TMPDIR");
    path_ = std::string(folder ? folder : "/tmp") + "/kvrm_test_XXXXXX";
    const int fd = mkstemp(path_.data());
    CHECK(fd >= 0);
    CHECK_EQ(write(fd, bytes.data(), bytes.size()), ssize_t(bytes.size()));
    close(fd);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  ~TemporaryFile() { unlink(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// The tensor table, the file's bytes and the weights as numbers.
struct ModelData {
  ModelShape shape;
  kvrm_model_config config;
  std::vector<kvrm_tensor> tensors;
  std::vector<uint8_t> file;
  std::vector<float> inv_freq;
  std::map<std::pair<uint32_t, uint32_t>, std::vector<float>> weights;  // by role and layer, as stored

  const std::vector<float>& W(uint32_t role, uint32_t layer = 0) const { return weights.at({role, layer}); }
  bool Has(uint32_t role, uint32_t layer = 0) const { return weights.count({role, layer}) != 0; }

  // padding: bytes before each tensor, to try alignments.
  explicit ModelData(const ModelShape& s, uint32_t seed = 1, size_t padding = 0) : shape(s), random_(seed) {
    config = {KVRM_ABI_VERSION,
              s.hidden,
              s.intermediate,
              s.layers,
              s.heads,
              s.kv_heads,
              s.head_dim,
              s.vocab,
              s.max_position,
              1e-5f,
              1 / std::sqrt(float(s.head_dim)),
              seed,
              KVRM_QUANTIZE_NONE,
              0,
              s.interleaved};
    for (uint32_t i = 0; i < s.head_dim / 2; ++i) {
      inv_freq.push_back(std::pow(10000.0f, -2.0f * float(i) / float(s.head_dim)));
    }
    const uint32_t q = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
    padding_ = padding;
    Add(KVRM_EMBED, 0, s.vocab, s.hidden, 1.0f);
    Add(KVRM_FINAL_NORM, 0, s.hidden, 1, 0);
    if (!s.tied) Add(KVRM_LM_HEAD, 0, s.vocab, s.hidden, 1.5f / std::sqrt(float(s.hidden)));
    for (uint32_t l = 0; l < s.layers; ++l) {
      const float in = 1.2f / std::sqrt(float(s.hidden));
      Add(KVRM_ATTN_NORM, l, s.hidden, 1, 0);
      Add(KVRM_Q, l, q, s.hidden, in);
      Add(KVRM_K, l, kv, s.hidden, in);
      Add(KVRM_V, l, kv, s.hidden, in);
      Add(KVRM_O, l, s.hidden, q, 1 / std::sqrt(float(q)));
      if (s.bias) {
        Add(KVRM_Q_BIAS, l, q, 1, 0.5f);
        Add(KVRM_K_BIAS, l, kv, 1, 0.5f);
        Add(KVRM_V_BIAS, l, kv, 1, 0.5f);
      }
      if (s.o_bias) Add(KVRM_O_BIAS, l, s.hidden, 1, 0.5f);
      if (s.qk_norm) {
        Add(KVRM_Q_NORM, l, s.head_dim, 1, 0);
        Add(KVRM_K_NORM, l, s.head_dim, 1, 0);
      }
      Add(KVRM_FFN_NORM, l, s.hidden, 1, 0);
      Add(KVRM_GATE, l, s.intermediate, s.hidden, in);
      Add(KVRM_UP, l, s.intermediate, s.hidden, in);
      Add(KVRM_DOWN, l, s.hidden, s.intermediate, 1 / std::sqrt(float(s.intermediate)));
    }
  }

  // spread 0: a norm, around 1.
  void Add(uint32_t role, uint32_t layer, uint32_t rows, uint32_t cols, float spread) {
    std::normal_distribution<float> normal(spread == 0 ? 1.0f : 0.0f, spread == 0 ? 0.2f : spread);
    std::vector<float> values(size_t{rows} * cols);
    for (float& value : values) value = normal(random_);
    file.resize(file.size() + padding_);
    const size_t offset = file.size();
    const uint32_t of_role = role == KVRM_K && shape.key_dtype >= 0 ? uint32_t(shape.key_dtype) : shape.dtype;
    const uint32_t dtype = IsBlocks(of_role) && cols == 1 ? uint32_t{KVRM_F32} : of_role;
    const size_t row_bytes = RowBytes(dtype, cols);
    std::vector<uint8_t> stored(rows * row_bytes);
    if (dtype == KVRM_Q8_0 || dtype == KVRM_Q4_0) {
      Quantize(dtype, values.data(), values.size(), stored.data());
      Dequantize(dtype, stored.data(), values.size(), values.data());
    } else if (IsBlocks(dtype)) {
      FillBlocks(random_(), spread, dtype, values.size(), stored.data());
      Dequantize(dtype, stored.data(), values.size(), values.data());
    } else {
      Narrow(values.data(), values.size(), dtype, stored.data());
      Widen(stored.data(), values.size(), dtype, values.data());
    }
    const bool rotated = role == KVRM_Q || role == KVRM_K || role == KVRM_Q_BIAS || role == KVRM_K_BIAS ||
                         role == KVRM_Q_NORM || role == KVRM_K_NORM;
    const uint32_t dim = shape.head_dim;
    for (uint32_t row = 0; row < rows; ++row) {
      // Row i of a head and row i + dim / 2 are neighbours in the file.
      const uint32_t i = row % dim;
      const uint32_t from = shape.interleaved && rotated ? row - i + i / 2 + i % 2 * (dim / 2) : row;
      file.insert(file.end(), stored.begin() + long(from * row_bytes), stored.begin() + long((from + 1) * row_bytes));
    }
    weights[{role, layer}] = std::move(values);
    tensors.push_back({role, layer, dtype, 0, uint32_t(offset), 0, rows, cols});
  }

  int32_t Load(const std::string& path, uint32_t* model) const {
    std::string paths = path;
    paths.push_back('\0');
    return kvrm_model_load(reinterpret_cast<const uint8_t*>(&config), reinterpret_cast<const uint8_t*>(tensors.data()),
                           uint32_t(tensors.size()), reinterpret_cast<const uint8_t*>(paths.data()),
                           uint32_t(paths.size()), inv_freq.data(), shape.windows.data(), model);
  }

 private:
  std::mt19937 random_;
  size_t padding_ = 0;
};

// A loaded model; freed at the end.
struct TestModel {
  ModelData data;
  uint32_t handle = 0;
  explicit TestModel(const ModelShape& shape, uint32_t seed = 1, size_t padding = 0)
      : TestModel(ModelData(shape, seed, padding)) {}
  explicit TestModel(ModelData model_data) : data(std::move(model_data)) {
    const TemporaryFile file(data.file);
    CHECK_OK(data.Load(file.path(), &handle));
  }
  TestModel(const TestModel&) = delete;
  ~TestModel() { kvrm_model_free(handle); }
};

}  // namespace kvrm::test
#endif  // KVRM_TESTS_TEST_MODEL_H_
