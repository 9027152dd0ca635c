// comba bench: what it measures, and what it says when something is wrong.
#include "tests/tools/cli.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace comba::tools {
namespace {

TEST_F(Cli, BenchTrainAndModelMeasureEveryConfiguration) {
  std::ofstream(folder_ / "tiny.toml") << "[model]\nwidth = 32\nhead_dim = 32\ndepth = 1\n";
  for (const std::string verb : {"train", "model"}) {
    const Outcome bench = run({"bench", verb, "tiny.toml", "tiny.toml", "--device", "cpu",
                               "--batch", "2", "--size", "32", "--size", "48", "--repeats", "1",
                               "--json", "figures.json", "--plot", "figures.svg"});
    EXPECT_EQ(bench.code, 0) << bench.err;
    const auto figures = nlohmann::json::parse(read_file(folder_ / "figures.json"));
    ASSERT_EQ(figures["rows"].size(), 4U);
    EXPECT_EQ(figures["rows"][3]["image_size"], 48);
    EXPECT_EQ(figures["rows"][3]["batch"], 2);
    for (const auto& row : figures["rows"]) {
      EXPECT_GT(row["images_per_second"], 0.0);
      EXPECT_GT(row[verb == "train" ? "step_ms" : "forward_ms"], 0.0);
    }
  }
  EXPECT_EQ(count(read_file(folder_ / "figures.svg"), "<svg"), 3U);  // rate and memory in one
  const Outcome scaled =
      run({"bench", "model", "tiny.toml", "--device", "cpu", "--batch", "2", "--size", "112",
           "--size", "448", "--same-pixels", "--repeats", "1", "--json", "figures.json"});
  EXPECT_EQ(scaled.code, 0) << scaled.err;
  const auto rows = nlohmann::json::parse(read_file(folder_ / "figures.json"))["rows"];
  EXPECT_EQ(rows[0]["batch"], 8);
  EXPECT_EQ(rows[1]["batch"], 1);
  EXPECT_EQ(run({"bench", "train", "absent.toml"}).code, 2);
  EXPECT_EQ(run({"bench", "train", "tiny.toml", "--batch", "0"}).code, 2);
}

TEST_F(Cli, BenchScanTimesEveryOperatorAndWritesTheFigures) {
  const Outcome bench =
      run({"bench", "scan", "--device", "cpu", "--shape", "1,20,2,16", "--shape", "2,33,1,8",
           "--repeats", "2", "--json", "figures.json", "--plot", "figures.svg"});
  EXPECT_EQ(bench.code, 0) << bench.err;
  const auto figures = nlohmann::json::parse(read_file(folder_ / "figures.json"));
  ASSERT_EQ(figures["rows"].size(), 6U);
  EXPECT_EQ(figures["dtype"], "fp32");
  for (const auto& row : figures["rows"]) {
    EXPECT_GT(row["forward_ms"], 0.0);
    EXPECT_GT(row["forward_backward_ms"], 0.0);
    EXPECT_EQ(row["forward_graph_ms"], 0.0);  // the CPU has no graphs
  }
  EXPECT_EQ(figures["rows"][3]["length"], 33);
  EXPECT_NE(read_file(folder_ / "figures.svg").find("</svg>"), std::string::npos);
}

TEST_F(Cli, BenchScanRefusesWhatIsNoShape) {
  for (const char* shape : {"1,2,3", "1,2,3,4,5", "1,2,3,0", "a,b,c,d", "", "1,2,3,", "1;2,3,4",
                            "1,2,3,99999999999999999999"}) {
    const Outcome bench = run({"bench", "scan", "--device", "cpu", "--shape", shape});
    EXPECT_EQ(bench.code, 2) << shape;
    EXPECT_NE(bench.err.find("expected four positive numbers B,T,H,D"), std::string::npos)
        << bench.err;
  }
}

TEST_F(Cli, BenchScanComparesTheFamilyOfRecurrencesAndAttention) {
  const Outcome bench = run({"bench", "scan", "--peers", "--device", "cpu", "--shape", "1,40,2,16",
                             "--repeats", "1", "--json", "figures.json", "--plot", "figures.svg"});
  EXPECT_EQ(bench.code, 0) << bench.err;
  const auto figures = nlohmann::json::parse(read_file(folder_ / "figures.json"));
  std::vector<std::string> names;
  for (const auto& row : figures["rows"]) {
    names.push_back(row["operator"]);
    EXPECT_GT(row["forward_ms"], 0.0) << row;
    EXPECT_GT(row["forward_backward_ms"], 0.0) << row;
  }
  EXPECT_EQ(names, (std::vector<std::string>{"comba", "gated delta", "delta", "gla", "retention",
                                             "comba by token", "SDPA"}));
  const std::string plots = read_file(folder_ / "figures.svg");
  EXPECT_EQ(count(plots, "<svg"), 3U);  // forward, and forward and backward, in one
  EXPECT_EQ(count(plots, ">retention</text>"), 2U);
}

TEST_F(Cli, BenchScanLeavesOutWhatTakesTooLong) {
  const Outcome bench = run({"bench", "scan", "--peers", "--device", "cpu", "--limit", "1e-9",
                             "--repeats", "1", "--json", "figures.json", "--plot", "figures.svg"});
  EXPECT_EQ(bench.code, 0) << bench.err;
  const auto rows = nlohmann::json::parse(read_file(folder_ / "figures.json"))["rows"];
  ASSERT_EQ(rows.size(), 4U * 7U);
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto reason = rows[i]["left_out"].get<std::string>();
    EXPECT_SAYS(reason, i < 7 ? "longer than 1e-09 s" : "no less work than");
    EXPECT_EQ(rows[i]["length"], 512 << i / 7);  // as many tokens at every length
    EXPECT_EQ(rows[i]["batch"], 8 >> i / 7);
    EXPECT_FALSE(rows[i].contains("forward_ms"));
  }
  EXPECT_EQ(count(bench.out, "left out: "), rows.size()) << bench.out;
}

