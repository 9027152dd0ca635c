// One declared table of configuration keys, bound to the members of plain structs.
//
// Each room declares its own keys: `void declare(ConfigTable&, BackboneConfig&)`. The member's value at
// declaration is the default. The order of precedence is default < file < --set.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace comba {

// Inclusive bounds of a number key.
struct Range {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
};

class ConfigTable {
 public:
  using Target = std::variant<bool*, int64_t*, double*, std::string*, std::vector<int64_t>*,
                              std::vector<double>*, std::vector<std::string>*>;

  // Declares a key, e.g. "train.lr". Lists apply the range to every element.
  void add(std::string path, Target target, std::string help, Range range = {});
  // Declares a string key (or list of strings) that must be one of `choices`.
  void add_choice(std::string path, Target target, std::vector<std::string> choices,
                  std::string help);

  // Reads a TOML file, after the one its key `base` names from its folder (a base has none). Throws UsageError naming
  // file:line, the key, what was expected, what was found, and for an unknown key the nearest declared name.
  void read_file(const std::string& path);
  // The same for TOML text; `origin` stands for the file name in messages.
  void read_text(std::string_view text, const std::string& origin);
  // Applies "a.b=value" (value in TOML syntax; a bare word is taken as a string).
  void set(std::string_view assignment);

  // The resolved configuration as TOML, one [section] per first path component.
  std::string dump() const;
  // The keys with type, default, range or choices and help, as text for `comba config`.
  std::string describe() const;
  // Paths in the order of declaration.
  std::vector<std::string> paths() const;
  // True if the file or --set gave this key.
  bool given(std::string_view path) const;

 private:
  struct Key {
    std::string path;
    Target target;
    std::string default_text;
    std::string help;
    Range range;
    std::vector<std::string> choices;
    bool given = false;
  };
  struct Assigner;  // keeps toml++ out of this header

  std::vector<Key> keys_;
};

// The text of a configuration file; UsageError if it cannot be read.
std::string read_config_file(const std::filesystem::path& path);
// What the configuration is for: its key `task`, or its base's, or "classify". UsageError if the text is not TOML.
std::string config_task(std::string_view text, const std::string& origin);

// The nearest of `candidates` by edit distance, or "" if nothing is near.
std::string nearest_name(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace comba
