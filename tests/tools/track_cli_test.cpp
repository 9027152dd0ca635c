// Trackers and their scores, from the command line.
#include "tests/tools/cli.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace comba::tools {
namespace {

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
  const auto json = nlohmann::json::parse(read_file(folder_ / "scores.json"));
  EXPECT_EQ(json["protocol"], "pytracking");
  EXPECT_NEAR(json["trackers"]["right"]["overall"]["auc"], 20.0 / 21, 1e-7);
  // IoU 1, 0.6 and 0 of three frames: 20, 12 and 0 of 21 thresholds.
  EXPECT_NEAR(json["trackers"]["still"]["overall"]["auc"], 32.0 / 63, 1e-7);
  EXPECT_NEAR(json["trackers"]["right"]["overall"]["speed_fps"], 100.0, 1e-6);
  EXPECT_SAYS(read_file(folder_ / "scores.csv"), "still,cat-2,0.50793");
  const std::string html = read_file(folder_ / "scores.html");
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
  EXPECT_SAYS(size.err,
              "--size: expected WIDTHxHEIGHT, 64 to 4096 pixels each, as in 1280x720, got \"96\"");
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
  EXPECT_EQ(read_file(folder_ / "packed" / weights), read_file(folder_ / "run" / weights));
  EXPECT_SAYS(run({"data", "check", "pack", "val.pack"}).out, "2 sequences, 0 with problems");
  const Outcome shrunk = run({"data", "pack", "got10k:val", "small.pack", "--short-side", "64"});
  EXPECT_EQ(shrunk.code, 2);
  EXPECT_SAYS(shrunk.err, "the boxes of videos are in pixels of their frames");
  std::ofstream(folder_ / "val/GOT-10k_Val_000002/00000003.jpg") << "";
  const Outcome rest = run({"data", "pack", "got10k:val", "rest.pack"});
  EXPECT_EQ(rest.code, 0);
  EXPECT_SAYS(rest.out, "rest.pack: 1 videos, 24 frames");
  EXPECT_SAYS(read_file(folder_ / "rest.pack.rejected.txt"), "00000003.jpg");
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

}  // namespace
}  // namespace comba::tools
