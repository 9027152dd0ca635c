// Every operation against what Pillow and timm made of the same pictures (tests/golden/make_augment.py): point operations
// exactly, geometric ones within a level.
#include "datasets/augment.h"

#include "datasets/colour_operations.h"
#include "datasets/resample.h"
#include "datasets/transform.h"
#include "tests/datasets/augment_golden.h"
#include "tests/datasets/box_distribution.h"
#include "vision/base/error.h"

#include <cmath>
#include <map>

#include <gtest/gtest.h>

namespace comba::datasets {
namespace {

void expect_operations(const std::string& kind, const Image& picture) {
  for (GoldenRecord& r : golden(kind)) {
    std::string name;
    double magnitude = 0;
    int negative = 0;
    r.arguments >> name >> magnitude >> negative;
    const Augmentation which = kind_of(name);
    Image image = picture;
    augment(image, {which, augment_argument(which, magnitude, negative != 0, true)});
    const bool geometric =
        name.starts_with("shear") || name.starts_with("translate") || name == "rotate";
    EXPECT_LE(largest_difference(image, r.want), geometric ? 1 : 0) << r.words;
  }
}

TEST(Augmentations, EqualPillowsAtEveryMagnitude) {
  expect_operations("op", golden_picture(21, 26, 20, 231));
}

TEST(Augmentations, EqualPillowsOnAFlatImage) { expect_operations("flat", flat_picture()); }

TEST(Augmentations, EqualPillowsOnTwoPixels) { expect_operations("tiny", golden_picture(2, 1)); }

TEST(Augmentations, NoBitsLeftIsBlack) {
  Image image = golden_picture(4, 4);
  augment(image,
          {Augmentation::posterize, augment_argument(Augmentation::posterize, 10, false, true)});
  EXPECT_EQ(image.pixels, std::vector<uint8_t>(48, 0));
}

TEST(ThreeAugment, GreyIsPillows) {
  for (GoldenRecord& r : golden("grayscale")) {
    Image image = golden_picture(31, 26);
    grayscale(image);
    EXPECT_EQ(image.pixels, r.want.pixels);
  }
}

TEST(ThreeAugment, SolarizeIsPillows) {
  for (GoldenRecord& r : golden("solarize")) {
    Image image = golden_picture(31, 26);
    solarize(image, 128);
    EXPECT_EQ(image.pixels, r.want.pixels);
  }
}

TEST(ThreeAugment, BlurIsPillowsForEveryRadius) {
  for (GoldenRecord& r : golden("blur")) {
    float radius = 0;
    r.arguments >> radius;
    Image image = golden_picture(31, 26);
    gaussian_blur(image, radius);
    EXPECT_EQ(largest_difference(image, r.want), 0) << r.words;
  }
}

TEST(ColourJitter, FactorsActAsPillows) {
  const std::map<std::string, void (*)(Image&, float)> operations = {
      {"brightness", &adjust_brightness},
      {"contrast", &adjust_contrast},
      {"color", &adjust_colour}};
  for (const auto& [name, adjust] : operations) {
    for (GoldenRecord& r : golden(name)) {
      float factor = 0;
      r.arguments >> factor;
      Image image = golden_picture(31, 26);
      adjust(image, factor);
      EXPECT_EQ(largest_difference(image, r.want), 0) << r.words;
    }
  }
}

TEST(Resample, EqualsPillowToTheBit) {
  for (const auto filter : {ResampleFilter::bicubic, ResampleFilter::bilinear}) {
    for (GoldenRecord& r : golden(filter == ResampleFilter::bicubic ? "bicubic" : "bilinear")) {
      int height = 0, width = 0;
      r.arguments >> height >> width;
      const Image image = golden_picture(height, width);
      const Image got = resample(image, {0, 0, height, width}, r.want.height, r.want.width, filter);
      EXPECT_EQ(largest_difference(got, r.want), 0) << r.words;
    }
  }
}

TEST(Resample, SeesNothingOutsideTheBox) {
  const Image whole = golden_picture(40, 50);
  Image part{17, 23, 3, {}};
  for (int y = 0; y < 17; ++y) {
    part.pixels.insert(part.pixels.end(), whole.row(9 + y) + 3 * 11, whole.row(9 + y) + 3 * 34);
  }
  EXPECT_EQ(resample(whole, {9, 11, 17, 23}, 12, 31).pixels,
            resample(part, {0, 0, 17, 23}, 12, 31).pixels);
}

TEST(Resample, AGreyImageIsOneChannelOfAColourOne) {
  const Image colour = golden_picture(33, 47);
  Image grey{33, 47, 1, {}};
  for (size_t i = 1; i < colour.pixels.size(); i += 3) {
    grey.pixels.push_back(colour.pixels[i]);
  }
  const Image want = resample(colour, {0, 0, 33, 47}, 20, 60),
              got = resample(grey, {0, 0, 33, 47}, 20, 60);
  for (size_t i = 0; i < got.pixels.size(); ++i) {
    ASSERT_EQ(got.pixels[i], want.pixels[3 * i + 1]);
  }
}

TEST(EvaluationTransform, EqualsTorchvisionOnPillow) {
  for (GoldenRecord& r : golden("centre")) {
    int height = 0, width = 0;
    TransformOptions options;
    options.image_size = 28;
    r.arguments >> height >> width >> options.eval_crop;
    EXPECT_EQ(largest_difference(transform_for_evaluation(golden_picture(height, width), options),
                                 r.want),
              0)
        << r.words;
  }
}

// Places of `part` in `whole`.
std::vector<std::pair<int, int>> places_of(const Image& part, const Image& whole) {
  std::vector<std::pair<int, int>> places;
  for (int y = 0; y + part.height <= whole.height; ++y) {
    for (int x = 0; x + part.width <= whole.width; ++x) {
      bool same = true;
      for (int row = 0; same && row < part.height; ++row) {
        same =
            std::equal(part.row(row), part.row(row) + 3 * part.width, whole.row(y + row) + 3 * x);
      }
      if (same) {
        places.emplace_back(y, x);
      }
    }
  }
  return places;
}

TEST(SimpleCrop, IsAnySquareOfTorchvisionsBorderedImageEquallyOften) {
  for (GoldenRecord& r : golden("simple")) {
    SCOPED_TRACE(r.words);
    int height = 0, width = 0;
    r.arguments >> height >> width;
    const Image image = golden_picture(height, width);
    TransformOptions options;
    options.image_size = 28;
    options.train_crop = "simple";
    options.flip = 0;
    const TrainingTransform transform(options);
    const int64_t squares = int64_t{r.want.height - 27} * (r.want.width - 27);
    std::map<std::pair<int, int>, int64_t> seen;
    for (int64_t i = 0; i < 100 * squares; ++i) {
      const auto places = places_of(transform(image, {4, 0, i}), r.want);
      ASSERT_EQ(places.size(), 1U);
      ++seen[places[0]];
    }
    EXPECT_EQ(static_cast<int64_t>(seen.size()), squares);
    for (const auto& [place, count] : seen) {
      expect_share(count, 100 * squares, 1.0 / static_cast<double>(squares));
    }
  }
}

TEST(AugmentPolicy, IsReadFromTimmsNotation) {
  const AugmentPolicy p = AugmentPolicy::parse("rand-m9-mstd0.5-inc1", 0.3);
  EXPECT_EQ(p.kind, AugmentPolicy::Kind::random);
  EXPECT_EQ(p.operations, 2);
  EXPECT_EQ(p.magnitude, 9);
  EXPECT_EQ(p.deviation, 0.5);
  EXPECT_EQ(p.probability, 0.5);
  EXPECT_TRUE(p.increasing);
  const AugmentPolicy q = AugmentPolicy::parse("rand-n3-p0.7-mstd101", 0);
  EXPECT_EQ(q.operations, 3);
  EXPECT_EQ(q.magnitude, 10);
  EXPECT_EQ(q.probability, 0.7);
  EXPECT_TRUE(std::isinf(q.deviation));
  EXPECT_FALSE(q.increasing);
  EXPECT_EQ(AugmentPolicy::parse("3a", 0).kind, AugmentPolicy::Kind::three);
  EXPECT_EQ(AugmentPolicy::parse("", 0).kind, AugmentPolicy::Kind::none);
}

TEST(AugmentPolicy, NamesThePartThatIsWrong) {
  for (const char* text : {"augmix", "rand-m11", "rand-mx", "rand-q3", "rand-", "randm9",
                           "rand-p1.5", "rand-m-3", "rand--m9", "rand-inc2"}) {
    try {
      AugmentPolicy::parse(text, 0);
      ADD_FAILURE() << text << " was accepted";
    } catch (const UsageError& e) {
      EXPECT_NE(std::string(e.what()).find(text), std::string::npos) << e.what();
    }
  }
}

constexpr int kDraws = 100'000;

RandomStream stream(int i) { return {17, 3, static_cast<uint64_t>(i), RandomPurpose::augment}; }

TEST(AugmentPolicy, RandAugmentDrawsAsDefined) {
  const AugmentPolicy policy = AugmentPolicy::parse("rand-m9-mstd0.5-inc1", 0.3);
  std::map<Augmentation, int> seen;
  int none = 0, rotations = 0, counter_clockwise = 0;
  double magnitude = 0, square = 0;
  for (int i = 0; i < kDraws; ++i) {
    RandomStream random = stream(i);
    const auto steps = draw_augmentation(policy, random);
    none += steps.empty();
    for (const AugmentStep& s : steps) {
      ++seen[s.kind];
      if (s.kind == Augmentation::rotate) {
        const double m = std::abs(s.argument) / 3.0;
        ++rotations;
        counter_clockwise += s.argument > 0;
        magnitude += m;
        square += m * m;
        EXPECT_LE(m, 10.0);
      }
    }
  }
  EXPECT_EQ(seen.size(), 15U);
  for (const auto& [kind, count] : seen) {
    SCOPED_TRACE(name_of(kind));
    expect_share(count, 2 * kDraws, 0.5 / 15);
  }
  expect_share(none, kDraws, 0.25);
  expect_share(counter_clockwise, rotations, 0.5);
  const double mean = magnitude / rotations;
  // Of N(9, 0.5) cut at 10; five standard errors of a mean, and of a deviation of nearly normal values.
  constexpr double kDeviation = 0.4898;
  EXPECT_NEAR(mean, 8.9957, 5 * kDeviation / std::sqrt(rotations));
  EXPECT_NEAR(std::sqrt(square / rotations - mean * mean), kDeviation,
              5 * kDeviation / std::sqrt(2.0 * rotations));
}

TEST(AugmentPolicy, ThreeAugmentTakesOneOfThreeThenJitters) {
  const AugmentPolicy policy = AugmentPolicy::parse("3a", 0.3);
  std::map<Augmentation, int> first, second;
  for (int i = 0; i < kDraws; ++i) {
    RandomStream random = stream(i);
    const auto steps = draw_augmentation(policy, random);
    ASSERT_EQ(steps.size(), 4U);
    ++first[steps[0].kind];
    ++second[steps[1].kind];
    if (steps[0].kind == Augmentation::gaussian_blur) {
      ASSERT_GE(steps[0].argument, 0.1);
      ASSERT_LE(steps[0].argument, 2.0);
    }
    for (size_t k = 1; k < 4; ++k) {
      ASSERT_GE(steps[k].argument, 0.7);
      ASSERT_LE(steps[k].argument, 1.3);
    }
  }
  for (const auto& counts : {first, second}) {
    EXPECT_EQ(counts.size(), 3U);
    for (const auto& [kind, count] : counts) {
      SCOPED_TRACE(name_of(kind));
      expect_share(count, kDraws, 1.0 / 3);
    }
  }
}

}  // namespace
}  // namespace comba::datasets
