#include "weights.h"

#include <deque>

#include "../common/progress.h"
#include "../common/random_tensor.h"
#include "common/test.h"
#include "gemm_test_util.h"
#include "weights_kernels.h"

namespace kvrm::cuda::test {
namespace {

// Tensors with values of their own, kept as long as the model needs them.
class Source {
 public:
  explicit Source(uint32_t seed) : random_(seed) {}

  Weight Tensor(uint32_t rows, uint32_t cols, uint32_t dtype) {
    std::vector<uint8_t> bytes;
    for (const float value : Normals(random_, size_t{rows} * cols)) Append(bytes, value, dtype);
    kept_.push_back(std::move(bytes));
    return {kept_.back().data(), dtype, rows, cols};
  }

 private:
  Random random_;
  std::vector<std::vector<uint8_t>> kept_;
};

Weight MadeUpTensor(uint32_t rows, uint32_t cols, uint32_t dtype, uint32_t role) {
  Weight w = {&load_progress, dtype, rows, cols};  // any address: nobody reads there
  w.made_up = true;
  w.made_up_key = NormalKey(5, role, 0);
  return w;
}

struct Sizes {
  uint32_t vocab = 30, hidden = 72, heads = 3, kv_heads = 1, head_dim = 8, intermediate = 40;
};

// One layer. make(rows, cols, role) gives the matrices.
template <typename Make>
Model OneLayer(const Sizes& s, Source& source, const Make& make) {
  Model model = {};
  kvrm_model_config& c = model.config;
  c.vocab = s.vocab;
  c.hidden = s.hidden;
  c.intermediate = s.intermediate;
  c.heads = s.heads;
  c.kv_heads = s.kv_heads;
  c.head_dim = s.head_dim;
  c.layers = 1;
  const uint32_t q = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
  model.embed = make(s.vocab, s.hidden, KVRM_EMBED);
  model.lm_head = model.embed;
  model.final_norm = source.Tensor(s.hidden, 1, KVRM_F32);
  model.layers.resize(1);
  Weight* w = model.layers[0].by_role;
  w[KVRM_ATTN_NORM] = source.Tensor(s.hidden, 1, KVRM_F16);
  w[KVRM_FFN_NORM] = source.Tensor(s.hidden, 1, KVRM_BF16);
  w[KVRM_Q] = make(q, s.hidden, KVRM_Q);
  w[KVRM_K] = make(kv, s.hidden, KVRM_K);
  w[KVRM_V] = make(kv, s.hidden, KVRM_V);
  w[KVRM_O] = make(s.hidden, q, KVRM_O);
  w[KVRM_GATE] = make(s.intermediate, s.hidden, KVRM_GATE);
  w[KVRM_UP] = make(s.intermediate, s.hidden, KVRM_UP);
  w[KVRM_DOWN] = make(s.hidden, s.intermediate, KVRM_DOWN);
  for (uint32_t i = 0; i < s.head_dim / 2; ++i) model.inv_freq.push_back(1.0f / static_cast<float>(i + 1));
  return model;
}

template <class T = uint8_t>
std::vector<T> FromDevice(const void* data, size_t count) {
  std::vector<T> values(count);
  Succeed(cudaMemcpy(values.data(), data, count * sizeof(T), cudaMemcpyDeviceToHost), "cudaMemcpy");
  return values;
}

float ElementOf(const Weight& w, size_t i) { return ReadAs(static_cast<const uint8_t*>(w.data), i, w.dtype); }

// Rows of a matrix on the device, in order, are those of `rows`: a tensor and a row of it, or zeros.
void CheckRows(const DeviceWeight& found, uint32_t dtype, const std::vector<std::pair<const Weight*, uint32_t>>& rows) {
  CHECK_EQ(found.n, rows.size());
  const std::vector<uint8_t> bytes = FromDevice(found.data, size_t{found.n} * found.k * Product::Bytes(dtype));
  for (uint32_t r = 0; r < found.n; ++r) {
    const auto [from, row] = rows[r];
    for (uint32_t c = 0; c < found.k; ++c) {
      const float wanted = from ? Rounded(ElementOf(*from, size_t{row} * found.k + c), dtype) : 0.0f;
      CHECK_EQ(ReadAs(bytes.data(), size_t{r} * found.k + c, dtype), wanted);
    }
  }
}

std::vector<std::pair<const Weight*, uint32_t>> Stacked(std::initializer_list<const Weight*> parts) {
  std::vector<std::pair<const Weight*, uint32_t>> rows;
  for (const Weight* part : parts) {
    for (uint32_t r = 0; r < part->rows; ++r) rows.push_back({part, r});
  }
  return rows;
}

std::vector<std::pair<const Weight*, uint32_t>> ByTurns(const Weight& gate, const Weight& up) {
  std::vector<std::pair<const Weight*, uint32_t>> rows;
  for (uint32_t first = 0; first < gate.rows; first += 16) {
    for (const Weight* part : {&gate, &up}) {
      for (uint32_t r = first; r < first + 16; ++r) rows.push_back({r < gate.rows ? part : nullptr, r});
    }
  }
  return rows;
}

void CheckVector(const void* found, uint32_t dtype, const Weight& wanted) {
  const std::vector<uint8_t> bytes = FromDevice(found, wanted.rows * Product::Bytes(dtype));
  for (uint32_t i = 0; i < wanted.rows; ++i) CHECK_EQ(ReadAs(bytes.data(), i, dtype), ElementOf(wanted, i));
}

TEST(UploadStacksTurnsAndRoundsMatrices) {
  Source source(1);
  // One matrix of F32 among those of BF16, and a bias that is missing.
  Model model = OneLayer({}, source, [&](uint32_t rows, uint32_t cols, uint32_t role) {
    return source.Tensor(rows, cols, role == KVRM_DOWN ? KVRM_F32 : KVRM_BF16);
  });
  Weight* w = model.layers[0].by_role;
  w[KVRM_Q_BIAS] = source.Tensor(24, 1, KVRM_BF16);
  w[KVRM_V_BIAS] = source.Tensor(8, 1, KVRM_F32);
  w[KVRM_O_BIAS] = source.Tensor(72, 1, KVRM_F16);
  w[KVRM_Q_NORM] = source.Tensor(8, 1, KVRM_BF16);
  w[KVRM_K_NORM] = source.Tensor(8, 1, KVRM_F32);
  std::shared_ptr<DeviceModel> device;
  CHECK_EQ(UploadModel(model, &device), KVRM_OK);
  CHECK_EQ(load_progress.done.load(), load_progress.all.load());
  CHECK(load_progress.all.load() > 72u * (24 + 16 + 24 + 80) * 2 + 72 * 40 * 4);
  CHECK_EQ(device->act_dtype, uint32_t{KVRM_BF16});

  const DeviceModel::Layer& layer = device->layers.at(0);
  CHECK_EQ(layer.qkv.type, WeightType::kBf16);
  CheckRows(layer.qkv, KVRM_BF16, Stacked({&w[KVRM_Q], &w[KVRM_K], &w[KVRM_V]}));
  CheckRows(layer.o, KVRM_BF16, Stacked({&w[KVRM_O]}));
  CheckRows(layer.gate_up, KVRM_BF16, ByTurns(w[KVRM_GATE], w[KVRM_UP]));
  CheckRows(layer.down, KVRM_BF16, Stacked({&w[KVRM_DOWN]}));
  CHECK_EQ(device->head.data, device->embed.data);
  CheckRows(device->head, KVRM_BF16, Stacked({&model.embed}));

  CHECK_EQ(layer.attn_norm.dtype, uint32_t{KVRM_F16});
  CheckVector(layer.attn_norm.data, KVRM_F16, w[KVRM_ATTN_NORM]);
  CheckVector(layer.ffn_norm.data, KVRM_BF16, w[KVRM_FFN_NORM]);
  CheckVector(device->final_norm.data, KVRM_F32, model.final_norm);
  CheckVector(layer.o_bias, KVRM_F32, w[KVRM_O_BIAS]);
  CheckVector(layer.q_norm, KVRM_F32, w[KVRM_Q_NORM]);
  CheckVector(layer.k_norm, KVRM_F32, w[KVRM_K_NORM]);
  const std::vector<float> bias = FromDevice<float>(layer.qkv_bias, 40);
  for (uint32_t i = 0; i < 40; ++i) {
    const float wanted = i < 24 ? ElementOf(w[KVRM_Q_BIAS], i) : i < 32 ? 0.0f : ElementOf(w[KVRM_V_BIAS], i - 32);
    CHECK_EQ(bias[i], wanted);
  }
  CHECK(FromDevice<float>(device->inv_freq, 4) == model.inv_freq);
}

TEST(ActivationsHaveTheTypeOfMostWeights) {
  for (const uint32_t dtype : {KVRM_F32, KVRM_F16, KVRM_BF16}) {
    Source source(2);
    Model model = OneLayer({}, source, [&](uint32_t rows, uint32_t cols, uint32_t role) {
      return source.Tensor(rows, cols, role == KVRM_Q ? uint32_t{KVRM_F16} : dtype);
    });
    model.embed = source.Tensor(30, 72, KVRM_F32);  // a head of its own; tables keep their type
    std::shared_ptr<DeviceModel> device;
    CHECK_EQ(UploadModel(model, &device), KVRM_OK);
    CHECK_EQ(device->act_dtype, dtype);
    CHECK_EQ(device->embed.dtype, uint32_t{KVRM_F32});
    CheckRows(device->head, dtype, Stacked({&model.lm_head}));
    CHECK(device->layers[0].qkv_bias == nullptr && device->layers[0].o_bias == nullptr);
    CHECK(device->layers[0].q_norm == nullptr && device->layers[0].k_norm == nullptr);
  }
}

// Longer than a buffer of the upload, so that it comes in several pieces.
TEST(LargeMatricesComeInPieces) {
  Source source(3);
  Sizes sizes;
  sizes.vocab = 9000;
  sizes.hidden = 700;
  const Model model = OneLayer(
      sizes, source, [&](uint32_t rows, uint32_t cols, uint32_t) { return source.Tensor(rows, cols, KVRM_F16); });
  std::shared_ptr<DeviceModel> device;
  CHECK_EQ(UploadModel(model, &device), KVRM_OK);
  const size_t bytes = size_t{9000} * 700 * 2;
  CHECK_EQ(std::memcmp(FromDevice(device->embed.data, bytes).data(), model.embed.data, bytes), 0);
}

TEST(MadeUpWeightsAreThoseOfTheHost) {
  for (const uint32_t dtype : {KVRM_F32, KVRM_F16, KVRM_BF16}) {
    for (const uint32_t quantize : {KVRM_QUANTIZE_NONE, KVRM_QUANTIZE_FP8, KVRM_QUANTIZE_INT8, KVRM_QUANTIZE_INT4}) {
      std::shared_ptr<DeviceModel> devices[2];
      for (const bool on_host : {false, true}) {
        Source source(4);
        std::deque<std::vector<uint8_t>> kept;
        Model model = OneLayer({}, source, [&](uint32_t rows, uint32_t cols, uint32_t role) {
          // V comes from a file: rows of one matrix from both.
          if (role == KVRM_V) return source.Tensor(rows, cols, dtype);
          if (!on_host) return MadeUpTensor(rows, cols, dtype, role);
          kept.emplace_back(size_t{rows} * cols * Product::Bytes(dtype));
          FillNormal(5, role, 0, size_t{rows} * cols, dtype, kept.back().data());
          return Weight{kept.back().data(), dtype, rows, cols};
        });
        model.config.quantize = quantize;
        CHECK_EQ(UploadModel(model, &devices[on_host]), KVRM_OK);
      }
      const size_t bytes = devices[0]->memory.bytes();
      CHECK_EQ(bytes, devices[1]->memory.bytes());
      CHECK(FromDevice(devices[0]->memory.As<uint8_t>(), bytes) == FromDevice(devices[1]->memory.As<uint8_t>(), bytes));
    }
  }
}

TEST(WeightsThatDoNotFitAreRefusedWithWhatToDo) {
  Source source(5);
  Sizes sizes;
  sizes.vocab = 1u << 26;
  sizes.hidden = 1u << 14;
  const Model model = OneLayer(sizes, source, [&](uint32_t rows, uint32_t cols, uint32_t role) {
    return MadeUpTensor(rows, cols, KVRM_BF16, role);
  });
  std::shared_ptr<DeviceModel> device;
  CHECK_EQ(UploadModel(model, &device), KVRM_OUT_OF_MEMORY);
  const std::string message = LastError();
  CHECK(message.find("MiB of GPU memory needed for the weights") != std::string::npos);
  CHECK(message.find("use --quantize int8 or a smaller model") != std::string::npos);
  CHECK(device == nullptr);
}

// ---- quantisation ---------------------------------------------------------------------------------------

// What weights became, unpacked on the host.
HostWeight Quantised(const std::vector<float>& values, uint32_t dtype, WeightType type, uint32_t rows, uint32_t k) {
  std::vector<uint8_t> bytes;
  for (const float value : values) Append(bytes, value, dtype);
  const uint64_t row_bytes = WeightRowBytes(type, k);
  const uint32_t groups = type == WeightType::kInt4 ? (k + kInt4Group - 1) / kInt4Group : 1;
  const Buffer from(bytes), to(rows * row_bytes), scales(size_t{rows} * groups * sizeof(float));
  LaunchQuantize(nullptr, from.As(), dtype, rows, k, type, to.As<uint8_t>(), scales.As<float>());
  Succeed(cudaGetLastError(), "LaunchQuantize");
  HostWeight w = {type, rows, k, std::vector<float>(size_t{rows} * k), scales.Read<float>()};
  const std::vector<uint8_t> packed = to.Read<uint8_t>();
  for (uint32_t r = 0; r < rows; ++r) {
    const uint8_t* row = &packed[r * row_bytes];
    for (uint32_t c = 0; c < k; ++c) {
      float& value = w.values[size_t{r} * k + c];
      if (type == WeightType::kFp8) {
        value = ToFloat(fp8_t{row[ByteOfElement(c)]});
      } else if (type == WeightType::kInt8) {
        value = static_cast<int8_t>(row[ByteOfElement(c)]);
      } else {
        uint32_t word;
        std::memcpy(&word, row + 4 * WordOfElement(c), 4);
        value = static_cast<float>(word >> BitOfElement(c) & 15) - 8;
      }
    }
  }
  CHECK(w.Packed() == packed);  // padding included
  return w;
}

constexpr WeightType kNarrow[] = {WeightType::kFp8, WeightType::kInt8, WeightType::kInt4};

TEST(QuantisedWeightsAreWithinHalfAUnitOfTheirScale) {
  Random random(6);
  for (const WeightType type : kNarrow) {
    for (const uint32_t dtype : {KVRM_F32, KVRM_F16, KVRM_BF16}) {
      for (const uint32_t k : {32u, 100u, 128u, 416u}) {
        const uint32_t rows = 5;
        std::vector<float> values = Normals(random, rows * k, 0.05f);
        for (float& value : values) value = Rounded(value, dtype);
        const HostWeight w = Quantised(values, dtype, type, rows, k);
        for (uint32_t i = 0; i < rows * k; ++i) {
          const double value = values[i], found = w.At(i / k, i % k);
          const uint32_t first = type == WeightType::kInt4 ? i - i % k % kInt4Group : i - i % k;
          const uint32_t count =
              type == WeightType::kInt4 ? std::min(kInt4Group, k - i % k / kInt4Group * kInt4Group) : k;
          double most = 0;
          for (uint32_t j = first; j < first + count; ++j) most = std::max(most, std::fabs(double{values[j]}));
          if (type == WeightType::kFp8) {
            // Half a unit of 3 bits of mantissa, or of the smallest subnormal when the scale is at most most / 224.
            CHECK_NEAR(found, value, std::fabs(value) / 16 + most / 224 * 0x1p-10);
          } else if (type == WeightType::kInt8) {
            CHECK_NEAR(found, value, most / 127 * 0.5001);
          } else {
            // Of the sign that the largest has not, 7 steps are the last.
            const double limit = std::fabs(w.scales[size_t{i / k} * ((k + 127) / 128) + i % k / 128]);
            CHECK_NEAR(limit, most / 8, 1e-6 * most);
            CHECK_NEAR(found, value, std::fabs(value) > 7.5 * limit ? limit * 1.0001 : limit * 0.5001);
          }
        }
      }
    }
  }
}

TEST(RepresentableWeightsSurviveQuantisation) {
  Random random(7);
  for (const WeightType type : kNarrow) {
    const uint32_t rows = 6, k = 288;
    HostWeight made = RandomWeight(random, type, rows, k);
    // Each row and group has the value of the largest magnitude, and scales are powers of two.
    for (float& scale : made.scales) scale = std::ldexp(1.0f, -static_cast<int>(random() % 9));
    for (uint32_t r = 0; r < rows; ++r) {
      for (uint32_t first = 0; first < k; first += kInt4Group) {
        made.values[size_t{r} * k + first + 7] = type == WeightType::kFp8 ? 448 : type == WeightType::kInt8 ? -127 : -8;
      }
    }
    std::vector<float> values;
    for (uint32_t i = 0; i < rows * k; ++i) values.push_back(static_cast<float>(made.At(i / k, i % k)));
    const HostWeight w = Quantised(values, KVRM_F32, type, rows, k);
    for (uint32_t i = 0; i < rows * k; ++i) CHECK_EQ(static_cast<float>(w.At(i / k, i % k)), values[i]);
  }
}

TEST(RowsOfZerosAndOfNan) {
  for (const WeightType type : kNarrow) {
    const uint32_t k = 128;
    std::vector<float> values(3 * k, 0.0f);
    values[k + 5] = NAN;
    values[2 * k + 9] = -INFINITY;
    const HostWeight w = Quantised(values, KVRM_F32, type, 3, k);
    CHECK_EQ(w.scales[0], 1.0f);
    for (uint32_t c = 0; c < k; ++c) CHECK_EQ(w.At(0, c), 0.0);
    CHECK(std::isnan(w.scales[1]) && std::isnan(w.scales[2]));
  }
}

}  // namespace
}  // namespace kvrm::cuda::test
