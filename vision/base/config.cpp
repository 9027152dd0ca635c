#include "vision/base/config.h"

#include "vision/base/error.h"
#include "vision/base/files.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <sstream>

#include <fmt/ranges.h>
#include <toml++/toml.h>

namespace comba {
namespace {

using Target = ConfigTable::Target;

// Where a value came from, for messages: "file.toml:12" or "--set".
struct Origin {
  std::string file;
  bool is_file = true;
  std::string at(const toml::node& node) const {
    return is_file ? fmt::format("{}:{}", file, node.source().begin.line) : file;
  }
};

std::string type_name(const Target& target) {
  static constexpr const char* kNames[] = {"boolean",        "integer",          "number",
                                           "string",         "list of integers", "list of numbers",
                                           "list of strings"};
  return kNames[target.index()];
}

std::string with_article(const std::string& noun) {
  return (noun.front() == 'i' ? "an " : "a ") + noun;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          out += fmt::format("\\u{:04X}", static_cast<unsigned char>(c));
        } else {
          out += c;
        }
    }
  }
  return out + "\"";
}

std::string literal(bool value) { return value ? "true" : "false"; }
std::string literal(int64_t value) { return fmt::format("{}", value); }
std::string literal(const std::string& value) { return quoted(value); }
std::string literal(double value) {
  if (std::isnan(value)) {
    return "nan";
  }
  if (std::isinf(value)) {
    return value > 0 ? "inf" : "-inf";
  }
  std::string text = fmt::format("{}", value);  // shortest text that reads back to the same value
  return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
}
template <typename T>
std::string literal(const std::vector<T>& values) {
  std::vector<std::string> texts;
  for (const T& value : values) {
    texts.push_back(literal(value));
  }
  return fmt::format("[{}]", fmt::join(texts, ", "));
}
std::string literal(const Target& target) {
  return std::visit([](const auto* member) { return literal(*member); }, target);
}

std::string found(const toml::node& node) {
  std::string text = node.visit([](const auto& value) {
    std::ostringstream out;
    out << value;
    return out.str();
  });
  if (text.size() > 60) {
    text = text.substr(0, 57) + "...";
  }
  return text;
}

// Values of one element, or nothing if the type differs. An integer is accepted where a number is expected.
bool read(const toml::node& node, bool& out) {
  const auto value = node.value_exact<bool>();
  out = value.value_or(false);
  return value.has_value();
}
bool read(const toml::node& node, int64_t& out) {
  const auto value = node.value_exact<int64_t>();
  out = value.value_or(0);
  return value.has_value();
}
bool read(const toml::node& node, double& out) {
  if (!node.is_number()) {
    return false;
  }
  out = node.is_integer() ? static_cast<double>(*node.value_exact<int64_t>())
                          : *node.value_exact<double>();
  return true;
}
bool read(const toml::node& node, std::string& out) {
  const auto value = node.value_exact<std::string>();
  out = value.value_or("");
  return value.has_value();
}
template <typename T>
bool read(const toml::node& node, std::vector<T>& out) {
  const toml::array* array = node.as_array();
  if (array == nullptr) {
    return false;
  }
  out.clear();
  for (const toml::node& element : *array) {
    T value{};
    if (!read(element, value)) {
      return false;
    }
    out.push_back(std::move(value));
  }
  return true;
}

bool inside(double value, const Range& range) { return value >= range.min && value <= range.max; }
template <typename T>
bool in_range(const T& value, const Range& range) {
  if constexpr (std::is_same_v<T, int64_t> || std::is_same_v<T, double>) {
    return inside(static_cast<double>(value), range);
  } else if constexpr (std::is_same_v<T, std::vector<int64_t>> ||
                       std::is_same_v<T, std::vector<double>>) {
    return std::all_of(value.begin(), value.end(),
                       [&](auto element) { return inside(static_cast<double>(element), range); });
  } else {
    return true;
  }
}

bool is_choice(const std::string& value, const std::vector<std::string>& choices) {
  return choices.empty() || std::find(choices.begin(), choices.end(), value) != choices.end();
}

std::string range_text(const Range& range) {
  if (std::isinf(range.min) && std::isinf(range.max)) {
    return "";
  }
  if (std::isinf(range.max)) {
    return fmt::format("at least {}", range.min);
  }
  if (std::isinf(range.min)) {
    return fmt::format("at most {}", range.max);
  }
  return fmt::format("{} .. {}", range.min, range.max);
}

