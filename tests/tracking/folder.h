// A test with a folder of its own.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace comba::tracking {

class FolderTest : public testing::Test {
 protected:
  void SetUp() override {
    root = std::filesystem::temp_directory_path() / fmt::format("comba_tracking_{}", ::getpid());
    std::filesystem::remove_all(root);
    std::filesystem::create_directories(root);
  }
  void TearDown() override { std::filesystem::remove_all(root); }
  void write(const std::string& file, const std::string& text) const {
    std::filesystem::create_directories((root / file).parent_path());
    std::ofstream(root / file, std::ios::binary) << text;
  }

  std::filesystem::path root;
};

}  // namespace comba::tracking
