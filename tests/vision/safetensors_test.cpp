// Safetensors: what is written is read back, and no damaged header is believed.
#include "vision/io/safetensors.h"

#include "tests/base/temporary_folder.h"
#include "vision/base/error.h"
#include "vision/base/files.h"

#include <cstring>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

namespace comba::vision {
namespace {

using testing_tools::message_of;
using testing_tools::TemporaryFolder;

class Safetensors : public testing::Test {
 protected:
  std::string error_of(const std::string& header, const std::string& data) const {
    const uint64_t size = header.size();
    std::string file(reinterpret_cast<const char*>(&size), sizeof size);
    return error_of_bytes(file + header + data);
  }
  std::string error_of_bytes(const std::string& bytes) const {
    write_file_atomic(path_, bytes);
    return message_of<Error>([&] { load_safetensors(path_); });
  }
  TemporaryFolder folder_;
  std::filesystem::path path_ = folder_.path() / "w.safetensors";
};

TEST_F(Safetensors, EveryDtypeAndShapeComesBack) {
  NamedTensors tensors;
  for (const at::ScalarType type : {at::kBool, at::kByte, at::kChar, at::kShort, at::kInt,
                                    at::kLong, at::kHalf, at::kBFloat16, at::kFloat, at::kDouble}) {
    tensors.emplace_back(c10::toString(type), at::arange(6).reshape({2, 3}).to(type));
  }
  tensors.emplace_back("scalar", at::scalar_tensor(2.5));
  tensors.emplace_back("empty", at::empty({0, 4}));
  tensors.emplace_back("transposed", at::arange(6).reshape({2, 3}).t());
  save_safetensors(path_, tensors, {{"key", "value \"quoted\" \n line"}});
  const SafetensorsFile file = load_safetensors(path_);
  EXPECT_EQ(file.metadata.at("key"), "value \"quoted\" \n line");
  ASSERT_EQ(file.tensors.size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor& back = file.tensors.at(name);
    EXPECT_EQ(back.scalar_type(), tensor.scalar_type()) << name;
    EXPECT_TRUE(at::equal(back, tensor)) << name;
  }
}

TEST_F(Safetensors, TheDataStartsAtAMultipleOfEightBytes) {
  save_safetensors(path_, {{"a", at::ones({3})}});
  const std::string bytes = read_file(path_);
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  EXPECT_EQ(header % 8, 0U);
  EXPECT_EQ(bytes.size(), 8 + header + 12);
}

TEST_F(Safetensors, NamesAreUniqueAndNotReserved) {
  EXPECT_SAYS(message_of<Error>(
                  [&] { save_safetensors(path_, {{"a", at::ones({1})}, {"a", at::ones({1})}}); }),
              "used twice");
  EXPECT_SAYS(
      message_of<Error>([&] { save_safetensors(path_, {{"__metadata__", at::ones({1})}}); }),
      "reserved");
  EXPECT_FALSE(std::filesystem::exists(path_));
}

// Rule by rule of the format.
TEST_F(Safetensors, EveryBrokenRuleIsNamed) {
  const std::string eight(8, 'x');
  const auto entry = [](const std::string& dtype, const std::string& shape,
                        const std::string& offsets) {
    return R"({"t": {"dtype": ")" + dtype + R"(", "shape": )" + shape + R"(, "data_offsets": )" +
           offsets + "}}";
  };
  EXPECT_SAYS(error_of(entry("F32", "[3]", "[0, 8]"), eight), "do not hold the 12 bytes");
  EXPECT_SAYS(error_of(entry("F32", "[2]", "[4, 12]"), eight + "1234"), "hole");
  EXPECT_SAYS(error_of(entry("F32", "[2]", "[0, 8]"), eight + "1"), "the file holds 9");
  EXPECT_SAYS(error_of(entry("F32", "[2]", "[0, 8]"), "123"), "the file holds 3");
  EXPECT_SAYS(error_of(entry("F33", "[2]", "[0, 8]"), eight), "F33 is not supported");
  EXPECT_SAYS(error_of(entry("F32", "[-2]", "[0, 8]"), eight), "non-negative");
  EXPECT_SAYS(error_of(entry("F32", "[4611686018427387904, 4]", "[0, 8]"), eight), "overflows");
  EXPECT_SAYS(error_of(entry("F32", "\"no\"", "[0, 8]"), eight), "expected a list");
  EXPECT_SAYS(error_of(entry("F32", "[2]", "[0]"), eight), "data_offsets");
  EXPECT_SAYS(error_of(entry("F32", "[2]", "[8, 0]"), eight), "do not hold");
  EXPECT_SAYS(error_of(R"({"a": 1})", ""), "tensor a");
  EXPECT_SAYS(error_of(R"({"a": {}, "a": {}})", ""), "appears twice");
  EXPECT_SAYS(error_of(R"({"__metadata__": {"a": 1}})", ""), "expected a string");
  EXPECT_SAYS(error_of("[1]", ""), "JSON object");
  EXPECT_SAYS(error_of("{", ""), "header");
  EXPECT_SAYS(error_of("{\"a\":" + std::string(100, '[') + std::string(100, ']') + "}", ""),
              "nested");
  EXPECT_SAYS(error_of_bytes("1234"), "at least 8 bytes");
  EXPECT_SAYS(error_of_bytes(std::string(8, '\xff') + "{}"), "header claims");
}

TEST_F(Safetensors, OverlappingTensorsAreRefused) {
  EXPECT_SAYS(error_of(R"({"a": {"dtype": "U8", "shape": [6], "data_offsets": [0, 6]},
                          "b": {"dtype": "U8", "shape": [6], "data_offsets": [2, 8]}})",
                       std::string(8, 'x')),
              "overlap");
}

TEST_F(Safetensors, AFileCutAnywhereIsRefused) {
  save_safetensors(path_, {{"a", at::ones({3})}, {"b", at::ones({2, 2})}}, {{"k", "v"}});
  const std::string whole = read_file(path_);
  for (size_t length = 0; length < whole.size(); ++length) {
    EXPECT_SAYS(error_of_bytes(whole.substr(0, length)), path_.string());
  }
}

TEST_F(Safetensors, AFlippedBitInTheHeaderGivesTensorsOrAMessageButNoCrash) {
  save_safetensors(path_, {{"a", at::ones({3})}, {"b", at::ones({2, 2})}}, {{"k", "v"}});
  const std::string whole = read_file(path_);
  for (size_t at = 0; at < whole.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(bytes[at] ^ 1 << bit);
      write_file_atomic(path_, bytes);
      try {
        load_safetensors(path_);
      } catch (const Error& error) {
        EXPECT_SAYS(error.what(), path_.string());
      }
    }
  }
}

}  // namespace
}  // namespace comba::vision
