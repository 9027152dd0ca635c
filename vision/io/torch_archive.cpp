#include "vision/io/torch_archive.h"

#include "vision/base/error.h"
#include "vision/io/pickle.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <optional>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <ATen/ops/empty.h>
#include <c10/core/Storage.h>
#include <caffe2/serialize/inline_container.h>

namespace comba::vision {
namespace fs = std::filesystem;
namespace {

using Kind = PickleValue::Kind;

constexpr size_t kMaxPickle = size_t{16}
                              << 20;  // bytes; that of a large model has some hundred thousand
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

// The records of an archive. LibTorch's reader believes the sizes that the archive claims, and unpacks; here the sizes of all that is
// read have to add up to no more than those of the file.
class Records {
 public:
  explicit Records(const fs::path& path)
      : path_(path.string()), budget_(fs::file_size(path)), reader_(guarded("", [&] {
          return std::make_unique<caffe2::serialize::PyTorchStreamReader>(path.string());
        })) {}

  bool has(const std::string& name) {
    return guarded(name, [&] { return reader_->hasRecord(name); });
  }

  std::pair<at::DataPtr, size_t> read(const std::string& name, size_t at_most) {
    const size_t size = guarded(name, [&] { return reader_->getRecordSize(name); });
    COMBA_CHECK(size <= budget_,
                "reading {}: record {} has {} bytes, but its records together may have no more "
                "than the file, which leaves {}; the file is damaged",
                path_, name, size, budget_);
    COMBA_CHECK(size <= at_most, "reading {}: record {}: expected at most {} bytes, got {}", path_,
                name, at_most, size);
    budget_ -= size;
    auto [data, got] = guarded(name, [&] { return reader_->getRecord(name); });
    return {std::move(data), got};
  }

  uint64_t left() const { return budget_; }

 private:
  template <typename Act>
  auto guarded(const std::string& name, const Act& act) -> decltype(act()) {
    try {
      return act();
    } catch (const c10::Error& error) {
      fail(name, error.what_without_backtrace());
    } catch (const std::exception& error) {
      fail(name, error.what());
    }
  }
  [[noreturn]] void fail(const std::string& name, const std::string& why) const {
    throw Error(fmt::format("reading {}: {}{}; the file is damaged or not written by torch.save",
                            path_, name.empty() ? "" : "record " + name + ": ",
                            why.substr(0, why.find('\n'))));
  }

  std::string path_;
  uint64_t budget_;  // bytes
  std::unique_ptr<caffe2::serialize::PyTorchStreamReader> reader_;
};

// Makes tensors of what the pickle says of them, each storage once.
class Tensors {
 public:
  Tensors(const fs::path& path, Records& records, const Pickle& pickle)
      : path_(path.string()), records_(records), pickle_(pickle) {}

  at::Tensor make(const std::string& name, const PickledTensor& tensor) {
    const PickledStorage& pickled = pickle_.storages[tensor.storage];
    const auto* type = std::find_if(std::begin(kStorageTypes), std::end(kStorageTypes),
                                    [&](const StorageType& t) { return pickled.type == t.name; });
    COMBA_CHECK(type != std::end(kStorageTypes),
                "reading {}: tensor {}: a torch.{} is not supported here", path_, name,
                pickled.type);
    const c10::Storage& storage = storage_of(name, pickled);
    const size_t elements = storage.nbytes() / c10::elementSize(type->type);
    COMBA_CHECK(static_cast<uint64_t>(pickled.elements) <= elements,
                "reading {}: tensor {}: its storage {} has {} bytes, expected {} elements in them; "
                "the file is damaged",
                path_, name, pickled.key, storage.nbytes(), pickled.elements);
    return at::empty({0}, type->type).set_(storage, tensor.offset, tensor.sizes, tensor.strides);
  }

 private:
  const c10::Storage& storage_of(const std::string& name, const PickledStorage& pickled) {
    const auto known = storages_.find(pickled.key);
    if (known != storages_.end()) {
      return known->second;
    }
    const std::string record = "data/" + pickled.key;
    COMBA_CHECK(records_.has(record),
                "reading {}: tensor {}: there is no record {}; the file is damaged", path_, name,
                record);
    auto [data, size] = records_.read(record, records_.left());
    return storages_
        .emplace(pickled.key, c10::Storage(c10::Storage::use_byte_size_t(), size, std::move(data),
                                           /*allocator=*/nullptr, /*resizable=*/false))
        .first->second;
  }

  std::string path_;
  Records& records_;
  const Pickle& pickle_;
  std::map<std::string, c10::Storage> storages_;
};

void check_format(const fs::path& path, Records& records) {
  COMBA_CHECK(!records.has("constants.pkl"),
              "reading {}: it is a TorchScript program, expected weights; in Python: "
              "torch.save(torch.jit.load(PATH).state_dict(), NEW)",
              path.string());
  COMBA_CHECK(records.has("data.pkl"),
              "reading {}: there is no record data.pkl in it; expected what torch.save writes",
              path.string());
  if (records.has("byteorder")) {
    const auto [data, size] = records.read("byteorder", /*at_most=*/16);
    const std::string_view order(static_cast<const char*>(data.get()), size);
    COMBA_CHECK(
        order == "little",
        "reading {}: its numbers are in {}-endian order, expected little; load it in Python "
        "on this machine and save it again",
        path.string(), order);
  }
}

Pickle read_pickle(const fs::path& path, Records& records) {
  const auto [data, size] = records.read("data.pkl", kMaxPickle);
  return parse_pickle({static_cast<const uint8_t*>(data.get()), size}, path.string());
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
  Records records(path);
  check_format(path, records);
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
