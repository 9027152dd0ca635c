// Crops, flips and jitter, against values worked out by hand and the rules of torchvision's RandomResizedCrop.
#include "datasets/transform.h"

#include "tests/datasets/pictures.h"

#include <cmath>
#include <set>

#include <gtest/gtest.h>

namespace comba::datasets {
namespace {

TransformOptions options(int64_t size) {
  TransformOptions o;
  o.image_size = size;
  o.flip = 0;
  return o;
}

TEST(EvaluationTransform, AnImageOfTheRightSizePassesUnchanged) {
  TransformOptions o = options(12);
  o.eval_crop = 1.0;
  EXPECT_EQ(transform_for_evaluation(picture(12, 12, 3), o).pixels, picture(12, 12, 3).pixels);
}

TEST(EvaluationTransform, TakesTheCentreOfTheLongSide) {
  TransformOptions o = options(2);
  o.eval_crop = 1.0;
  o.channels = 1;
  const Image wide{2, 6, 1, {0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15}};
  EXPECT_EQ(transform_for_evaluation(wide, o).pixels, (std::vector<uint8_t>{2, 3, 12, 13}));
  const Image tall{6, 2, 1, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}};
  EXPECT_EQ(transform_for_evaluation(tall, o).pixels, (std::vector<uint8_t>{4, 5, 6, 7}));
}

TEST(EvaluationTransform, OddSizesOfAllKindsGiveTheAskedSquare) {
  for (const int height : {1, 2, 7, 31, 300}) {
    for (const int width : {1, 3, 29, 500}) {
      const Image out = transform_for_evaluation(picture(height, width, 3), options(28));
      EXPECT_EQ(out.height, 28);
      EXPECT_EQ(out.width, 28);
      EXPECT_EQ(out.pixels.size(), 28U * 28U * 3U);
    }
  }
}

TEST(TrainingTransform, ShiftWithoutAnyRangeIsTheIdentity) {
  TransformOptions o = options(10);
  o.train_crop = "shift";
  o.shift = 0;
  o.eval_crop = 1.0;
  EXPECT_EQ(transform_for_training(picture(10, 10, 3), o, 0, 0, 0).pixels,
            picture(10, 10, 3).pixels);
}

TEST(TrainingTransform, AFlipMirrorsTheRows) {
  TransformOptions o = options(3);
  o.train_crop = "center";
  o.flip = 1.0;
  o.eval_crop = 1.0;
  o.channels = 1;
  const Image image{3, 3, 1, {1, 2, 3, 4, 5, 6, 7, 8, 9}};
  EXPECT_EQ(transform_for_training(image, o, 0, 0, 0).pixels,
            (std::vector<uint8_t>{3, 2, 1, 6, 5, 4, 9, 8, 7}));
}

TEST(TrainingTransform, DependsOnSeedEpochAndIndexAlone) {
  const Image image = picture(50, 60, 3);
  TransformOptions o = options(32);
  o.flip = 0.5;
  const auto first = transform_for_training(image, o, 1, 2, 3).pixels;
  EXPECT_EQ(transform_for_training(image, o, 1, 2, 3).pixels, first);
  EXPECT_NE(transform_for_training(image, o, 2, 2, 3).pixels, first);
  EXPECT_NE(transform_for_training(image, o, 1, 3, 3).pixels, first);
  EXPECT_NE(transform_for_training(image, o, 1, 2, 4).pixels, first);
}

TEST(RandomResizedBox, KeepsAreaAspectAndBounds) {
  TransformOptions o = options(224);
  double smallest = 1, largest = 0;
  constexpr int kDraws = 4000;
  for (int i = 0; i < kDraws; ++i) {
    const ImageBox box = random_resized_box(400, 500, o, 5, 0, i);
    ASSERT_GE(box.x, 0);
    ASSERT_GE(box.y, 0);
    ASSERT_GT(box.width, 0);
    ASSERT_GT(box.height, 0);
    ASSERT_LE(box.x + box.width, 500);
    ASSERT_LE(box.y + box.height, 400);
    const double share = double(box.width) * box.height / (400.0 * 500.0),
                 aspect = double(box.width) / box.height;
    ASSERT_GE(aspect, 0.75 * 0.97);  // sides are whole pixels
    ASSERT_LE(aspect, 4.0 / 3.0 * 1.03);
    smallest = std::min(smallest, share);
    largest = std::max(largest, share);
  }
  EXPECT_NEAR(smallest, 0.08, 0.01);
  EXPECT_GT(largest, 0.9);
}

TEST(RandomResizedBox, FavoursNeitherWideNorTallInASquare) {
  double log_aspect = 0;
  constexpr int kDraws = 4000;
  for (int i = 0; i < kDraws; ++i) {
    const ImageBox box = random_resized_box(450, 450, options(224), 6, 0, i);
    log_aspect += std::log(double(box.width) / box.height);
  }
  EXPECT_NEAR(log_aspect / kDraws, 0.0,
              6 * 0.166 / std::sqrt(kDraws));  // deviation log(16 / 9) / sqrt(12)
}

TEST(RandomResizedBox, AnImageTooNarrowForTheAspectGivesItsCentre) {
  const ImageBox box = random_resized_box(10, 1000, options(224), 0, 0, 0);
  EXPECT_EQ(box.height, 10);
  EXPECT_EQ(box.width, 13);  // 10 * 4 / 3
  EXPECT_EQ(box.x, (1000 - 13) / 2);
}

TEST(RandomResizedBox, SmallImagesStayInBounds) {
  for (int i = 0; i < 200; ++i) {
    const ImageBox box = random_resized_box(1, 1, options(224), 0, 0, i);
    EXPECT_EQ(box.width, 1);
    EXPECT_EQ(box.height, 1);
  }
}

}  // namespace
}  // namespace comba::datasets
