// What a model makes of some inputs: what exported files are compared with.
#pragma once

#include "vision/io/recording.h"

#include <filesystem>
#include <vector>

namespace comba::vision {

struct Example {
  Tensors inputs, outputs;
};

// The model's own answers to batches of one and of five.
std::vector<Example> make_examples(const GraphModel& model);

// As tools/check_onnx.py reads them: tensors N.input.NAME and N.output.NAME.
void save_examples(const std::filesystem::path& path, const GraphModel& model,
                   const std::vector<Example>& examples);

}  // namespace comba::vision
