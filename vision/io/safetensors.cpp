#include "vision/io/safetensors.h"

#include "vision/base/error.h"
#include "vision/base/files.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <set>

#include <ATen/ops/empty.h>
#include <nlohmann/json.hpp>

namespace comba::vision {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr uint64_t kMaxHeader = 100'000'000;  // of the reference implementation
constexpr int kMaxDepth = 8;

struct Dtype {
  const char* name;
  at::ScalarType type;
};
constexpr Dtype kDtypes[] = {{"BOOL", at::kBool},  {"U8", at::kByte},       {"I8", at::kChar},
                             {"I16", at::kShort},  {"U16", at::kUInt16},    {"I32", at::kInt},
                             {"U32", at::kUInt32}, {"I64", at::kLong},      {"U64", at::kUInt64},
                             {"F16", at::kHalf},   {"BF16", at::kBFloat16}, {"F32", at::kFloat},
                             {"F64", at::kDouble}};

std::string dtype_name(const fs::path& path, const std::string& tensor, at::ScalarType type) {
  for (const Dtype& dtype : kDtypes) {
    if (dtype.type == type) {
      return dtype.name;
    }
  }
  throw Error(fmt::format("writing {}: tensor {}: dtype {} has no safetensors name", path.string(),
                          tensor, c10::toString(type)));
}

// Errors of one file, all beginning alike.
class Complaints {
 public:
  explicit Complaints(const fs::path& path) : path_(path.string()) {}
  template <typename... Args>
  void require(bool holds, fmt::format_string<Args...> format, Args&&... args) const {
    if (!holds) {
      throw Error(fmt::format("reading {}: {}; the file is damaged or not safetensors", path_,
                              fmt::format(format, std::forward<Args>(args)...)));
    }
  }

 private:
  std::string path_;
};

// Parses the header; refuses duplicate keys at any level and deep nesting, which nlohmann accepts.
Json parse_header(std::string_view text, const Complaints& complain) {
  std::vector<std::set<std::string>> keys;
  std::string duplicate;
  bool deep = false;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
    deep = deep || depth > kMaxDepth;
    if (event == Json::parse_event_t::object_start) {
      keys.emplace_back();
    } else if (event == Json::parse_event_t::object_end) {
      keys.pop_back();
    } else if (event == Json::parse_event_t::key &&
               !keys.back().insert(parsed.get<std::string>()).second) {
      duplicate = parsed.get<std::string>();
    }
    return !deep;
  };
  Json header;
  try {
    header = Json::parse(text, watch);
  } catch (const Json::exception& error) {
    complain.require(false, "header: {}", error.what());
  }
  complain.require(!deep, "header: nested deeper than {}", kMaxDepth);
  complain.require(duplicate.empty(), "header: the key \"{}\" appears twice", duplicate);
  complain.require(header.is_object(), "header: expected a JSON object");
  return header;
}

struct Entry {
  std::string name;
  at::ScalarType type;
  std::vector<int64_t> shape;
  uint64_t begin, end;  // bytes after the header
};

std::optional<uint64_t> unsigned_integer(const Json& json) {
  return json.is_number_unsigned() ? std::optional(json.get<uint64_t>()) : std::nullopt;
}

Entry parse_entry(const std::string& name, const Json& json, const Complaints& complain) {
  complain.require(json.is_object() && json.size() == 3 && json.contains("dtype") &&
                       json.contains("shape") && json.contains("data_offsets"),
                   "tensor {}: expected exactly dtype, shape and data_offsets", name);
  const Json &dtype = json["dtype"], &shape = json["shape"], &offsets = json["data_offsets"];
  complain.require(dtype.is_string(), "tensor {}: dtype: expected a string", name);
  const auto known = std::find_if(std::begin(kDtypes), std::end(kDtypes), [&](const Dtype& d) {
    return dtype.get<std::string>() == d.name;
  });
  if (known == std::end(kDtypes)) {
    complain.require(false, "tensor {}: dtype {} is not supported here", name,
                     dtype.get<std::string>());
  }
  Entry entry{name, known->type, {}, 0, 0};
  uint64_t bytes = c10::elementSize(known->type);
  complain.require(shape.is_array(), "tensor {}: shape: expected a list", name);
  for (const Json& size : shape) {
    const auto value = unsigned_integer(size);
    complain.require(value && *value <= uint64_t{std::numeric_limits<int64_t>::max()},
                     "tensor {}: shape: expected non-negative integers", name);
    complain.require(!__builtin_mul_overflow(bytes, *value, &bytes),
                     "tensor {}: its size overflows", name);
    entry.shape.push_back(static_cast<int64_t>(*value));
  }
  complain.require(offsets.is_array() && offsets.size() == 2 && unsigned_integer(offsets[0]) &&
                       unsigned_integer(offsets[1]),
                   "tensor {}: data_offsets: expected two non-negative integers", name);
  entry.begin = offsets[0].get<uint64_t>();
  entry.end = offsets[1].get<uint64_t>();
  complain.require(entry.begin <= entry.end && entry.end - entry.begin == bytes,
                   "tensor {}: data_offsets [{}, {}) do not hold the {} bytes of its shape", name,
                   entry.begin, entry.end, bytes);
  return entry;
}

