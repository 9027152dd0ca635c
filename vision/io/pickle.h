// Python's pickle format as torch.save writes it (protocol 2, and what 3 to 5 add), read as data. A pickle is a program that
// builds objects by importing and calling; nothing is imported or called here. Tensors are recognised by the names of the
// functions that would build them, other harmless objects are passed over, any other name is an error. No torch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace comba::vision {

// Of a storage that lies outside of the pickle.
struct PickledStorage {
  std::string key;   // its name in the archive
  std::string type;  // "FloatStorage", "HalfStorage", ...
  int64_t elements;
};

// Elements lie inside of the storage, and there are no more of them than it has.
struct PickledTensor {
  size_t storage;  // index
  int64_t offset;  // elements
  std::vector<int64_t> sizes, strides;
};

struct PickleValue {
  enum class Kind { none, integer, text, tuple, list, dict, global, storage, tensor, other };
  Kind kind = Kind::other;
  int64_t number = 0;                // integer (booleans too); storage, tensor: index
  std::string text = {};             // text; global: "module.name"
  std::vector<uint32_t> items = {};  // tuple, list: values; dict: key, value, key, value, ...
};

// Values refer to each other by index, and may do so in circles.
struct Pickle {
  std::vector<PickleValue> values;
  std::vector<PickledStorage> storages;
  std::vector<PickledTensor> tensors;
  uint32_t root = 0;
};

// `origin` is for messages. Throws Error naming the byte, what was expected and found. Memory is a multiple of bytes.size(),
// whatever they say; nothing is recursive.
Pickle parse_pickle(std::span<const uint8_t> bytes, const std::string& origin);

}  // namespace comba::vision
