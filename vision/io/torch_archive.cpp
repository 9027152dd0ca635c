#include "vision/io/torch_archive.h"

#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/io/pickle.h"
#include "vision/io/zip_archive.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include <ATen/ops/empty.h>

namespace comba::vision {
namespace fs = std::filesystem;
namespace {

using Kind = PickleValue::Kind;
using Bytes = std::span<const uint8_t>;

// Bytes; that of a large model has some hundred thousand.
constexpr size_t kMaxPickle = size_t{8} << 20;
constexpr std::string_view kZip = "PK\x03\x04";
// A pickle of protocol 2 with the magic number of the format before archives, 0x1950a86a20f9469cfc6c.
constexpr std::string_view kLegacy = "\x80\x02\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x19.";

struct Container {
  const char* key;
  const char* weights;  // "raw" or "ema"
};
constexpr Container kContainers[] = {
    {"state_dict_ema", "ema"}, {"model_ema", "ema"}, {"state_dict", "raw"}, {"model", "raw"}};

struct StorageType {
  const char* name;
  at::ScalarType type;
};
constexpr StorageType kStorageTypes[] = {
    {"FloatStorage", at::kFloat},   {"HalfStorage", at::kHalf}, {"BFloat16Storage", at::kBFloat16},
    {"DoubleStorage", at::kDouble}, {"LongStorage", at::kLong}, {"IntStorage", at::kInt},
    {"ShortStorage", at::kShort},   {"CharStorage", at::kChar}, {"ByteStorage", at::kByte},
    {"BoolStorage", at::kBool}};

std::string head_of(const fs::path& path, size_t bytes) {
  std::ifstream file(path, std::ios::binary);
  std::string head(bytes, '\0');
  file.read(head.data(), static_cast<std::streamsize>(bytes));
  head.resize(static_cast<size_t>(file.gcount()));
  return head;
}

// The files of an archive. torch.save puts all of them into one folder, of any name.
class Records {
 public:
  explicit Records(const fs::path& path)
      : file_(path), files_(list_zip(file_.bytes(), path.string())) {
    for (const auto& [name, content] : files_) {
      const size_t slash = name.find('/');
      if (slash != std::string::npos && name.substr(slash) == "/data.pkl") {
        folder_ = name.substr(0, slash + 1);
      }
    }
  }

  bool has(const std::string& name) const { return files_.contains(folder_ + name); }

  // Nothing if there is no such record.
  std::optional<Bytes> find(const std::string& name) const {
    const auto found = files_.find(folder_ + name);
    if (found == files_.end()) {
      return std::nullopt;
    }
    COMBA_CHECK(
        found->second,
        "reading {}: record {} is compressed or encrypted, expected records as they are, as "
        "torch.save writes them; unpack it and pack it again with zip -0",
        file_.path().string(), name);
    return found->second;
  }

  size_t bytes() const { return file_.bytes().size(); }

 private:
  MappedFile file_;
  std::map<std::string, std::optional<Bytes>> files_;
  std::string folder_;
};

// Makes tensors of what the pickle says of them, each storage once.
class Tensors {
 public:
  Tensors(const fs::path& path, const Records& records, const Pickle& pickle)
      : path_(path.string()), records_(records), pickle_(pickle), budget_(records.bytes()) {}

  at::Tensor make(const std::string& name, const PickledTensor& tensor) {
    const PickledStorage& pickled = pickle_.storages[tensor.storage];
    const auto* type = std::find_if(std::begin(kStorageTypes), std::end(kStorageTypes),
                                    [&](const StorageType& t) { return pickled.type == t.name; });
    COMBA_CHECK(type != std::end(kStorageTypes),
                "reading {}: tensor {}: a torch.{} is not supported here", path_, name,
                pickled.type);
    const auto key = std::pair(pickled.key, type->type);
    auto storage = storages_.find(key);
    if (storage == storages_.end()) {
      storage = storages_.emplace(key, read(name, pickled, type->type)).first;
    }
    COMBA_CHECK(storage->second.numel() == pickled.elements,
                "reading {}: tensor {}: its storage {} has {} elements, and {} for another tensor; "
                "the file is damaged",
                path_, name, pickled.key, pickled.elements, storage->second.numel());
    return storage->second.as_strided(tensor.sizes, tensor.strides, tensor.offset);
  }

 private:
  // [elements]
  at::Tensor read(const std::string& name, const PickledStorage& pickled, at::ScalarType type) {
    const std::string record = "data/" + pickled.key;
    const std::optional<Bytes> content = records_.find(record);
    COMBA_CHECK(content, "reading {}: tensor {}: there is no record {}; the file is damaged", path_,
                name, record);
    COMBA_CHECK(static_cast<uint64_t>(pickled.elements) <= content->size() / c10::elementSize(type),
                "reading {}: tensor {}: its storage {} has {} bytes, expected {} elements in them; "
                "the file "
                "is damaged",
                path_, name, pickled.key, content->size(), pickled.elements);
    const size_t bytes = static_cast<size_t>(pickled.elements) * c10::elementSize(type);
    COMBA_CHECK(bytes <= budget_,
                "reading {}: tensor {}: the storages together have more bytes than the file; it is "
                "damaged",
                path_, name);
    budget_ -= bytes;
    at::Tensor storage = at::empty({pickled.elements}, type);
    if (bytes > 0) {
      std::memcpy(storage.mutable_data_ptr(), content->data(), bytes);
    }
    return storage;
  }

