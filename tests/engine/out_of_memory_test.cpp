#include "vision/engine/out_of_memory.h"

#include <gtest/gtest.h>

namespace comba::vision {
namespace {

TEST(OutOfMemory, MemoryGrowsInProportionToTheImages) {
  // 100 bytes and 10 for each image: 1,000 bytes hold 90.
  EXPECT_EQ(images_that_fit(1000, 4, 140, 8, 180), 90);
  EXPECT_EQ(images_that_fit(50, 4, 140, 8, 180), 0);
  EXPECT_EQ(images_that_fit(1000, 4, 40, 8, 80), 100);
}

TEST(OutOfMemory, NamesPartsThatDivideTheBatchAndFit) {
  const std::string text = smaller_steps({.images = 1024, .parts = 1, .ranks = 2}, 300);
  EXPECT_NE(text.find("train.accumulate = 4"), std::string::npos) << text;    // 256 at once
  EXPECT_NE(text.find("train.batch_size = 592"), std::string::npos) << text;  // 296 for each rank
}

TEST(OutOfMemory, PartsGrowFromWhatTheyWere) {
  const std::string text = smaller_steps({.images = 1024, .parts = 4, .ranks = 1}, 100);
  EXPECT_NE(text.find("train.accumulate = 16"), std::string::npos) << text;
}

TEST(OutOfMemory, SaysWhatToTryWhenNothingFits) {
  for (const std::optional<int64_t> none : {std::optional<int64_t>(), std::optional<int64_t>(0)}) {
    EXPECT_NE(smaller_steps({.images = 8}, none).find("smaller train.batch_size"),
              std::string::npos);
  }
}

}  // namespace
}  // namespace comba::vision
