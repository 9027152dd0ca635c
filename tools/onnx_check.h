// Exported ONNX files in onnxruntime, through Python where that has it.
#pragma once

#include "vision/io/examples.h"

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace comba::tools {

struct OnnxCheck {
  std::string runtime;                        // "onnxruntime 1.20.1"
  bool structure = false;                     // whether the package onnx has checked the file too
  std::map<std::string, double> differences;  // the largest of each output
};

// Runs the file on the examples by tools/check_onnx.py. Nothing where no Python with onnxruntime is found: COMBA_PYTHON, the
// one of tools/setup.sh, python3. Throws Error if it fails there.
std::optional<OnnxCheck> check_in_onnxruntime(const std::filesystem::path& path,
                                              const vision::GraphModel& model,
                                              const std::vector<vision::Example>& examples);

}  // namespace comba::tools
