#include "vision/engine/step_watch.h"

#include "vision/base/random.h"

#include <limits>

#include <gtest/gtest.h>

namespace comba::vision {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Falling from 7 to 2 with the wobble that batches have.
double usual_loss(int64_t step, RandomStream& random) {
  return 2.0 + 5.0 * std::exp(-static_cast<double>(step) / 300.0) + 0.3 * (random.uniform() - 0.5);
}

TEST(StepWatch, AUsualTrainingHasNoSpikes) {
  RandomStream random(1, 0, 0, RandomPurpose::initialise);
  StepWatch watch(8.0);
  for (int64_t step = 1; step <= 5000; ++step) {
    watch.see(step, {usual_loss(step, random), 1.0});
  }
  EXPECT_TRUE(watch.take_spikes().empty());
  EXPECT_EQ(watch.skipped(), 0);
}

TEST(StepWatch, AJumpIsASpikeAndTheStepsAfterItAreNot) {
  RandomStream random(2, 0, 0, RandomPurpose::initialise);
  StepWatch watch(8.0);
  for (int64_t step = 1; step <= 1000; ++step) {
    watch.see(step, {step == 700 ? 6.0 : usual_loss(step, random), 1.0});
  }
  const auto spikes = watch.take_spikes();
  ASSERT_EQ(spikes.size(), 1U);
  EXPECT_EQ(spikes[0].step, 700);
  EXPECT_EQ(spikes[0].loss, 6.0);
  EXPECT_NEAR(spikes[0].usual, 2.5, 0.3);
  EXPECT_TRUE(watch.take_spikes().empty());
}

TEST(StepWatch, TwoJumpsInARowAreBothSeen) {
  StepWatch watch(8.0);
  for (int64_t step = 1; step <= 200; ++step) {
    watch.see(step,
              {step == 150 || step == 151 ? 9.0 : 2.0 + 0.1 * static_cast<double>(step % 2), 1.0});
  }
  EXPECT_EQ(watch.take_spikes().size(), 2U);
}

TEST(StepWatch, ALossThatStaysHighBecomesUsual) {
  StepWatch watch(8.0);
  size_t spikes = 0;
  for (int64_t step = 1; step <= 2000; ++step) {
    watch.see(step, {step < 500 ? 2.0 : 4.0, 1.0});
  }
  spikes = watch.take_spikes().size();
  EXPECT_GE(spikes, 1U);
  EXPECT_LT(spikes, 100U);
}

TEST(StepWatch, NothingIsComparedWithTheFirstSteps) {
  StepWatch watch(8.0);
  watch.see(1, {1.0, 1.0});
  watch.see(2, {100.0, 1.0});
  EXPECT_TRUE(watch.take_spikes().empty());
}

TEST(StepWatch, ZeroTurnsSpikesOff) {
  StepWatch watch(0.0);
  for (int64_t step = 1; step <= 100; ++step) {
    watch.see(step, {step == 90 ? 1e6 : 2.0, 1.0});
  }
  EXPECT_TRUE(watch.take_spikes().empty());
}

TEST(StepWatch, CountsStepsThatAreNotFiniteAndHowManyCameInARow) {
  StepWatch watch(8.0);
  watch.see(1, {kNan, 1.0});
  watch.see(2, {1.0, 1.0});
  EXPECT_EQ(watch.skipped_in_a_row(), 0);
  watch.see(3, {1.0, std::numeric_limits<double>::infinity()});
  watch.see(4, {kNan, kNan});
  EXPECT_EQ(watch.skipped(), 3);
  EXPECT_EQ(watch.skipped_in_a_row(), 2);
}

}  // namespace
}  // namespace comba::vision
