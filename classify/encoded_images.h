// Images of a batch that the loader has left encoded (datasets::PlacedImage::encoded), decoded by a GPU.
#pragma once

#include "classify/stream.h"
#include "kernels/image/nvjpeg.h"

#include <functional>
#include <span>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace comba::classify {

// NvJpegDecoder::decode(), or what stands in for it.
using JpegDecoder =
    std::function<kernels::DecodedJpegs(const std::vector<std::span<const uint8_t>>& files)>;

// nvJPEG's on `device`. Throws UsageError, beginning with the `setting` that asks for it, where it cannot be had.
JpegDecoder nvjpeg_decoder(const c10::Device& device, const std::string& setting);

// Pixels of a batch on the device, and where each image lies in them.
struct PlacedPixels {
  at::Tensor pixels;  // [bytes] uint8
  std::vector<datasets::PlacedImage> images;
};

// `uploaded`: the bytes that the batch uses, on the device; what is decoded follows them. A file that `decode` leaves is
// decoded here. Where that fails too, datasets::ImageError names it or, with `bad_is_grey`, a warning does and it is grey.
PlacedPixels decode_encoded(const at::Tensor& uploaded, const datasets::Batch& batch,
                            const JpegDecoder& decode, const BatchStream& names, bool bad_is_grey);

}  // namespace comba::classify
