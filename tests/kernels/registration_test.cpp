// Linkers drop registrations nobody calls: every operator must resolve in what we ship.
#include "tests/kernels/registered_operators.h"

#include <gtest/gtest.h>

namespace comba::kernels::test {
namespace {

TEST(Registration, EveryOperatorResolvesWithItsDeviceShapeAndGradientKernels) {
  EXPECT_EQ(missing_registrations(), "");
}

}  // namespace
}  // namespace comba::kernels::test
