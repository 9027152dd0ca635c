#include "kernels/image/nvjpeg.h"

#include "kernels/image/nvjpeg_library.h"

#include <algorithm>
#include <iterator>

#include <ATen/Context.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

namespace comba::kernels {
namespace {

constexpr int64_t kMostPixels = int64_t{1} << 26;  // larger ones are rare, and would fill the GPU
constexpr int64_t kAlignment = 256;                // of images in the batch, bytes

using File = std::span<const uint8_t>;

void require(nvjpegStatus_t status, const char* what) {
  TORCH_CHECK(status == NVJPEG_STATUS_SUCCESS, "decoding JPEGs on the GPU: ", what,
              " failed with nvJPEG's status ", static_cast<int>(status));
}

bool ends_as_jpeg(const File& file) {
  return file.size() > 4 && file[file.size() - 2] == 0xff && file[file.size() - 1] == 0xd9;
}

// One of nvJPEG's ways of decoding a batch.
class Backend {
 public:
  // Null if the GPU or the driver does not offer it.
  static std::unique_ptr<Backend> open(nvjpegBackend_t kind) {
    auto backend = std::unique_ptr<Backend>(new Backend);
    const nvjpegStatus_t status = backend->api_.CreateEx(
        kind, nullptr, nullptr, NVJPEG_FLAGS_UPSAMPLING_WITH_INTERPOLATION, &backend->handle_);
    if (status != NVJPEG_STATUS_SUCCESS) {
      backend->handle_ = nullptr;
      return nullptr;
    }
    require(backend->api_.JpegStateCreate(backend->handle_, &backend->state_), "making a state");
    require(backend->api_.JpegStreamCreate(backend->handle_, &backend->header_), "making a parser");
    return backend;
  }
  ~Backend() {
    if (header_ != nullptr) {
      api_.JpegStreamDestroy(header_);
    }
    if (state_ != nullptr) {
      api_.JpegStateDestroy(state_);
    }
    if (handle_ != nullptr) {
      api_.Destroy(handle_);
    }
  }
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;

  int engines() const {
    unsigned engines = 0, cores = 0;
    const auto status = api_.GetHardwareDecoderInfo(handle_, &engines, &cores);
    return status == NVJPEG_STATUS_SUCCESS ? static_cast<int>(engines) : 0;
  }

  // Whether it takes the file, whose size it reads.
  bool takes(const File& file, DecodedJpeg& image) {
    unsigned width = 0, height = 0, components = 0;
    int refused = 1;
    if (api_.JpegStreamParseHeader(handle_, file.data(), file.size(), header_) !=
            NVJPEG_STATUS_SUCCESS ||
        api_.JpegStreamGetFrameDimensions(header_, &width, &height) != NVJPEG_STATUS_SUCCESS ||
        api_.JpegStreamGetComponentsNum(header_, &components) != NVJPEG_STATUS_SUCCESS ||
        api_.DecodeBatchedSupported(handle_, header_, &refused) != NVJPEG_STATUS_SUCCESS) {
      return false;
    }
    image.width = static_cast<int>(width);
    image.height = static_cast<int>(height);
    const int64_t pixels = int64_t{width} * height;
    return refused == 0 && (components == 1 || components == 3) && pixels > 0 &&
           pixels <= kMostPixels;
  }

  // False if one of the files fails, whichever it is.
  bool decode(const std::vector<const unsigned char*>& data, const std::vector<size_t>& lengths,
              std::vector<nvjpegImage_t>& targets, cudaStream_t stream) {
    if (ready_for_ != data.size()) {
      require(api_.DecodeBatchedInitialize(handle_, state_, static_cast<int>(data.size()), 1,
                                           NVJPEG_OUTPUT_RGBI),
              "preparing a batch");
      ready_for_ = data.size();
    }
    const nvjpegStatus_t status =
        api_.DecodeBatched(handle_, state_, data.data(), lengths.data(), targets.data(), stream);
    // The engines do not keep to the stream's order with what others queue: wait here.
    C10_CUDA_CHECK(cudaStreamSynchronize(stream));
    if (status != NVJPEG_STATUS_SUCCESS) {
      ready_for_ = 0;
    }
    return status == NVJPEG_STATUS_SUCCESS;
  }

 private:
  Backend() = default;

