// The launches of adamw.h: pointers and sizes, no torch.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

namespace comba::kernels::cuda {

constexpr int kStepTensors = 400;  // of a launch: kernels take 32,764 bytes of parameters
constexpr int kStepChunk = 2048;   // elements of a block

// Dense fp32 tensors. Norms read gradients only.
struct StepTensors {
  float* parameter[kStepTensors];
  const float* gradient[kStepTensors];
  float* mean[kStepTensors];
  float* square[kStepTensors];
  int64_t size[kStepTensors];  // at least 1
  int first[kStepTensors];     // block of each
  int count = 0, blocks = 0;
};

struct AdamwParams {
  const float* lr = nullptr;  // on the device, as the following
  const float* steps = nullptr;
  const float* skip = nullptr;
  const float* factor = nullptr;  // or null
  double beta1 = 0, beta2 = 0;
  float eps = 0, weight_decay = 0;
};

// A tensor of `size` elements behind those that are there. False if there is no place left.
bool add_tensor(StepTensors& tensors, float* parameter, const float* gradient, float* mean,
                float* square, int64_t size);
cudaError_t launch_adamw(const StepTensors& tensors, const AdamwParams& p, cudaStream_t stream);
// A sum of squares for every block, in order.
cudaError_t launch_square_sums(const StepTensors& tensors, float* sums, cudaStream_t stream);

}  // namespace comba::kernels::cuda
