// Archives of torch.save: pickles written out by hand in archives of LibTorch's own writer. What Python saves is read in
// tests/python/torch_archive_interop.py.
#include "vision/io/torch_archive.h"

#include "tests/base/temporary_folder.h"
#include "tests/vision/zip_pieces.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/io/weights_file.h"

#include <cstring>
#include <fstream>
#include <random>

#include <ATen/Functions.h>
#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/jit/serialization/pickle.h>

namespace comba::vision {
namespace {

using testing_tools::little_endian;
using testing_tools::message_of;
using testing_tools::TemporaryFolder;

// Pieces of a pickle of protocol 2.
std::string text(const std::string& content) {
  return std::string("X") + little_endian(content.size(), 4) + content;
}
std::string integer(int64_t value) {
  return std::string("\x8a\x08") + little_endian(static_cast<uint64_t>(value), 8);
}
std::string integers(const std::vector<int64_t>& values) {
  std::string result = "(";
  for (const int64_t value : values) {
    result += integer(value);
  }
  return result + "t";
}
std::string global(const std::string& module, const std::string& name) {
  return std::string("c") + module + "\n" + name + "\n";
}
std::string storage(int64_t elements, const std::string& type = "FloatStorage",
                    const std::string& key = "0") {
  return std::string("(") + text("storage") + global("torch", type) + text(key) + text("cpu") +
         integer(elements) + "tQ";
}
std::string tensor(const std::string& of, int64_t offset, const std::vector<int64_t>& sizes,
                   const std::vector<int64_t>& strides) {
  return global("torch._utils", "_rebuild_tensor_v2") + "(" + of + integer(offset) +
         integers(sizes) + integers(strides) + "\x89" + global("collections", "OrderedDict") +
         ")RtR";
}
std::string dict(const std::vector<std::pair<std::string, std::string>>& items) {
  std::string result = "}(";
  for (const auto& [key, value] : items) {
    result += text(key) + value;
  }
  return result + "u";
}
std::string whole(const std::string& value) { return std::string("\x80\x02") + value + "."; }

class TorchArchive : public testing::Test {
 protected:
  using Records = std::vector<std::pair<std::string, std::string>>;

  void write(const Records& records, bool compress = false) const {
    caffe2::serialize::PyTorchStreamWriter writer(path_.string());
    for (const auto& [name, content] : records) {
      writer.writeRecord(name, content.data(), content.size(), compress);
    }
    writer.writeEndOfFile();
  }
  // A state dict of one pickle over a storage of the numbers 0 to 5.
  void write_weights(const std::string& pickle) const {
    const at::Tensor numbers = at::arange(6, at::kFloat);
    write({{"data.pkl", whole(pickle)},
           {"byteorder", "little"},
           {"data/0", std::string(static_cast<const char*>(numbers.const_data_ptr()), 24)}});
  }
  std::string refusal(const std::string& pickle, const std::string& weights = "auto") const {
    write_weights(pickle);
    return refusal_of_file(weights);
  }
  std::string refusal_of_file(const std::string& weights = "auto") const {
    return message_of<Error>([&] { load_torch_archive(path_, weights); });
  }

