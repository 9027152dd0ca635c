// The network for inference against the network as it is trained, its pixels normalised and its maps decoded step by step.
#include "tracking/prepared_network.h"

#include "tests/tracking/tiny_network.h"
#include "vision/base/error.h"
#include "vision/nn/normaliser.h"

#include <cmath>

#include <ATen/Context.h>
#include <ATen/Functions.h>
#include <gtest/gtest.h>

namespace comba::tracking {
namespace {

const std::vector<double> kMean = {0.485, 0.456, 0.406}, kStd = {0.229, 0.224, 0.225};

// Batch norms whose averages are not those of the start.
Network trained(const NetworkConfig& config) {
  at::manual_seed(8);
  Network network(config);
  const at::NoGradGuard no_grad;
  for (const auto& item : network->named_buffers()) {
    if (item.value().is_floating_point()) {
      item.value().add_(at::rand_like(item.value()), 0.5);
    }
  }
  for (const auto& parameter : network->parameters()) {
    parameter.add_(at::randn_like(parameter), 0.02);
  }
  network->eval();
  return network;
}

struct Pixels {
  at::Tensor templates, search;
  Pixels(int64_t objects, int64_t count)
      : templates(at::randint(256, {objects, count, 32, 32, 3}, at::kByte)),
        search(at::randint(256, {objects, 64, 64, 3}, at::kByte)) {}
};

CenterBoxes by_modules(Network& network, const Pixels& pixels) {
  const at::NoGradGuard no_grad;
  const vision::Normaliser normalise(kMean, kStd, at::kCPU);
  const at::Tensor z =
      normalise(pixels.templates.flatten(0, 1)).unflatten(0, {pixels.templates.size(0), -1});
  return decode(network->forward(z, normalise(pixels.search)), hann_window(8));
}

void expect_same(const at::Tensor& rows, const CenterBoxes& expected, double tolerance) {
  const at::Tensor dense = rows.to(at::kCPU, at::kFloat).contiguous(), window = hann_window(8);
  for (int64_t n = 0; n < dense.size(0); ++n) {
    const Answer answer = read_answer(dense[n].const_data_ptr<float>(),
                                      window.contiguous().const_data_ptr<float>(), 8);
    const at::Tensor box = expected.boxes[n];
    EXPECT_NEAR(answer.center_x, box[0].item<double>(), tolerance);
    EXPECT_NEAR(answer.center_y, box[1].item<double>(), tolerance);
    EXPECT_NEAR(answer.width, box[2].item<double>(), tolerance);
    EXPECT_NEAR(answer.height, box[3].item<double>(), tolerance);
    EXPECT_NEAR(answer.score, expected.score[n].item<double>(), tolerance);
  }
}

TEST(PreparedNetwork, GivesTheBoxesOfTheNetworkAsTrained) {
  for (const char* mixer : {"comba", "gated_delta", "softmax", "agent", "mamba"}) {
    for (const int64_t templates : {1, 2}) {
      for (const bool asymmetric : {false, true}) {
        SCOPED_TRACE(fmt::format("{} {} {}", mixer, templates, asymmetric));
        Network network = trained(tiny_network(mixer, templates, asymmetric));
        PreparedNetwork prepared(network, kMean, kStd, at::kCPU);
        for (int i = 0; i < 2; ++i) {  // new templates of as many objects take the old ones' place
          const Pixels pixels(3, templates);
          prepared.set_templates(pixels.templates);
          const at::Tensor rows = prepared.forward(pixels.search);
          expect_same(rows, by_modules(network, pixels), 2e-5);
          EXPECT_TRUE(prepared.forward(pixels.search).equal(rows)) << "frames leave no trace";
        }
      }
    }
  }
}

TEST(PreparedNetwork, RefusesOtherCountsAndSizes) {
  Network network = trained(tiny_network("comba", 1, false));
  PreparedNetwork prepared(network, kMean, kStd, at::kCPU);
  const Pixels pixels(2, 1);
  EXPECT_ANY_THROW(prepared.forward(pixels.search));
  prepared.set_templates(pixels.templates);
  EXPECT_ANY_THROW(prepared.forward(pixels.search.narrow(0, 0, 1)));
  EXPECT_ANY_THROW(prepared.set_templates(Pixels(2, 2).templates));
}

TEST(PreparedNetworkCuda, GivesTheBoxesOfTheNetworkAsTrained) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  for (const char* mixer : {"comba", "softmax"}) {
    for (const bool asymmetric : {false, true}) {
      SCOPED_TRACE(fmt::format("{} {}", mixer, asymmetric));
      Network network = trained(tiny_network(mixer, 1, asymmetric));
      const Pixels pixels(3, 1);
      const CenterBoxes expected = by_modules(network, pixels);
      network->to(at::kCUDA);
      PreparedNetwork prepared(network, kMean, kStd, at::Device(at::kCUDA, 0));
      prepared.set_templates(pixels.templates);
      expect_same(prepared.forward(pixels.search.to(at::kCUDA)), expected, 1.0 / 64);
    }
  }
}

TEST(ReadAnswer, IsDecodeOfTheMaps) {
  at::manual_seed(9);
  const at::Tensor window = hann_window(16).contiguous();
  for (int i = 0; i < 20; ++i) {
    const at::Tensor rows = at::randn({256, kHeadColumns}) * 4;
    const auto map = [&](int64_t column, int64_t count) {
      return rows.narrow(1, column, count).t().reshape({1, count, 16, 16});
    };
    const auto bounded = [](const at::Tensor& x) { return x.sigmoid().clamp(1e-4, 1 - 1e-4); };
    const CenterBoxes expected =
        decode({bounded(map(kScoreColumn, 1)), bounded(map(kSizeColumn, 2)), map(kOffsetColumn, 2)},
               window);
    const Answer answer =
        read_answer(rows.const_data_ptr<float>(), window.const_data_ptr<float>(), 16);
    EXPECT_NEAR(answer.center_x, expected.boxes[0][0].item<double>(), 1e-6);
    EXPECT_NEAR(answer.center_y, expected.boxes[0][1].item<double>(), 1e-6);
    EXPECT_NEAR(answer.width, expected.boxes[0][2].item<double>(), 1e-6);
    EXPECT_NEAR(answer.height, expected.boxes[0][3].item<double>(), 1e-6);
    EXPECT_NEAR(answer.score, expected.score[0].item<double>(), 1e-6);
  }
}

TEST(ReadAnswer, ShowsANanScore) {
  at::Tensor rows = at::zeros({256, kHeadColumns});
  rows[77][kScoreColumn] = NAN;
  const at::Tensor window = hann_window(16).contiguous();
  EXPECT_TRUE(std::isnan(
      read_answer(rows.const_data_ptr<float>(), window.const_data_ptr<float>(), 16).score));
}

}  // namespace
}  // namespace comba::tracking
