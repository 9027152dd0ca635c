#include "vision/engine/event_file.h"

#include "vision/base/files.h"
#include "vision/base/log.h"

#include <array>
#include <bit>
#include <chrono>
#include <cstring>

#include <unistd.h>

namespace comba::vision {
namespace fs = std::filesystem;
namespace {

// Protocol buffers' wire format.
enum class Wire : uint8_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

void put_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) {
    out.push_back(static_cast<char>(value | 0x80));
  }
  out.push_back(static_cast<char>(value));
}

void put_key(std::string& out, int field, Wire wire) {
  put_varint(out, static_cast<uint64_t>(field) << 3 | static_cast<uint64_t>(wire));
}

template <typename T>
void put_fixed(std::string& out, T value) {
  static_assert(std::endian::native == std::endian::little);
  std::array<char, sizeof(T)> bytes;
  std::memcpy(bytes.data(), &value, sizeof(T));
  out.append(bytes.data(), bytes.size());
}

void put_bytes(std::string& out, int field, const std::string& bytes) {
  put_key(out, field, Wire::bytes);
  put_varint(out, bytes.size());
  out += bytes;
}

// Event { double wall_time = 1; int64 step = 2; ... }
std::string begin_event(double time, int64_t step) {
  std::string event;
  put_key(event, 1, Wire::fixed64);
  put_fixed(event, time);
  if (step != 0) {
    put_key(event, 2, Wire::varint);
    put_varint(event, static_cast<uint64_t>(step));
  }
  return event;
}

// Event.file_version = 3
std::string version_event(double time) {
  std::string event = begin_event(time, 0);
  put_bytes(event, 3, "brain.Event:2");
  return event;
}

// Event.session_log = 7; SessionLog { Status status = 1; }, whose START makes TensorBoard forget later steps.
std::string start_event(double time, int64_t step) {
  std::string log, event = begin_event(time, step);
  put_key(log, 1, Wire::varint);
  put_varint(log, 1);
  put_bytes(event, 7, log);
  return event;
}

// Event.summary = 5; Summary { repeated Value value = 1; }; Value { string tag = 1; float simple_value = 2; }
std::string summary_event(double time, int64_t step, const Metrics& scalars) {
  std::string summary, event = begin_event(time, step);
  for (const auto& [tag, number] : scalars) {
    std::string value;
    put_bytes(value, 1, tag);
    put_key(value, 2, Wire::fixed32);
    put_fixed(value, static_cast<float>(number));
    put_bytes(summary, 1, value);
  }
  put_bytes(event, 5, summary);
  return event;
}

// TFRecord's checksums are turned about, so that a record may hold records.
uint32_t masked_crc(const std::string& bytes) {
  const uint32_t crc = crc32c({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
  return std::rotr(crc, 15) + 0xa282ead8U;
}

fs::path file_name() {
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(
                           std::chrono::system_clock::now().time_since_epoch())
                           .count();
  return fmt::format("events.out.tfevents.{:010}.{}.{}", seconds, host.data(), getpid());
}

}  // namespace

EventFile::EventFile(const fs::path& folder, int64_t first_step)
    : EventFile(folder / file_name(), first_step, 0.0) {}

EventFile::EventFile(const fs::path& file, int64_t first_step, double time)
    : path_(file), fixed_time_(time) {
  std::error_code ignored;  // opening the file says what is wrong
  fs::create_directories(path_.parent_path(), ignored);
  file_.open(path_, std::ios::binary);
  write(version_event(now()));
  if (first_step > 0) {
    write(start_event(now(), first_step));
  }
}

double EventFile::now() const {
  const std::chrono::duration<double> since = std::chrono::system_clock::now().time_since_epoch();
  return fixed_time_ > 0 ? fixed_time_ : since.count();
}

void EventFile::add(int64_t step, const Metrics& scalars) {
  if (!scalars.empty()) {
    write(summary_event(now(), step, scalars));
  }
}

void EventFile::write(const std::string& event) {
  if (failed_) {
    return;
  }
  std::string length, record;
  put_fixed(length, static_cast<uint64_t>(event.size()));
  record = length;
  put_fixed(record, masked_crc(length));
  record += event;
  put_fixed(record, masked_crc(event));
  file_ << record << std::flush;
  if (!file_) {
    failed_ = true;
    log::warning("writing {} failed (disk full?); training goes on without TensorBoard's records",
                 path_.string());
  }
}

}  // namespace comba::vision
