// A JPEG, whatever is in it: an image of the size that was asked for, or an Error.
#include "datasets/inspect.h"
#include "datasets/jpeg.h"
#include "tests/fuzz/fuzz_files.h"
#include "vision/base/error.h"

#include <algorithm>
#include <span>

namespace {

using comba::datasets::Image;
using comba::datasets::ImageBox;

constexpr int64_t kMostPixels = 1 << 18;  // so that a minute sees many files

Image ramp(int height, int width, int channels) {
  Image image{height, width, channels, {}};
  for (int i = 0; i < height * width * channels; ++i) {
    image.pixels.push_back(static_cast<uint8_t>(i * 37 % 251));
  }
  return image;
}

// Decodes what `choose` gives of images that are small enough.
template <typename Choose>
void decode(std::span<const uint8_t> bytes, int channels, int least, const Choose& choose) {
  comba::fuzz::guarded([&] {
    const auto part = comba::datasets::decode_jpeg_part(
        bytes, channels, "fuzz",
        [&](int height, int width) {
          if (int64_t{height} * width > kMostPixels) {
            throw comba::Error("too large for a quick test");
          }
          return choose(height, width);
        },
        least);
    if (part.image.pixels.size() != size_t(part.image.height) * part.image.width * channels) {
      std::abort();
    }
  });
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  using namespace comba::datasets;
  comba::fuzz::add_to_corpus("colour", encode_jpeg(ramp(17, 23, 3), 80));
  comba::fuzz::add_to_corpus("grey", encode_jpeg(ramp(9, 40, 1), 80));
  comba::fuzz::add_to_corpus("progressive",
                             encode_jpeg(ramp(33, 20, 3), 80, JpegKind::progressive));
  comba::fuzz::add_to_corpus("cmyk", encode_jpeg(ramp(16, 16, 3), 80, JpegKind::cmyk));
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const uint8_t> bytes(data, size);
  comba::fuzz::guarded([&] { comba::datasets::inspect_image(bytes, "fuzz"); });
  const uint8_t seed = size > 0 ? data[size - 1] : 0;
  for (const int channels : {1, 3}) {
    decode(bytes, channels, 1 << 20,
           [](int height, int width) { return ImageBox{0, 0, height, width}; });
    decode(bytes, channels, 4, [&](int height, int width) {
      const int y = seed % height, x = seed * 7 % width;
      return ImageBox{y, x, std::max(1, (height - y) / 2), std::max(1, (width - x) / 2)};
    });
  }
  return 0;
}
