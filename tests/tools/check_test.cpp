// comba check from the outside.
#include "tests/tools/cli.h"

#include <algorithm>
#include <set>

#include <nlohmann/json.hpp>

namespace comba::tools {
namespace {

const char* const kWeights = "tracking/weights/comba_t_synthetic.safetensors";
const char* const kRecord = "tracking/weights/canary.json";

TEST_F(Cli, CheckComparesEveryOperatorAndTheShippedTracker) {
  const Outcome outcome = run({"check", "--json", "check.json"});
  EXPECT_EQ(outcome.code, 0) << outcome.out << outcome.err;
  EXPECT_SAYS(outcome.out, "PASS: all is well");
  const auto json = nlohmann::json::parse(read_file(folder_ / "check.json"));
  EXPECT_TRUE(json.at("pass"));
  std::set<std::string> checked;
  for (const auto& row : json.at("errors")) {
    EXPECT_TRUE(row.at("pass")) << row;
    const auto op = row.at("operator").get<std::string>();
    checked.insert("comba::" + op.substr(0, op.find(' ')));
  }
  EXPECT_GT(json.at("operators").size(), 15u);
  for (const auto& op : json.at("operators")) {
    const auto name = op.at("name").get<std::string>();
    EXPECT_TRUE(op.at("missing").empty()) << name;
    if (!name.ends_with("_backward")) {
      EXPECT_TRUE(checked.contains(name)) << name << " is compared with nothing";
    }
  }
  EXPECT_EQ(json.at("canary").at(0).at("device"), "cpu");
  EXPECT_GE(json.at("speed").size(), 2u);
}

// A program with its files in a folder of its own, as in a bundle.
class CheckOfAFolder : public Cli {
 protected:
  void SetUp() override {
    Cli::SetUp();
    fs::create_directories(folder_ / "bin");
    fs::create_directories(folder_ / fs::path(kWeights).parent_path());
    fs::copy_file(COMBA_BINARY, folder_ / "bin/comba");
    fs::copy_file(kSource / kWeights, folder_ / kWeights);
  }
  Outcome check() {
    const int status = std::system(
        ("cd '" + folder_.string() + "' && bin/comba check > out.txt 2> err.txt").c_str());
    return {WEXITSTATUS(status), read_file(folder_ / "out.txt"), read_file(folder_ / "err.txt")};
  }
};

TEST_F(CheckOfAFolder, OtherAnswersOfTheShippedTrackerAreAFailure) {
  auto json = nlohmann::json::parse(read_file(kSource / kRecord));
  json["frames"][2]["box"][0] = json["frames"][2]["box"][0].get<double>() + 2.0;
  write_file_atomic(folder_ / kRecord, json.dump());
  const Outcome outcome = check();
  EXPECT_EQ(outcome.code, 1);
  EXPECT_SAYS(outcome.out, "box 2.000 px (allowed 0.1)");
  EXPECT_SAYS(outcome.err, "the shipped tracker answers differently on cpu");
}

TEST_F(CheckOfAFolder, ARecordOfOtherWeightsIsAFailure) {
  auto json = nlohmann::json::parse(read_file(kSource / kRecord));
  json["weights"] = "00000000";
  write_file_atomic(folder_ / kRecord, json.dump());
  const Outcome outcome = check();
  EXPECT_EQ(outcome.code, 1);
  EXPECT_SAYS(outcome.out, "was recorded with weights 00000000");
  EXPECT_SAYS(outcome.err, "could not be checked");
}

}  // namespace
}  // namespace comba::tools
