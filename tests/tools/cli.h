// The built binary, run in a folder of its own.
#pragma once

#include "vision/base/files.h"

#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace comba::tools {
namespace fs = std::filesystem;

inline const fs::path kSource = COMBA_SOURCE_DIR;

struct Outcome {
  int code = -1;  // exit code, or 128 + signal
  std::string out, err;
};

class Cli : public testing::Test {
 protected:
  void SetUp() override {
    folder_ =
        fs::temp_directory_path() / ("comba_cli_" + std::to_string(getpid()) + "_" +
                                     testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  // Starts the binary in `folder_` with its output in files.
  pid_t start(const std::vector<std::string>& arguments) const {
    const pid_t child = fork();
    if (child != 0) {
      return child;
    }
    std::vector<char*> argv = {const_cast<char*>(COMBA_BINARY)};
    for (const std::string& argument : arguments) {
      argv.push_back(const_cast<char*>(argument.c_str()));
    }
    argv.push_back(nullptr);
    if (chdir(folder_.c_str()) != 0 || freopen("out.txt", "w", stdout) == nullptr ||
        freopen("err.txt", "w", stderr) == nullptr) {
      _exit(99);
    }
    execv(COMBA_BINARY, argv.data());
    _exit(98);
  }
  Outcome finish(pid_t child) const {
    int status = 0;
    waitpid(child, &status, 0);
    Outcome outcome;
    outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    outcome.out = comba::read_file(folder_ / "out.txt");
    outcome.err = comba::read_file(folder_ / "err.txt");
    return outcome;
  }
  Outcome run(const std::vector<std::string>& arguments) const { return finish(start(arguments)); }

  // Training arguments for a network that is small enough for a test.
  static std::vector<std::string> tiny_train(const std::string& run_folder,
                                             const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {"train",    (kSource / "configs/mnist5k.toml").string(),
                                          "--run",    run_folder,
                                          "--device", "cpu"};
    std::vector<std::string> keys = {
        "model.width=32",     "model.depth=1",           "model.patch_size=7", "train.epochs=1",
        "train.max_steps=30", "train.warmup_epochs=0.1", "train.threads=1",    "data.threads=2"};
    for (const std::string& key : keys) {
      arguments.insert(arguments.end(), {"--set", key});
    }
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  fs::path digit() const {
    for (const auto& entry : fs::directory_iterator(kSource / "datasets/samples/mnist5k/digits")) {
      return entry.path();
    }
    return {};
  }
  static size_t count(const std::string& text, const std::string& part) {
    size_t found = 0;
    for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
      ++found;
    }
    return found;
  }

  fs::path folder_;
};

#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

}  // namespace comba::tools
