// ONNX files of recorded models.
#pragma once

#include "vision/io/recording.h"

#include <filesystem>
#include <map>
#include <string>

namespace comba::vision::onnx {

struct OnnxOptions {
  std::string producer_version = {};
  bool external_data = false;  // weights into PATH.data also where one file could hold them
};

// Whole or absent. Opset 17; `metadata` becomes the model's metadata_props. Returns whether the weights are in PATH.data.
bool save_onnx(const std::filesystem::path& path, const GraphModel& model,
               const Recording& recording, const std::map<std::string, std::string>& metadata,
               const OnnxOptions& options);

}  // namespace comba::vision::onnx
