#include "common/test.h"
#include "gemm_test_util.h"

namespace kvrm::cuda::test {
namespace {

const LaunchContext kContext = {nullptr, 4, true};

std::vector<uint8_t> Bytes(const std::vector<float>& values, uint32_t dtype) {
  std::vector<uint8_t> bytes;
  for (const float value : values) Append(bytes, value, dtype);
  return bytes;
}

std::vector<float> RoundedNormals(Random& random, size_t count, uint32_t dtype) {
  std::vector<float> values = Normals(random, count);
  for (float& value : values) value = Rounded(value, dtype);
  return values;
}

TEST(EmbedTakesTokensOfTheChunkOfSlotsAndOfTheirLastSamples) {
  Random random(1);
  constexpr uint32_t kVocab = 20, kHidden = 70, kDim = 12, kMaxRows = 6;
  for (const uint32_t dtype : {KVRM_F32, KVRM_F16, KVRM_BF16}) {
    const std::vector<float> values = RoundedNormals(random, kVocab * kHidden, dtype);
    const Buffer table(Bytes(values, dtype));
    std::vector<float> inv_freq;
    for (uint32_t i = 0; i < kDim / 2; ++i) inv_freq.push_back(1.0f / static_cast<float>(std::pow(10000, i / 6.0)));
    std::vector<kvrm_slot> slots(3);
    slots[0].flags = KVRM_SLOT_DECODE;
    slots[0].token = 7;
    slots[2].flags = KVRM_SLOT_DECODE | KVRM_SLOT_TOKEN_LAST;
    slots[2].token = 3;
    const std::vector<int32_t> last = {1, 2, 19}, chunk = {4, 5, 6};
    const uint32_t positions[] = {130000, 5, 0, 99};
    const std::vector<Row> rows = {{-1, 0, positions[0], 0, 0, kNoChunkRow},
                                   {-1, 2, positions[1], 0, 0, kNoChunkRow},
                                   {-1, 1, positions[2], 0, 0, 1},
                                   {-1, 1, positions[3], 0, 0, 2}};
    const int32_t wanted[] = {7, 19, 5, 6};
    StepCounts counts = {};
    counts.rows = 4;
    const Buffer device_slots(slots), device_last(last), device_chunk(chunk), device_freq(inv_freq), device_rows(rows),
        device_counts(std::vector<StepCounts>{counts}), hidden(kMaxRows * kHidden * 4), cosine(kMaxRows * kDim / 2 * 4),
        sine(kMaxRows * kDim / 2 * 4);
    StepView step = {};
    step.max_rows = kMaxRows;
    step.vocab = kVocab;
    step.hidden = kHidden;
    step.head_dim = kDim;
    step.slot = device_slots.As<kvrm_slot>();
    step.last_token = device_last.As<int32_t>();
    step.tokens = device_chunk.As<int32_t>();
    step.rows = device_rows.As<Row>();
    step.counts = device_counts.As<StepCounts>();
    LaunchEmbed(kContext, step, {table.As(), dtype}, device_freq.As<float>(), hidden.As<float>(), cosine.As<float>(),
                sine.As<float>());
    Succeed(cudaGetLastError(), "LaunchEmbed");
    const std::vector<float> h = hidden.Read<float>(), c = cosine.Read<float>(), s = sine.Read<float>();
    const std::vector<Row> filled = device_rows.Read<Row>();
    for (uint32_t r = 0; r < 4; ++r) {
      CHECK_EQ(filled[r].token, wanted[r]);
      for (uint32_t n = 0; n < kHidden; ++n) CHECK_EQ(h[r * kHidden + n], values[uint32_t(wanted[r]) * kHidden + n]);
      for (uint32_t i = 0; i < kDim / 2; ++i) {
        const float angle = static_cast<float>(positions[r]) * inv_freq[i];
        CHECK_EQ(c[r * kDim / 2 + i], static_cast<float>(std::cos(double(angle))));
        CHECK_EQ(s[r * kDim / 2 + i], static_cast<float>(std::sin(double(angle))));
      }
    }
    for (uint32_t i = 4 * kHidden; i < kMaxRows * kHidden; ++i) CHECK(std::isnan(h[i]));
  }
}

// The norm as docs/cuda.md orders it: 256 lanes, then pairs of lanes from 128 apart.
float Scale(const float* x, uint32_t count, float eps) {
  float lanes[256] = {};
  for (uint32_t n = 0; n < count; ++n) lanes[n % 256] = std::fma(x[n], x[n], lanes[n % 256]);
  for (uint32_t apart = 128; apart > 0; apart /= 2) {
    for (uint32_t i = 0; i < apart; ++i) lanes[i] += lanes[i + apart];
  }
  return 1.0f / std::sqrt(lanes[0] / static_cast<float>(count) + eps);
}

TEST(NormsHaveTheDocumentedOrderAndMatchFloat64) {
  Random random(2);
  for (const uint32_t count : {1u, 64u, 300u, 4096u, 4500u, 9001u}) {
    const uint32_t dtype = count % 3 == 0 ? KVRM_F16 : KVRM_BF16, act = count == 300 ? uint32_t{KVRM_F32} : dtype;
    const std::vector<float> weight = RoundedNormals(random, count, dtype), x = Normals(random, 3 * count);
    StepCounts counts = {};
    counts.rows = 2;
    const Buffer device_weight(Bytes(weight, dtype)), hidden(x), out(size_t{3} * count * Product::Bytes(act)),
        device_counts(std::vector<StepCounts>{counts});
    StepView step = {};
    step.max_rows = 3;
    step.hidden = count;
    step.counts = device_counts.As<StepCounts>();
    LaunchRmsNorm(kContext, step, hidden.As<float>(), {device_weight.As(), dtype}, 1e-5f, act, out.As());
    Succeed(cudaGetLastError(), "LaunchRmsNorm");
    const std::vector<uint8_t> found = out.Read<uint8_t>();
    for (uint32_t r = 0; r < 2; ++r) {
      const float scale = Scale(&x[r * count], count, 1e-5f);
      double squares = 0;
      for (uint32_t n = 0; n < count; ++n) squares += double{x[r * count + n]} * x[r * count + n];
      CHECK_NEAR(scale, 1 / std::sqrt(squares / count + 1e-5), 1e-6 * scale);
      for (uint32_t n = 0; n < count; ++n) {
        CHECK_EQ(ReadAs(found.data(), r * count + n, act), Rounded(x[r * count + n] * scale * weight[n], act));
      }
    }
    for (uint32_t n = 0; n < count; ++n) CHECK(std::isnan(ReadAs(found.data(), 2 * count + n, act)));
  }
}

TEST(GatheredNormsAreThoseOfTheListsRows) {
  Random random(3);
  constexpr uint32_t kCount = 90, kRows = 9, kMax = 4;
  const std::vector<float> weight = Normals(random, kCount), x = Normals(random, kRows * kCount);
  std::vector<HeadRow> list;
  for (const uint32_t row : {8u, 0u, 3u, 3u, 5u}) list.push_back({row, 0, -1, 0});
  const Buffer device_weight(weight), hidden(x), device_list(list), list_count(std::vector<uint32_t>{5});
  for (const uint32_t first : {0u, 3u, 5u, 8u}) {
    const Buffer out(kMax * kCount * 4);
    StepView step = {};
    step.hidden = kCount;
    LaunchGatherNorm(kContext, step, device_list.As<HeadRow>(), list_count.As<uint32_t>(), first, kMax,
                     hidden.As<float>(), {device_weight.As(), KVRM_F32}, 1e-6f, KVRM_F32, out.As());
    Succeed(cudaGetLastError(), "LaunchGatherNorm");
    const std::vector<float> found = out.Read<float>();
    for (uint32_t i = 0; i < kMax; ++i) {
      for (uint32_t n = 0; n < kCount; ++n) {
        const float value = found[i * kCount + n];
        if (first + i >= list.size()) {
          CHECK(std::isnan(value));
        } else {
          const float* row = &x[list[first + i].row * kCount];
          CHECK_EQ(value, row[n] * Scale(row, kCount, 1e-6f) * weight[n]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace kvrm::cuda::test