// Calls visit(path, node) for every leaf of a TOML table.
template <typename Visit>
void for_each_leaf(const toml::table& table, const std::string& prefix, const Visit& visit) {
  for (const auto& [name, node] : table) {
    const std::string path = prefix + std::string(name.str());
    if (const toml::table* inner = node.as_table()) {
      for_each_leaf(*inner, path + ".", visit);
    } else {
      visit(path, node);
    }
  }
}

toml::table parse(std::string_view text, const std::string& origin) {
  try {
    return toml::parse(text, std::string_view(origin));
  } catch (const toml::parse_error& error) {
    throw UsageError(fmt::format("reading the configuration {}:{}:{}: {}", origin,
                                 error.source().begin.line, error.source().begin.column,
                                 error.description()));
  }
}

constexpr const char* kBase = "base";

// The file that `table`, read from `origin`, goes on from; nothing where it stands alone.
std::optional<std::string> base_of(const toml::table& table, const std::string& origin) {
  const toml::node* node = table.get(kBase);
  if (node == nullptr) {
    return std::nullopt;
  }
  const auto name = node->value<std::string>();
  if (!name || name->empty()) {
    throw UsageError(fmt::format("{}:{}: base: expected the path of a configuration file", origin,
                                 node->source().begin.line));
  }
  return (std::filesystem::path(origin).parent_path() / *name).lexically_normal().string();
}

// The table of a base.
toml::table parse_base(const std::string& path, const std::string& origin) {
  toml::table table = parse(read_config_file(path), path);
  if (table.contains(kBase)) {
    throw UsageError(
        fmt::format("{}: base: {} has a base itself; name that one here", origin, path));
  }
  return table;
}

}  // namespace

std::string read_config_file(const std::filesystem::path& path) {
  try {
    return read_file(path);
  } catch (const Error& error) {
    throw UsageError(fmt::format("reading the configuration: {}", error.what()));
  }
}

std::string config_task(std::string_view text, const std::string& origin) {
  const toml::table table = parse(text, origin);
  const std::optional<std::string> base =
      table.contains("task") ? std::nullopt : base_of(table, origin);
  return (base ? parse_base(*base, origin) : table)["task"].value_or(std::string("classify"));
}

std::string nearest_name(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  size_t best_distance = std::max<size_t>(2, word.size() / 2);
  for (const std::string& candidate : candidates) {
    std::vector<size_t> row(candidate.size() + 1);
    std::iota(row.begin(), row.end(), size_t{0});
    for (size_t i = 1; i <= word.size(); ++i) {
      size_t diagonal = row[0];
      row[0] = i;
      for (size_t j = 1; j <= candidate.size(); ++j) {
        const size_t replaced = diagonal + (word[i - 1] == candidate[j - 1] ? 0 : 1);
        diagonal = row[j];
        row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
      }
    }
    if (row.back() < best_distance) {
      best_distance = row.back();
      best = candidate;
    }
  }
  return best;
}

void ConfigTable::add(std::string path, Target target, std::string help, Range range) {
  Key key;
  key.path = std::move(path);
  key.target = target;
  key.default_text = literal(target);
  key.help = std::move(help);
  key.range = range;
  keys_.push_back(std::move(key));
}

void ConfigTable::add_choice(std::string path, Target target, std::vector<std::string> choices,
                             std::string help) {
  add(std::move(path), target, std::move(help));
  keys_.back().choices = std::move(choices);
}

struct ConfigTable::Assigner {
  static void assign(ConfigTable& table, const std::string& path, const toml::node& node,
                     const std::string& where);
};

