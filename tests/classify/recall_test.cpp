#include "classify/recall/examples.h"
#include "classify/recall/model.h"
#include "classify/recall/task.h"
#include "vision/base/error.h"
#include "vision/engine/optimizer.h"

#include <cmath>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <ATen/ops/equal.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace comba::recall {
namespace {

using testing::HasSubstr;

constexpr const char* kSequence = R"(
task = "recall"
[model]
width = 32
depth = 2
head_dim = 32
[data]
length = 64
vocabulary = 32
pairs = 8
samples = 64
eval_samples = 10
threads = 2
[train]
batch_size = 4
threads = 1
)";

constexpr const char* kPicture = R"(
task = "recall"
[model]
width = 32
depth = 1
head_dim = 32
image_size = 32
patch_size = 4
in_channels = 1
[data]
kind = "picture"
vocabulary = 60
pairs = 16
noise = 0
samples = 64
eval_samples = 10
[train]
batch_size = 4
threads = 1
)";

RecallConfig read(const char* text, const std::vector<std::string>& assignments = {}) {
  RecallConfig config;
  read_recall_config_text(text, "recall.toml", assignments, config);
  return config;
}

std::vector<int64_t> row_of(const at::Tensor& tensor, int64_t row) {
  const at::Tensor values = tensor[row].contiguous();
  return {values.const_data_ptr<int64_t>(), values.const_data_ptr<int64_t>() + values.numel()};
}

// What a reader of the sequence knows: the value behind the latest pair of a key, questions aside.
TEST(RecallSequence, AReaderOfThePairsKnowsEveryAnswer) {
  const RecallConfig config = read(kSequence);
  const Examples examples = training_examples(config, 3, {5, 6, 7}, false);
  for (int64_t n = 0; n < 3; ++n) {
    const auto tokens = row_of(examples.input, n), asked = row_of(examples.asked, n),
               answers = row_of(examples.answers, n), distance = row_of(examples.distance, n);
    std::map<int64_t, std::pair<int64_t, int64_t>> known;  // value and place by key
    std::set<int64_t> values;
    for (int64_t t = 0; t < 16; t += 2) {
      ASSERT_LT(tokens[t], 16);
      ASSERT_GE(tokens[t + 1], 16);
      known[tokens[t]] = {tokens[t + 1] - 16, t};
      values.insert(tokens[t + 1]);
    }
    EXPECT_EQ(known.size(), 8U);
    EXPECT_EQ(values.size(), 8U);
    std::set<int64_t> places(asked.begin(), asked.end());
    EXPECT_EQ(places.size(), 8U);
    for (size_t q = 0; q < asked.size(); ++q) {
      ASSERT_TRUE(known.contains(tokens[asked[q]]));
      const auto& [value, place] = known[tokens[asked[q]]];
      EXPECT_EQ(answers[q], value);
      EXPECT_EQ(distance[q], asked[q] - place);
    }
    for (int64_t t = 16; t < 64; ++t) {  // what is not asked is no key of this sequence
      EXPECT_EQ(known.contains(tokens[t]), places.contains(t)) << "token " << t;
    }
  }
}

TEST(RecallSequence, FewerPairsAreShorterSequencesOneAfterAnother) {
  const RecallConfig config = read(kSequence, {"data.train_pairs=[2]"});
  const Examples examples = training_examples(config, 0, {1}, false);
  const auto tokens = row_of(examples.input, 0), asked = row_of(examples.asked, 0),
             answers = row_of(examples.answers, 0);
  ASSERT_EQ(asked.size(), 8U);  // four parts of 16 tokens with two pairs each
  for (size_t q = 0; q < asked.size(); ++q) {
    const int64_t part = asked[q] / 16 * 16;
    EXPECT_EQ(static_cast<int64_t>(q) / 2, asked[q] / 16);
    const int64_t pair = tokens[part] == tokens[asked[q]] ? part : part + 2;
    ASSERT_EQ(tokens[pair], tokens[asked[q]]);
    EXPECT_EQ(tokens[pair + 1] - 16, answers[q]);
    EXPECT_GE(asked[q], part + 4);
  }
}

