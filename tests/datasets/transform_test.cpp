// Crops, flips and jitter, against values worked out by hand and the rules of torchvision's RandomResizedCrop.
#include "datasets/transform.h"

#include "tests/datasets/box_distribution.h"
#include "tests/datasets/pictures.h"
#include "vision/base/error.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

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
  EXPECT_EQ(TrainingTransform(o)(picture(10, 10, 3), {0, 0, 0}).pixels, picture(10, 10, 3).pixels);
}

TEST(TrainingTransform, AFlipMirrorsTheRows) {
  TransformOptions o = options(3);
  o.train_crop = "center";
  o.flip = 1.0;
  o.eval_crop = 1.0;
  o.channels = 1;
  const Image image{3, 3, 1, {1, 2, 3, 4, 5, 6, 7, 8, 9}};
  EXPECT_EQ(TrainingTransform(o)(image, {0, 0, 0}).pixels,
            (std::vector<uint8_t>{3, 2, 1, 6, 5, 4, 9, 8, 7}));
}

TEST(TrainingTransform, DependsOnSeedEpochIndexAndViewAlone) {
  const Image image = picture(50, 60, 3);
  TransformOptions o = options(32);
  o.flip = 0.5;
  const auto first = TrainingTransform(o)(image, {1, 2, 3}).pixels;
  EXPECT_EQ(TrainingTransform(o)(image, {1, 2, 3}).pixels, first);
  EXPECT_NE(TrainingTransform(o)(image, {2, 2, 3}).pixels, first);
  EXPECT_NE(TrainingTransform(o)(image, {1, 3, 3}).pixels, first);
  EXPECT_NE(TrainingTransform(o)(image, {1, 2, 4}).pixels, first);
  EXPECT_NE(TrainingTransform(o)(image, {1, 2, 3, 1}).pixels, first);
}

TEST(TrainingTransform, RefusesAPolicyBeforeAnyImage) {
  TransformOptions o = options(8);
  o.augment = "rand-x";
  EXPECT_THROW(TrainingTransform{o}, UsageError);
  o.augment = "3a";
  EXPECT_NO_THROW(TrainingTransform{o});
  o.channels = 1;
  EXPECT_THROW(TrainingTransform{o}, UsageError);
}

TEST(TrainingTransform, EveryCropOfEverySizeGivesTheAskedSquare) {
  for (const char* crop : {"random_resized", "simple", "shift", "center"}) {
    TransformOptions o = options(28);
    o.train_crop = crop;
    for (const int height : {1, 2, 7, 31, 300}) {
      for (const int width : {1, 3, 29, 500}) {
        for (const int channels : {1, 3}) {
          o.channels = channels;
          const Image out = TrainingTransform(o)(picture(height, width, channels), {});
          EXPECT_EQ(out.height, 28);
          EXPECT_EQ(out.width, 28);
          EXPECT_EQ(out.pixels.size(), static_cast<size_t>(28 * 28 * channels));
        }
      }
    }
  }
}

constexpr int kDraws = 100'000;

// The definition of RandomResizedCrop, laid out.
BoxDistribution boxes_of(int height, int width) {
  const double area = double(height) * width;
  return BoxDistribution({0.08 * area, area}, {0.75, 4.0 / 3.0}, true, [=](double h, double w) {
    return h > 0 && w > 0 && h <= height && w <= width;
  });
}

TEST(RandomResizedBox, AreasAndAspectsFollowTheirDefinition) {
  for (const auto& [height, width] : {std::pair(375, 500), std::pair(450, 450)}) {
    const BoxDistribution expected = boxes_of(height, width);
    std::vector<ImageBox> boxes;
    for (int64_t i = 0; i < kDraws; ++i) {
      boxes.push_back(random_resized_box(height, width, options(224), {5, 0, i}));
    }
    const auto compare = [&](const auto& test) {
      expect_share(std::count_if(boxes.begin(), boxes.end(),
                                 [&](const ImageBox& b) { return test(b.height, b.width); }),
                   kDraws, expected.share(test), BoxDistribution::kSlack);
    };
    for (const double share : {0.09, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9}) {
      SCOPED_TRACE(share);
      compare([&](double h, double w) { return h * w < share * height * width; });
    }
    for (const double aspect : {0.77, 0.85, 0.95, 1.05, 1.15, 1.3}) {
      SCOPED_TRACE(aspect);
      compare([&](double h, double w) { return w < aspect * h; });
    }
  }
}

TEST(RandomResizedBox, PlacesAreUniformAndInBounds) {
  double top = 0, left = 0;
  for (int64_t i = 0; i < kDraws; ++i) {
    const ImageBox box = random_resized_box(400, 500, options(224), {6, 0, i});
    ASSERT_GE(std::min(box.y, box.x), 0);
    ASSERT_LE(box.x + box.width, 500);
    ASSERT_LE(box.y + box.height, 400);
    top += (box.y + 0.5) / (400 - box.height + 1);
    left += (box.x + 0.5) / (500 - box.width + 1);
  }
  const double bound =
      5 * std::sqrt(1.0 / 12 / kDraws);  // a uniform value's variance is at most 1/12
  EXPECT_NEAR(top / kDraws, 0.5, bound);
  EXPECT_NEAR(left / kDraws, 0.5, bound);
}

// Of ten tries, each kept as the definition says.
TEST(RandomResizedBox, FallsBackToTheCentreAsOftenAsTenTriesFail) {
  const double kept = boxes_of(100, 1000).kept();
  int64_t centres = 0;
  for (int64_t i = 0; i < kDraws; ++i) {
    const ImageBox box = random_resized_box(100, 1000, options(224), {7, 0, i});
    centres += box.height == 100 && box.width == 133 && box.x == (1000 - 133) / 2;
  }
  expect_share(centres, kDraws, std::pow(1 - kept, 10), 10 * BoxDistribution::kSlack);
}

TEST(RandomResizedBox, AnImageTooNarrowForTheAspectGivesItsCentre) {
  const ImageBox box = random_resized_box(10, 1000, options(224), {0, 0, 0});
  EXPECT_EQ(box.height, 10);
  EXPECT_EQ(box.width, 13);  // 10 * 4 / 3
  EXPECT_EQ(box.x, (1000 - 13) / 2);
}

TEST(RandomResizedBox, SmallImagesStayInBounds) {
  for (int i = 0; i < 200; ++i) {
    const ImageBox box = random_resized_box(1, 1, options(224), {0, 0, i});
    EXPECT_EQ(box.width, 1);
    EXPECT_EQ(box.height, 1);
  }
}

}  // namespace
}  // namespace comba::datasets
