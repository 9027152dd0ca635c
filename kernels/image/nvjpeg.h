// JPEGs decoded by a GPU, through nvJPEG: by its JPEG engines where it has them and they take the file, else by its cores.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace comba::kernels {

// One image of a batch.
struct DecodedJpeg {
  int64_t offset = 0;         // of its first pixel in the batch's, bytes
  int height = 0, width = 0;  // px
  bool decoded =
      false;  // if not, the file is for another decoder, which may say what is wrong with it
};

struct DecodedJpegs {
  at::Tensor
      pixels;  // [bytes] uint8 on the device; of each image RGB, interleaved, no padding between rows
  std::vector<DecodedJpeg> images;  // one a file, in their order
};

// Left to other decoders are progressive, CMYK, 12-bit and arithmetically coded files, those that do not end as a JPEG does
// (an engine would decode a file cut short without a word), and what nvJPEG refuses. Pixels differ from libjpeg-turbo's by
// rounding and by how chroma is interpolated.
class NvJpegDecoder {
 public:
  // Loads the library when the first is made. Throws c10::Error where nvjpeg_missing() has something to say.
  explicit NvJpegDecoder(const c10::Device& device);
  ~NvJpegDecoder();
  // On the current stream of the device, for whose end it waits. By one thread at a time; decoders of several threads run
  // beside each other.
  DecodedJpegs decode(const std::vector<std::span<const uint8_t>>& files);
  int engines() const;  // the GPU's JPEG engines that can be used here

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// Why no JPEG can be decoded on a GPU here; empty if that is not so.
std::string nvjpeg_missing();

}  // namespace comba::kernels
