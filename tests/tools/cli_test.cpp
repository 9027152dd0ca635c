// The comba binary end to end: train, eval, predict, and what it says when something is wrong.
#include "tests/tools/cli.h"

#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

namespace comba::tools {
namespace {

TEST_F(Cli, TrainsEvaluatesAndPredicts) {
  const Outcome trained = run(tiny_train("run"));
  ASSERT_EQ(trained.code, 0) << trained.err;
  EXPECT_SAYS(trained.out, "run/report.html");
  EXPECT_SAYS(trained.out, "run/checkpoints/best/");
  EXPECT_SAYS(trained.err, "img/s");
  EXPECT_SAYS(comba::read_file(folder_ / "run/report.html"), "<svg");
  EXPECT_GT(fs::file_size(folder_ / "run/log.txt"), 0U);

  const Outcome evaluated = run({"eval", "run", "--json", "result.json", "--device", "cpu"});
  ASSERT_EQ(evaluated.code, 0) << evaluated.err;
  EXPECT_SAYS(evaluated.out, "images   1000");
  EXPECT_SAYS(evaluated.out, "top-1");
  EXPECT_SAYS(comba::read_file(folder_ / "result.json"), "\"top5\"");

  fs::copy_file(folder_ / "run/checkpoints/best/model.safetensors", folder_ / "alone.safetensors");
  const Outcome predicted = run({"predict", "alone.safetensors", digit().string(), "--topk", "3",
                                 "--logits", "l.safetensors"});
  ASSERT_EQ(predicted.code, 0) << predicted.err;
  EXPECT_EQ(count(predicted.out, "\n"), 1U);
  EXPECT_EQ(count(predicted.out, "\"probability\""), 3U);
  EXPECT_TRUE(fs::exists(folder_ / "l.safetensors"));

  const Outcome lone = run({"eval", "alone.safetensors"});
  EXPECT_EQ(lone.code, 2);
  EXPECT_SAYS(lone.err, "--data");
  const Outcome with_data =
      run({"eval", "alone.safetensors", "--data", (kSource / "datasets/samples/mnist5k").string(),
           "--split", "test"});
  EXPECT_EQ(with_data.code, 0) << with_data.err;
}

TEST_F(Cli, PredictAnswersTheGoodInputsAndNamesTheBad) {
  ASSERT_EQ(run(tiny_train("run", {"--set", "train.max_steps=2"})).code, 0);
  std::ofstream(folder_ / "broken.png") << "this is no image";
  std::ofstream(folder_ / "empty.jpg").close();
  const Outcome outcome = run({"predict", "run", "broken.png", digit().string(), "empty.jpg",
                               "absent.png", digit().string()});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(count(outcome.out, "\n"), 2U) << outcome.out;
  for (const char* name : {"broken.png", "empty.jpg", "absent.png"}) {
    EXPECT_SAYS(outcome.err, name);
  }
}

TEST_F(Cli, PredictSearchesFoldersAndGlobs) {
  ASSERT_EQ(run(tiny_train("run", {"--set", "train.max_steps=2"})).code, 0);
  fs::create_directories(folder_ / "pictures/deep");
  const std::string extension = digit().extension().string();
  for (const char* name : {"a", "deep/b"}) {
    fs::copy_file(digit(), folder_ / "pictures" / (name + extension));
  }
  EXPECT_EQ(count(run({"predict", "run", "pictures"}).out, "\n"), 2U);
  EXPECT_EQ(count(run({"predict", "run", "pictures/*" + extension}).out, "\n"), 1U);
}

TEST_F(Cli, AConfigTypoNamesFileLineAndTheNearestKey) {
  std::ofstream(folder_ / "typo.toml") << "[train]\nlr = 0.1\nepoch = 3\n";
  const Outcome outcome = run({"train", "typo.toml"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_SAYS(outcome.err, "typo.toml:3");
  EXPECT_SAYS(outcome.err, "train.epochs");
  EXPECT_FALSE(fs::exists(folder_ / "runs"));
}

TEST_F(Cli, WrongArgumentsAreUsageErrors) {
  EXPECT_EQ(run({"train"}).code, 2);
  EXPECT_EQ(run({"train", "absent.toml"}).code, 2);
  EXPECT_EQ(run(tiny_train("r", {"--set", "train.lr=\"fast\""})).code, 2);
  EXPECT_EQ(run(tiny_train("r", {"--device", "quantum"})).code, 2);
  EXPECT_EQ(run({"eval", "absent"}).code, 2);
}

TEST_F(Cli, MissingDataNamesThePathAndLeavesNoRunFolder) {
  const Outcome outcome = run(tiny_train("run", {"--set", "data.train=no/such/images"}));
  EXPECT_EQ(outcome.code, 2);
  EXPECT_SAYS(outcome.err, "no/such/images");
  EXPECT_FALSE(fs::exists(folder_ / "run"));
}

TEST_F(Cli, FewerOutputsThanClassesIsRefused) {
  const Outcome outcome = run(tiny_train("run", {"--set", "model.classes=3"}));
  EXPECT_EQ(outcome.code, 2);
  EXPECT_SAYS(outcome.err, "10 classes");
}

TEST_F(Cli, PartsThatDoNotDivideTheBatchAreRefusedBeforeARunBegins) {
  const Outcome outcome = run(tiny_train("parts", {"--set", "train.accumulate=3"}));
  EXPECT_EQ(outcome.code, 2);
  EXPECT_SAYS(outcome.err, "train.accumulate = 3: expected a divisor of the 50 images");
  EXPECT_FALSE(fs::exists(folder_ / "parts"));
}

TEST_F(Cli, AnExistingRunIsNotOverwritten) {
  ASSERT_EQ(run(tiny_train("run", {"--set", "train.max_steps=2"})).code, 0);
  const Outcome outcome = run(tiny_train("run"));
  EXPECT_EQ(outcome.code, 2);
  EXPECT_SAYS(outcome.err, "--resume");
}

// The weights of the last checkpoint, byte for byte.
std::string last_weights(const fs::path& run) {
  return comba::read_file(run / "checkpoints/last/model.safetensors") +
         comba::read_file(run / "checkpoints/last/ema.safetensors");
}

TEST_F(Cli, SigtermSavesAndAResumedRunEndsWithTheSameWeights) {
  const std::vector<std::string> longer = {
      "--set", "train.epochs=2", "--set", "train.max_steps=120", "--set", "train.log_every=5"};
  ASSERT_EQ(run(tiny_train("straight", longer)).code, 0);
  const pid_t child = start(tiny_train("stopped", longer));
  const fs::path metrics = folder_ / "stopped/metrics.jsonl";
  for (int i = 0; i < 60000 && (!fs::exists(metrics) || fs::file_size(metrics) == 0); ++i) {
    usleep(1000);
  }
  kill(child, SIGTERM);
  const Outcome stopped = finish(child);
  ASSERT_EQ(stopped.code, 143) << stopped.err;
  EXPECT_SAYS(stopped.err, "--resume");
  std::vector<std::string> again = tiny_train("stopped", longer);
  again.push_back("--resume");
  const Outcome resumed = run(again);
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_SAYS(resumed.err, "resuming from");
  EXPECT_TRUE(last_weights(folder_ / "straight") == last_weights(folder_ / "stopped"));
}

// Whatever the moment: before the first checkpoint of a run that goes on, while one is written, while images are evaluated.
TEST_F(Cli, ARunKilledTwentyTimesEndsWithTheWeightsOfOneThatWasNot) {
  const std::vector<std::string> longer = {
      "--set", "train.epochs=2",    "--set", "train.max_steps=150",
      "--set", "train.log_every=5", "--set", "train.checkpoint_every=3"};
  ASSERT_EQ(run(tiny_train("straight", longer)).code, 0);
  const fs::path first = folder_ / "killed/checkpoints/last";
  pid_t child = start(tiny_train("killed", longer));
  for (int i = 0; i < 60000 && !fs::exists(first); ++i) {
    usleep(1000);
  }
  std::vector<std::string> again = tiny_train("killed", longer);
  again.push_back("--resume");
  std::mt19937 random(20);
  for (int i = 0; i < 20; ++i) {
    usleep(std::uniform_int_distribution<useconds_t>(0, 1'500'000)(random));
    kill(child, SIGKILL);
    finish(child);
    child = start(again);
  }
  const Outcome last = finish(child);
  ASSERT_EQ(last.code, 0) << last.err;
  EXPECT_TRUE(last_weights(folder_ / "straight") == last_weights(folder_ / "killed"));
}

TEST_F(Cli, BenchTrainAndModelMeasureEveryConfiguration) {
  std::ofstream(folder_ / "tiny.toml") << "[model]\nwidth = 32\nhead_dim = 32\ndepth = 1\n";
  for (const std::string verb : {"train", "model"}) {
    const Outcome bench =
        run({"bench", verb, "tiny.toml", "tiny.toml", "--device", "cpu", "--batch", "2", "--size",
             "32", "--size", "48", "--repeats", "1", "--json", "figures.json"});
    EXPECT_EQ(bench.code, 0) << bench.err;
    const auto figures = nlohmann::json::parse(comba::read_file(folder_ / "figures.json"));
    ASSERT_EQ(figures["rows"].size(), 4U);
    EXPECT_EQ(figures["rows"][3]["image_size"], 48);
    EXPECT_EQ(figures["rows"][3]["batch"], 2);
    for (const auto& row : figures["rows"]) {
      EXPECT_GT(row["images_per_second"], 0.0);
      EXPECT_GT(row[verb == "train" ? "step_ms" : "forward_ms"], 0.0);
    }
  }
  EXPECT_EQ(run({"bench", "train", "absent.toml"}).code, 2);
  EXPECT_EQ(run({"bench", "train", "tiny.toml", "--batch", "0"}).code, 2);
}

TEST_F(Cli, BenchScanTimesEveryOperatorAndWritesTheFigures) {
  const Outcome bench =
      run({"bench", "scan", "--device", "cpu", "--shape", "1,20,2,16", "--shape", "2,33,1,8",
           "--repeats", "2", "--json", "figures.json", "--plot", "figures.svg"});
  EXPECT_EQ(bench.code, 0) << bench.err;
  const auto figures = nlohmann::json::parse(comba::read_file(folder_ / "figures.json"));
  ASSERT_EQ(figures["rows"].size(), 6U);
  EXPECT_EQ(figures["dtype"], "fp32");
  for (const auto& row : figures["rows"]) {
    EXPECT_GT(row["forward_ms"], 0.0);
    EXPECT_GT(row["forward_backward_ms"], 0.0);
    EXPECT_EQ(row["forward_graph_ms"], 0.0);  // the CPU has no graphs
  }
  EXPECT_EQ(figures["rows"][3]["length"], 33);
  EXPECT_NE(comba::read_file(folder_ / "figures.svg").find("</svg>"), std::string::npos);
}

TEST_F(Cli, BenchScanRefusesWhatIsNoShape) {
  for (const char* shape : {"1,2,3", "1,2,3,4,5", "1,2,3,0", "a,b,c,d"}) {
    const Outcome bench = run({"bench", "scan", "--device", "cpu", "--shape", shape});
    EXPECT_EQ(bench.code, 2) << shape;
    EXPECT_NE(bench.err.find("expected four positive numbers B,T,H,D"), std::string::npos)
        << bench.err;
  }
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
  const auto json = nlohmann::json::parse(comba::read_file(folder_ / "loader.json"));
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
  const auto figures = nlohmann::json::parse(comba::read_file(folder_ / "figures.json"));
  ASSERT_EQ(figures["rows"].size(), 2U);
  EXPECT_EQ(figures["rows"][1]["objects"], 2);
  for (const auto& row : figures["rows"]) {
    EXPECT_EQ(row["tracker"], "tiny");
    for (const char* stage :
         {"crop_ms", "answer_ms", "frame_ms", "network_ms", "network_as_trained_ms"}) {
      EXPECT_GT(row[stage], 0.0) << stage;
    }
  }
  const Outcome refused = run({"bench", "track", "--device", "cpu", "--frame", "big"});
  EXPECT_EQ(refused.code, 2);
  EXPECT_SAYS(refused.err, "expected WIDTHxHEIGHT");
}

// Two sequences of LaSOT's evaluation toolkit, and two trackers: one that is right and one that stands still.
void write_lasot(const fs::path& folder) {
  const auto write = [&](const std::string& file, const std::string& text) {
    fs::create_directories((folder / file).parent_path());
    std::ofstream(folder / file) << text;
  };
  for (const std::string name : {"bird-1", "cat-2"}) {
    write("lasot/annos/" + name + ".txt", "10,10,20,20\n15,10,20,20\n30,10,20,20\n");
    write("lasot/absent/" + name + ".txt", "0\n0\n0\n");
    write("lasot/att/" + name + ".txt", "1,0,0,0,0,0,0,0,0,0,0,0,0,0\n");
    write("right/" + name + ".txt", "10\t10\t20\t20\n15\t10\t20\t20\n30\t10\t20\t20\n");
    write("right/" + name + "_time.txt", "0.01\n0.01\n0.01\n");
    write("still/" + name + ".txt", "10 10 20 20\n10 10 20 20\n10 10 20 20\n");
  }
  write("lasot/testing_set.txt", "bird-1\ncat-2");
}

TEST_F(Cli, ScoreComparesTrackersAndNamesTheProtocol) {
  write_lasot(folder_);
  const Outcome scored =
      run({"score", "lasot", "--annotations", "lasot", "--results", "still", "--results", "right/",
           "--json", "scores.json", "--csv", "scores.csv", "--html", "scores.html"});
  EXPECT_EQ(scored.code, 0) << scored.err;
  EXPECT_SAYS(scored.out, "LaSOT, protocol pytracking");
  EXPECT_LT(scored.out.find("right"), scored.out.find("still"));  // the better one first
  const auto json = nlohmann::json::parse(comba::read_file(folder_ / "scores.json"));
  EXPECT_EQ(json["protocol"], "pytracking");
  EXPECT_NEAR(json["trackers"]["right"]["overall"]["auc"], 20.0 / 21, 1e-7);
  // IoU 1, 0.6 and 0 of three frames: 20, 12 and 0 of 21 thresholds.
  EXPECT_NEAR(json["trackers"]["still"]["overall"]["auc"], 32.0 / 63, 1e-7);
  EXPECT_NEAR(json["trackers"]["right"]["overall"]["speed_fps"], 100.0, 1e-6);
  EXPECT_SAYS(comba::read_file(folder_ / "scores.csv"), "still,cat-2,0.50793");
  const std::string html = comba::read_file(folder_ / "scores.html");
  EXPECT_SAYS(html, "protocol pytracking");
  EXPECT_SAYS(html, "AUC by attribute");
  EXPECT_SAYS(html, "<svg");
}

TEST_F(Cli, ScoreSaysWhatIsWrong) {
  write_lasot(folder_);
  const std::vector<std::string> score = {"score", "lasot", "--annotations", "lasot", "--results"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), score.begin(), score.end());
    return run(more);
  };
  const Outcome protocol = with({"right", "--protocol", "mean"});
  EXPECT_EQ(protocol.code, 2);
  EXPECT_SAYS(protocol.err, "expected pytracking, lasot-matlab or got10k");
  const Outcome twice = with({"right", "--results", "./right"});
  EXPECT_EQ(twice.code, 2);
  EXPECT_SAYS(twice.err, "give each --results a --name");
  fs::remove(folder_ / "right/cat-2.txt");
  const Outcome missing = with({"right"});
  EXPECT_EQ(missing.code, 1);
  EXPECT_SAYS(missing.err, "1 are not there: cat-2; --partial");
  EXPECT_EQ(with({"right", "--partial"}).code, 0);
  std::ofstream(folder_ / "right/bird-1.txt") << "10,10,20,20\n15,10,20\n";
  const Outcome broken = with({"right", "--partial"});
  EXPECT_EQ(broken.code, 1);
  EXPECT_SAYS(broken.err, "right/bird-1.txt:2: expected four numbers x,y,w,h, got \"15,10,20\"");
  const Outcome nothing = run({"score", "got10k"});
  EXPECT_EQ(nothing.code, 2);
  EXPECT_SAYS(nothing.err, "--annotations VAL_FOLDER and --results FOLDER");
}

TEST_F(Cli, SynthMakesABenchmarkThatScoreReads) {
  const Outcome made = run({"data", "synth", "got10k", "val", "--split", "val", "--sequences", "3",
                            "--frames", "4", "--size", "96x64"});
  ASSERT_EQ(made.code, 0) << made.err;
  EXPECT_SAYS(made.out, "3 sequences of 4 frames are in val");
  for (int n = 1; n <= 3; ++n) {  // the truth as a tracker's answer
    const std::string name = "GOT-10k_Val_00000" + std::to_string(n);
    fs::create_directories(folder_ / "truth");
    fs::copy_file(folder_ / "val" / name / "groundtruth.txt", folder_ / "truth" / (name + ".txt"));
  }
  const Outcome scored = run({"score", "got10k", "--annotations", "val", "--results", "truth"});
  EXPECT_EQ(scored.code, 0) << scored.err;
  EXPECT_SAYS(scored.out, "truth    1.0000  1.0000  1.0000");
  const Outcome again = run({"data", "synth", "got10k", "val"});
  EXPECT_EQ(again.code, 1);
  EXPECT_SAYS(again.err, "expected a new or empty folder");
  const Outcome size = run({"data", "synth", "lasot", "other", "--size", "96"});
  EXPECT_EQ(size.code, 2);
  EXPECT_SAYS(size.err, "expected WIDTHxHEIGHT, got \"96\"");
}

TEST_F(Cli, ScoreValidatesASubmission) {
  std::ofstream(folder_ / "ours.zip") << "no zip";
  const Outcome outcome = run({"score", "got10k", "--validate", "ours.zip"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_SAYS(outcome.err, "ours.zip: expected a zip file");
}

// A tracker of one block, trained for a step on made-up videos in val/.
class TrackerCli : public Cli {
 protected:
  void SetUp() override {
    Cli::SetUp();
    std::ofstream(folder_ / "tiny.toml")
        << "task = \"track\"\n[model]\nimage_size = 64\ntemplate_size = 32\nwidth = 64\ndepth = 1\n"
           "head_width = 16\n[data]\ntrain = [\"got10k:val\"]\neval = [\"got10k:val\"]\nsamples = "
           "8\n"
           "eval_samples = 8\n[train]\nepochs = 1\nbatch_size = 8\nwarmup_epochs = 0\n";
    ASSERT_EQ(run({"data", "synth", "got10k", "val", "--split", "val", "--sequences", "2",
                   "--frames", "24", "--size", "160x120"})
                  .code,
              0);
    const Outcome trained = run({"train", "tiny.toml", "--run", "run", "--device", "cpu"});
    ASSERT_EQ(trained.code, 0) << trained.err;
    EXPECT_SAYS(trained.out, "best iou");
  }
  Outcome track(const std::string& source, std::vector<std::string> more) const {
    std::vector<std::string> arguments = {"track", source, "--weights", "run", "--device", "cpu"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments);
  }
};

TEST_F(TrackerCli, EvalTracksABenchmarkOnceAndScoresIt) {
  const std::vector<std::string> arguments = {"eval",   "run",         "--benchmark", "got10k",
                                              "--data", "val",         "--workers",   "2",
                                              "--json", "scores.json", "--device",    "cpu"};
  const Outcome first = run(arguments);
  ASSERT_EQ(first.code, 0) << first.err;
  EXPECT_SAYS(first.out, "GOT-10k, protocol got10k");
  EXPECT_SAYS(first.out, "frames   48 in");
  EXPECT_SAYS(first.out, "2 at a time, each with 1 threads that decode ahead");
  EXPECT_SAYS(first.out, "waiting for frames");
  EXPECT_SAYS(first.out, "bound by ");
  EXPECT_SAYS(first.out, "results  results/run-");
  EXPECT_TRUE(fs::exists(folder_ / "scores.json"));
  const Outcome again = run(arguments);
  EXPECT_SAYS(again.out, "left     2 sequences that had their results");
  const Outcome nowhere = run({"eval", "run"});
  EXPECT_EQ(nowhere.code, 2);
  EXPECT_SAYS(nowhere.err, "give --benchmark got10k|lasot and --data DIR");
}

// The classic trap: results of the weights before, taken for those of the weights now.
TEST_F(TrackerCli, ResultsAreKeptByTheHashOfTheWeights) {
  const auto evaluate = [&](const std::string& weights) {
    return run({"eval", weights, "--benchmark", "got10k", "--data", "val", "--device", "cpu"});
  };
  EXPECT_SAYS(evaluate("run").out, "frames   48 in");
  fs::rename(folder_ / "run", folder_ / "before");
  ASSERT_EQ(run({"train", "tiny.toml", "--run", "run", "--device", "cpu", "--set", "seed=5"}).code,
            0);
  const Outcome trained_again = evaluate("run");
  EXPECT_SAYS(trained_again.out, "frames   48 in");
  EXPECT_EQ(trained_again.out.find("had their results"), std::string::npos);
  fs::create_directories(folder_ / "moved");
  fs::rename(folder_ / "before", folder_ / "moved/run");
  EXPECT_SAYS(evaluate("moved/run").out, "left     2 sequences that had their results");
  size_t results = 0;
  for (const auto& entry : fs::directory_iterator(folder_ / "results")) {
    EXPECT_SAYS(entry.path().filename().string(), "run-");
    ++results;
  }
  EXPECT_EQ(results, 2U);
}

TEST_F(TrackerCli, ADeviceThatIsNotThereIsAWrongArgument) {
  for (const auto& [device, says] : std::vector<std::pair<std::string, std::string>>{
           {"gpu", "expected auto, cpu, cuda or cuda:N, got \"gpu\""},
           {"cuda:x", "expected auto, cpu, cuda or cuda:N"},
           {"cuda:0x", "expected auto, cpu, cuda or cuda:N"},
           {"cuda:99", "--device cuda:99: LibTorch finds"},
           {"cpu,", "expected auto, cpu, cuda or cuda:N, got \"\""},
           {"cpu,cpu", "--device cpu,cpu: cpu is there twice"}}) {
    const Outcome outcome =
        run({"eval", "run", "--benchmark", "got10k", "--data", "val", "--device", device});
    EXPECT_EQ(outcome.code, 2) << device;
    EXPECT_SAYS(outcome.err, says);
  }
}

TEST_F(TrackerCli, TrainingOnAPackOfVideosGivesTheSameWeights) {
  const Outcome packed = run({"data", "pack", "got10k:val", "val.pack"});
  ASSERT_EQ(packed.code, 0) << packed.err;
  EXPECT_SAYS(packed.out, "val.pack: 2 videos, 48 frames; train on it as pack:val.pack");
  const Outcome trained =
      run({"train", "tiny.toml", "--run", "packed", "--device", "cpu", "--set",
           "data.train=[\"pack:val.pack\"]", "--set", "data.eval=[\"pack:val.pack\"]"});
  ASSERT_EQ(trained.code, 0) << trained.err;
  const std::string weights = "checkpoints/last/model.safetensors";
  EXPECT_EQ(comba::read_file(folder_ / "packed" / weights),
            comba::read_file(folder_ / "run" / weights));
  EXPECT_SAYS(run({"data", "check", "pack", "val.pack"}).out, "2 sequences, 0 with problems");
  const Outcome shrunk = run({"data", "pack", "got10k:val", "small.pack", "--short-side", "64"});
  EXPECT_EQ(shrunk.code, 2);
  EXPECT_SAYS(shrunk.err, "the boxes of videos are in pixels of their frames");
  std::ofstream(folder_ / "val/GOT-10k_Val_000002/00000003.jpg") << "";
  const Outcome rest = run({"data", "pack", "got10k:val", "rest.pack"});
  EXPECT_EQ(rest.code, 0);
  EXPECT_SAYS(rest.out, "rest.pack: 1 videos, 24 frames");
  EXPECT_SAYS(comba::read_file(folder_ / "rest.pack.rejected.txt"), "00000003.jpg");
  EXPECT_EQ(run({"data", "pack", "got10k:val", "none.pack", "--on-bad", "fail"}).code, 1);
}

TEST_F(TrackerCli, TrackTakesTheShippedWeightsUnlessOthersAreGiven) {
  const Outcome outcome = run({"track", "val/GOT-10k_Val_000001", "--box", "20,20,40,30",
                               "--frames", "2", "--device", "cpu"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_SAYS(outcome.out, "tracked  2 frames");
}

TEST_F(TrackerCli, DataCheckNamesEveryProblemOfABenchmark) {
  const Outcome good = run({"data", "check", "got10k", "val"});
  EXPECT_EQ(good.code, 0) << good.err;
  EXPECT_SAYS(good.out, "val: 2 sequences, 0 with problems");
  std::ofstream(folder_ / "val/GOT-10k_Val_000002/00000003.jpg") << "";
  fs::remove(folder_ / "val/GOT-10k_Val_000001/absence.label");
  const Outcome bad = run({"data", "check", "got10k", "val"});
  EXPECT_EQ(bad.code, 1);
  EXPECT_SAYS(bad.out, "absence.label");
  EXPECT_SAYS(bad.out, "00000003.jpg");
  EXPECT_SAYS(bad.err, "2 problems in 2 of 2 sequences");
}

TEST_F(TrackerCli, TrackWritesALineAFrame) {
  const Outcome outcome = track("val/GOT-10k_Val_000001", {"--box", "20,20,40,30", "--box",
                                                           "80 50 30 30", "--json", "b.jsonl"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_SAYS(outcome.out, "tracked  24 frames");
  std::ifstream file(folder_ / "b.jsonl");
  int64_t number = 0;
  for (std::string line; std::getline(file, line);) {
    const auto json = nlohmann::json::parse(line);
    EXPECT_EQ(json["frame"], ++number);
    ASSERT_EQ(json["objects"].size(), 2U);
    EXPECT_EQ(json["objects"][1]["id"], 2);
    EXPECT_EQ(json["objects"][1]["box"].size(), 4U);
  }
  EXPECT_EQ(number, 24);
}

TEST_F(TrackerCli, TrackWritesAVideoThatItCanRead) {
  const Outcome made = track("val/GOT-10k_Val_000001", {"--box", "20,20,40,30", "--out", "v.avi"});
  ASSERT_EQ(made.code, 0) << made.err;
  const Outcome read = track("v.avi", {"--box", "20,20,40,30", "--frames", "5"});
  ASSERT_EQ(read.code, 0) << read.err;
  EXPECT_SAYS(read.out, "tracked  5 frames");
}

TEST_F(TrackerCli, TrackSaysWhatItCannotFollow) {
  std::ofstream(folder_ / "bad.mp4") << "no video";
  fs::create_directories(folder_ / "empty");
  struct Case {
    std::string source;
    std::vector<std::string> more;
    int code;
    std::string says;
  };
  const std::vector<std::string> box = {"--box", "20,20,40,30"};
  const std::string video = "val/GOT-10k_Val_000001";
  for (const Case& c : std::vector<Case>{
           {video, {}, 2, "give --box left,top,width,height"},
           {video, {"--box", "1,2,3"}, 1, "expected four numbers"},
           {video, {"--box", "1,2,0,4"}, 2, "expected left,top,width,height"},
           {video, {"--box", "900,2,3,4"}, 2, "no area inside the frame of 160 x 120"},
           {"absent.mp4", box, 1, "absent.mp4: there is no such file"},
           {"bad.mp4", box, 1, "opening the video bad.mp4"},
           {"empty", box, 1, "empty holds no images"}}) {
    const Outcome outcome = track(c.source, c.more);
    EXPECT_EQ(outcome.code, c.code) << c.says;
    EXPECT_SAYS(outcome.err, c.says);
  }
  std::ofstream(folder_ / video / "00000007.jpg") << "";
  const Outcome broken = track(video, {"--box", "20,20,40,30", "--json", "b.jsonl"});
  EXPECT_EQ(broken.code, 1);
  EXPECT_SAYS(broken.err, "00000007.jpg");
  unsetenv("DISPLAY");
  unsetenv("WAYLAND_DISPLAY");
  const Outcome window = track(video, {"--box", "20,20,40,30", "--show"});
  EXPECT_EQ(window.code, 1);
  EXPECT_SAYS(window.err, "there is no display (DISPLAY is not set)");
  const Outcome camera = run({"webcam", "--weights", "run", "--camera", "63", "--box", "1,1,9,9"});
  EXPECT_EQ(camera.code, 1);
  EXPECT_SAYS(camera.err, "/dev/video63");
}

TEST_F(Cli, ShowsATrainingBatchAsTheNetworkGetsIt) {
  const auto show = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"data", "show", "--out", "sheet.png"});
    return run(arguments);
  };
  const auto sheet = [&] { return comba::read_file(folder_ / "sheet.png"); };
  const std::string digits = (kSource / "datasets/samples/mnist5k").string();
  EXPECT_SAYS(show({digits, "--split", "train", "--channels", "1"}).out, "32 of 4000 images");
  const std::string stored = sheet();

  std::vector<std::string> bare = {digits, "--split", "train", "--channels", "1", "--count", "16"};
  for (const char* key : {"data.image_size=28", "data.train_crop=shift", "data.repeats=3",
                          "data.erase=1", "data.mixup=0.8"}) {
    bare.insert(bare.end(), {"--set", key});
  }
  EXPECT_EQ(show(bare).code, 2);  // keys without --train
  EXPECT_EQ(sheet(), stored);
  bare.push_back("--train");
  EXPECT_SAYS(show(bare).out, "16 of the 16 images of batch 0 of epoch 0");
  EXPECT_NE(sheet(), stored);

  std::vector<std::string> run_like = {"--config", (kSource / "configs/mnist5k.toml").string()};
  EXPECT_SAYS(show(run_like).out, "32 of the 50 images of batch 0 of epoch 0");
  const std::string first = sheet();
  show(run_like);
  EXPECT_EQ(sheet(), first);
  run_like.insert(run_like.end(), {"--epoch", "1", "--step", "79"});
  EXPECT_SAYS(show(run_like).out, "batch 79 of epoch 1");
  EXPECT_NE(sheet(), first);

  run_like.back() = "80";
  EXPECT_SAYS(show(run_like).err, "80 batches of 50; expected 0 to 79");
  EXPECT_SAYS(show({}).err, "give SOURCE or --config");
  EXPECT_SAYS(show({"--config", "absent.toml"}).err, "absent.toml");
}

TEST_F(Cli, HelpTeaches) {
  for (const char* command : {"train", "eval", "predict", "data show", "score got10k",
                              "score lasot", "track", "webcam"}) {
    std::istringstream words(command);
    std::vector<std::string> arguments;
    for (std::string word; words >> word;) {
      arguments.push_back(word);
    }
    arguments.push_back("--help");
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.code, 0);
    EXPECT_SAYS(outcome.out, "Example");
    EXPECT_SAYS(outcome.out, "comba " + std::string(command).substr(0, 5));
  }
}

// Made-up ImageNet with a file that is none: checked, packed, stopped, gone on with, checked again.
TEST_F(Cli, ImagesAreMadeCheckedAndPacked) {
  const Outcome made = run(
      {"data", "synth", "imagenet", "set", "--classes", "2", "--per-class", "50", "--val", "5"});
  ASSERT_EQ(made.code, 0) << made.err;
  EXPECT_SAYS(made.out, "100 training images of 2 classes and 5 for validation");
  const Outcome good =
      run({"data", "check", "set", "--split", "val", "--seconds", "0.1", "--json", "val.json"});
  ASSERT_EQ(good.code, 0) << good.err;
  EXPECT_SAYS(good.out, "5 images of 2 classes, 0 bad");
  EXPECT_SAYS(good.out, "img/s to be expected");
  EXPECT_EQ(nlohmann::json::parse(comba::read_file(folder_ / "val.json")).at("checked"), 5);

  comba::write_file_atomic(folder_ / "set/train/n00000001/n00000001_7.JPEG", "no image");
  const Outcome bad = run({"data", "check", "set", "--split", "train", "--all", "--seconds", "0"});
  EXPECT_EQ(bad.code, 1);
  EXPECT_SAYS(bad.out, "n00000001_7.JPEG: not an image");
  EXPECT_SAYS(bad.out, "1 not an image");
  const Outcome failed =
      run({"data", "pack", "set", "train.pack", "--split", "train", "--short-side", "64"});
  EXPECT_EQ(failed.code, 1);
  EXPECT_SAYS(failed.err, "--on-bad skip leaves them out");
  EXPECT_SAYS(comba::read_file(folder_ / "train.pack.rejected.txt"),
              "not an image\tn00000001/n00000001_7.JPEG\tdecoding set/train");
  EXPECT_FALSE(fs::exists(folder_ / "train.pack"));
  const Outcome packed = run({"data", "pack", "set", "train.pack", "--split", "train",
                              "--short-side", "64", "--on-bad", "skip"});
  ASSERT_EQ(packed.code, 0) << packed.err;
  EXPECT_SAYS(packed.err, "going on behind 100 of 100 images");
  EXPECT_SAYS(packed.out, "train.pack: 99 images of 2 classes, 99 of them encoded anew");
  EXPECT_SAYS(packed.out, "left out: 1 not an image");
  EXPECT_EQ(run({"data", "check", "train.pack", "--all", "--seconds", "0"}).code, 0);
}

}  // namespace
}  // namespace comba::tools
