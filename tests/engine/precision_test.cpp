// Which device a name means.
#include "vision/engine/precision.h"

#include "tests/base/temporary_folder.h"
#include "vision/base/error.h"

#include <ATen/Context.h>

namespace comba::vision {
namespace {

using testing_tools::message_of;

TEST(Device, NamesMeanDevices) {
  EXPECT_TRUE(choose_device("cpu").is_cpu());
  EXPECT_EQ(choose_devices("cpu"), std::vector<c10::Device>{c10::kCPU});
  if (at::hasCUDA()) {
    EXPECT_EQ(choose_device("auto"), c10::Device(c10::kCUDA, 0));
    EXPECT_EQ(choose_devices("cuda:0"), std::vector<c10::Device>{c10::Device(c10::kCUDA, 0)});
    EXPECT_SAYS(message_of<UsageError>([] { choose_devices("cuda,cuda:0"); }), "is there twice");
  } else {
    EXPECT_TRUE(choose_device("auto").is_cpu());
    EXPECT_SAYS(message_of<UsageError>([] { choose_device("cuda"); }), "0 usable CUDA devices");
  }
}

TEST(Device, WhatIsNoDeviceIsRefused) {
  for (const char* name : {"", "gpu", "cuda:", "cuda:x", "cuda:0x", "cuda:-1", "cuda: 1", "CPU"}) {
    EXPECT_SAYS(message_of<UsageError>([&] { choose_device(name); }), "expected auto, cpu, cuda");
  }
  EXPECT_SAYS(message_of<UsageError>([] { choose_device("cuda:120"); }), "--device cuda:120");
  EXPECT_SAYS(message_of<UsageError>([] { choose_devices("cpu,cpu"); }), "cpu is there twice");
  EXPECT_THROW(choose_devices("cpu,"), UsageError);
}

}  // namespace
}  // namespace comba::vision