  TemporaryFolder folder_;
  std::filesystem::path path_ = folder_.path() / "w.pth";
};

TEST_F(TorchArchive, ReadsWhatLibTorchPickles) {
  c10::Dict<std::string, at::Tensor> weights;
  weights.insert("a", at::arange(6, at::kFloat).view({2, 3}).t());
  weights.insert("b", at::full({2}, 1.5, at::kBFloat16));
  const std::vector<char> bytes = torch::jit::pickle_save(weights);
  write_file_atomic(path_, {bytes.data(), bytes.size()});
  const auto tensors = load_torch_archive(path_, "auto");
  ASSERT_EQ(tensors.size(), 2U);
  EXPECT_TRUE(tensors.at("a").equal(weights.at("a")));
  EXPECT_TRUE(tensors.at("b").equal(weights.at("b")));
}

TEST_F(TorchArchive, StridedTensorsShareTheirStorage) {
  write_weights(dict({{"rows", tensor(storage(6), 0, {2, 3}, {3, 1})},
                      {"columns", tensor(storage(6), 0, {3, 2}, {1, 3})},
                      {"last", tensor(storage(6), 5, {}, {})},
                      {"none", tensor(storage(6), 6, {0, 4}, {4, 1})}}));
  const auto tensors = load_torch_archive(path_, "auto");
  ASSERT_EQ(tensors.size(), 4U);
  const at::Tensor numbers = at::arange(6, at::kFloat);
  EXPECT_TRUE(tensors.at("rows").equal(numbers.view({2, 3})));
  EXPECT_TRUE(tensors.at("columns").equal(numbers.view({2, 3}).t()));
  EXPECT_EQ(tensors.at("last").item<float>(), 5.0F);
  EXPECT_EQ(tensors.at("none").sizes(), (at::IntArrayRef{0, 4}));
  EXPECT_EQ(tensors.at("rows").const_data_ptr(), tensors.at("columns").const_data_ptr());
}

TEST_F(TorchArchive, AveragedWeightsComeFirstUnlessRawOnesAreAskedFor) {
  const auto weights = [](int64_t offset) {
    return dict({{"module.w", tensor(storage(6), offset, {1}, {1})}});
  };
  write_weights(dict({{"model", weights(1)},
                      {"epoch", "K\x07"},
                      {"model_ema", weights(2)},
                      {"optimizer", dict({{"state", "]"}})}}));
  EXPECT_EQ(load_weights_file(path_, "auto").tensors.at("w").item<float>(), 2.0F);
  EXPECT_EQ(load_weights_file(path_, "ema").tensors.at("w").item<float>(), 2.0F);
  EXPECT_EQ(load_weights_file(path_, "raw").tensors.at("w").item<float>(), 1.0F);
  EXPECT_SAYS(refusal(dict({{"state_dict", weights(0)}}), "ema"), "no averaged weights");
}

TEST_F(TorchArchive, NamesThatDifferByTheirWrapperAloneAreRefused) {
  const std::string one = tensor(storage(6), 0, {1}, {1});
  write_weights(dict({{"w", one}, {"_orig_mod.module.w", one}}));
  EXPECT_SAYS(message_of<Error>([&] { load_weights_file(path_, "auto"); }), "tensor w");
}

TEST_F(TorchArchive, NothingIsExecuted) {
  const std::filesystem::path trace = folder_.path() / "trace";
  const std::string command = text("touch " + trace.string());
  for (const auto& [module, name] : {std::pair("os", "system"),
                                     {"posix", "system"},
                                     {"builtins", "eval"},
                                     {"builtins", "getattr"},
                                     {"torch.hub", "load"},
                                     {"subprocess", "Popen"}}) {
    const std::string message = refusal(dict({{"w", global(module, name) + "(" + command + "tR"}}));
    EXPECT_SAYS(message, std::string(module) + "." + name);
    EXPECT_SAYS(message, "not executed");
    const std::string stacked =
        std::string("\x80\x04") + text(module) + text(name) + "\x93(" + command + "tR.";
    write({{"data.pkl", stacked}});
    EXPECT_SAYS(refusal_of_file(), "not executed");
  }
  EXPECT_FALSE(std::filesystem::exists(trace));
}

TEST_F(TorchArchive, TensorsOutsideOfTheirStorageAreRefused) {
  constexpr int64_t kHuge = int64_t{1} << 62;
  const auto refused = [&](int64_t offset, const std::vector<int64_t>& sizes,
                           const std::vector<int64_t>& strides) {
    return refusal(dict({{"w", tensor(storage(6), offset, sizes, strides)}}));
  };
  EXPECT_SAYS(refused(0, {7}, {1}), "outside of its storage of 6");
  EXPECT_SAYS(refused(4, {3}, {1}), "outside of its storage of 6");
  EXPECT_SAYS(refused(0, {2, 2}, {5, 1}), "outside of its storage of 6");
  EXPECT_SAYS(refused(0, {kHuge, 16}, {16, 1}), "outside of its storage of 6");
  EXPECT_SAYS(refused(0, {2, 2}, {kHuge, kHuge}), "outside of its storage of 6");
  EXPECT_SAYS(refused(0, {1 << 20, 1 << 20}, {0, 0}), "expanded tensors");
  EXPECT_SAYS(refused(7, {0}, {1}), "at element 7");
  EXPECT_SAYS(refused(-1, {1}, {1}), "at element -1");
  EXPECT_SAYS(refused(0, {-1}, {1}), "not negative");
  EXPECT_SAYS(refused(0, {2}, {-1}), "not negative");
  EXPECT_SAYS(refused(0, {2}, {1, 1}), "1 sizes and 2 strides");
  EXPECT_SAYS(refused(0, std::vector<int64_t>(9, 1), std::vector<int64_t>(9, 1)), "at most 8");
}

TEST_F(TorchArchive, StoragesThatAreNotThereOrSmallerAreRefused) {
  const auto refused = [&](const std::string& of, int64_t elements) {
    return refusal(dict({{"w", tensor(of, 0, {elements}, {1})}}));
  };
  EXPECT_SAYS(refused(storage(7), 7), "its storage 0 has 24 bytes, expected 7 elements");
  EXPECT_SAYS(refused(storage(6, "DoubleStorage"), 6), "has 24 bytes, expected 6 elements");
  EXPECT_SAYS(refused(storage(int64_t{1} << 40), int64_t{1} << 40), "has 24 bytes");
  EXPECT_SAYS(refused(storage(6, "FloatStorage", "1"), 6), "there is no record data/1");
  EXPECT_SAYS(refused(storage(6, "FloatStorage", "../../etc/passwd"), 6), "there is no record");
  EXPECT_SAYS(refused(storage(6, "ComplexFloatStorage"), 2), "torch.ComplexFloatStorage");
}

TEST_F(TorchArchive, DeepAndLargePicklesCostNoStackAndLittleMemory) {
  constexpr size_t kMany = 1'000'000;
  std::string deep = ")";
  for (size_t i = 0; i < kMany; ++i) {
    deep += '\x85';  // a tuple around what there is
  }
  EXPECT_SAYS(refusal(deep), "expected a dictionary");
  EXPECT_SAYS(refusal(std::string(kMany, ']') + std::string(kMany - 1, 'a')),
              "expected a dictionary");
  // A tuple of a thousand sizes for each of many tensors; a list that holds itself.
  EXPECT_SAYS(refusal(integers(std::vector<int64_t>(1000, 1)) +
                      "q\x01"
                      "0" +
                      dict({{"w", global("torch._utils", "_rebuild_tensor_v2") + "(" + storage(6) +
                                      "K\x01h\x01h\x01\x89tR"}})),
              "at most 8");
  write_weights(dict({{"self",
                       "]q\x02h\x02"
                       "a"},
                      {"w", tensor(storage(6), 0, {6}, {1})}}));
  EXPECT_EQ(load_torch_archive(path_, "auto").size(), 1U);
  write({{"data.pkl", std::string((size_t{8} << 20) + 1, 'N')}});
  EXPECT_SAYS(refusal_of_file(), "record data.pkl: expected at most 8388608 bytes");
}

TEST_F(TorchArchive, DamagedPicklesNameTheByte) {
  EXPECT_SAYS(refusal(std::string("X") + little_endian(0xffffffff, 4)),
              "byte 2 of its pickle: expected");
  EXPECT_SAYS(refusal(std::string("\x8d") + little_endian(~uint64_t{0}, 8)), "more bytes");
  EXPECT_SAYS(refusal("h\x05"), "slot 5 was never filled");
  EXPECT_SAYS(refusal("t"), "expected a mark");
  EXPECT_SAYS(refusal("}(K\x01s"), "expected a value");
  EXPECT_SAYS(refusal("}(K\x01u"), "a key without a value");
  EXPECT_SAYS(refusal("K\x01]s"), "expected a value");
  EXPECT_SAYS(refusal("I1\n"), "opcode 0x49");
  EXPECT_SAYS(refusal("\x80\x09"), "expected protocol 2 to 5, got 9");
  EXPECT_SAYS(refusal(")Q"), "reference to a storage");
  EXPECT_SAYS(refusal("K\x01)R"), "expected a name and its arguments");
  write({{"data.pkl", "\x80\x02}"}, {"data/0", "x"}});
  EXPECT_SAYS(refusal_of_file(), "expected 1 more bytes, 0 are left");
}

TEST_F(TorchArchive, SaysWhatAFileHoldsInsteadOfWeights) {
  EXPECT_SAYS(refusal("]"), "expected a dictionary of tensors");
  EXPECT_SAYS(refusal(dict({{"epoch", "K\x01"}, {"arch", text("vit")}})), "found epoch, arch");
  EXPECT_SAYS(refusal("}"), "found nothing");
  write({{"constants.pkl", "x"}, {"data.pkl", whole("}")}});
  EXPECT_SAYS(refusal_of_file(), "TorchScript");
  write({{"model.json", "{}"}});
  EXPECT_SAYS(refusal_of_file(), "no record data.pkl");
  write({{"data.pkl", whole("}")}, {"byteorder", "big"}});
  EXPECT_SAYS(refusal_of_file(), "big-endian");
  write_file_atomic(path_, std::string("\x80\x02\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x19.and more", 23));
  EXPECT_TRUE(is_torch_file(path_));
  EXPECT_SAYS(refusal_of_file(), "before version 1.6");
  write_file_atomic(path_, "PK\x03\x04");
  EXPECT_SAYS(refusal_of_file(), "the file is damaged");
  write_file_atomic(path_, "");
  EXPECT_FALSE(is_torch_file(path_));
}

TEST_F(TorchArchive, RecordsThatShareTheirBytesMayNotGrowBeyondTheFile) {
  constexpr int kMany = 100;
  const std::string numbers(size_t{1} << 12, '\0');
  std::vector<testing_tools::ZipFile> files = {{"w/data/0", numbers}};
  std::vector<std::pair<std::string, std::string>> items;
  for (int i = 0; i < kMany; ++i) {
    const std::string key = std::to_string(i);
    if (i > 0) {
      files.push_back({.name = "w/data/" + key, .lie = 1 << 12, .same_place = true});
    }
    items.emplace_back("w" + key, tensor(storage(1 << 10, "FloatStorage", key), 0, {1}, {1}));
  }
  files.push_back({"w/data.pkl", whole(dict(items))});
  write_file_atomic(path_, testing_tools::zip(files));
  EXPECT_SAYS(refusal_of_file(), "together have more bytes than the file");
}

TEST_F(TorchArchive, CompressedRecordsAreRefused) {
  write({{"data.pkl", whole("}")}, {"data/0", std::string(size_t{1} << 24, '\0')}},
        /*compress=*/true);
  EXPECT_SAYS(refusal_of_file(), "compressed");
}

TEST_F(TorchArchive, NoCutAndNoFlippedByteDoesMoreThanRaiseAnError) {
  write_weights(
      dict({{"a", tensor(storage(6), 0, {2, 3}, {3, 1})}, {"b", tensor(storage(6), 1, {5}, {1})}}));
  const std::string good = read_file(path_);
  const auto load = [&](const std::string& bytes) {
    std::ofstream(path_, std::ios::binary)
        .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    try {
      for (const auto& [name, tensor] : load_torch_archive(path_, "auto")) {
        EXPECT_LE(tensor.numel(), static_cast<int64_t>(bytes.size()));
        EXPECT_TRUE(tensor.defined() && tensor.clone().numel() == tensor.numel());
      }
    } catch (const Error&) {
    }
  };
  for (size_t length = 0; length < good.size(); length += 7) {
    load(good.substr(0, length));
  }
  std::mt19937 random(1);
  for (int i = 0; i < 1000; ++i) {
    std::string bytes = good;
    for (int flips = 0; flips < 1 + i % 3; ++flips) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    load(bytes);
  }
}

}  // namespace
}  // namespace comba::vision
