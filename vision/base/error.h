// Errors are part of the interface: what was being done, which input, expected, got, remedy.
#pragma once

#include <source_location>
#include <stdexcept>
#include <string>

#include <fmt/format.h>

namespace comba {

// Process exit codes of every command.
enum ExitCode : int {
  kExitOk = 0,
  kExitRuntime = 1,
  kExitUsage = 2,
  kExitInterrupted = 130,
  kExitTerminated = 143
};

// A failure the user can read. `what()` is the message alone; `where()` is "file.cpp:123" for logs.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message,
                 std::source_location where = std::source_location::current())
      : std::runtime_error(message), where_(where) {}
  std::string where() const;
  virtual ExitCode exit_code() const { return kExitRuntime; }

 private:
  std::source_location where_;
};

// A wrong argument or configuration (exit code 2).
class UsageError : public Error {
 public:
  using Error::Error;
  ExitCode exit_code() const override { return kExitUsage; }
};

}  // namespace comba

// COMBA_CHECK(size > 0, "reading {}: expected a non-empty file, got 0 bytes", path)
#define COMBA_CHECK(condition, ...)                     \
  do {                                                  \
    if (!(condition)) [[unlikely]]                      \
      throw ::comba::Error(::fmt::format(__VA_ARGS__)); \
  } while (false)
