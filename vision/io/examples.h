// What a model makes of some inputs: what exported files are compared with.
#pragma once

#include "vision/io/recording.h"

#include <filesystem>
#include <vector>

namespace comba::vision {

// Images as networks take them, in turn noise, one colour, black, one patch over and over. Equal patches are the hardest for
// recurrences.
at::Tensor example_images(const GraphModel& model, int64_t batch);

struct Example {
  Tensors inputs, outputs;
};

// The model's own answers to batches of one and of five, of example_images() and of `pictures` [N, C, S, S] if defined.
std::vector<Example> make_examples(const GraphModel& model, const at::Tensor& pictures = {});

// As tools/check_onnx.py reads them: tensors N.input.NAME and N.output.NAME.
void save_examples(const std::filesystem::path& path, const GraphModel& model,
                   const std::vector<Example>& examples);

}  // namespace comba::vision
