#include "vision/io/torchscript.h"

#include "vision/base/error.h"
#include "vision/base/files.h"

#include <sstream>

#include <ATen/core/grad_mode.h>
#include <torch/csrc/jit/serialization/import.h>

namespace comba::vision {

void save_torchscript(const std::filesystem::path& path, const Recording& recording,
                      const std::map<std::string, std::string>& metadata) {
  std::ostringstream stream;
  recording.module.save(stream, {metadata.begin(), metadata.end()});
  write_file_atomic(path, stream.view());
}

Tensors run_torchscript(const std::filesystem::path& path, const Tensors& inputs) {
  const at::NoGradGuard no_grad;
  torch::jit::Module module = torch::jit::load(path.string(), at::kCPU);
  module.eval();
  const c10::IValue result = module.forward({inputs.begin(), inputs.end()});
  if (result.isTensor()) {
    return {result.toTensor()};
  }
  COMBA_CHECK(result.isTuple(), "running {}: expected a tensor or a tuple of them, got {}",
              path.string(), result.tagKind());
  Tensors tensors;
  for (const c10::IValue& value : result.toTupleRef().elements()) {
    tensors.push_back(value.toTensor());
  }
  return tensors;
}

}  // namespace comba::vision
