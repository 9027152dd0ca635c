// The wire format of protobuf messages, as far as ONNX files need it. By hand: LibTorch exports the symbols of a protobuf
// library of its own, older one, beside which a second in the same process is not safe.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace comba::vision::onnx {

// A message is what its fields were written to, one after the other.
class Message {
 public:
  void add_int(int field, int64_t value) {
    add_key(field, kVarint);
    add_varint(static_cast<uint64_t>(value));
  }
  void add_float(int field, float value) {
    add_key(field, kFixed32);
    const auto bits = std::bit_cast<uint32_t>(value);
    for (int shift = 0; shift < 32; shift += 8) {
      bytes_.push_back(static_cast<char>(bits >> shift & 0xFF));
    }
  }
  void add_bytes(int field, std::string_view value) {
    add_key(field, kLengthDelimited);
    add_varint(value.size());
    bytes_.append(value);
  }
  void add_message(int field, const Message& message) { add_bytes(field, message.bytes_); }
  const std::string& bytes() const { return bytes_; }

 private:
  enum WireType : uint64_t { kVarint = 0, kLengthDelimited = 2, kFixed32 = 5 };

  void add_key(int field, WireType type) { add_varint(static_cast<uint64_t>(field) << 3 | type); }
  void add_varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) {
      bytes_.push_back(static_cast<char>(value | 0x80));
    }
    bytes_.push_back(static_cast<char>(value));
  }

  std::string bytes_;
};

}  // namespace comba::vision::onnx
