// Errors are part of the interface: what was being done, which input, expected, got, remedy.
#pragma once

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
  // The builtins of GCC and clang rather than std::source_location, which clang 14 does not have.
  explicit Error(const std::string& message, const char* file = __builtin_FILE(),
                 int line = __builtin_LINE())
      : std::runtime_error(message), file_(file), line_(line) {}
  std::string where() const;
  virtual ExitCode exit_code() const { return kExitRuntime; }

 private:
  const char* file_;
  int line_;
};

// A wrong argument or configuration (exit code 2).
class UsageError : public Error {
 public:
  using Error::Error;
  ExitCode exit_code() const override { return kExitUsage; }
};

// What `body` returns. Its errors get the name of the configuration's key whose value it takes.
template <typename Body>
auto taking(const char* key, const Body& body) {
  try {
    return body();
  } catch (const UsageError& error) {
    throw UsageError(fmt::format("{}: {}", key, error.what()));
  } catch (const Error& error) {
    throw Error(fmt::format("{}: {}", key, error.what()));
  }
}

}  // namespace comba

// COMBA_CHECK(size > 0, "reading {}: expected a non-empty file, got 0 bytes", path)
#define COMBA_CHECK(condition, ...)                     \
  do {                                                  \
    if (!(condition)) [[unlikely]]                      \
      throw ::comba::Error(::fmt::format(__VA_ARGS__)); \
  } while (false)
