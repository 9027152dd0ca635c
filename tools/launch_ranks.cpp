#include "tools/launch_ranks.h"

#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/log.h"
#include "vision/engine/distributed.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;  // NOLINT(readability-redundant-declaration)

namespace comba::tools {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kPatience{60};  // with those that are left once one has failed

class RanksEnded : public Error {
 public:
  RanksEnded(const std::string& message, int code) : Error(message), code_(code) {}
  ExitCode exit_code() const override { return static_cast<ExitCode>(code_); }

 private:
  int code_;
};

// Blocks the signals that the launcher waits for, in all threads that begin from then on.
class BlockedSignals {
 public:
  BlockedSignals() {
    sigemptyset(&signals_);
    for (const int signal : {SIGINT, SIGTERM, SIGCHLD}) {
      sigaddset(&signals_, signal);
    }
    pthread_sigmask(SIG_BLOCK, &signals_, &before_);
  }
  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

  const sigset_t& before() const { return before_; }
  // The next one, or 0 after a second.
  int wait() const {
    constexpr timespec kSecond{1, 0};
    return std::max(sigtimedwait(&signals_, nullptr, &kSecond), 0);
  }

 private:
  sigset_t signals_, before_;
};

// Texts as execve() wants them.
class TextList {
 public:
  explicit TextList(std::vector<std::string> texts) : texts_(std::move(texts)) {
    for (std::string& text : texts_) {
      pointers_.push_back(text.data());
    }
    pointers_.push_back(nullptr);
  }
  char* const* data() const { return pointers_.data(); }

 private:
  std::vector<std::string> texts_;
  std::vector<char*> pointers_;
};

std::vector<std::string> command_line() {
  std::vector<std::string> arguments;
  const std::string text = read_file("/proc/self/cmdline");
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\0', begin), text.size());
    arguments.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return arguments;
}

std::vector<std::string> environment_of(int64_t rank, int64_t count, int64_t port) {
  const std::vector<std::string> place = {fmt::format("RANK={}", rank),
                                          fmt::format("LOCAL_RANK={}", rank),
                                          fmt::format("WORLD_SIZE={}", count),
                                          fmt::format("LOCAL_WORLD_SIZE={}", count),
                                          "MASTER_ADDR=127.0.0.1",
                                          fmt::format("MASTER_PORT={}", port),
                                          "TORCHELASTIC_USE_AGENT_STORE=True",
                                          "TORCHELASTIC_RESTART_COUNT=0"};
  std::vector<std::string> variables = place;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text = *variable;
    const std::string_view name = text.substr(0, text.find('='));
    const bool replaced = std::any_of(place.begin(), place.end(), [&](const std::string& mine) {
      return mine.substr(0, mine.find('=')) == name;
    });
    if (!replaced) {
      variables.emplace_back(text);
    }
  }
  return variables;
}

struct Child {
  pid_t process = 0;
  bool running = true;
};

class Launch {
 public:
  explicit Launch(int64_t count) : children_(static_cast<size_t>(count)) {}
  void start();
  void wait();

 private:
  pid_t start_one(const TextList& arguments, const TextList& variables) const;
  void collect();
  void ended(size_t rank, int status);
  void send(int signal) const;
  size_t running() const {
    return static_cast<size_t>(std::count_if(children_.begin(), children_.end(),
                                             [](const Child& child) { return child.running; }));
  }

  const BlockedSignals signals_;
  vision::RankStore store_;
  std::vector<Child> children_;
  int code_ = 0;
  std::string reason_;  // of code_
  Clock::time_point failed_;
};

// Between fork() and execve() nothing is called but the kernel: other threads may hold locks. A group of its own keeps the
// terminal's Ctrl-C from reaching the child twice; it ends with the launcher, however that ends.
pid_t Launch::start_one(const TextList& arguments, const TextList& variables) const {
  const pid_t launcher = getpid();
  const pid_t child = fork();
  if (child == 0) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != launcher) {
      _exit(kExitTerminated);
    }
    pthread_sigmask(SIG_SETMASK, &signals_.before(), nullptr);
    execve("/proc/self/exe", arguments.data(), variables.data());
    _exit(127);
  }
  COMBA_CHECK(child > 0, "starting {} ranks: no further process: {}", children_.size(),
              std::strerror(errno));
  return child;
}

void Launch::start() {
  const TextList arguments(command_line());
  const auto count = static_cast<int64_t>(children_.size());
  for (int64_t rank = 0; rank < count; ++rank) {
    Child& child = children_[static_cast<size_t>(rank)];
    child.running = false;
    child.process = start_one(arguments, TextList(environment_of(rank, count, store_.port())));
    child.running = true;
    log::info("rank {} of {} is process {}", rank, count, child.process);
  }
}

void Launch::send(int signal) const {
  for (const Child& child : children_) {
    if (child.running) {
      kill(child.process, signal);
    }
  }
}

void Launch::ended(size_t rank, int status) {
  Child& child = children_[rank];
  child.running = false;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
    return;
  }
  const bool killed = WIFSIGNALED(status);
  const int code = killed ? kExitRuntime : WEXITSTATUS(status);
  const std::string what =
      killed
          ? fmt::format("rank {} (process {}) was killed by signal {} ({})", rank, child.process,
                        WTERMSIG(status), strsignal(WTERMSIG(status)))
          : fmt::format("rank {} (process {}) ended with exit code {}", rank, child.process, code);
  if (code_ == 0) {
    code_ = code;
    reason_ = what;
    failed_ = Clock::now();
    store_.fail(what);
  } else if (code == kExitUsage) {  // more telling than what it did to the others
    code_ = code;
    reason_ = what;
  }
}

void Launch::collect() {
  for (size_t rank = 0; rank < children_.size(); ++rank) {
    int status = 0;
    if (children_[rank].running && waitpid(children_[rank].process, &status, WNOHANG) > 0) {
      ended(rank, status);
    }
  }
}

void Launch::wait() {
  bool ended_by_force = false;
  while (running() > 0) {
    const int signal = signals_.wait();
    if (signal == SIGINT || signal == SIGTERM) {
      send(signal);
    }
    collect();
    if (code_ != 0 && running() > 0 && !ended_by_force && Clock::now() - failed_ > kPatience) {
      log::error("{} ranks have not ended {} s after {}; they are killed", running(),
                 kPatience.count(), reason_);
      send(SIGKILL);
      ended_by_force = true;
    }
  }
  if (code_ == kExitInterrupted || code_ == kExitTerminated) {
    throw RanksEnded(fmt::format("all {} ranks have stopped", children_.size()), code_);
  }
  if (code_ != 0) {
    throw RanksEnded(fmt::format("training on {} ranks: {}", children_.size(), reason_), code_);
  }
}

}  // namespace

void launch_ranks(int64_t count) {
  Launch launch(count);
  launch.start();
  launch.wait();
}

}  // namespace comba::tools
