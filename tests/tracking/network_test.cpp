#include "tracking/network.h"

#include "datasets/synthetic_scene.h"
#include "tests/tracking/tiny_network.h"
#include "tracking/crop.h"
#include "tracking/losses.h"
#include "vision/base/error.h"

#include <cmath>

#include <ATen/Functions.h>
#include <gtest/gtest.h>
#include <torch/optim/adam.h>

namespace comba::tracking {
namespace {

TEST(BackboneSequence, OfOneImageIsTheBackboneItself) {
  at::manual_seed(1);
  for (const char* mixer : {"comba", "softmax"}) {
    vision::Backbone backbone(tiny_network(mixer).backbone);
    backbone->eval();
    const torch::Tensor images = at::randn({2, 3, 64, 64});
    EXPECT_TRUE(at::allclose(backbone->forward_sequence({images}), backbone->forward_tokens(images),
                             1e-5, 1e-6))
        << mixer;
  }
}

TEST(BackboneSequence, RefusesSidesThatAreNoMultipleOfAPatch) {
  vision::Backbone backbone(tiny_network("comba").backbone);
  EXPECT_THROW(backbone->forward_sequence({at::randn({1, 3, 60, 60})}), c10::Error);
  EXPECT_THROW(backbone->forward_sequence({at::randn({1, 1, 64, 64})}), c10::Error);
}

TEST(Network, GivesMapsOfTheSearchImageForEveryMixer) {
  for (const char* mixer : {"comba", "gated_delta", "softmax", "agent", "mamba"}) {
    for (const int64_t templates : {1, 2}) {
      at::manual_seed(2);
      Network network(tiny_network(mixer, templates));
      network->eval();
      const torch::Tensor z = at::randn({3, templates, 3, 32, 32}), x = at::randn({3, 3, 64, 64});
      const CenterMaps maps = network->forward(z, x);
      EXPECT_EQ(maps.score.sizes(), (std::vector<int64_t>{3, 1, 8, 8}));
      EXPECT_TRUE(maps.size.isfinite().all().item<bool>());
      // Samples do not see each other, and the templates matter, every one of them.
      const CenterMaps alone = network->forward(z.narrow(0, 1, 1), x.narrow(0, 1, 1));
      EXPECT_TRUE(at::allclose(alone.offset[0], maps.offset[1], 1e-4, 1e-5)) << mixer;
      for (int64_t n = 0; n < templates; ++n) {
        torch::Tensor other = z.clone();
        other.select(1, n).neg_();
        EXPECT_FALSE(at::allclose(network->forward(other, x).offset, maps.offset)) << mixer << n;
      }
    }
  }
}

TEST(Network, RefusesWhatItIsNotBuiltFor) {
  NetworkConfig config = tiny_network("comba");
  config.templates = 3;
  EXPECT_THROW(Network{config}, UsageError);
  config = tiny_network("comba");
  config.template_size = 30;
  EXPECT_THROW(Network{config}, UsageError);
  Network network(tiny_network("comba"));
  EXPECT_THROW(network->forward(at::randn({1, 2, 3, 32, 32}), at::randn({1, 3, 64, 64})),
               c10::Error);
}

torch::Tensor tensor_of(const datasets::Image& image) {
  torch::Tensor x = at::empty({image.height, image.width, 3}, at::kByte);
  std::copy(image.pixels.begin(), image.pixels.end(), x.data_ptr<uint8_t>());
  return (x.permute({2, 0, 1}).to(at::kFloat) / 255 - 0.45) / 0.25;
}

// Crops of made-up videos: template from the first frame, search around a place beside the target in a later one.
struct Pairs {
  torch::Tensor templates, searches, truth;

  explicit Pairs(int count) {
    std::vector<torch::Tensor> z, x, boxes;
    for (int i = 0; i < count; ++i) {
      const datasets::SyntheticScene scene({9, static_cast<uint64_t>(i), 160, 120, 20});
      const auto first = scene.frame(0), later = scene.frame(2);
      const Box start{first.x, first.y, first.w, first.h},
          target{later.x, later.y, later.w, later.h};
      const Box beside{target.x + (i % 3 - 1) * 0.4 * target.w, target.y + (i % 2) * 0.5 * target.h,
                       target.w, target.h};
      z.push_back(tensor_of(crop_image(first.image, *crop_window(start, 2), 32)));
      const CropWindow window = *crop_window(beside, 4);
      x.push_back(tensor_of(crop_image(later.image, window, 64)));
      const Box in = box_in_crop(target, window, 64);
      boxes.push_back(at::tensor({in.x / 64, in.y / 64, in.w / 64, in.h / 64}, at::kFloat));
    }
    templates = at::stack(z).unsqueeze(1);
    searches = at::stack(x);
    truth = at::stack(boxes);
  }
};

TEST(Network, LearnsWhereTheTargetsAre) {
  for (const char* mixer : {"comba", "softmax", "agent"}) {
    at::manual_seed(4);
    const Pairs pairs(4);
    Network network(tiny_network(mixer));
    torch::optim::Adam optimizer(network->parameters(), torch::optim::AdamOptions(4e-3));
    double first = 0, last = 0;
    for (int step = 0; step < 80; ++step) {
      const TrackingLoss loss =
          tracking_loss(network->forward(pairs.templates, pairs.searches), pairs.truth);
      optimizer.zero_grad();
      loss.total.backward();
      optimizer.step();
      (step == 0 ? first : last) = loss.total.item<double>();
    }
    EXPECT_LT(last, first / 5) << mixer;
  }
}

}  // namespace
}  // namespace comba::tracking