  std::string path_;
  const Records& records_;
  const Pickle& pickle_;
  size_t budget_;  // bytes; records of a bad file may overlap
  std::map<std::pair<std::string, at::ScalarType>, at::Tensor> storages_;
};

Pickle read_pickle(const fs::path& path, const Records& records) {
  COMBA_CHECK(!records.has("constants.pkl"),
              "reading {}: it is a TorchScript program, expected weights; in Python: "
              "torch.save(torch.jit.load(PATH).state_dict(), NEW)",
              path.string());
  if (const std::optional<Bytes> order = records.find("byteorder")) {
    const std::string_view text(reinterpret_cast<const char*>(order->data()), order->size());
    COMBA_CHECK(text == "little",
                "reading {}: its numbers are in {}-endian order, expected little; load it in "
                "Python on this "
                "machine and save it again",
                path.string(), text.substr(0, 16));
  }
  const std::optional<Bytes> pickle = records.find("data.pkl");
  COMBA_CHECK(pickle,
              "reading {}: there is no record data.pkl in it; expected what torch.save writes",
              path.string());
  COMBA_CHECK(pickle->size() <= kMaxPickle,
              "reading {}: record data.pkl: expected at most {} bytes, got {}", path.string(),
              kMaxPickle, pickle->size());
  return parse_pickle(*pickle, path.string());
}

bool holds_tensors(const Pickle& pickle, const PickleValue& value) {
  for (size_t i = 1; value.kind == Kind::dict && i < value.items.size(); i += 2) {
    if (pickle.values[value.items[i]].kind == Kind::tensor) {
      return true;
    }
  }
  return false;
}

// What lies under `key`; a later one counts, as in Python.
const PickleValue* find(const Pickle& pickle, const PickleValue& dict, std::string_view key) {
  for (size_t i = dict.items.size(); i >= 2; i -= 2) {
    if (pickle.values[dict.items[i - 2]].text == key) {
      return &pickle.values[dict.items[i - 1]];
    }
  }
  return nullptr;
}

std::string keys_of(const Pickle& pickle, const PickleValue& dict) {
  constexpr size_t kShown = 8;
  std::string keys;
  for (size_t i = 0; i < std::min(dict.items.size(), 2 * kShown); i += 2) {
    keys += (keys.empty() ? "" : ", ") + pickle.values[dict.items[i]].text.substr(0, 64);
  }
  return dict.items.size() > 2 * kShown ? keys + ", ..." : keys;
}

// The dictionary of names and tensors.
const PickleValue& choose_container(const fs::path& path, const Pickle& pickle,
                                    const std::string& weights) {
  const PickleValue& root = pickle.values[pickle.root];
  COMBA_CHECK(root.kind == Kind::dict,
              "reading {}: expected a dictionary of tensors; save model.state_dict() rather than "
              "the model",
              path.string());
  for (const Container& container : kContainers) {
    const PickleValue* found = find(pickle, root, container.key);
    if ((weights == "auto" || weights == container.weights) && found != nullptr &&
        holds_tensors(pickle, *found)) {
      return *found;
    }
  }
  COMBA_CHECK(weights != "ema",
              "reading {}: it holds no averaged weights (state_dict_ema, model_ema) but {}; use "
              "--weights raw",
              path.string(), keys_of(pickle, root));
  COMBA_CHECK(holds_tensors(pickle, root),
              "reading {}: expected tensors by name, or those under state_dict_ema, model_ema, "
              "state_dict or model; found {}",
              path.string(), root.items.empty() ? "nothing" : keys_of(pickle, root));
  return root;
}

}  // namespace

bool is_torch_file(const fs::path& path) {
  const std::string head = head_of(path, kLegacy.size());
  return head.starts_with(kZip) || head == kLegacy;
}

std::map<std::string, at::Tensor> load_torch_archive(const fs::path& path,
                                                     const std::string& weights) {
  COMBA_CHECK(
      head_of(path, kLegacy.size()) != kLegacy,
      "reading {}: it is in the format of torch.save before version 1.6, which is a program "
      "and no archive; where you trust it: torch.save(torch.load(PATH, "
      "weights_only=True), NEW)",
      path.string());
  const Records records(path);
  const Pickle pickle = read_pickle(path, records);
  const PickleValue& dict = choose_container(path, pickle, weights);
  Tensors tensors(path, records, pickle);
  std::map<std::string, at::Tensor> result;
  for (size_t i = 0; i < dict.items.size(); i += 2) {
    const PickleValue &key = pickle.values[dict.items[i]],
                      &value = pickle.values[dict.items[i + 1]];
    if (value.kind != Kind::tensor) {
      continue;  // _extra_state, counters: no weights
    }
    COMBA_CHECK(key.kind == Kind::text, "reading {}: a tensor's name is not text", path.string());
    result[key.text] = tensors.make(key.text, pickle.tensors[static_cast<size_t>(value.number)]);
  }
  return result;
}

}  // namespace comba::vision
