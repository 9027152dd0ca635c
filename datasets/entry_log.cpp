#include "datasets/entry_log.h"

#include <cstring>

namespace comba::datasets {
namespace fs = std::filesystem;
namespace {

struct Frame {
  uint64_t bytes;
  uint32_t crc, zero;
};
static_assert(sizeof(Frame) == 16);

uint32_t checksum(std::string_view content) {
  return crc32c({reinterpret_cast<const uint8_t*>(content.data()), content.size()});
}

}  // namespace

EntryLog::EntryLog(const fs::path& path) {
  const std::string text = fs::exists(path) ? read_file(path) : std::string();
  size_t at = 0;
  while (text.size() - at >= sizeof(Frame)) {
    Frame frame{};
    std::memcpy(&frame, text.data() + at, sizeof frame);
    // Zeros are what a power cut leaves of blocks that were not written.
    if (frame.bytes == 0 || frame.bytes > text.size() - at - sizeof frame) {
      break;
    }
    std::string content = text.substr(at + sizeof frame, frame.bytes);
    if (checksum(content) != frame.crc) {
      break;
    }
    at += sizeof frame + content.size();
    entries_.push_back(std::move(content));
  }
  file_ = std::make_unique<GrowingFile>(path, at);
}

void EntryLog::append(std::string_view content) {
  const Frame frame{content.size(), checksum(content), 0};
  std::string bytes(reinterpret_cast<const char*>(&frame), sizeof frame);
  bytes.append(content);
  file_->write(bytes.data(), bytes.size());
  file_->sync();
}

void EntryLog::remove() { fs::remove(file_->path()); }

}  // namespace comba::datasets