void ConfigTable::Assigner::assign(ConfigTable& table, const std::string& path,
                                   const toml::node& node, const std::string& where) {
  const auto key = std::find_if(table.keys_.begin(), table.keys_.end(),
                                [&](const Key& k) { return k.path == path; });
  if (key == table.keys_.end()) {
    const std::string near = nearest_name(path, table.paths());
    throw UsageError(
        fmt::format("{}: unknown key \"{}\"{}; `comba config` lists all keys", where, path,
                    near.empty() ? std::string() : fmt::format("; did you mean \"{}\"?", near)));
  }
  std::visit(
      [&](auto* member) {
        std::remove_reference_t<decltype(*member)> value{};
        if (!read(node, value)) {
          throw UsageError(fmt::format("{}: {}: expected {}, got {}", where, path,
                                       with_article(type_name(key->target)), found(node)));
        }
        if (!in_range(value, key->range)) {
          throw UsageError(fmt::format("{}: {}: expected {}, got {}", where, path,
                                       range_text(key->range), found(node)));
        }
        const auto check_choice = [&](const std::string& word) {
          if (!is_choice(word, key->choices)) {
            const std::string near = nearest_name(word, key->choices);
            throw UsageError(fmt::format(
                "{}: {}: expected one of {}, got \"{}\"{}", where, path,
                fmt::join(key->choices, ", "), word,
                near.empty() ? std::string() : fmt::format("; did you mean \"{}\"?", near)));
          }
        };
        if constexpr (std::is_same_v<decltype(value), std::string>) {
          check_choice(value);
        } else if constexpr (std::is_same_v<decltype(value), std::vector<std::string>>) {
          std::for_each(value.begin(), value.end(), check_choice);
        }
        *member = std::move(value);
      },
      key->target);
  key->given = true;
}

void ConfigTable::read_file(const std::string& path) {
  try {
    read_text(comba::read_file(path), path);
  } catch (const UsageError&) {
    throw;
  } catch (const Error& error) {
    throw UsageError(fmt::format("reading the configuration: {}", error.what()));
  }
}

void ConfigTable::read_text(std::string_view text, const std::string& origin) {
  toml::table table = parse(text, origin);
  const auto assign = [&](const toml::table& values, const std::string& file) {
    const Origin from{file, true};
    for_each_leaf(values, "", [&](const std::string& path, const toml::node& node) {
      Assigner::assign(*this, path, node, from.at(node));
    });
  };
  if (const auto base = base_of(table, origin)) {
    assign(parse_base(*base, origin), *base);
    table.erase(kBase);
  }
  assign(table, origin);
}

void ConfigTable::set(std::string_view assignment) {
  const std::string where = fmt::format("--set {}", assignment);
  const size_t equals = assignment.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    throw UsageError(fmt::format("{}: expected key=value, e.g. --set train.lr=0.001", where));
  }
  const std::string path(assignment.substr(0, equals));
  const std::string value(assignment.substr(equals + 1));
  toml::table table;
  try {
    table = toml::parse("value = " + value);
  } catch (const toml::parse_error&) {
    table.insert("value", value);  // a bare word
  }
  const toml::node* node = table.get("value");
  if (node == nullptr || table.size() != 1) {
    throw UsageError(fmt::format("{}: expected one value", where));
  }
  Assigner::assign(*this, path, *node, where);
}

std::string ConfigTable::dump() const {
  std::vector<std::string> sections;
  for (const Key& key : keys_) {
    const size_t dot = key.path.rfind('.');
    const std::string section = dot == std::string::npos ? "" : key.path.substr(0, dot);
    if (std::find(sections.begin(), sections.end(), section) == sections.end()) {
      sections.push_back(section);
    }
  }
  // Keys outside any section must come first in TOML.
  std::stable_partition(sections.begin(), sections.end(), [](const auto& s) { return s.empty(); });
  std::string out;
  for (const std::string& section : sections) {
    if (!section.empty()) {
      out += fmt::format("{}[{}]\n", out.empty() ? "" : "\n", section);
    }
    for (const Key& key : keys_) {
      const size_t dot = key.path.rfind('.');
      if ((dot == std::string::npos ? "" : key.path.substr(0, dot)) == section) {
        out += fmt::format("{} = {}\n", key.path.substr(dot == std::string::npos ? 0 : dot + 1),
                           literal(key.target));
      }
    }
  }
  return out;
}

std::string ConfigTable::describe() const {
  std::string out;
  for (const Key& key : keys_) {
    std::string limits = range_text(key.range);
    if (!key.choices.empty()) {
      limits = fmt::format("{}", fmt::join(key.choices, " | "));
    }
    out += fmt::format("{} = {}\n    {}{}{}\n    {}\n", key.path, key.default_text,
                       type_name(key.target), limits.empty() ? "" : ", ", limits, key.help);
  }
  return out;
}

std::vector<std::string> ConfigTable::paths() const {
  std::vector<std::string> out;
  for (const Key& key : keys_) {
    out.push_back(key.path);
  }
  return out;
}

bool ConfigTable::given(std::string_view path) const {
  return std::any_of(keys_.begin(), keys_.end(),
                     [&](const Key& key) { return key.path == path && key.given; });
}

}  // namespace comba
