// A pickle, whatever is in it: values that refer to each other and tensors that lie in their storages, or an Error.
#include "tests/fuzz/fuzz_files.h"
#include "vision/io/pickle.h"

#include <cstdlib>
#include <string>

namespace {

using comba::vision::Pickle;
using comba::vision::PickledTensor;
using comba::vision::PickleValue;

void require(bool holds) {
  if (!holds) {
    std::abort();
  }
}

void check(const Pickle& pickle, const PickledTensor& tensor) {
  require(tensor.storage < pickle.storages.size() && tensor.sizes.size() == tensor.strides.size());
  __int128 elements = 1, last = tensor.offset;
  for (size_t i = 0; i < tensor.sizes.size(); ++i) {
    require(tensor.sizes[i] >= 0 && tensor.strides[i] >= 0);
    if (tensor.sizes[i] == 0) {
      return;
    }
    elements *= tensor.sizes[i];
    require(elements <= pickle.storages[tensor.storage].elements);
    last += static_cast<__int128>(tensor.sizes[i] - 1) * tensor.strides[i];
  }
  require(last >= 0 && last < pickle.storages[tensor.storage].elements);
}

void check(const Pickle& pickle) {
  require(pickle.root < pickle.values.size());
  for (const PickleValue& value : pickle.values) {
    for (const uint32_t item : value.items) {
      require(item < pickle.values.size());
    }
    require(value.kind != PickleValue::Kind::dict || value.items.size() % 2 == 0);
    require(value.kind != PickleValue::Kind::tensor ||
            static_cast<size_t>(value.number) < pickle.tensors.size());
  }
  for (const PickledTensor& tensor : pickle.tensors) {
    check(pickle, tensor);
  }
}

// Inputs to begin with are read whole, or nothing would be found behind them.
void add_to_corpus(const std::string& name, const std::string& pickle) {
  check(comba::vision::parse_pickle(
      {reinterpret_cast<const uint8_t*>(pickle.data()), pickle.size()}, name));
  comba::fuzz::add_to_corpus(name, pickle);
}

std::string text(const std::string& content) {
  return "X" + std::string(1, static_cast<char>(content.size())) + std::string(3, '\0') + content;
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  const std::string storage =
      "((" + text("storage") + "ctorch\nFloatStorage\n" + text("0") + text("cpu") + "K\x06" + "tQ";
  const std::string tensor = "ctorch._utils\n_rebuild_tensor_v2\n" + storage +
                             std::string("K\0", 2) + "K\x02K\x03\x86K\x03K\x01\x86\x89" +
                             "ccollections\nOrderedDict\n)RtR";
  add_to_corpus("state_dict", "\x80\x02}q\x01" + text("head.weight") + tensor + "s.");
  add_to_corpus("parameter", "\x80\x02}(" + text("a") + "ctorch._utils\n_rebuild_parameter\n(" +
                                 tensor + "\x88}tRu.");
  add_to_corpus("checkpoint", "\x80\x02}(" + text("args") + "cargparse\nNamespace\n)\x81}" +
                                  text("lr") + "G12345678sb" + text("model") +
                                  "ccollections\nOrderedDict\n)R(" + text("w") + tensor + "u}b" +
                                  text("epochs") +
                                  "](K\x01M\x02\x03J\x04\x05\x06\x07\x8a\x02\xff\x7f" + "eu.");
  add_to_corpus("protocol4", std::string("\x80\x04\x95\x20\0\0\0\0\0\0\0\x8c\x0b", 13) +
                                 "collections\x8c\x0bOrderedDict\x93)R\x94\x8f(K\x01\x90" +
                                 "C\x02zz0.");
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  comba::fuzz::guarded([&] { check(comba::vision::parse_pickle({data, size}, "w.pth")); });
  return 0;
}
