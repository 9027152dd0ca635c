// What `comba --help` and every command's say, word for word: a change of the interface shows in review.
#include "tests/tools/cli.h"

#include <cstdlib>
#include <set>
#include <sstream>

#include <CLI/Version.hpp>
#include <gtest/gtest.h>

namespace comba::tools {
namespace {

// Other releases of CLI11 lay the same help out in other ways.
constexpr const char* kWrittenWith = "2.1.2";

// The names under "Subcommands:".
std::vector<std::string> subcommands_of(const std::string& help) {
  std::vector<std::string> names;
  std::istringstream lines(help.substr(std::min(help.find("\nSubcommands:\n"), help.size())));
  std::string line, name;
  std::getline(lines, line);
  std::getline(lines, line);
  while (std::getline(lines, line) && line.starts_with("  ")) {
    if (line[2] != ' ' && std::istringstream(line) >> name) {
      names.push_back(name);
    }
  }
  return names;
}

class Help : public Cli {
 protected:
  // Compares (or, if asked to, writes) the help of a command, then of those below it.
  void visit(const std::vector<std::string>& command) {
    std::vector<std::string> arguments = command;
    arguments.emplace_back("--help");
    const Outcome help = run(arguments);
    ASSERT_EQ(help.code, 0) << help.err;
    std::string name = "comba";
    for (const std::string& word : command) {
      name += "_" + word;
    }
    visited_.insert(name + ".txt");
    const fs::path path = kGolden / (name + ".txt");
    if (std::getenv("COMBA_WRITE_HELP") != nullptr) {
      std::ofstream(path) << help.out;
    }
    ASSERT_TRUE(fs::exists(path)) << path << ": a command without its help; see " << kRemedy;
    EXPECT_EQ(help.out, read_file(path))
        << "differs from " << path << "; if it is meant to, see " << kRemedy;
    for (const std::string& verb : subcommands_of(help.out)) {
      std::vector<std::string> longer = command;
      longer.push_back(verb);
      visit(longer);
    }
  }

  const fs::path kGolden = kSource / "tests/golden/help";
  static constexpr const char* kRemedy = "CONTRIBUTING.md, Tests";
  std::set<std::string> visited_;
};

TEST_F(Help, OfEveryCommandIsAsReviewed) {
  if (std::string(CLI11_VERSION) != kWrittenWith) {
    GTEST_SKIP() << "the help was recorded with CLI11 " << kWrittenWith << ", this is "
                 << CLI11_VERSION;
  }
  fs::create_directories(kGolden);
  visit({});
  EXPECT_GT(visited_.size(), 20U);
  for (const auto& entry : fs::directory_iterator(kGolden)) {
    EXPECT_TRUE(visited_.contains(entry.path().filename()))
        << entry.path() << " is the help of no command; remove it";
  }
}

}  // namespace
}  // namespace comba::tools