  const NvJpegLibrary& api_ = nvjpeg_library();
  nvjpegHandle_t handle_ = nullptr;
  nvjpegJpegState_t state_ = nullptr;
  nvjpegJpegStream_t header_ = nullptr;
  size_t ready_for_ = 0;  // files in a batch
};

using Numbers = std::span<const size_t>;

// Of the files with these numbers. As one bad file fails all, halves are tried until it is alone.
void decode_all(Backend& backend, const std::vector<File>& files, const Numbers& numbers,
                DecodedJpegs& batch, cudaStream_t stream) {
  if (numbers.empty()) {
    return;
  }
  std::vector<const unsigned char*> data;
  std::vector<size_t> lengths;
  std::vector<nvjpegImage_t> targets;
  for (const size_t n : numbers) {
    data.push_back(files[n].data());
    lengths.push_back(files[n].size());
    nvjpegImage_t target{};
    target.channel[0] = batch.pixels.mutable_data_ptr<uint8_t>() + batch.images[n].offset;
    target.pitch[0] = static_cast<size_t>(batch.images[n].width) * 3;
    targets.push_back(target);
  }
  if (backend.decode(data, lengths, targets, stream)) {
    for (const size_t n : numbers) {
      batch.images[n].decoded = true;
    }
  } else if (numbers.size() > 1) {
    const size_t half = numbers.size() / 2;
    decode_all(backend, files, numbers.first(half), batch, stream);
    decode_all(backend, files, numbers.subspan(half), batch, stream);
  }
}

}  // namespace

class NvJpegDecoder::Impl {
 public:
  explicit Impl(const c10::Device& device) : device_(device) {
    const std::string missing = nvjpeg_missing();
    TORCH_CHECK(missing.empty(), "decoding JPEGs on the GPU: ", missing);
    const c10::cuda::CUDAGuard guard(device);
    // In the order of preference.
    for (const nvjpegBackend_t kind : {NVJPEG_BACKEND_HARDWARE, NVJPEG_BACKEND_GPU_HYBRID}) {
      if (auto backend = Backend::open(kind)) {
        engines_ = std::max(engines_, kind == NVJPEG_BACKEND_HARDWARE ? backend->engines() : 0);
        backends_.push_back(std::move(backend));
      }
    }
    TORCH_CHECK(!backends_.empty(), "decoding JPEGs on the GPU: nvJPEG offers no decoder on ",
                device, "; in a container, NVIDIA_DRIVER_CAPABILITIES has to name video");
  }

  int engines() const { return engines_; }

  DecodedJpegs decode(const std::vector<File>& files) {
    const c10::cuda::CUDAGuard guard(device_);
    DecodedJpegs batch;
    batch.images.resize(files.size());
    std::vector<std::vector<size_t>> shares(backends_.size());
    int64_t bytes = 0;
    for (size_t n = 0; n < files.size(); ++n) {
      DecodedJpeg& image = batch.images[n];
      const auto taker = std::find_if(backends_.begin(), backends_.end(), [&](const auto& backend) {
        return ends_as_jpeg(files[n]) && backend->takes(files[n], image);
      });
      if (taker != backends_.end()) {
        shares[static_cast<size_t>(std::distance(backends_.begin(), taker))].push_back(n);
        image.offset = bytes;
        const int64_t size = int64_t{image.height} * image.width * 3;
        bytes += (size + kAlignment - 1) / kAlignment * kAlignment;
      }
    }
    batch.pixels = at::empty({bytes}, at::TensorOptions(device_).dtype(at::kByte));
    const auto stream = c10::cuda::getCurrentCUDAStream(device_.index());
    for (size_t i = 0; i < backends_.size(); ++i) {
      decode_all(*backends_[i], files, shares[i], batch, stream);
    }
    return batch;
  }

 private:
  c10::Device device_;
  std::vector<std::unique_ptr<Backend>> backends_;
  int engines_ = 0;
};

NvJpegDecoder::NvJpegDecoder(const c10::Device& device) : impl_(std::make_unique<Impl>(device)) {}
NvJpegDecoder::~NvJpegDecoder() = default;
DecodedJpegs NvJpegDecoder::decode(const std::vector<File>& files) { return impl_->decode(files); }
int NvJpegDecoder::engines() const { return impl_->engines(); }

std::string nvjpeg_missing() {
  return at::hasCUDA() ? nvjpeg_library().problem : "no GPU is visible here";
}

}  // namespace comba::kernels
