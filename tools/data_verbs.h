// What the verbs of comba data share.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include <CLI/CLI.hpp>

namespace comba::tools {

// SOURCE, --split and --threads.
void add_source(CLI::App& verb, std::string& source, std::string& split, int64_t& threads);

// "3 grey, 1 CMYK", the most frequent first.
std::string join_counts(const std::map<std::string, int64_t>& counts);

void add_check_verb(CLI::App& data);
void add_pack_verb(CLI::App& data);
void add_show_verb(CLI::App& data);

}  // namespace comba::tools
