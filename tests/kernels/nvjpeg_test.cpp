// JPEGs decoded by the GPU beside libjpeg-turbo's pixels.
#include "kernels/image/nvjpeg.h"

#include "datasets/decode.h"
#include "datasets/jpeg.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include <ATen/Context.h>
#include <gtest/gtest.h>

namespace comba::kernels {
namespace {

using datasets::Image;
using datasets::JpegKind;

// Slow waves, so that decoders may interpolate chroma in their own ways and still agree.
Image waves(int height, int width, int channels, int seed) {
  Image image{height, width, channels, {}};
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < channels; ++c) {
        const double phase = 0.02 * x + 0.03 * y + c + seed;
        image.pixels.push_back(static_cast<uint8_t>(std::lround(128 + 100 * std::sin(phase))));
      }
    }
  }
  return image;
}

std::span<const uint8_t> bytes_of(const std::string& file) {
  return {reinterpret_cast<const uint8_t*>(file.data()), file.size()};
}

std::vector<std::span<const uint8_t>> spans_of(const std::vector<std::string>& files) {
  std::vector<std::span<const uint8_t>> spans;
  std::transform(files.begin(), files.end(), std::back_inserter(spans), bytes_of);
  return spans;
}

class NvJpegCuda : public testing::Test {
 protected:
  void SetUp() override {
    if (!at::hasCUDA()) {
      GTEST_SKIP() << "no CUDA device";
    }
    if (const std::string missing = nvjpeg_missing(); !missing.empty()) {
      GTEST_SKIP() << missing;
    }
  }
  // Image n against libjpeg-turbo's.
  static void expect_near(const DecodedJpegs& batch, size_t n, const std::string& file) {
    const DecodedJpeg& found = batch.images[n];
    ASSERT_TRUE(found.decoded) << "image " << n;
    const Image expected = datasets::decode_image(bytes_of(file), 3, "a test's image");
    ASSERT_EQ(found.height, expected.height);
    ASSERT_EQ(found.width, expected.width);
    const at::Tensor pixels =
        batch.pixels.narrow(0, found.offset, static_cast<int64_t>(expected.pixels.size())).cpu();
    const auto* const values = pixels.const_data_ptr<uint8_t>();
    int most = 0;
    double sum = 0;
    for (size_t i = 0; i < expected.pixels.size(); ++i) {
      const int difference = std::abs(int{values[i]} - int{expected.pixels[i]});
      most = std::max(most, difference);
      sum += difference;
    }
    EXPECT_LE(most, 8) << "image " << n;
    EXPECT_LE(sum / static_cast<double>(expected.pixels.size()), 1.0) << "image " << n;
  }
};

TEST_F(NvJpegCuda, GivesThePixelsOfLibjpegTurboButForRounding) {
  std::vector<std::string> files;
  for (int i = 0; i < 40; ++i) {  // sizes that are no multiples of a block, grey ones too
    files.push_back(
        datasets::encode_jpeg(waves(64 + 7 * i, 300 - 5 * i, i % 8 == 7 ? 1 : 3, i), 90));
  }
  NvJpegDecoder decoder(at::Device(at::kCUDA, 0));
  for (const size_t count : {40UL, 1UL, 40UL, 7UL}) {  // batches of other sizes after each other
    const std::vector<std::string> some(files.begin(),
                                        files.begin() + static_cast<ptrdiff_t>(count));
    const DecodedJpegs batch = decoder.decode(spans_of(some));
    ASSERT_EQ(batch.images.size(), count);
    for (size_t n = 0; n < count; ++n) {
      expect_near(batch, n, some[n]);
    }
  }
}

TEST_F(NvJpegCuda, LeavesWhatItCannotDecodeToOthersAndDecodesTheRest) {
  const Image picture = waves(200, 240, 3, 1);
  const std::string good = datasets::encode_jpeg(picture, 90);
  const std::vector<std::string> files = {good,
                                          datasets::encode_jpeg(picture, 90, JpegKind::cmyk),
                                          good.substr(0, good.size() / 2),
                                          "",
                                          "no picture at all",
                                          good};
  NvJpegDecoder decoder(at::Device(at::kCUDA, 0));
  const DecodedJpegs batch = decoder.decode(spans_of(files));
  ASSERT_EQ(batch.images.size(), files.size());
  for (const size_t n : {0UL, 5UL}) {
    expect_near(batch, n, files[n]);
  }
  for (const size_t n : {1UL, 2UL, 3UL, 4UL}) {
    EXPECT_FALSE(batch.images[n].decoded) << n;
  }
}

TEST_F(NvJpegCuda, AnEmptyBatchHasNoImages) {
  EXPECT_TRUE(NvJpegDecoder(at::Device(at::kCUDA, 0)).decode({}).images.empty());
}

TEST(NvJpeg, SaysWhyThereIsNoneWithoutAGpu) {
  if (at::hasCUDA()) {
    GTEST_SKIP() << "a GPU is here";
  }
  EXPECT_NE(nvjpeg_missing(), "");
  EXPECT_THROW(NvJpegDecoder(at::Device(at::kCUDA, 0)), c10::Error);
}

}  // namespace
}  // namespace comba::kernels
