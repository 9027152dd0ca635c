// Device guard, stream, tables of tensors.
#include "kernels/cuda/partial_sums_cuda.h"
#include "kernels/optimizer/adamw_backend.h"
#include "kernels/optimizer/adamw_kernel.h"

#include <vector>

#include <ATen/ops/empty.h>
#include <ATen/ops/sqrt.h>
#include <c10/cuda/CUDAGuard.h>

namespace comba::kernels {
namespace {

// As many launches as the tables need. `add(table, i)` adds the i-th tensor, or is false if there is no place for it.
template <typename Add>
std::vector<cuda::StepTensors> tables_of(size_t count, const Add& add) {
  std::vector<cuda::StepTensors> tables(1);
  for (size_t i = 0; i < count; ++i) {
    if (!add(tables.back(), i)) {
      tables.emplace_back();
      TORCH_CHECK(add(tables.back(), i), "optimizer step: a tensor is too large");
    }
  }
  return tables;
}

std::vector<at::Tensor> contiguous(at::TensorList tensors) {
  std::vector<at::Tensor> out;
  out.reserve(tensors.size());
  for (const at::Tensor& x : tensors) {
    out.push_back(x.contiguous());
  }
  return out;
}

}  // namespace

bool takes_step(at::TensorList tensors, bool written) {
  for (const at::Tensor& x : tensors) {
    if (!x.is_cuda() || x.scalar_type() != at::kFloat || (written && !x.is_contiguous()) ||
        x.device() != tensors[0].device()) {
      return false;
    }
  }
  return !tensors.empty();
}

at::Tensor total_norm_cuda(at::TensorList tensors) {
  const c10::cuda::CUDAGuard guard(tensors[0].device());
  const std::vector<at::Tensor> dense = contiguous(tensors);
  const auto tables = tables_of(dense.size(), [&](cuda::StepTensors& table, size_t i) {
    return dense[i].numel() == 0 ||
           cuda::add_tensor(table, nullptr, dense[i].const_data_ptr<float>(), nullptr, nullptr,
                            dense[i].numel());
  });
  int64_t blocks = 0;
  for (const cuda::StepTensors& table : tables) {
    blocks += table.blocks;
  }
  const at::Tensor sums = at::empty({blocks, 1}, tensors[0].options());
  float* place = sums.mutable_data_ptr<float>();
  for (const cuda::StepTensors& table : tables) {
    if (table.blocks > 0) {
      C10_CUDA_CHECK(cuda::launch_square_sums(table, place, c10::cuda::getCurrentCUDAStream()));
    }
    place += table.blocks;
  }
  return sum_partials(sums).sqrt_().squeeze(0);
}

void adamw_cuda_(at::TensorList parameters, at::TensorList gradients, at::TensorList means,
                 at::TensorList squares, const AdamwStep& step, const AdamwOptions& options) {
  const c10::cuda::CUDAGuard guard(parameters[0].device());
  const std::vector<at::Tensor> dense = contiguous(gradients);
  const auto tables = tables_of(parameters.size(), [&](cuda::StepTensors& table, size_t i) {
    for (const at::Tensor& like : {dense[i], means[i], squares[i]}) {
      TORCH_CHECK(like.sizes() == parameters[i].sizes(), "optimizer step: tensor ", i,
                  ": expected shape ", parameters[i].sizes(), ", got ", like.sizes());
    }
    return parameters[i].numel() == 0 ||
           cuda::add_tensor(table, parameters[i].data_ptr<float>(),
                            dense[i].const_data_ptr<float>(), means[i].data_ptr<float>(),
                            squares[i].data_ptr<float>(), parameters[i].numel());
  });
  cuda::AdamwParams params;
  params.lr = step.lr.const_data_ptr<float>();
  params.steps = step.steps.const_data_ptr<float>();
  params.skip = step.skip.const_data_ptr<float>();
  params.factor = step.factor.defined() ? step.factor.const_data_ptr<float>() : nullptr;
  params.beta1 = options.beta1;
  params.beta2 = options.beta2;
  params.eps = static_cast<float>(options.eps);
  params.weight_decay = static_cast<float>(options.weight_decay);
  for (const cuda::StepTensors& table : tables) {
    if (table.blocks > 0) {
      C10_CUDA_CHECK(cuda::launch_adamw(table, params, c10::cuda::getCurrentCUDAStream()));
    }
  }
}

}  // namespace comba::kernels
