#include "vision/io/pickle.h"

#include "vision/base/error.h"

#include <algorithm>
#include <limits>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace comba::vision {
namespace {

using Kind = PickleValue::Kind;

constexpr size_t kMaxName = 64;       // characters of a global's name or a storage's key
constexpr size_t kMaxDimensions = 8;  // each tensor has its own copy of its sizes

// Opcodes, by the names of Python's pickletools.
enum Opcode : uint8_t {
  kMark = '(',
  kStop = '.',
  kPop = '0',
  kPopMark = '1',
  kDup = '2',
  kBinFloat = 'G',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kNone = 'N',
  kBinPersId = 'Q',
  kReduce = 'R',
  kBinString = 'T',
  kShortBinString = 'U',
  kBinUnicode = 'X',
  kBinBytes = 'B',
  kShortBinBytes = 'C',
  kAppend = 'a',
  kBuild = 'b',
  kGlobal = 'c',
  kDict = 'd',
  kAppends = 'e',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kList = 'l',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kTuple = 't',
  kSetItems = 'u',
  kEmptyTuple = ')',
  kEmptyList = ']',
  kEmptyDict = '}',
  kProto = 0x80,
  kNewObj = 0x81,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8a,
  kLong4 = 0x8b,
  kShortBinUnicode = 0x8c,
  kBinUnicode8 = 0x8d,
  kBinBytes8 = 0x8e,
  kEmptySet = 0x8f,
  kAddItems = 0x90,
  kFrozenSet = 0x91,
  kNewObjEx = 0x92,
  kStackGlobal = 0x93,
  kMemoize = 0x94,
  kFrame = 0x95,
  kByteArray8 = 0x96,
};

constexpr std::string_view kOrderedDict = "collections.OrderedDict";
constexpr std::string_view kRebuildTensor = "torch._utils._rebuild_tensor_v2";
constexpr std::string_view kRebuildParameter = "torch._utils._rebuild_parameter";
constexpr std::string_view kRebuildParameterWithState =
    "torch._utils._rebuild_parameter_with_state";
constexpr std::string_view kTypeTag = "torch.jit._pickle.restore_type_tag";  // LibTorch's own

// What lies beside weights in training's checkpoints: numbers, options, states of optimizers. Passed over.
constexpr std::string_view kPassedOver[] = {
    "argparse.Namespace",
    "collections.defaultdict",
    "collections.Counter",
    "copyreg._reconstructor",
    "copy_reg._reconstructor",
    "_codecs.encode",
    "datetime.datetime",
    "datetime.timedelta",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.PurePosixPath",
    "pathlib.WindowsPath",
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "torch._utils._rebuild_tensor_v3",
    "torch._utils._rebuild_sparse_tensor",
    "torch._utils._rebuild_qtensor",
    "torch._tensor._rebuild_from_type_v2",
    "torch.storage.UntypedStorage",
    "torch.nn.parameter.Parameter",
    "torch.serialization._get_layout",
};
constexpr std::string_view kPassedOverBuiltins[] = {
    "bool", "bytearray", "complex", "dict",  "float", "frozenset", "int",
    "list", "object",    "set",     "slice", "str",   "tuple",     "range"};

template <typename Names>
bool among(const Names& names, std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

// Names of torch itself: storages, dtypes, torch.Size, torch.device.
bool is_of_torch(std::string_view name) {
  return name.starts_with("torch.") && name.find('.', 6) == std::string_view::npos;
}

bool is_known(std::string_view name) {
  for (const std::string_view module : {"builtins.", "__builtin__."}) {
    if (name.starts_with(module)) {
      return among(kPassedOverBuiltins, name.substr(module.size()));
    }
  }
  return name == kOrderedDict || name == kRebuildTensor || name == kRebuildParameter ||
         name == kRebuildParameterWithState || name == kTypeTag || is_of_torch(name) ||
         among(kPassedOver, name);
}

class PickleReader {
 public:
  PickleReader(std::span<const uint8_t> bytes, const std::string& origin)
      : bytes_(bytes), origin_(origin) {}
  Pickle read();

 private:
  // Each takes the opcodes of its kind and says whether `code` was one.
  bool read_frame(uint8_t code);
  bool read_number(uint8_t code);
  bool read_text(uint8_t code);
  bool read_tuple(uint8_t code);
  bool read_collection(uint8_t code);
  bool read_items(uint8_t code);
  bool read_stack(uint8_t code);
  bool read_memo(uint8_t code);
  bool read_object(uint8_t code);

  uint64_t number(int count);  // little-endian
  std::string_view take(uint64_t count);
  std::string_view line();

  void push(PickleValue value);
  void push(Kind kind) { push(PickleValue{.kind = kind}); }
  uint32_t pop();
  uint32_t top() const;
  std::vector<uint32_t> pop_to_mark();
  void put(uint64_t slot);
  void get(uint64_t slot);

  void push_long(std::string_view digits);
  void push_global(std::string_view module, std::string_view name);
  void push_storage(const PickleValue& id);
  void build(uint32_t callable, uint32_t arguments);
  void build_tensor(const PickleValue& arguments);
  std::vector<int64_t> integers(uint32_t value, const char* what) const;
  void check_bounds(const PickledTensor& tensor) const;

  const PickleValue& value(uint32_t index) const { return pickle_.values[index]; }
  bool is(uint32_t index, Kind kind) const { return value(index).kind == kind; }

  template <typename... Args>
  void require(bool holds, fmt::format_string<Args...> format, Args&&... args) const {
    if (!holds) {
      throw Error(fmt::format(
          "reading {}: byte {} of its pickle: {}; the file is damaged or not written by torch.save",
          origin_, start_, fmt::format(format, std::forward<Args>(args)...)));
    }
  }

  std::span<const uint8_t> bytes_;
  const std::string& origin_;
  size_t at_ = 0, start_ = 0;  // the next byte; the opcode's
  std::vector<uint32_t> stack_;
  std::vector<size_t> marks_;  // heights of the stack
  std::unordered_map<uint64_t, uint32_t> memo_;
  Pickle pickle_;
};

Pickle PickleReader::read() {
  for (;;) {
    start_ = at_;
    const auto code = static_cast<uint8_t>(number(1));
    if (code == kStop) {
      pickle_.root = pop();
      return std::move(pickle_);
    }
    const bool known = read_frame(code) || read_number(code) || read_text(code) ||
                       read_tuple(code) || read_collection(code) || read_items(code) ||
                       read_stack(code) || read_memo(code) || read_object(code);
    require(known, "opcode 0x{:02x} is none of those that torch.save uses", code);
  }
}

uint64_t PickleReader::number(int count) {
  uint64_t result = 0;
  const std::string_view digits = take(count);
  for (int i = count - 1; i >= 0; --i) {
    result = result << 8 | static_cast<uint8_t>(digits[i]);
  }
  return result;
}

std::string_view PickleReader::take(uint64_t count) {
  require(count <= bytes_.size() - at_, "expected {} more bytes, {} are left", count,
          bytes_.size() - at_);
  const std::string_view taken(reinterpret_cast<const char*>(bytes_.data()) + at_, count);
  at_ += count;
  return taken;
}

std::string_view PickleReader::line() {
  const std::string_view rest(reinterpret_cast<const char*>(bytes_.data()) + at_,
                              bytes_.size() - at_);
  const size_t end = rest.find('\n');
  require(end != std::string_view::npos, "expected a line");
  at_ += end + 1;
  return rest.substr(0, end);
}

void PickleReader::push(PickleValue value) {
  stack_.push_back(static_cast<uint32_t>(pickle_.values.size()));
  pickle_.values.push_back(std::move(value));
}

uint32_t PickleReader::top() const {
  require(stack_.size() > (marks_.empty() ? 0 : marks_.back()), "expected a value on the stack");
  return stack_.back();
}

uint32_t PickleReader::pop() {
  const uint32_t result = top();
  stack_.pop_back();
  return result;
}

std::vector<uint32_t> PickleReader::pop_to_mark() {
  require(!marks_.empty(), "expected a mark on the stack");
  const auto first = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
  std::vector<uint32_t> result(first, stack_.end());
  stack_.erase(first, stack_.end());
  marks_.pop_back();
  return result;
}

void PickleReader::put(uint64_t slot) { memo_[slot] = top(); }

void PickleReader::get(uint64_t slot) {
  const auto found = memo_.find(slot);
  require(found != memo_.end(), "slot {} was never filled", slot);
  stack_.push_back(found->second);
}

bool PickleReader::read_frame(uint8_t code) {
  if (code == kProto) {
    const uint64_t protocol = number(1);
    require(protocol >= 2 && protocol <= 5, "expected protocol 2 to 5, got {}", protocol);
  } else if (code == kFrame) {
    number(8);
  } else {
    return false;
  }
  return true;
}

bool PickleReader::read_number(uint8_t code) {
  const auto push_integer = [this](int64_t number) {
    push(PickleValue{.kind = Kind::integer, .number = number});
  };
  switch (code) {
    case kNone:
      push(Kind::none);
      break;
    case kNewTrue:
      push_integer(1);
      break;
    case kNewFalse:
      push_integer(0);
      break;
    case kBinInt:
      push_integer(static_cast<int32_t>(number(4)));
      break;
    case kBinInt1:
      push_integer(static_cast<int64_t>(number(1)));
      break;
    case kBinInt2:
      push_integer(static_cast<int64_t>(number(2)));
      break;
    case kLong1:
      push_long(take(number(1)));
      break;
    case kLong4:
      push_long(take(number(4)));
      break;
    case kBinFloat:
      number(8);
      push(Kind::other);
      break;
    default:
      return false;
  }
  return true;
}

// Two's complement, little-endian. Nothing that is about tensors has more than 64 bits.
void PickleReader::push_long(std::string_view digits) {
  if (digits.size() > sizeof(int64_t)) {
    push(Kind::other);
    return;
  }
  uint64_t bits = !digits.empty() && (digits.back() & 0x80) != 0 ? ~uint64_t{0} : 0;
  for (size_t i = digits.size(); i-- > 0;) {
    bits = bits << 8 | static_cast<uint8_t>(digits[i]);
  }
  push(PickleValue{.kind = Kind::integer, .number = static_cast<int64_t>(bits)});
}

bool PickleReader::read_text(uint8_t code) {
  switch (code) {
    case kShortBinString:
    case kShortBinUnicode:
      push(PickleValue{.kind = Kind::text, .text = std::string(take(number(1)))});
      break;
    case kBinString:
    case kBinUnicode:
      push(PickleValue{.kind = Kind::text, .text = std::string(take(number(4)))});
      break;
    case kBinUnicode8:
      push(PickleValue{.kind = Kind::text, .text = std::string(take(number(8)))});
      break;
    case kShortBinBytes:
      take(number(1));
      push(Kind::other);
      break;
    case kBinBytes:
      take(number(4));
      push(Kind::other);
      break;
    case kBinBytes8:
    case kByteArray8:
      take(number(8));
      push(Kind::other);
      break;
    default:
      return false;
  }
  return true;
}

bool PickleReader::read_tuple(uint8_t code) {
  PickleValue tuple{.kind = Kind::tuple};
  if (code == kTuple) {
    tuple.items = pop_to_mark();
  } else if (code == kTuple1 || code == kTuple2 || code == kTuple3) {
    tuple.items.resize(code - kTuple1 + 1);
    for (size_t i = tuple.items.size(); i-- > 0;) {
      tuple.items[i] = pop();
    }
  } else if (code != kEmptyTuple) {
    return false;
  }
  push(std::move(tuple));
  return true;
}

bool PickleReader::read_collection(uint8_t code) {
  switch (code) {
    case kEmptyList:
      push(Kind::list);
      break;
    case kEmptyDict:
      push(Kind::dict);
      break;
    case kEmptySet:
      push(Kind::other);
      break;
    case kList:
      push(PickleValue{.kind = Kind::list, .items = pop_to_mark()});
      break;
    case kFrozenSet:
      pop_to_mark();
      push(Kind::other);
      break;
    case kDict: {
      PickleValue dict{.kind = Kind::dict, .items = pop_to_mark()};
      require(dict.items.size() % 2 == 0, "a key without a value");
      push(std::move(dict));
      break;
    }
    default:
      return false;
  }
  return true;
}

// Adds what lies above a value to it.
bool PickleReader::read_items(uint8_t code) {
  std::vector<uint32_t> items;
  Kind kind = Kind::list;
  switch (code) {
    case kAppend:
      items = {pop()};
      break;
    case kAppends:
      items = pop_to_mark();
      break;
    case kAddItems:
      items = pop_to_mark();
      kind = Kind::other;
      break;
    case kSetItem: {
      const uint32_t item = pop();
      items = {pop(), item};
      kind = Kind::dict;
      break;
    }
    case kSetItems:
      items = pop_to_mark();
      kind = Kind::dict;
      break;
    default:
      return false;
  }
  PickleValue& target = pickle_.values[top()];
  require(target.kind == kind || target.kind == Kind::other,
          "items for a value that takes no such items");
  require(kind != Kind::dict || items.size() % 2 == 0, "a key without a value");
  if (target.kind != Kind::other) {
    target.items.insert(target.items.end(), items.begin(), items.end());
  }
  return true;
}

bool PickleReader::read_stack(uint8_t code) {
  switch (code) {
    case kMark:
      marks_.push_back(stack_.size());
      break;
    case kPopMark:
      pop_to_mark();
      break;
    case kDup:
      stack_.push_back(top());
      break;
    case kPop:  // takes a mark too, if nothing lies on it
      if (!marks_.empty() && marks_.back() == stack_.size()) {
        marks_.pop_back();
      } else {
        pop();
      }
      break;
    default:
      return false;
  }
  return true;
}

bool PickleReader::read_memo(uint8_t code) {
  switch (code) {
    case kBinPut:
      put(number(1));
      break;
    case kLongBinPut:
      put(number(4));
      break;
    case kMemoize:
      put(memo_.size());
      break;
    case kBinGet:
      get(number(1));
      break;
    case kLongBinGet:
      get(number(4));
      break;
    default:
      return false;
  }
  return true;
}

bool PickleReader::read_object(uint8_t code) {
  switch (code) {
    case kGlobal: {
      const std::string_view module = line();
      push_global(module, line());
      break;
    }
    case kStackGlobal: {
      const uint32_t name = pop(), module = pop();
      require(is(name, Kind::text) && is(module, Kind::text), "expected the name of a global");
      push_global(value(module).text, value(name).text);
      break;
    }
    case kBinPersId:
      push_storage(value(pop()));
      break;
    case kReduce:
    case kNewObj: {
      const uint32_t arguments = pop();
      build(pop(), arguments);
      break;
    }
    case kNewObjEx:
      pop();
      pop();
      pop();
      push(Kind::other);
      break;
    case kBuild: {  // attributes, of which weights have none: _metadata of a state dict
      pop();
      require(is(top(), Kind::dict) || is(top(), Kind::other), "a state for what takes none");
      break;
    }
    default:
      return false;
  }
  return true;
}

void PickleReader::push_global(std::string_view module, std::string_view name) {
  require(module.size() + name.size() < kMaxName, "the name of a global has {} characters",
          module.size() + name.size());
  std::string full = fmt::format("{}.{}", module, name);
  if (!is_known(full)) {
    throw Error(fmt::format(
        "reading {}: its pickle wants {}, which is not among what weights are made of; it was not "
        "executed. Where you trust the file, load it in Python and save the weights alone: "
        "torch.save(model.state_dict(), PATH)",
        origin_, full));
  }
  push(PickleValue{.kind = Kind::global, .text = std::move(full)});
}

// ("storage", torch.FloatStorage, key, device, elements)
void PickleReader::push_storage(const PickleValue& id) {
  constexpr const char* kExpected =
      "expected a reference to a storage (\"storage\", type, key, device, elements)";
  require(id.kind == Kind::tuple && id.items.size() == 5, "{}", kExpected);
  const PickleValue &tag = value(id.items[0]), &type = value(id.items[1]),
                    &key = value(id.items[2]), &elements = value(id.items[4]);
  require(tag.kind == Kind::text && tag.text == "storage" && type.kind == Kind::global &&
              key.kind == Kind::text && elements.kind == Kind::integer && elements.number >= 0,
          "{}", kExpected);
  require(key.text.size() < kMaxName, "the key of a storage has {} characters", key.text.size());
  const std::string name = type.text.substr(type.text.rfind('.') + 1);
  const auto index = static_cast<int64_t>(pickle_.storages.size());
  pickle_.storages.push_back({key.text, name, elements.number});
  push(PickleValue{.kind = Kind::storage, .number = index});
}

void PickleReader::build(uint32_t callable, uint32_t arguments) {
  require(is(callable, Kind::global) && is(arguments, Kind::tuple),
          "expected a name and its arguments");
  const std::string& name = value(callable).text;
  const std::vector<uint32_t>& items = value(arguments).items;
  if (name == kRebuildTensor) {
    build_tensor(value(arguments));
  } else if (name == kRebuildParameter || name == kRebuildParameterWithState) {
    require(!items.empty() && (is(items[0], Kind::tensor) || is(items[0], Kind::other)),
            "expected the tensor of a parameter");
    stack_.push_back(items[0]);
  } else if (name == kTypeTag) {
    require(items.size() == 2, "expected a value and its type");
    stack_.push_back(items[0]);
  } else if (name == kOrderedDict) {
    require(items.empty(), "expected an OrderedDict that is filled afterwards");
    push(Kind::dict);
  } else {
    push(Kind::other);
  }
}

// (storage, offset, sizes, strides, requires_grad, hooks[, metadata])
void PickleReader::build_tensor(const PickleValue& arguments) {
  const std::vector<uint32_t>& items = arguments.items;
  require(items.size() >= 4 && is(items[0], Kind::storage) && is(items[1], Kind::integer),
          "expected a tensor's storage, offset, sizes and strides");
  PickledTensor tensor{.storage = static_cast<size_t>(value(items[0]).number),
                       .offset = value(items[1]).number,
                       .sizes = integers(items[2], "sizes"),
                       .strides = integers(items[3], "strides")};
  check_bounds(tensor);
  const auto index = static_cast<int64_t>(pickle_.tensors.size());
  pickle_.tensors.push_back(std::move(tensor));
  push(PickleValue{.kind = Kind::tensor, .number = index});
}

std::vector<int64_t> PickleReader::integers(uint32_t tuple, const char* what) const {
  const std::vector<uint32_t>& items = value(tuple).items;
  require(is(tuple, Kind::tuple) && items.size() <= kMaxDimensions,
          "a tensor's {}: expected a tuple of at most {}", what, kMaxDimensions);
  std::vector<int64_t> result;
  for (const uint32_t item : items) {
    require(is(item, Kind::integer) && value(item).number >= 0,
            "a tensor's {}: expected integers that are not negative", what);
    result.push_back(value(item).number);
  }
  return result;
}

void PickleReader::check_bounds(const PickledTensor& tensor) const {
  const PickledStorage& storage = pickle_.storages[tensor.storage];
  require(tensor.sizes.size() == tensor.strides.size(), "a tensor with {} sizes and {} strides",
          tensor.sizes.size(), tensor.strides.size());
  require(tensor.offset >= 0 && tensor.offset <= storage.elements,
          "a tensor at element {} of a storage of {}", tensor.offset, storage.elements);
  const bool empty = std::find(tensor.sizes.begin(), tensor.sizes.end(), 0) != tensor.sizes.end();
  int64_t elements = 1, last = tensor.offset;
  bool fits = true;
  for (size_t i = 0; i < tensor.sizes.size() && !empty; ++i) {
    int64_t reach = 0;
    fits = fits && !__builtin_mul_overflow(elements, tensor.sizes[i], &elements) &&
           !__builtin_mul_overflow(tensor.sizes[i] - 1, tensor.strides[i], &reach) &&
           !__builtin_add_overflow(last, reach, &last);
  }
  require(empty || (fits && last < storage.elements),
          "a tensor reaches outside of its storage of {} elements", storage.elements);
  // Else few bytes would make any number of elements.
  require(empty || elements <= storage.elements,
          "a tensor of {} elements in a storage of {}: expanded tensors are not taken, save what "
          ".contiguous() makes of them",
          elements, storage.elements);
}

}  // namespace

Pickle parse_pickle(std::span<const uint8_t> bytes, const std::string& origin) {
  return PickleReader(bytes, origin).read();
}

}  // namespace comba::vision
