#include "vision/io/onnx/onnx.h"

#include "vision/io/onnx/converter.h"

namespace comba::vision::onnx {

bool save_onnx(const std::filesystem::path& path, const GraphModel& model,
               const Recording& recording, const std::map<std::string, std::string>& metadata,
               const OnnxOptions& options) {
  Model file = Converter(model, recording).convert();
  file.metadata = metadata;
  file.producer_version = options.producer_version;
  return options.external_data ? save(path, file, /*external_from=*/0) : save(path, file);
}

}  // namespace comba::vision::onnx
