// Launchers of the kernels around the scan, one input dtype each (cuda/instances/mixer_<dtype>.cu).
#pragma once

#include "kernels/mixer_params.h"
#include "kernels/scan_params.h"

#include <algorithm>

#include <cuda_runtime_api.h>

namespace comba::kernels::cuda {

// The kernels are built for four taps; fewer are padded with leading zeros.
constexpr int64_t kMixerTaps = 4;

// All samples' tokens as one line, which groups of lanes share out evenly. A sample takes rounds of four steps
// (mixer_rows.cuh): three steps more than it has tokens, so that nothing of it reaches the next one.
struct TokenLine {
  int rounds;                    // of a sample
  int64_t total, share, pieces;  // rounds of all samples, of a group; groups for a part of a head

  // `most`: pieces. A share has four rounds at least, as a group of the backward pass does one more.
  TokenLine(const MixerShape& s, int64_t most)
      : rounds(static_cast<int>((s.length + kMixerTaps - 1 + 3) / 4)),
        total(s.batch * rounds),
        share(std::max<int64_t>((total + most - 1) / most, 4)),
        pieces((total + share - 1) / share) {}
};
// Threads: those that a large device holds, four times as many in the forward pass, where pieces share no work. Constants, so
// that sums have one order on every device.
constexpr int64_t kRowsThreads = 337920, kRowsBackwardThreads = 50688;
// Channels of a lane, around the convolution and in backward passes, where registers are short.
constexpr int kRowsChannels = 4, kBackwardChannels = 4;

inline TokenLine token_line(const MixerShape& s, int64_t threads) {
  return {s, std::max<int64_t>(threads * kRowsChannels / (3 * s.heads * s.dim), 1)};
}

// What makes q, k and v of raw projections (mixer.h).
struct RowConvolution {
  const float* taps = nullptr;  // [2, 3, H, D, 4]
  bool normalize = true;        // q and k
};

template <typename T>
struct MixerLauncher {
  // Everything at once (tensor_mixer.cuh). `scan`: of raw q, k and v, shared by both directions, scale times the output's
  // factor. cudaErrorInvalidConfiguration: the device, the shape or the strides are not those it is made for.
  static cudaError_t fused(const ScanParams<float>& scan, const RowConvolution& convolution,
                           const MixerOutput<float>& output, cudaStream_t stream);
  // params.shape.taps: kMixerTaps
  static cudaError_t rows(const MixerRows<float>& params, cudaStream_t stream);
  static cudaError_t rows_backward(const MixerRowGradients<float>& params, cudaStream_t stream);
  static cudaError_t output(const MixerOutput<float>& params, cudaStream_t stream);
  static cudaError_t output_backward(const MixerOutputGradients<float>& params,
                                     cudaStream_t stream);
};

}  // namespace comba::kernels::cuda