TEST(RecallSequence, QuestionsFollowThePowerLaw) {
  const RecallConfig config =
      read(kSequence, {"data.pairs=1", "data.length=12", "data.gap_power=0.3"});
  std::vector<double> counts(5, 0.0), weights;
  constexpr int64_t kDraws = 20000;
  std::vector<int64_t> indices(kDraws);
  for (int64_t i = 0; i < kDraws; ++i) {
    indices[static_cast<size_t>(i)] = i;
  }
  const Examples examples = training_examples(config, 0, indices, false);
  for (int64_t i = 0; i < kDraws; ++i) {
    counts[static_cast<size_t>((examples.asked[i][0].item<int64_t>() - 2) / 2)] += 1;
  }
  double total = 0;
  for (int x = 1; x <= 5; ++x) {
    weights.push_back(std::pow(x, 0.3 - 1));
    total += weights.back();
  }
  for (size_t x = 0; x < 5; ++x) {  // four standard deviations of a binomial count
    const double p = weights[x] / total;
    EXPECT_NEAR(counts[x] / kDraws, p, 4 * std::sqrt(p * (1 - p) / kDraws)) << "gap " << x;
  }
}

// patch `cell` of picture n, as text: without noise equal symbols are equal pixels
std::string patch_of(const at::Tensor& pictures, int64_t n, int64_t cell) {
  const at::Tensor patch =
      pictures[n][0].narrow(0, cell / 8 * 4, 4).narrow(1, cell % 8 * 4, 4).contiguous();
  return {static_cast<const char*>(patch.const_data_ptr()), 16 * sizeof(float)};
}

TEST(RecallPicture, QuestionsShowTheKeyOfTheirPairAndValuesLieToItsRight) {
  const RecallConfig config = read(kPicture);
  const Examples examples = training_examples(config, 0, {0, 1, 2, 3, 4, 5, 6, 7}, false);
  std::map<int64_t, std::string> look_of;  // a value's patch, the same in all pictures
  int64_t ahead = 0;
  for (int64_t n = 0; n < 8; ++n) {
    const auto asked = row_of(examples.asked, n), answers = row_of(examples.answers, n),
               distance = row_of(examples.distance, n);
    std::set<int64_t> cells;
    for (size_t q = 0; q < asked.size(); ++q) {
      const int64_t key = asked[q] - distance[q];
      EXPECT_EQ(patch_of(examples.input, n, asked[q]), patch_of(examples.input, n, key));
      EXPECT_LT(key % 8, 7) << "the value is in the key's row";
      const std::string value = patch_of(examples.input, n, key + 1);
      EXPECT_EQ(look_of.emplace(answers[q], value).first->second, value);
      cells.insert({asked[q], key, key + 1});
      ahead += distance[q] < 0 ? 1 : 0;
    }
    EXPECT_EQ(cells.size(), 3 * asked.size()) << "nothing lies upon anything else";
  }
  EXPECT_NEAR(static_cast<double>(ahead) / (8 * 16), 0.5, 4 * 0.5 / std::sqrt(8 * 16));
}

TEST(RecallPicture, PlacesBehindTheLastQuestionHaveNoAnswerAndNoTokenTwice) {
  const RecallConfig config = read(kPicture, {"data.train_pairs=[3]"});
  const Examples examples = training_examples(config, 0, {9}, false);
  const auto asked = row_of(examples.asked, 0), answers = row_of(examples.answers, 0);
  EXPECT_EQ(std::set<int64_t>(asked.begin(), asked.end()).size(), 16U);
  for (size_t q = 0; q < 16; ++q) {
    EXPECT_EQ(answers[q] == -100, q >= 3);
  }
}

TEST(RecallExamples, AreAFunctionOfSeedEpochAndIndexAlone) {
  for (const char* const text : {kSequence, kPicture}) {
    const RecallConfig config = read(text, {"data.threads=1"}),
                       threads = read(text, {"data.threads=3"}), other = read(text, {"seed=1"});
    const Examples first = training_examples(config, 2, {4, 5, 6}, false);
    EXPECT_TRUE(at::equal(first.input[1], training_examples(threads, 2, {5}, false).input[0]));
    EXPECT_FALSE(at::equal(first.input[1], first.input[2]));
    EXPECT_FALSE(at::equal(first.input[1], training_examples(config, 1, {5}, false).input[0]));
    EXPECT_FALSE(at::equal(first.input[1], training_examples(other, 2, {5}, false).input[0]));
    EXPECT_FALSE(at::equal(first.input[1], held_out_examples(config, {5}, false).input[0]));
  }
}

