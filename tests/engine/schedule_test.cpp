#include "vision/engine/schedule.h"

#include <cmath>

#include <gtest/gtest.h>

namespace comba::vision {
namespace {

constexpr Schedule kSchedule{
    .peak_lr = 1.0, .min_lr = 0.1, .warmup_lr = 0.01, .warmup_steps = 10, .total_steps = 100};

TEST(Schedule, WarmsUpLinearlyFromTheWarmUpRate) {
  EXPECT_DOUBLE_EQ(kSchedule.lr(0), 0.01);
  EXPECT_DOUBLE_EQ(kSchedule.lr(5), 0.01 + 0.99 * 0.5);
}

TEST(Schedule, FollowsTheHalfCosineAfterTheWarmUp) {
  // Values of min + (peak - min) (1 + cos(pi t / T)) / 2 worked out by hand.
  EXPECT_NEAR(kSchedule.lr(50), 0.55, 1e-12);
  EXPECT_NEAR(kSchedule.lr(25), 0.1 + 0.45 * (1.0 + std::sqrt(0.5)), 1e-12);
  EXPECT_NEAR(kSchedule.lr(75), 0.1 + 0.45 * (1.0 - std::sqrt(0.5)), 1e-12);
}

TEST(Schedule, EndsAtTheMinimumAndStaysThere) {
  EXPECT_NEAR(kSchedule.lr(100), 0.1, 1e-12);
  EXPECT_NEAR(kSchedule.lr(1000), 0.1, 1e-12);
}

TEST(Schedule, HasNoWarmUpWhenNoneIsAsked) {
  constexpr Schedule schedule{
      .peak_lr = 2.0, .min_lr = 0.0, .warmup_lr = 0.5, .warmup_steps = 0, .total_steps = 10};
  EXPECT_DOUBLE_EQ(schedule.lr(0), 2.0);
}

TEST(Schedule, TheStepShapeDropsToATenthOnce) {
  const Schedule schedule{.shape = Schedule::Shape::step,
                          .peak_lr = 4e-4,
                          .warmup_steps = 0,
                          .total_steps = 300,
                          .drop_step = 240};
  EXPECT_DOUBLE_EQ(schedule.lr(0), 4e-4);
  EXPECT_DOUBLE_EQ(schedule.lr(239), 4e-4);
  EXPECT_DOUBLE_EQ(schedule.lr(240), 4e-5);
  EXPECT_DOUBLE_EQ(schedule.lr(299), 4e-5);
}

TEST(Schedule, PolyFallsWithThePowerOfWhatIsLeft) {
  Schedule schedule = kSchedule;
  schedule.shape = Schedule::Shape::poly;
  schedule.power = 2.0;
  EXPECT_DOUBLE_EQ(schedule.lr(5), kSchedule.lr(5)) << "the warm-up is the same";
  EXPECT_NEAR(schedule.lr(50), 0.1 + 0.9 * 0.25, 1e-12);
  EXPECT_NEAR(schedule.lr(90), 0.1 + 0.9 * 0.01, 1e-12);
  EXPECT_NEAR(schedule.lr(1000), 0.1, 1e-12);
}

TEST(Schedule, MayStayForAnEpoch) {
  Schedule schedule = kSchedule;
  schedule.every = 4;
  for (const int64_t step : {0, 4, 8, 52}) {
    for (int64_t more = 0; more < 4; ++more) {
      EXPECT_DOUBLE_EQ(schedule.lr(step + more), kSchedule.lr(step)) << step << " + " << more;
    }
  }
}

}  // namespace
}  // namespace comba::vision
