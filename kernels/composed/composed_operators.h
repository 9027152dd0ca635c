// The operators of kernels/ as compositions of LibTorch's own, for graphs that have to run without ours. The compositions are
// also the description of what an operator computes.
#pragma once

#include "kernels/composed/chunked_scan.h"

#include <torch/library.h>

namespace comba::kernels {

// y_t = sum_j rows[j] x_{t - (taps - 1) + j}, zero before the first token; with `reverse` the sequence is read from its other
// end. x: [B, T, C], rows: [taps, C].
at::Tensor composed_causal_conv(const at::Tensor& x, const at::Tensor& rows, bool reverse);

// While one exists, what LibTorch's tracer records of scan, bidirectional_scan, mixer, gates, selective_scan and causal_conv are
// these compositions; what runs without the tracer is as before. One at a time.
class ComposedOperators {
 public:
  ComposedOperators();

 private:
  ChunkedScan scan_;
  torch::Library library_;
};

}  // namespace comba::kernels
