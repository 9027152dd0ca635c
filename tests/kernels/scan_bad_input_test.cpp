// Every bad input throws and names the argument, what was expected and what was found.
#include "tests/kernels/compare.h"

#include <functional>

#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

namespace comba::kernels::test {
namespace {

using Change = std::function<void(ScanInputs&)>;

struct BadInput {
  std::string what;
  std::string merge;  // empty: scan
  Change change;
  std::vector<std::string> words;  // all must appear in the message
};

at::Tensor zeros(at::IntArrayRef sizes, at::ScalarType dtype = at::kFloat) {
  return at::zeros(sizes, dtype);
}

// The good inputs are q, k [2, 5, 3, 8], v [2, 5, 3, 4].
std::vector<BadInput> bad_inputs() {
  return {
      {"QOfThreeDims",
       "",
       [](auto& in) { in.q = zeros({5, 3, 8}); },
       {"q", "[B, T, H, Dk]", "[5, 3, 8]"}},
      {"QOfInt",
       "",
       [](auto& in) { in.q = zeros({2, 5, 3, 8}, at::kInt); },
       {"q", "float32", "Int"}},
      {"QWithoutChannels",
       "",
       [](auto& in) { in.q = in.k = zeros({2, 5, 3, 0}); },
       {"q", "at least 1"}},
      {"KOfAnotherLength",
       "",
       [](auto& in) { in.k = zeros({2, 6, 3, 8}); },
       {"k", "[2, 5, 3, 8]", "[2, 6, 3, 8]"}},
      {"KOfAnotherDtype",
       "",
       [](auto& in) { in.k = in.k.to(at::kDouble); },
       {"k", "Float", "Double"}},
      {"VOfOtherHeads",
       "",
       [](auto& in) { in.v = zeros({2, 5, 2, 4}); },
       {"v", "[2, 5, 3, 8]", "[2, 5, 2, 4]"}},
      {"VOfAnotherDtype", "", [](auto& in) { in.v = in.v.to(at::kHalf); }, {"v", "Float", "Half"}},
      {"VWithoutChannels", "", [](auto& in) { in.v = zeros({2, 5, 3, 0}); }, {"v", "[2, 5, 3, 0]"}},
      {"LogAlphaPerChannel",
       "",
       [](auto& in) { in.log_alpha = zeros({2, 5, 3, 8}); },
       {"log_alpha", "[2, 5, 3]", "[2, 5, 3, 8]"}},
      {"LogAlphaOfInt",
       "",
       [](auto& in) { in.log_alpha = zeros({2, 5, 3}, at::kLong); },
       {"log_alpha", "floating", "Long"}},
      {"BetaHeadsFirst",
       "",
       [](auto& in) { in.beta = zeros({2, 3, 5}); },
       {"beta", "[2, 5, 3]", "[2, 3, 5]"}},
      {"CMissingABatch", "", [](auto& in) { in.c = zeros({5, 3}); }, {"c:", "[2, 5, 3]", "[5, 3]"}},
      {"DPerChannel", "", [](auto& in) { in.d = zeros({8}); }, {"d:", "[3]", "[8]"}},
      {"DOfInt", "", [](auto& in) { in.d = zeros({3}, at::kInt); }, {"d:", "floating", "Int"}},
      {"StateTransposed",
       "",
       [](auto& in) { in.initial_state = zeros({2, 3, 4, 8}); },
       {"initial_state", "[2, 3, 8, 4]", "[2, 3, 4, 8]"}},
      {"StateOfInt",
       "",
       [](auto& in) { in.initial_state = zeros({2, 3, 8, 4}, at::kInt); },
       {"initial_state", "floating", "Int"}},
      {"ThreeDirections",
       "mean",
       [](auto& in) { in.q = zeros({3, 2, 5, 3, 8}); },
       {"q", "2 directions", "[3, 2, 5, 3, 8]"}},
      {"GatesOfOneDirection",
       "mean",
       [](auto& in) { in.log_alpha = zeros({2, 5, 3}); },
       {"log_alpha", "[R, B, T, H]", "[2, 5, 3]"}},
      {"SharedKButOwnQ",
       "mean",
       [](auto& in) { in.q = zeros({2, 2, 5, 3, 8}); },
       {"k", "[2, 2, 5, 3, 8]"}},
      {"DOfThreeDirections",
       "mean",
       [](auto& in) { in.d = zeros({3, 3}); },
       {"d:", "[R, H] with R = 2", "[3, 3]"}},
      {"MergeOfOneDirection",
       "mean",
       [](auto& in) {
         for (at::Tensor* gate : {&in.log_alpha, &in.beta, &in.c}) {
           *gate = zeros({1, 2, 5, 3});
         }
       },
       {"merge", "none", "mean"}},
      {"UnknownMerge", "average", [](auto&) {}, {"merge", "mean", "average"}},
  };
}

class ScanBadInput : public testing::TestWithParam<BadInput> {};

TEST_P(ScanBadInput, ThrowsNamingArgumentExpectedAndGot) {
  const BadInput& bad = GetParam();
  ScanCase s{.length = 5, .key_dim = 8, .value_dim = 4, .merge = bad.merge, .batch = 2, .heads = 3};
  ScanInputs in = make_inputs(s, at::kFloat);
  bad.change(in);
  try {
    run_values(in);
    FAIL() << "no exception";
  } catch (const c10::Error& error) {
    const std::string message = error.what_without_backtrace();
    EXPECT_NE(message.find(bad.merge.empty() ? "comba::scan" : "comba::bidirectional_scan"),
              std::string::npos)
        << message;
    for (const std::string& word : bad.words) {
      EXPECT_NE(message.find(word), std::string::npos)
          << "\"" << word << "\" is not in: " << message;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Operators, ScanBadInput, testing::ValuesIn(bad_inputs()),
                         [](const auto& it) { return it.param.what; });

}  // namespace
}  // namespace comba::kernels::test
