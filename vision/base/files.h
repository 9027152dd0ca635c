// Files that are whole or absent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace comba {

// Reads a whole file; throws Error naming the path and the reason.
std::string read_file(const std::filesystem::path& path);

// Writes a sibling temporary file, fsyncs it, renames it over `path`, fsyncs the folder. On failure the old
// content is untouched, the temporary file is removed, and Error names path, bytes and reason.
void write_file_atomic(const std::filesystem::path& path, std::string_view content);

// The same for content written in pieces: nothing appears at `path` before commit().
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();  // without commit(): removes the temporary file
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(const void* data, size_t bytes);
  uint64_t position() const { return position_; }
  void commit();

 private:
  std::filesystem::path path_, temporary_;
  int descriptor_ = -1;
  uint64_t position_ = 0;
};

// A file that grows over several runs of a program and gets its name when it is whole. Locked as long as it is open: a second
// process that opens it gets an Error.
class GrowingFile {
 public:
  // Opens `path`, for position 0 also a new one, and cuts off what lies behind `position`. Error if it is shorter than that.
  GrowingFile(std::filesystem::path path, uint64_t position);
  ~GrowingFile();  // keeps what was written
  GrowingFile(const GrowingFile&) = delete;
  GrowingFile& operator=(const GrowingFile&) = delete;
  void write(const void* data, size_t bytes);
  uint64_t position() const { return position_; }
  const std::filesystem::path& path() const { return path_; }
  void sync();  // what was written survives a power cut
  void rename(const std::filesystem::path& target);

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  uint64_t position_ = 0, synced_ = 0;
};

// A folder that appears at `path` whole or not at all: fill path(), then commit() (fsync all, rename; an
// existing folder at the destination is replaced without a moment in which neither exists under some name).
class AtomicFolder {
 public:
  explicit AtomicFolder(std::filesystem::path destination);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;
  const std::filesystem::path& path() const { return temporary_; }
  void commit();

 private:
  std::filesystem::path destination_, temporary_;
  bool committed_ = false;
};

// A read-only memory map. Empty files map to an empty span.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  std::span<const uint8_t> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78), hardware-assisted where the CPU has it.
// Chain pieces by passing the previous value.
uint32_t crc32c(std::span<const uint8_t> bytes, uint32_t previous = 0);

// A path of a configuration: below the working directory (what the user typed with --set) or else below `folder`, that of the
// configuration's file. As it stands if it is in neither; opening it names it.
std::string resolve_path(const std::string& path, const std::filesystem::path& folder);

}  // namespace comba
