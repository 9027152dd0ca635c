// What fuzz targets share: a folder of this process alone, the corpus that a target may begin, errors that are answers.
#pragma once

#include "vision/base/error.h"

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace comba::fuzz {

// In memory; see fuzz.sh.
inline std::filesystem::path folder() { return std::getenv("COMBA_FUZZ_FOLDER"); }

inline void write(const std::filesystem::path& path, const std::string& content) {
  std::ofstream(path, std::ios::binary)
      .write(content.data(), static_cast<std::streamsize>(content.size()));
}

// An input from which others are made; to be called in LLVMFuzzerInitialize.
inline void add_to_corpus(const std::string& name, const std::string& content) {
  write(std::filesystem::path(std::getenv("COMBA_FUZZ_CORPUS")) / name, content);
}

// Calls body(); an Error is as good an answer as any.
template <typename Body>
void guarded(const Body& body) {
  try {
    body();
  } catch (const Error&) {
  }
}

}  // namespace comba::fuzz
