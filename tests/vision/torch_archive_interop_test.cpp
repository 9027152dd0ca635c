// Our half of tests/python/torch_archive_interop.py, which sets COMBA_INTEROP_FOLDER.
#include "tests/base/temporary_folder.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/io/safetensors.h"
#include "vision/io/weights_file.h"

#include <cstdlib>

#include <ATen/Functions.h>
#include <nlohmann/json.hpp>

namespace comba::vision {
namespace {

void expect_equal(const std::map<std::string, at::Tensor>& found,
                  const std::map<std::string, at::Tensor>& wanted, const std::string& file) {
  EXPECT_EQ(found.size(), wanted.size()) << file;
  for (const auto& [name, tensor] : wanted) {
    ASSERT_TRUE(found.contains(name)) << file << ": " << name;
    EXPECT_EQ(found.at(name).scalar_type(), tensor.scalar_type()) << file << ": " << name;
    EXPECT_TRUE(found.at(name).equal(tensor)) << file << ": " << name;
  }
}

TEST(TorchArchiveInterop, ReadsWhatPythonSavedAndRefusesTheRest) {
  const char* folder = std::getenv("COMBA_INTEROP_FOLDER");
  if (folder == nullptr) {
    GTEST_SKIP() << "run by tests/python/torch_archive_interop.py";
  }
  const std::filesystem::path root = folder;
  for (const auto& entry : nlohmann::json::parse(read_file(root / "cases.json"))) {
    const std::string file = entry.at("file"), weights = entry.at("weights");
    if (entry.contains("error")) {
      EXPECT_SAYS(
          testing_tools::message_of<Error>([&] { load_weights_file(root / file, weights); }),
          entry.at("error").get<std::string>());
    } else {
      expect_equal(load_weights_file(root / file, weights).tensors,
                   load_safetensors(root / entry.at("tensors").get<std::string>()).tensors, file);
    }
  }
}

}  // namespace
}  // namespace comba::vision