TEST(RecallTask, StartsAtTheLossOfAGuessAndWeighsExamplesAlike) {
  RecallTask task(read(kPicture, {"data.train_pairs=[1, 16]"}), at::kCPU);
  task.start_epoch(0, 0);
  const std::vector<at::Tensor> batch = task.next_batch();
  const double loss = task.loss(batch).item<double>();
  EXPECT_NEAR(loss, std::log(30.0), 0.3);
  double sum = 0;  // of examples by themselves
  for (int64_t n = 0; n < 4; ++n) {
    sum += task.loss({batch[0].narrow(0, n, 1), batch[1].narrow(0, n, 1), batch[2].narrow(0, n, 1)})
               .item<double>();
  }
  EXPECT_NEAR(loss, sum / 4, 1e-5);
}

TEST(RecallTask, GoesOnWhereAStoppedEpochEnded) {
  RecallTask task(read(kSequence), at::kCPU), later(read(kSequence), at::kCPU);
  task.start_epoch(1, 0);
  for (int step = 0; step < 3; ++step) {
    task.next_batch();
  }
  later.start_epoch(1, 3);
  EXPECT_TRUE(at::equal(task.next_batch()[0], later.next_batch()[0]));
}

TEST(RecallTask, ASmallModelLearnsToRecall) {
  RecallTask task(
      read(kSequence, {"data.pairs=2", "data.length=12", "data.vocabulary=8", "data.samples=10000",
                       "train.batch_size=32", "data.eval_samples=100"}),
      at::kCPU);
  vision::OptimizerOptions options;
  options.weight_decay = 0;
  vision::Optimizer optimizer(task.model(), options);
  task.start_epoch(0, 0);
  for (int step = 0; step < 300; ++step) {
    task.next_loss().backward();
    optimizer.step(4e-3);
  }
  const vision::Metrics metrics = task.evaluate();
  EXPECT_EQ(metrics[1].first, "accuracy");
  EXPECT_GT(metrics[1].second, 90.0);  // a guess: 25
}

TEST(RecallConfig, WhatCannotBeIsRefusedWithTheKey) {
  const struct {
    const char* text;
    const char* assignment;
    const char* named;
  } cases[] = {
      {kSequence, "data.vocabulary=31", "data.vocabulary = 31"},
      {kSequence, "data.vocabulary=14", "data.vocabulary = 14 has 7"},
      {kSequence, "data.length=31", "data.length has 31"},
      {kSequence, "data.train_pairs=[3]", "3 is no divisor of data.pairs = 8"},
      {kSequence, "model.mixer=agent", "model.mixer = \"agent\""},
      {kSequence, "model.pool=cls", "model.pool = \"cls\""},
      {kPicture, "data.pairs=22", "expected at most 21"},
      {kPicture, "model.in_channels=3", "model.in_channels = 3"},
  };
  for (const auto& one : cases) {
    try {
      read(one.text, {one.assignment});
      ADD_FAILURE() << one.assignment << " was taken";
    } catch (const UsageError& error) {
      EXPECT_THAT(error.what(), HasSubstr(one.named)) << one.assignment;
    }
  }
  EXPECT_THROW(RecallTask(read(kSequence, {"data.samples=3"}), at::kCPU), UsageError);
}

TEST(RecallConfig, EveryShippedFileIsValid) {
  int files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(
           std::filesystem::path(COMBA_SOURCE_DIR) / "configs")) {
    if (entry.path().extension() == ".toml" &&
        config_task(read_config_file(entry.path()), entry.path()) == "recall") {
      RecallConfig config;
      EXPECT_NO_THROW(read_recall_config(entry.path(), {}, config)) << entry.path();
      ++files;
    }
  }
  EXPECT_GE(files, 8);
}

}  // namespace
}  // namespace comba::recall
