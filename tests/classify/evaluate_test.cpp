#include "classify/evaluate.h"

#include "tests/base/temporary_folder.h"
#include "tests/classify/tiny.h"
#include "tests/datasets/pictures.h"
#include "vision/base/error.h"

#include <cmath>

#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

namespace comba::classify {
namespace {

TEST(Scorer, CountsAHandmadeSet) {
  // Seven classes; the label's place in the order of the logits is 1, 2, 5, 6 and 7.
  const at::Tensor logits = at::tensor({9.F, 0.F, 1.F, 2.F, 3.F,  4.F, 5.F,   // label 0: best
                                        9.F, 8.F, 1.F, 2.F, 3.F,  4.F, 5.F,   // label 1: second
                                        9.F, 8.F, 5.F, 7.F, 6.F,  0.F, 1.F,   // label 2: fifth
                                        9.F, 8.F, 7.F, 1.F, 6.F,  5.F, 0.F,   // label 3: sixth
                                        9.F, 8.F, 7.F, 6.F, -1.F, 5.F, 4.F})  // label 4: last
                                .view({5, 7});
  const at::Tensor labels = at::tensor({0, 1, 2, 3, 4}, at::kLong);
  Scorer scorer(7);
  scorer.add(logits.slice(0, 0, 2), labels.slice(0, 0, 2));
  scorer.add(logits.slice(0, 2), labels.slice(0, 2));
  const Evaluation result = scorer.result();
  EXPECT_EQ(result.count, 5);
  EXPECT_DOUBLE_EQ(result.top1, 20.0);
  EXPECT_DOUBLE_EQ(result.top5, 60.0);
  EXPECT_EQ(result.classes(), 7);
  EXPECT_EQ(result.count_of(3), 1);
  EXPECT_DOUBLE_EQ(result.accuracy_of(0), 100.0);
  EXPECT_DOUBLE_EQ(result.accuracy_of(1), 0.0);
  EXPECT_TRUE(std::isnan(result.accuracy_of(6)));
  EXPECT_EQ(result.confusion[1 * 7 + 0], 1);  // label 1 taken for 0
  double loss = 0.0;
  for (int64_t row = 0; row < 5; ++row) {
    double sum = 0.0;
    for (int64_t c = 0; c < 7; ++c) {
      sum += std::exp(logits[row][c].item<double>());
    }
    loss -= logits[row][row].item<double>() - std::log(sum);
  }
  EXPECT_NEAR(result.loss, loss / 5, 1e-5);
}

TEST(Scorer, TopFiveOfThreeClassesIsAlwaysRight) {
  Scorer scorer(3);
  scorer.add(at::tensor({3.F, 2.F, 1.F}).view({1, 3}), at::tensor({2}, at::kLong));
  EXPECT_DOUBLE_EQ(scorer.result().top5, 100.0);
  EXPECT_DOUBLE_EQ(scorer.result().top1, 0.0);
}

TEST(Scorer, RefusesAnEmptySet) { EXPECT_THROW(Scorer(3).result(), Error); }

TEST(Normaliser, ScalesThenAppliesMeanAndDeviationPerChannel) {
  const Normaliser normalise({0.5, 0.25, 0.0}, {0.5, 0.1, 2.0}, at::kCPU);
  const at::Tensor pixels = at::tensor({0, 255, 51, 102, 153, 204}, at::kByte).view({1, 1, 2, 3});
  const at::Tensor out = normalise(pixels);
  ASSERT_EQ(out.sizes(), (at::IntArrayRef{1, 3, 1, 2}));
  EXPECT_NEAR((out[0][0][0][0].item<double>()), (0.0 - 0.5) / 0.5, 1e-6);
  EXPECT_NEAR((out[0][1][0][0].item<double>()), (1.0 - 0.25) / 0.1, 1e-5);
  EXPECT_NEAR((out[0][2][0][0].item<double>()), 0.2 / 2.0, 1e-6);
  EXPECT_NEAR((out[0][0][0][1].item<double>()), (0.4 - 0.5) / 0.5, 1e-6);
}

TEST(SyntheticStream, GivesTheSameBatchesFromAnyStart) {
  const RunConfig config = tiny_config();
  const auto a = open_stream(config, Purpose::training);
  const auto b = open_stream(config, Purpose::training);
  datasets::Batch first, second;
  a->start(2, 0);
  for (int i = 0; i <= 4; ++i) {
    ASSERT_TRUE(a->next(first));
  }
  b->start(2, 4);
  ASSERT_TRUE(b->next(second));
  EXPECT_EQ(first.pixels, second.pixels);
  EXPECT_EQ(first.labels, second.labels);
  b->start(3, 4);
  ASSERT_TRUE(b->next(second));
  EXPECT_NE(first.pixels, second.pixels);
}

TEST(SyntheticStream, RanksEvaluateEveryImageOnceAndShareTrainingBatches) {
  RunConfig config = tiny_config({"data.synthetic_size=110", "train.batch_size=9"});
  const auto whole = open_stream(config, Purpose::training);
  datasets::Batch all, part;
  whole->start(1, 2);
  ASSERT_TRUE(whole->next(all));
  std::vector<int64_t> evaluated, trained;
  config.ranks = 3;
  for (config.rank = 0; config.rank < config.ranks; ++config.rank) {
    const auto evaluation = open_stream(config, Purpose::evaluation);  // 11 images
    evaluation->start(0, 0);
    while (evaluation->next(part)) {
      EXPECT_LE(part.size, 3);
      evaluated.insert(evaluated.end(), part.indices.begin(), part.indices.end());
    }
    const auto training = open_stream(config, Purpose::training);
    EXPECT_EQ(training->batches_per_epoch(), whole->batches_per_epoch());
    training->start(1, 2);
    ASSERT_TRUE(training->next(part));
    trained.insert(trained.end(), part.indices.begin(), part.indices.end());
  }
  EXPECT_EQ(evaluated, (std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}));
  EXPECT_EQ(trained, all.indices);
}

TEST(OpenStream, RefusesToEvaluateOnTheTrainingImagesUnasked) {
  const testing_tools::TemporaryFolder root;
  datasets::write_class_folders(root.path() / "train", 2, 2);
  const std::string folder = root.path().string();
  const auto open = [&](const std::string& split) {
    return open_stream(tiny_config({"data.train=" + folder, "data.eval=", "data.train_split=train",
                                    "data.eval_split=" + split}),
                       Purpose::evaluation);
  };
  EXPECT_SAYS(testing_tools::message_of<UsageError>([&] { open("train"); }),
              "data.eval is not set");
  datasets::write_class_folders(root.path() / "val", 2, 1);
  EXPECT_EQ(open("val")->size(), 2);
}

TEST(SyntheticStream, NamesTheKeyOfADataPathThatDoesNotExist) {
  try {
    open_stream(tiny_config({"data.train=no/such/place"}), Purpose::training);
    FAIL() << "an absent path was opened";
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("data.train = \"no/such/place\""), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace comba::classify
