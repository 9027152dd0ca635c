// In builds without nvJPEG.
#include "kernels/image/nvjpeg.h"

#include <c10/util/Exception.h>

namespace comba::kernels {

class NvJpegDecoder::Impl {};

NvJpegDecoder::NvJpegDecoder(const c10::Device&) {
  TORCH_CHECK(false, "decoding JPEGs on the GPU: ", nvjpeg_missing());
}
NvJpegDecoder::~NvJpegDecoder() = default;
DecodedJpegs NvJpegDecoder::decode(const std::vector<std::span<const uint8_t>>&) { return {}; }
int NvJpegDecoder::engines() const { return 0; }

std::string nvjpeg_missing() {
  return "this program was built without nvJPEG; configure again where CUDA's nvjpeg.h is";
}

}  // namespace comba::kernels
