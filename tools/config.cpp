// comba config: the table of keys, or a resolved configuration.
#include "classify/config.h"

#include "tools/commands.h"

#include <memory>

#include <fmt/format.h>

namespace comba::tools {
namespace {

struct Arguments {
  std::string config;
  std::vector<std::string> assignments;
};

void run(const Arguments& arguments) {
  classify::RunConfig config;
  if (!arguments.config.empty()) {
    fmt::print("{}", classify::read_run_config(arguments.config, arguments.assignments, config));
    return;
  }
  ConfigTable table;
  classify::declare(table, config);
  fmt::print("{}", table.describe());
}

}  // namespace

void add_config_command(CLI::App& app) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand(
      "config", "Lists every configuration key, or prints a resolved configuration");
  command->add_option("CONFIG", arguments->config,
                      "TOML file to resolve; without it: the table of keys");
  command->add_option("--set", arguments->assignments, "Overrides a key, e.g. --set train.lr=0.001")
      ->allow_extra_args(false);
  command->footer(
      "Examples:\n  comba config\n  comba config configs/mnist5k.toml --set train.epochs=2");
  command->callback([arguments] { run(*arguments); });
}

}  // namespace comba::tools
