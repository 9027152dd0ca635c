#include "vision/base/files.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

#include "vision/base/error.h"

namespace comba {
namespace fs = std::filesystem;
namespace {

[[noreturn]] void fail(const char* doing, const fs::path& path, int error) {
  const char* remedy = "";
  if (error == ENOSPC || error == EDQUOT || error == EFBIG) {
    remedy = "; free some space or choose another folder";
  } else if (error == EACCES || error == EROFS || error == EPERM) {
    remedy = "; check the permissions or choose another folder";
  }
  throw Error(fmt::format("{} {}: {}{}", doing, path.string(), std::strerror(error), remedy));
}

// A descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) {
      ::close(value_);
    }
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return value_; }
  int release() { return std::exchange(value_, -1); }

 private:
  int value_;
};

// Makes a rename or a new entry in the folder survive a power cut.
void sync_path(const fs::path& path) {
  const Descriptor descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (descriptor.get() < 0 || (::fsync(descriptor.get()) != 0 && errno != EINVAL)) {
    fail("syncing", path, errno);
  }
}

fs::path parent_of(const fs::path& path) {
  const fs::path parent = path.parent_path();
  return parent.empty() ? fs::path(".") : parent;
}

fs::path temporary_name(const fs::path& path) {
  return parent_of(path) / fmt::format(".{}.tmp.{}", path.filename().string(), ::getpid());
}

// All of `data`; `position` is where it goes in the file, and ends behind what was written.
void write_all(int descriptor, const fs::path& path, const void* data, size_t bytes,
               uint64_t& position) {
  const char* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t wrote = ::write(descriptor, at, bytes);
    if (wrote < 0 && errno == EINTR) {
      continue;
    }
    if (wrote < 0) {
      const int error = errno;
      const std::string doing = fmt::format("writing byte {} of", position);
      fail(doing.c_str(), path, error);
    }
    at += wrote;
    bytes -= static_cast<size_t>(wrote);
    position += static_cast<uint64_t>(wrote);
  }
}

}  // namespace

std::string read_file(const fs::path& path) {
  const Descriptor descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (descriptor.get() < 0) {
    fail("reading", path, errno);
  }
  struct stat status {};
  // In one read where the size is known; that of pipes and of what is in /proc is not.
  const size_t size = ::fstat(descriptor.get(), &status) == 0 ? status.st_size : 0;
  std::string content;
  for (size_t filled = 0;;) {
    content.resize(filled < size ? size : filled + (1 << 16));
    const ssize_t got = ::read(descriptor.get(), content.data() + filled, content.size() - filled);
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got < 0) {
      fail("reading", path, errno);
    }
    filled += static_cast<size_t>(got);
    if (got == 0 || filled == size) {
      content.resize(filled);
      return content;
    }
  }
}

void write_file_atomic(const fs::path& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content.data(), content.size());
  file.commit();
}

AtomicFile::AtomicFile(fs::path path) : path_(std::move(path)), temporary_(temporary_name(path_)) {
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor_ < 0) {
    fail("writing", path_, errno);
  }
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
    ::unlink(temporary_.c_str());
  }
}

void AtomicFile::write(const void* data, size_t bytes) {
  write_all(descriptor_, path_, data, bytes, position_);
}

void AtomicFile::commit() {
  if (::fsync(descriptor_) != 0) {
    fail("syncing", path_, errno);
  }
  const int descriptor = std::exchange(descriptor_, -1);
  if (::close(descriptor) != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int error = errno;
    ::unlink(temporary_.c_str());
    fail("writing", path_, error);
  }
  sync_path(parent_of(path_));
}

GrowingFile::GrowingFile(fs::path path, uint64_t position)
    : path_(std::move(path)), position_(position), synced_(position) {
  const int create = position == 0 ? O_CREAT : 0;
  Descriptor descriptor(::open(path_.c_str(), O_WRONLY | create | O_CLOEXEC, 0644));
  struct stat status {};
  if (descriptor.get() < 0 || ::fstat(descriptor.get(), &status) != 0) {
    fail("writing", path_, errno);
  }
  COMBA_CHECK(::flock(descriptor.get(), LOCK_EX | LOCK_NB) == 0,
              "writing {}: another process writes it; wait for its end", path_.string());
  COMBA_CHECK(static_cast<uint64_t>(status.st_size) >= position,
              "going on with {}: expected at least {} bytes of an earlier run, got {}",
              path_.string(), position, status.st_size);
  if (::ftruncate(descriptor.get(), static_cast<off_t>(position)) != 0 ||
      ::lseek(descriptor.get(), static_cast<off_t>(position), SEEK_SET) < 0) {
    fail("writing", path_, errno);
  }
  descriptor_ = descriptor.release();
}