TEST_F(Cli, BenchScanLeavesOutWhatTheMemoryDoesNotHold) {
  const Outcome bench = run({"bench", "scan", "--device", "cpu", "--repeats", "1", "--shape",
                             "1099511627776,64,8,64", "--shape", "1,20,1,8"});
  EXPECT_EQ(bench.code, 0) << bench.err;
  EXPECT_EQ(count(bench.out, "left out: out of memory"), 3U) << bench.out;
  EXPECT_EQ(count(bench.out, "B1 T20 H1 D8"), 3U) << bench.out;
}

TEST_F(Cli, BenchLoaderMeasuresWhatItCanAndSaysWhatItLeavesOut) {
  const Outcome bench =
      run({"bench",        "loader", "--device",  "cpu", "--stage",   "read",
           "--stage",      "all",    "--stage",   "h2d", "--stage",   "nvjpeg",
           "--image-size", "32",     "--batch",   "16",  "--threads", "2",
           "--seconds",    "0.05",   "--repeats", "1",   "--json",    "loader.json"});
  EXPECT_EQ(bench.code, 0) << bench.err;
  EXPECT_NE(bench.err.find("the stage h2d is skipped: no GPU is used"), std::string::npos);
  EXPECT_NE(bench.err.find("the stage nvjpeg is skipped"), std::string::npos);
  const auto json = nlohmann::json::parse(read_file(folder_ / "loader.json"));
  ASSERT_EQ(json["rows"].size(), 2U);
  EXPECT_EQ(json["rows"][1]["stage"], "all");
  EXPECT_GT(json["rows"][1]["images_per_second"], 0);
  EXPECT_GT(json["rows"][1]["wait_p50_ms"], 0);
  EXPECT_GE(json["rows"][1]["wait_p99_ms"], json["rows"][1]["wait_p50_ms"]);
  EXPECT_EQ(json["rows"][1]["pinned_mib"], 0);
  EXPECT_GE(json["rows"][1]["ready_percent"], 0);
  EXPECT_LE(json["rows"][1]["ready_percent"], 100);
  EXPECT_GT(json["resident_mib"], 0);
}

TEST_F(Cli, BenchLoaderNeedsAGpuAndItsStageToLeaveImagesToNvJpeg) {
  const Outcome no_gpu = run({"bench", "loader", "--device", "cpu", "--nvjpeg-share", "0.5"});
  EXPECT_EQ(no_gpu.code, 2);
  EXPECT_NE(no_gpu.err.find("--nvjpeg-share 0.5: cpu is no GPU; with 0 the processor decodes"),
            std::string::npos)
      << no_gpu.err;
  const Outcome other_stage =
      run({"bench", "loader", "--device", "cpu", "--stage", "read", "--nvjpeg-share", "0.5"});
  EXPECT_EQ(other_stage.code, 2);
  EXPECT_NE(other_stage.err.find("for the stage all, which is not measured"), std::string::npos)
      << other_stage.err;
  EXPECT_EQ(run({"bench", "loader", "--nvjpeg-share", "1.5"}).code, 2);
}

TEST_F(Cli, BenchAugmentTimesTheImageOperators) {
  const Outcome bench = run({"bench", "augment", "--device", "cpu", "--batch", "2", "--image-size",
                             "32", "--repeats", "1"});
  EXPECT_EQ(bench.code, 0) << bench.err;
  EXPECT_NE(bench.out.find("crop, resize, augment"), std::string::npos) << bench.out;
  EXPECT_NE(bench.out.find("normalise, erase, mix"), std::string::npos) << bench.out;
}

TEST_F(Cli, BenchTrackTimesTheStagesOfEveryTracker) {
  std::ofstream(folder_ / "tiny.toml")
      << "task = \"track\"\n[model]\nimage_size = 64\ntemplate_size = 32\nwidth = 32\n"
         "head_dim = 32\ndepth = 1\nhead_width = 16\n";
  const Outcome bench =
      run({"bench", "track", "--device", "cpu", "--config", "tiny.toml", "--objects", "1,2",
           "--frame", "160x120", "--repeats", "2", "--json", "figures.json"});
  EXPECT_EQ(bench.code, 0) << bench.err;
  const auto figures = nlohmann::json::parse(read_file(folder_ / "figures.json"));
  ASSERT_EQ(figures["rows"].size(), 2U);
  EXPECT_EQ(figures["rows"][1]["objects"], 2);
  for (const auto& row : figures["rows"]) {
    EXPECT_EQ(row["tracker"], "tiny");
    for (const char* stage :
         {"crop_ms", "answer_ms", "frame_ms", "network_ms", "network_as_trained_ms"}) {
      EXPECT_GT(row[stage], 0.0) << stage;
    }
  }
  for (const char* frame : {"160", "160x120x3", "63x64", "100000x64", "99999999999999999999x64"}) {
    EXPECT_SAYS(run({"bench", "track", "--device", "cpu", "--frame", frame}).err,
                "64 to 16384 pixels each");
  }
  const Outcome refused = run({"bench", "track", "--device", "cpu", "--frame", "big"});
  EXPECT_EQ(refused.code, 2);
  EXPECT_SAYS(refused.err, "expected WIDTHxHEIGHT");
}

}  // namespace
}  // namespace comba::tools
