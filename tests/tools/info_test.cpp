// comba info: sizes and costs of the shipped models, against sums over their layers that are done here.
#include "tests/tools/cli.h"

#include <algorithm>
#include <map>
#include <sstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace comba::tools {
namespace {

using nlohmann::json;

class Info : public Cli {
 protected:
  // Rows of the table by configuration.
  std::map<std::string, json> table(std::vector<std::string> arguments, Outcome& outcome) const {
    arguments.insert(arguments.begin(), {"info", "--table", "--json", "table.json"});
    outcome = run(arguments);
    std::map<std::string, json> rows;
    if (outcome.code == 0) {
      const json figures = json::parse(read_file(folder_ / "table.json"));
      for (const json& row : figures.at("rows")) {
        rows[row.at("config")] = row;
      }
    }
    return rows;
  }
  static size_t shipped(const std::string& folder) {
    size_t files = 0;
    for (const auto& entry : fs::directory_iterator(kSource / folder)) {
      files += entry.path().extension() == ".toml" ? 1 : 0;
    }
    return files;
  }
};

// Comba-T with softmax attention in its seventh block, by width d: patches, 11 blocks of Comba and one of attention, the last
// norm, the head.
int64_t hybrid_parameters() {
  const int64_t d = 192, heads = 3, directions = 2, taps = 4, rank = d / 8;
  const int64_t mlp_and_norms = 8 * d * d + 2 * d;
  const int64_t comba = 4 * d * d + directions * (3 * taps * d + 2 * d * heads + 4 * heads) +
                        2 * d * rank + d / heads + mlp_and_norms;
  const int64_t attention = 4 * d * d + mlp_and_norms;
  return (16 * 16 * 3 + 1) * d + 11 * comba + attention + d + 1000 * (d + 1);
}

TEST_F(Info, TableHasEveryShippedModel) {
  Outcome outcome;
  const auto rows = table({"--set", "model.depth=8"}, outcome);  // sooner done than whole ones
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(rows.size(), shipped("configs/imagenet") + shipped("configs/tracking"));
  EXPECT_EQ(rows.at("imagenet/comba_t").at("task"), "classify");
  EXPECT_EQ(rows.at("tracking/comba_t").at("task"), "track");
}

TEST_F(Info, TableHasThePublishedSizesOfAgentAttentionAndVimAndThoseOfOurOwnShapes) {
  const std::map<std::string, int64_t> sizes = {{"agent_t", 6'015'640},
                                                {"agent_s", 22'647'112},
                                                {"vim_t", 7'148'008},
                                                {"vim_s", 25'796'584},
                                                {"comba_t_mamba_like", 5'843'176},
                                                {"comba_s_mamba_like", 22'599'400},
                                                {"comba_t_hybrid", hybrid_parameters()}};
  std::vector<std::string> paths;
  for (const auto& [name, parameters] : sizes) {
    paths.push_back((kSource / "configs/imagenet" / (name + ".toml")).string());
  }
  Outcome outcome;
  const auto rows = table(paths, outcome);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  for (const auto& [name, parameters] : sizes) {
    EXPECT_EQ(rows.at("imagenet/" + name).at("parameters"), parameters) << name;
  }
  EXPECT_SAYS(outcome.out, "6,015,640");
}

TEST_F(Info, TableStandsBesidePublishedFiguresWithTheirSourcesAndNothingOfOurs) {
  Outcome outcome;
  const std::string imagenet = (kSource / "configs/imagenet").string();
  const auto rows = table({imagenet + "/comba_t.toml", imagenet + "/comba_t_100.toml"}, outcome);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const json& published = rows.at("imagenet/comba_t").at("published");
  EXPECT_EQ(published.at("imagenet_top1"), 76.3);
  EXPECT_EQ(published.at("parameters_millions"), 5.8);
  EXPECT_SAYS(published.at("source").get<std::string>(), "arXiv 2506.02475");
  EXPECT_FALSE(rows.at("imagenet/comba_t_100").contains("published"));  // a recipe of ours
  EXPECT_FALSE(rows.at("imagenet/comba_t").contains("measured"));
  EXPECT_SAYS(outcome.out, "not measured");
  EXPECT_SAYS(outcome.out, "[1] arXiv 2506.02475");
  EXPECT_SAYS(outcome.out, "ours: ImageNet top-1");
}

// DeiT-T as a tracker: 64 tokens of the template and 256 of the search image through 12 blocks, three stacks of convolutions.
TEST_F(Info, CountsTheMultiplyAccumulatesOfATrackerInBothConventions) {
  const std::string path = (kSource / "configs/tracking/deit_t.toml").string();
  const double d = 192, tokens = 320, cells = 256;
  const double stack = 9 * (192 * 256 + 256 * 128 + 128 * 64 + 64 * 32);
  const double dense =
      tokens * 768 * d + 12 * tokens * 12 * d * d + cells * (3 * stack + 32 * (1 + 2 + 2));
  const double products = 12 * 2 * tokens * tokens * d;
  Outcome outcome;
  const auto rows = table({path}, outcome);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(rows.at("tracking/deit_t").at("macs_dense"), dense);
  EXPECT_EQ(rows.at("tracking/deit_t").at("macs_total"), dense + products);
  // Templates that never read the search image: their 64 tokens have 64 keys each.
  const auto half = table({path, "--set", "model.asymmetric=true"}, outcome);
  EXPECT_NEAR(half.at("tracking/deit_t").at("macs_total").get<double>(),
              dense + 12 * 2 * (64 * 64 + 256 * tokens) * d, 1);
  const Outcome alone = run({"info", path, "--json", "alone.json"});
  EXPECT_EQ(alone.code, 0) << alone.err;
  EXPECT_EQ(json::parse(read_file(folder_ / "alone.json")).at("macs_total"), dense + products);
}

TEST_F(Info, TableMeasuresForwardPassesWhereItIsAskedTo) {
  std::ofstream(folder_ / "tiny.toml")
      << "[model]\nimage_size = 32\nwidth = 32\nhead_dim = 32\ndepth = 1\n";
  std::ofstream(folder_ / "tracker.toml")
      << "task = \"track\"\n[model]\nimage_size = 64\ntemplate_size = 32\nwidth = 32\n"
         "head_dim = 32\ndepth = 1\nhead_width = 16\n";
  Outcome outcome;
  const auto rows = table({"tiny.toml", "tracker.toml", "--measure", "--device", "cpu", "--batch",
                           "2", "--repeats", "1"},
                          outcome);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  ASSERT_EQ(rows.size(), 2U);
  for (const auto& [name, row] : rows) {
    const json& measured = row.at("measured");
    EXPECT_EQ(measured.at("batch"), 2) << name;
    EXPECT_NEAR(
        measured.at("images_per_second").get<double>() * measured.at("forward_ms").get<double>(),
        2000, 1)
        << name;
  }
  EXPECT_EQ(outcome.out.find("not measured"), std::string::npos) << outcome.out;
  EXPECT_SAYS(outcome.out, "forward passes of 2 images on the CPU");
}

TEST_F(Info, TableInMarkdownHasAsManyCellsInEveryLine) {
  const Outcome outcome =
      run({"info", "--table", "--markdown", (kSource / "configs/tracking/deit_t.toml").string()});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  std::istringstream lines(outcome.out);
  std::string first, line;
  std::getline(lines, first);
  size_t rows = 1;
  while (std::getline(lines, line) && line.starts_with("|")) {
    EXPECT_EQ(std::ranges::count(line, '|'), std::ranges::count(first, '|')) << line;
    ++rows;
  }
  EXPECT_GT(rows, 3U) << outcome.out;  // header, rule, the configuration, trackers of others
  EXPECT_SAYS(first, "| configuration | parameters |");
}

TEST_F(Info, SaysWhatItLacks) {
  const Outcome none = run({"info"});
  EXPECT_EQ(none.code, 2);
  EXPECT_SAYS(none.err, "CONFIG: expected one configuration, got 0");
  EXPECT_EQ(run({"info", "a.toml", "b.toml"}).code, 2);
  EXPECT_EQ(run({"info", "--measure", "a.toml"}).code, 2);
  const std::string hybrid = (kSource / "configs/imagenet/comba_t_hybrid.toml").string();
  const Outcome shallow = run({"info", "--table", hybrid, "--set", "model.depth=1"});
  EXPECT_EQ(shallow.code, 2);
  EXPECT_SAYS(shallow.err, hybrid + ": model.mixers: expected at most one name");
  const Outcome absent = run({"info", "--table", "absent.toml"});
  EXPECT_NE(absent.code, 0);
  EXPECT_SAYS(absent.err, "absent.toml");
}

TEST_F(Info, ARecallTaskHasTheParametersOfItsEmbeddingsAndBlocks) {
  const Outcome outcome =
      run({"info", (kSource / "configs/mqar/softmax.toml").string(), "--json", "info.json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_SAYS(outcome.out, "512 tokens, 64 pairs, 4096 values");
  const int64_t d = 64, block = 4 * d * d + 8 * d * d + 2 * d;
  EXPECT_EQ(json::parse(read_file(folder_ / "info.json")).at("parameters"),
            (8192 + 512) * d + 4 * d + 2 * block + d);
}

}  // namespace
}  // namespace comba::tools