// The tensors must cover the data exactly: no holes, no overlap, nothing behind.
void check_cover(std::vector<Entry>& entries, uint64_t data_bytes, const Complaints& complain) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  uint64_t at = 0;
  for (const Entry& entry : entries) {
    complain.require(entry.begin == at,
                     "tensor {}: starts at byte {}, expected {} (a hole or an overlap)", entry.name,
                     entry.begin, at);
    at = entry.end;
  }
  complain.require(at == data_bytes, "the tensors end at byte {}, the file holds {}", at,
                   data_bytes);
}

std::map<std::string, std::string> parse_metadata(const Json& json, const Complaints& complain) {
  std::map<std::string, std::string> metadata;
  complain.require(json.is_object(), "__metadata__: expected an object");
  for (const auto& [key, value] : json.items()) {
    complain.require(value.is_string(), "__metadata__: {}: expected a string", key);
    metadata[key] = value.get<std::string>();
  }
  return metadata;
}

}  // namespace

void save_safetensors(const fs::path& path, const NamedTensors& tensors,
                      const std::map<std::string, std::string>& metadata) {
  std::vector<std::pair<std::string, at::Tensor>> sorted(tensors.begin(), tensors.end());
  std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    const auto size_a = a.second.element_size(), size_b = b.second.element_size();
    return size_a != size_b ? size_a > size_b : a.first < b.first;
  });
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) {
    header["__metadata__"] = metadata;
  }
  uint64_t at = 0;
  for (const auto& [name, tensor] : sorted) {
    COMBA_CHECK(name != "__metadata__" && !header.contains(name),
                "writing {}: tensor name {} is {}", path.string(), name,
                name == "__metadata__" ? "reserved" : "used twice");
    const uint64_t bytes = static_cast<uint64_t>(tensor.numel()) * tensor.element_size();
    header[name] = {{"dtype", dtype_name(path, name, tensor.scalar_type())},
                    {"shape", tensor.sizes().vec()},
                    {"data_offsets", {at, at + bytes}}};
    at += bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t size = text.size();
  AtomicFile file(path);
  file.write(&size, sizeof size);
  file.write(text.data(), text.size());
  for (const auto& [name, tensor] : sorted) {
    const at::Tensor dense = tensor.detach().cpu().contiguous();
    file.write(dense.const_data_ptr(), dense.nbytes());
  }
  file.commit();
}

SafetensorsFile load_safetensors(const fs::path& path) {
  const MappedFile file(path);
  const Complaints complain(path);
  const auto bytes = file.bytes();
  complain.require(bytes.size() >= 8, "expected at least 8 bytes, got {}", bytes.size());
  uint64_t header_size = 0;
  std::memcpy(&header_size, bytes.data(), 8);
  complain.require(header_size <= kMaxHeader && header_size <= bytes.size() - 8,
                   "its header claims {} bytes, the file has {}", header_size, bytes.size());
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + 8, header_size);
  complain.require(text.starts_with('{'), "header: expected a JSON object");
  const Json header = parse_header(text, complain);

  SafetensorsFile result;
  std::vector<Entry> entries;
  for (const auto& [name, json] : header.items()) {
    if (name == "__metadata__") {
      result.metadata = parse_metadata(json, complain);
    } else {
      entries.push_back(parse_entry(name, json, complain));
    }
  }
  const auto data = bytes.subspan(8 + header_size);
  check_cover(entries, data.size(), complain);
  for (const Entry& entry : entries) {
    at::Tensor tensor = at::empty(entry.shape, entry.type);
    if (entry.end > entry.begin) {
      std::memcpy(tensor.mutable_data_ptr(), data.data() + entry.begin, entry.end - entry.begin);
    }
    result.tensors.emplace(entry.name, std::move(tensor));
  }
  return result;
}

}  // namespace comba::vision
