// What comba bench scan measures: operators that mix tokens [B, T, H, D], behind one interface.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace comba::tools {

struct ScanShape {
  int64_t batch, length, heads, dim;
  std::string text() const;
  double tokens() const { return static_cast<double>(batch) * static_cast<double>(length); }
  double token_heads() const { return tokens() * static_cast<double>(heads); }
};

struct ScanContender {
  std::string name;
  // Random arguments of `run`, in its order; backward passes go to those that require gradients. `options`: device and dtype.
  std::vector<at::Tensor> (*inputs)(const ScanShape&, const at::TensorOptions& options);
  at::Tensor (*run)(const ScanShape&, const std::vector<at::Tensor>&);  // -> [B, T, H, D]
  double (*flops)(const ScanShape&);                                    // of a forward pass
  int rows = 4;   // [B, T, H, D] tensors that a forward pass reads or writes
  int gates = 0;  // [2, B, T, H] tensors in fp32 that it reads
};

// The scan and the mixer's operator of both directions, and softmax attention.
std::vector<ScanContender> scan_operators();

// The scan by its kernels in chunks, as Comba (splr) and as the other recurrences of the family, each with the gates that it
// learns (vision/nn/comba_mixer.h); Comba token by token, one direction after the other; softmax attention.
std::vector<ScanContender> scan_peers();

}  // namespace comba::tools