GrowingFile::~GrowingFile() { ::close(descriptor_); }

void GrowingFile::write(const void* data, size_t bytes) {
  write_all(descriptor_, path_, data, bytes, position_);
}

void GrowingFile::sync() {
  if (synced_ != position_ && ::fsync(descriptor_) != 0) {
    fail("syncing", path_, errno);
  }
  synced_ = position_;
}

void GrowingFile::rename(const fs::path& target) {
  sync();
  if (::rename(path_.c_str(), target.c_str()) != 0) {
    fail("writing", target, errno);
  }
  path_ = target;
  sync_path(parent_of(target));
}

AtomicFolder::AtomicFolder(fs::path destination)
    : destination_(std::move(destination)), temporary_(temporary_name(destination_)) {
  std::error_code error;
  fs::remove_all(temporary_, error);
  fs::create_directories(temporary_, error);
  if (error) {
    fail("creating the folder", destination_, error.value());
  }
}

AtomicFolder::~AtomicFolder() {
  if (!committed_) {
    std::error_code ignored;
    fs::remove_all(temporary_, ignored);
  }
}

void AtomicFolder::commit() {
  for (const auto& entry : fs::recursive_directory_iterator(temporary_)) {
    sync_path(entry.path());
  }
  sync_path(temporary_);
  // rename() replaces an empty folder only, so an existing one steps aside under a name that readers know.
  const fs::path old = destination_.string() + ".old";
  std::error_code error;
  const bool replaces = fs::exists(destination_);
  if (replaces) {
    fs::remove_all(old, error);
    fs::rename(destination_, old, error);
  }
  if (!error) {
    fs::rename(temporary_, destination_, error);
  }
  if (error) {
    std::error_code ignored;
    if (replaces && !fs::exists(destination_)) {
      fs::rename(old, destination_, ignored);
    }
    fail("putting in place the folder", destination_, error.value());
  }
  committed_ = true;
  sync_path(parent_of(destination_));
  fs::remove_all(old, error);
}

MappedFile::MappedFile(const fs::path& path) : path_(path) {
  const Descriptor descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (descriptor.get() < 0 || ::fstat(descriptor.get(), &status) != 0) {
    fail("opening", path, errno);
  }
  if (!S_ISREG(status.st_mode)) {
    fail("opening", path, S_ISDIR(status.st_mode) ? EISDIR : EINVAL);
  }
  size_ = static_cast<size_t>(status.st_size);
  if (size_ == 0) {
    return;
  }
  void* map = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor.get(), 0);
  if (map == MAP_FAILED) {
    fail("mapping", path, errno);
  }
  data_ = static_cast<const uint8_t*>(map);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) {
    ::munmap(const_cast<uint8_t*>(data_), size_);
  }
}

namespace {

constexpr std::array<uint32_t, 256> make_crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) {
      value = (value >> 1) ^ (value & 1 ? 0x82F63B78u : 0u);
    }
    table[i] = value;
  }
  return table;
}

uint32_t crc32c_table(std::span<const uint8_t> bytes, uint32_t crc) {
  static constexpr auto kTable = make_crc_table();
  for (const uint8_t byte : bytes) {
    crc = kTable[(crc ^ byte) & 0xff] ^ (crc >> 8);
  }
  return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) uint32_t crc32c_sse42(std::span<const uint8_t> bytes,
                                                        uint32_t crc) {
  uint64_t wide = crc;
  size_t at = 0;
  for (; at + 8 <= bytes.size(); at += 8) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, 8);
    wide = _mm_crc32_u64(wide, word);
  }
  crc = static_cast<uint32_t>(wide);
  for (; at < bytes.size(); ++at) {
    crc = _mm_crc32_u8(crc, bytes[at]);
  }
  return crc;
}
#endif

}  // namespace

uint32_t crc32c(std::span<const uint8_t> bytes, uint32_t previous) {
  const uint32_t start = ~previous;
#if defined(__x86_64__)
  static const bool hardware = __builtin_cpu_supports("sse4.2");
  if (hardware) {
    return ~crc32c_sse42(bytes, start);
  }
#endif
  return ~crc32c_table(bytes, start);
}

std::string resolve_path(const std::string& path, const std::filesystem::path& folder) {
  if (std::filesystem::path(path).is_absolute()) {
    return path;
  }
  for (const auto& candidate : {std::filesystem::current_path() / path, folder / path}) {
    std::error_code ignored;
    if (std::filesystem::exists(candidate, ignored)) {
      return std::filesystem::weakly_canonical(candidate).string();
    }
  }
  return path;
}

}  // namespace comba
