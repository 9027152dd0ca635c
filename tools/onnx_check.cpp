#include "tools/onnx_check.h"

#include "vision/base/error.h"
#include "vision/base/files.h"

#include <cstdlib>

#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;  // NOLINT

namespace comba::tools {
namespace fs = std::filesystem;
namespace {

constexpr int kAbsent = 77;  // of the script: no onnxruntime
constexpr const char* kScript =
#include "check_onnx_script.inc"
    ;

// A folder that goes when this does.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string path = (fs::temp_directory_path() / "comba_export_XXXXXX").string();
    COMBA_CHECK(mkdtemp(path.data()) != nullptr, "checking an export: cannot make a folder {}",
                path);
    path_ = path;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  fs::path operator/(const char* name) const { return path_ / name; }

 private:
  fs::path path_;
};

std::vector<std::string> pythons() {
  std::vector<std::string> found;
  if (const char* own = std::getenv("COMBA_PYTHON")) {
    found.emplace_back(own);
  }
  if (fs::exists(COMBA_SETUP_PYTHON)) {
    found.emplace_back(COMBA_SETUP_PYTHON);
  }
  found.emplace_back("python3");
  return found;
}

// The exit code of a program, -1 if it cannot be started; its output goes into two files.
int run_program(std::vector<std::string> arguments, const fs::path& out, const fs::path& err) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  constexpr int kFlags = O_WRONLY | O_CREAT | O_TRUNC;
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, out.c_str(), kFlags, 0600);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, err.c_str(), kFlags, 0600);
  std::vector<char*> argv;
  for (std::string& argument : arguments) {
    argv.push_back(argument.data());
  }
  argv.push_back(nullptr);
  pid_t child = 0;
  const int failed = posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  int status = 0;
  if (failed != 0 || waitpid(child, &status, 0) != child) {
    return -1;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

std::optional<OnnxCheck> check_in_onnxruntime(const fs::path& path, const vision::GraphModel& model,
                                              const std::vector<vision::Example>& examples) {
  const ScratchFolder folder;
  const fs::path file = folder / "examples.safetensors", out = folder / "out", err = folder / "err";
  vision::save_examples(file, model, examples);
  for (const std::string& python : pythons()) {
    const int code = run_program({python, "-c", kScript, path.string(), file.string()}, out, err);
    if (code == -1 || code == kAbsent || code == 127) {
      continue;
    }
    COMBA_CHECK(code == 0, "checking {} in onnxruntime ({}): it failed:\n{}", path.string(), python,
                read_file(err));
    const nlohmann::json report = nlohmann::json::parse(read_file(out));
    OnnxCheck check;
    check.runtime = "onnxruntime " + report.at("onnxruntime").get<std::string>();
    check.structure = !report.at("onnx").is_null();
    check.differences = report.at("differences").get<std::map<std::string, double>>();
    return check;
  }
  return std::nullopt;
}

}  // namespace comba::tools
