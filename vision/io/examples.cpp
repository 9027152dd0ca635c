#include "vision/io/examples.h"

#include "vision/io/safetensors.h"

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

namespace comba::vision {

std::vector<Example> make_examples(const GraphModel& model) {
  const at::NoGradGuard no_grad;
  std::vector<Example> examples;
  for (const int64_t batch : {1, 5}) {
    Example example{model.example(batch), {}};
    example.outputs = model.run(example.inputs);
    examples.push_back(std::move(example));
  }
  return examples;
}

void save_examples(const std::filesystem::path& path, const GraphModel& model,
                   const std::vector<Example>& examples) {
  NamedTensors tensors;
  const auto add = [&](size_t n, const char* kind, const std::vector<std::string>& names,
                       const Tensors& values) {
    for (size_t i = 0; i < names.size(); ++i) {
      tensors.emplace_back(fmt::format("{}.{}.{}", n, kind, names[i]), values.at(i));
    }
  };
  for (size_t n = 0; n < examples.size(); ++n) {
    add(n, "input", model.inputs, examples[n].inputs);
    add(n, "output", model.outputs, examples[n].outputs);
  }
  save_safetensors(path, tensors);
}

}  // namespace comba::vision
