#include "classify/encoded_images.h"

#include "datasets/decode.h"
#include "vision/base/error.h"
#include "vision/base/log.h"

#include <memory>

#include <ATen/ops/cat.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>

namespace comba::classify {
namespace {

// One after the other behind what is there already.
class Joined {
 public:
  explicit Joined(const at::Tensor& first) : parts_{first}, bytes_(first.numel()) {}

  // Returns where the bytes begin.
  int64_t add(const at::Tensor& bytes) {
    parts_.push_back(bytes);
    bytes_ += bytes.numel();
    return bytes_ - bytes.numel();
  }
  at::Tensor all() const { return parts_.size() == 1 ? parts_[0] : at::cat(parts_); }

 private:
  std::vector<at::Tensor> parts_;
  int64_t bytes_;
};

at::Tensor decode_here(std::span<const uint8_t> file, const datasets::PlacedImage& placed,
                       const std::string& name, const c10::Device& device, bool bad_is_grey) {
  constexpr int kChannels = 3, kGrey = 128;
  try {
    datasets::Image image = datasets::decode_image(file, kChannels, name);
    return at::from_blob(image.pixels.data(), {static_cast<int64_t>(image.pixels.size())},
                         at::kByte)
        .to(device, at::kByte, /*non_blocking=*/false, /*copy=*/true);
  } catch (const datasets::ImageError& error) {
    if (!bad_is_grey) {
      throw;
    }
    log::warning("bad sample, grey from here on: {}", error.what());
    return at::full({datasets::bytes_of(placed, kChannels)}, kGrey,
                    at::TensorOptions(device).dtype(at::kByte));
  }
}

}  // namespace

JpegDecoder nvjpeg_decoder(const c10::Device& device, const std::string& setting) {
  const std::string missing =
      device.is_cuda() ? kernels::nvjpeg_missing() : fmt::format("{} is no GPU", device.str());
  if (!missing.empty()) {
    throw UsageError(fmt::format("{}: {}; with 0 the processor decodes", setting, missing));
  }
  return [decoder = std::make_shared<kernels::NvJpegDecoder>(device)](const auto& files) {
    return decoder->decode(files);
  };
}

PlacedPixels decode_encoded(const at::Tensor& uploaded, const datasets::Batch& batch,
                            const JpegDecoder& decode, const BatchStream& names, bool bad_is_grey) {
  PlacedPixels out{{}, batch.placed};
  std::vector<std::span<const uint8_t>> files;
  std::vector<size_t> places;
  for (size_t n = 0; n < out.images.size(); ++n) {
    const datasets::PlacedImage& image = out.images[n];
    if (image.encoded > 0) {
      files.emplace_back(batch.pixels.data() + image.offset, image.encoded);
      places.push_back(n);
    }
  }
  Joined joined(uploaded);
  if (!files.empty()) {
    const kernels::DecodedJpegs decoded = decode(files);
    const int64_t first = joined.add(decoded.pixels);
    for (size_t i = 0; i < files.size(); ++i) {
      datasets::PlacedImage& image = out.images[places[i]];
      image.encoded = 0;
      image.offset =
          decoded.images[i].decoded
              ? first + decoded.images[i].offset
              : joined.add(decode_here(files[i], image, names.name(batch.indices[places[i]]),
                                       uploaded.device(), bad_is_grey));
    }
  }
  out.pixels = joined.all();
  return out;
}

}  // namespace comba::classify
