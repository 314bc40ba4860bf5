// Loading: what is refused and how it is said, and weights wherever they lie in a file.
#include <algorithm>

#include "../common/random_tensor.h"
#include "test_engine.h"
#include "test_reference.h"

namespace kvrm::test {
namespace {

int32_t TryLoad(const ModelData& data) {
  const TemporaryFile file(data.file);
  uint32_t model = 0;
  const int32_t status = data.Load(file.path(), &model);
  if (status == KVRM_OK) kvrm_model_free(model);
  return status;
}

kvrm_tensor& Find(ModelData& data, uint32_t role, uint32_t layer = 0) {
  return *std::find_if(data.tensors.begin(), data.tensors.end(),
                       [&](const kvrm_tensor& t) { return t.role == role && t.layer == layer; });
}

void Erase(ModelData& data, uint32_t role, uint32_t layer = 0) {
  data.tensors.erase(data.tensors.begin() + (&Find(data, role, layer) - data.tensors.data()));
}

TEST(AMissingTensorIsNamed) {
  ModelData data{ModelShape()};
  Erase(data, KVRM_DOWN, 2);
  CHECK_REFUSED(TryLoad(data), KVRM_INVALID_MODEL, "tensor DOWN of layer 2 is missing");
  ModelData embed{ModelShape()};
  Erase(embed, KVRM_EMBED);
  CHECK_REFUSED(TryLoad(embed), KVRM_INVALID_MODEL, "tensor EMBED is missing");
}

TEST(QAndKNormComeTogether) {
  ModelShape shape;
  shape.qk_norm = true;
  ModelData data(shape);
  Erase(data, KVRM_K_NORM, 1);
  CHECK_REFUSED(TryLoad(data), KVRM_INVALID_MODEL, "tensor K_NORM of layer 1 is missing, wanted both");
}

TEST(AWrongTensorIsNamedWithItsFile) {
  ModelData data{ModelShape()};
  Find(data, KVRM_K, 1).rows = 33;
  CHECK_REFUSED(TryLoad(data), KVRM_INVALID_MODEL, "shape is [33, 48], wanted [32, 48]");
  CHECK(LastErrorText().find("tensor K of layer 1 (/") != std::string::npos);
  Find(data, KVRM_K, 1).rows = 32;
  Find(data, KVRM_UP, 0).dtype = 9;
  CHECK_REFUSED(TryLoad(data), KVRM_INVALID_MODEL, "type is 9, wanted F32 (0), F16 (1), BF16 (2) or a block");
  Find(data, KVRM_UP, 0).dtype = KVRM_F32;
  data.tensors.push_back(Find(data, KVRM_GATE, 2));
  CHECK_REFUSED(TryLoad(data), KVRM_INVALID_MODEL, "is given twice");
  data.tensors.pop_back();
  data.tensors.push_back({KVRM_Q_BIAS, 3, 0, 0, 0, 0, 64, 1});
  CHECK_REFUSED(TryLoad(data), KVRM_INVALID_MODEL, "layer is 3, wanted less than 3");
  data.tensors.back() = {99, 0, 0, 0, 0, 0, 1, 1};
  CHECK_REFUSED(TryLoad(data), KVRM_INVALID_MODEL, "role is 99, wanted less than 18");
  data.tensors.back() = {KVRM_Q_BIAS, 0, 0, 5, 0, 0, 64, 1};
  CHECK_REFUSED(TryLoad(data), KVRM_INVALID_MODEL, "file is 5, wanted less than 1");
}

TEST(BlocksAreOfMatricesWithWholeBlocks) {
  ModelData data{ModelShape()};  // rows of 48 and 80
  Find(data, KVRM_UP, 1).dtype = KVRM_Q4_0;
  CHECK_REFUSED(TryLoad(data), KVRM_INVALID_MODEL, "type is Q4_0 and rows have 48 numbers, wanted a multiple of 32");
  Find(data, KVRM_UP, 1).dtype = KVRM_F32;
  Find(data, KVRM_FFN_NORM, 1).dtype = KVRM_Q8_0;
  CHECK_REFUSED(TryLoad(data), KVRM_INVALID_MODEL, "type is 4, wanted F32 (0), F16 (1) or BF16 (2)");
  Find(data, KVRM_FFN_NORM, 1).dtype = KVRM_F32;
  data.config.rope_interleaved = 2;
  CHECK_REFUSED(TryLoad(data), KVRM_INVALID_ARGUMENT, "rope_interleaved is 2, wanted 0 to 1");
}

TEST(AShortFileIsNamedWithBothSizes) {
  ModelData data{ModelShape()};
  const size_t bytes = data.file.size();
  data.file.resize(bytes - 1);
  CHECK_REFUSED(
      TryLoad(data), KVRM_IO,
      "has " + std::to_string(bytes - 1) + " bytes, wanted " + std::to_string(bytes) + " for tensor DOWN of layer 2");
  data.file.resize(bytes);
  Find(data, KVRM_EMBED).offset_hi = 0xffffffff;  // offset + size wraps
  CHECK_EQ(TryLoad(data), int32_t(KVRM_IO));
}

TEST(AMissingFileIsNamed) {
  const ModelData data{ModelShape()};
  uint32_t model = 0;
  CHECK_REFUSED(data.Load("/nonexistent/model.safetensors", &model), KVRM_IO,
                "open /nonexistent/model.safetensors: No such file");
  CHECK_REFUSED(data.Load("/tmp", &model), KVRM_IO, "no regular file");
}

TEST(AWrongConfigurationIsRefused) {
  ModelData data{ModelShape()};
  data.config.kv_heads = 3;
  CHECK_REFUSED(TryLoad(data), KVRM_INVALID_ARGUMENT, "kv_heads is 3, wanted a divisor of heads (4)");
  data.config.kv_heads = 2;
  data.config.head_dim = 15;
  CHECK_REFUSED(TryLoad(data), KVRM_INVALID_ARGUMENT, "head_dim is 15, wanted an even number");
  data.config.head_dim = 16;
  data.config.rms_eps = NAN;
  CHECK_REFUSED(TryLoad(data), KVRM_INVALID_ARGUMENT, "rms_eps");
  data.config.rms_eps = 1e-5f;
  data.inv_freq[2] = INFINITY;
  CHECK_REFUSED(TryLoad(data), KVRM_INVALID_ARGUMENT, "inv_freq[2]");
  ModelData bad{ModelShape()};
  bad.config.abi_version = 7;
  CHECK_REFUSED(TryLoad(bad), KVRM_INVALID_ARGUMENT, "abi_version is 7, wanted 5 to 5");
}

// safetensors puts a tensor at any byte.
TEST(UnalignedTensorsGiveTheSameBits) {
  for (uint32_t dtype : {KVRM_F32, KVRM_F16, KVRM_BF16}) {
    ModelShape shape;
    shape.dtype = dtype;
    std::vector<float> wanted;
    for (size_t padding : {0, 1, 2, 3}) {
      const TestModel model(shape, 1, padding);
      TestEngine engine(model, EngineConfig());
      engine.Begin(1);
      engine.Prefill(0, {1, 2, 3, 4, 5}, 0, Contiguous(0, 1), true);
      engine.Step();
      if (padding == 0) wanted = engine.Logits(0);
      CHECK(engine.Logits(0) == wanted);
    }
  }
}

TEST(MadeUpTensorsAreNormalAndTheSameEachTime) {
  ModelData data{ModelShape()};
  for (kvrm_tensor& tensor : data.tensors) {
    tensor.file = KVRM_NO_FILE;
    std::vector<float>& w = data.weights[{tensor.role, tensor.layer}];
    if (tensor.cols == 1) {
      FillOnes(w.size(), KVRM_F32, w.data());
    } else {
      FillNormal(data.config.random_seed, tensor.role, tensor.layer, w.size(), KVRM_F32, w.data());
      double sum = 0, squares = 0;
      for (float value : w) sum += value, squares += double(value) * value;
      CHECK_NEAR(sum / double(w.size()), 0, 0.02 / std::sqrt(double(w.size())) * 5);
      CHECK_NEAR(std::sqrt(squares / double(w.size())), 0.02, 0.002);
    }
  }
  CHECK(data.W(KVRM_Q, 0) != data.W(KVRM_Q, 1));
  CHECK(data.W(KVRM_GATE, 0) != data.W(KVRM_UP, 0));
  uint32_t handle = 0;
  CHECK_OK(kvrm_model_load(reinterpret_cast<const uint8_t*>(&data.config),
                           reinterpret_cast<const uint8_t*>(data.tensors.data()), uint32_t(data.tensors.size()),
                           nullptr, 0, data.inv_freq.data(), data.shape.windows.data(), &handle));
  CHECK_OK(kvrm_model_free(handle));
}

}  // namespace
}  // namespace kvrm::test
