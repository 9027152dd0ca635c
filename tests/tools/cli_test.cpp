// The comba binary end to end: train, eval, predict, data, and what it says when something is wrong.
#include "tests/tools/cli.h"

#include <cstring>
#include <random>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <signal.h>

namespace comba::tools {
namespace {

TEST_F(Cli, TrainsEvaluatesAndPredicts) {
  const Outcome trained = run(tiny_train("run"));
  ASSERT_EQ(trained.code, 0) << trained.err;
  EXPECT_SAYS(trained.out, "run/report.html");
  EXPECT_SAYS(trained.out, "run/checkpoints/best/");
  EXPECT_SAYS(trained.err, "img/s");
  EXPECT_SAYS(read_file(folder_ / "run/report.html"), "<svg");
  EXPECT_GT(fs::file_size(folder_ / "run/log.txt"), 0U);

  const Outcome evaluated = run({"eval", "run", "--json", "result.json", "--device", "cpu"});
  ASSERT_EQ(evaluated.code, 0) << evaluated.err;
  EXPECT_SAYS(evaluated.out, "images   1000");
  EXPECT_SAYS(evaluated.out, "top-1");
  EXPECT_SAYS(read_file(folder_ / "result.json"), "\"top5\"");

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

TEST_F(Cli, TrainsAndEvaluatesARecallTaskAndSaysWhatItsWeightsAreNotFor) {
  const Outcome trained = run({"train",    (kSource / "configs/mqar/comba.toml").string(),
                               "--run",    "run",
                               "--device", "cpu",
                               "--set",    "data.length=16",
                               "--set",    "data.pairs=2",
                               "--set",    "data.train_pairs=[1,2]",
                               "--set",    "data.vocabulary=8",
                               "--set",    "data.samples=8",
                               "--set",    "data.eval_samples=20",
                               "--set",    "train.batch_size=4",
                               "--set",    "train.epochs=1"});
  ASSERT_EQ(trained.code, 0) << trained.err;
  EXPECT_SAYS(trained.out, "accuracy");
  EXPECT_SAYS(read_file(folder_ / "run/report.html"), "Questions answered, by distance");
  const Outcome evaluated = run({"eval", "run", "--json", "result.json", "--device", "cpu"});
  ASSERT_EQ(evaluated.code, 0) << evaluated.err;
  EXPECT_SAYS(evaluated.out, "accuracy");
  EXPECT_SAYS(evaluated.out, "tokens behind the pair");
  EXPECT_SAYS(read_file(folder_ / "result.json"), "\"by_distance\"");
  const Outcome with_data = run({"eval", "run", "--data", "somewhere"});
  EXPECT_EQ(with_data.code, 2);
  EXPECT_SAYS(with_data.err, "leave --data");
  const Outcome exported = run({"export", "run", "--format", "onnx"});
  EXPECT_NE(exported.code, 0);
  EXPECT_SAYS(exported.err, "trained for the task \"recall\"");
}

// A file of weights as another program would write it.
void remove_metadata(const fs::path& from, const fs::path& to) {
  const std::string bytes = read_file(from);
  uint64_t size = 0;
  std::memcpy(&size, bytes.data(), sizeof size);
  nlohmann::json header = nlohmann::json::parse(bytes.substr(8, size));
  header.erase("__metadata__");
  const std::string text = header.dump(), data = bytes.substr(8 + size);
  size = text.size();
  write_file_atomic(to,
                    std::string(reinterpret_cast<const char*>(&size), sizeof size) + text + data);
}

TEST_F(Cli, WeightsThatSayNothingOfTheirModelAreUsedWithAConfigurationAndTrainedFrom) {
  ASSERT_EQ(run(tiny_train("run")).code, 0);
  remove_metadata(folder_ / "run/checkpoints/last/model.safetensors", folder_ / "bare.safetensors");
  const Outcome unknown = run({"eval", "bare.safetensors"});
  EXPECT_EQ(unknown.code, 1);
  EXPECT_SAYS(unknown.err, "--config FILE");
  const auto result = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--json", "result.json", "--device", "cpu"});
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    nlohmann::json json = nlohmann::json::parse(read_file(folder_ / "result.json"));
    json.erase("weights");
    return json;
  };
  EXPECT_EQ(result({"eval", "bare.safetensors", "--config", "run/config.toml"}),
            result({"eval", "run/checkpoints/last", "--weights", "raw"}));

  const Outcome begun = run(tiny_train("more", {"--set", "model.init=bare.safetensors", "--set",
                                                "model.classes=12", "--set", "train.max_steps=2"}));
  ASSERT_EQ(begun.code, 0) << begun.err;
  EXPECT_SAYS(begun.err, "dropped: head.bias [10] (the model's is [12])");
  const Outcome wider =
      run(tiny_train("wider", {"--set", "model.init=bare.safetensors", "--set", "model.width=64"}));
  EXPECT_EQ(wider.code, 1);
  EXPECT_SAYS(wider.err, "bare.safetensors");
  EXPECT_SAYS(wider.err, "model.* has to be as it was trained");
  EXPECT_FALSE(fs::exists(folder_ / "wider"));
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

TEST_F(Cli, CompareShowsRunsSideBySideAndSaysWhatItCannotRead) {
  for (const std::string name : {"a", "b"}) {
    fs::create_directories(folder_ / name);
    std::ofstream(folder_ / name / "results.csv")
        << "epoch,step,seconds,images_per_second,lr,train_loss,eval_top1\n"
        << "1,10,2.0,100,0.1,2.5," << (name == "a" ? "50" : "40") << "\n"
        << "2,20,2.5,110,0.1,1.5,\n3,30,2.5,120,0.1,1.0," << (name == "a" ? "48.5" : "61.25")
        << "\n";
  }
  const Outcome both = run({"compare", "a", "b", "--plot", "curves.svg"});
  EXPECT_EQ(both.code, 0) << both.err;
  EXPECT_SAYS(both.out, "a             50        1         48.5        3");
  EXPECT_SAYS(both.out, "b          61.25        3        61.25        3");
  EXPECT_SAYS(read_file(folder_ / "curves.svg"), "eval_top1");
  const Outcome least = run({"compare", "a", "--metric", "train_loss", "--smallest"});
  EXPECT_SAYS(least.out, "a              1        3");
  const Outcome unknown = run({"compare", "a", "--metric", "eval_iou"});
  EXPECT_EQ(unknown.code, 2);
  EXPECT_SAYS(unknown.err, "eval_top1");
  const Outcome absent = run({"compare", "a", "nowhere"});
  EXPECT_EQ(absent.code, 2);
  EXPECT_EQ(absent.out, "");  // no half of a table
  std::ofstream(folder_ / "b/results.csv", std::ios::app) << "4,x\n";
  const Outcome damaged = run({"compare", "b"});
  EXPECT_EQ(damaged.code, 1);
  EXPECT_SAYS(damaged.err, "results.csv, line 5: 2 cells, expected 7");
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
  return read_file(run / "checkpoints/last/model.safetensors") +
         read_file(run / "checkpoints/last/ema.safetensors");
}

// Where two runs part can be seen from their losses and from the steps that one was resumed at.
std::string logs(const fs::path& one, const fs::path& other) {
  return one.string() + ":\n" + read_file(one / "log.txt") + other.string() + ":\n" +
         read_file(other / "log.txt");
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
  EXPECT_TRUE(last_weights(folder_ / "straight") == last_weights(folder_ / "stopped"))
      << logs(folder_ / "straight", folder_ / "stopped");
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
  EXPECT_TRUE(last_weights(folder_ / "straight") == last_weights(folder_ / "killed"))
      << logs(folder_ / "straight", folder_ / "killed");
}

TEST_F(Cli, ShowsATrainingBatchAsTheNetworkGetsIt) {
  const auto show = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"data", "show", "--out", "sheet.png"});
    return run(arguments);
  };
  const auto sheet = [&] { return read_file(folder_ / "sheet.png"); };
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

TEST_F(Cli, AskingForTheVersionIsNoError) {
  const Outcome outcome = run({"--version"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out.rfind("comba ", 0), 0U) << outcome.out;
  EXPECT_EQ(outcome.err, "");
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
  EXPECT_EQ(nlohmann::json::parse(read_file(folder_ / "val.json")).at("checked"), 5);

  comba::write_file_atomic(folder_ / "set/train/n00000001/n00000001_7.JPEG", "no image");
  const Outcome bad = run({"data", "check", "set", "--split", "train", "--all", "--seconds", "0"});
  EXPECT_EQ(bad.code, 1);
  EXPECT_SAYS(bad.out, "n00000001_7.JPEG: not an image");
  EXPECT_SAYS(bad.out, "1 not an image");
  const Outcome failed =
      run({"data", "pack", "set", "train.pack", "--split", "train", "--short-side", "64"});
  EXPECT_EQ(failed.code, 1);
  EXPECT_SAYS(failed.err, "--on-bad skip leaves them out");
  EXPECT_SAYS(read_file(folder_ / "train.pack.rejected.txt"),
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
