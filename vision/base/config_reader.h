// What the tasks' configurations share: a struct whose keys its own declare(ConfigTable&, Config&) registers, from text and back.
#pragma once

#include "vision/base/config.h"

#include <string>
#include <string_view>
#include <vector>

namespace comba {

// `config` from its defaults, the text and the assignments, in this order; throws as ConfigTable::read_text() and set(). The table
// that is returned is bound to `config`.
template <typename Config>
ConfigTable read_keys(std::string_view text, const std::string& origin,
                      const std::vector<std::string>& assignments, Config& config) {
  config = Config{};
  ConfigTable table;
  declare(table, config);
  table.read_text(text, origin);
  for (const std::string& assignment : assignments) {
    table.set(assignment);
  }
  return table;
}

// `config` as TOML.
template <typename Config>
std::string dump_keys(const Config& config) {
  Config copy = config;
  ConfigTable table;
  declare(table, copy);
  return table.dump();
}

}  // namespace comba
