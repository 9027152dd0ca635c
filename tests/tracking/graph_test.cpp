// Exported trackers, in two parts. The oracle is the network as it runs whole.
#include "tracking/graph.h"

#include "tests/base/temporary_folder.h"
#include "tests/tracking/tiny_network.h"
#include "vision/io/examples.h"
#include "vision/io/onnx/onnx.h"
#include "vision/io/torchscript.h"

#include <cstdlib>

#include <ATen/Functions.h>
#include <gtest/gtest.h>

namespace comba::tracking {
namespace {

// With statistics and weights that are not those of a fresh model.
Network make_network(const std::string& mixer, int64_t templates, bool asymmetric) {
  at::manual_seed(11);
  Network network(tiny_network(mixer, templates, asymmetric));
  const at::NoGradGuard no_grad;
  for (auto& item : network->named_parameters()) {
    if (item.value().dim() == 2) {
      item.value().normal_(0, 0.2);
    }
  }
  for (auto& item : network->named_buffers()) {
    if (item.key().ends_with("running_mean")) {
      item.value().normal_(0, 0.3);
    } else if (item.key().ends_with("running_var")) {
      item.value().uniform_(0.5, 2);
    }
  }
  network->eval();
  return network;
}

TEST(TrackerGraphs, PartsOneAfterTheOtherAnswerAsTheWholeNetwork) {
  const at::NoGradGuard no_grad;
  const testing_tools::TemporaryFolder folder;
  for (const char* mixer : {"comba", "softmax", "agent", "mamba"}) {
    for (const bool asymmetric : {false, true}) {
      const int64_t templates = asymmetric ? 2 : 1;
      const Network network = make_network(mixer, templates, asymmetric);
      for (const vision::GraphModel& graph : tracker_graphs(network)) {
        vision::save_torchscript(folder.path() / graph.name, vision::record(graph), {});
      }
      for (const int64_t batch : {1, 3}) {
        const at::Tensor z = at::randn({batch, templates, 3, 32, 32}),
                         x = at::randn({batch, 3, 64, 64});
        const CenterMaps expected = Network(network)->forward(z, x);
        const at::Tensor tokens =
            vision::run_torchscript(folder.path() / "tracker_template", {z}).at(0);
        const vision::Tensors maps =
            vision::run_torchscript(folder.path() / "tracker_search", {tokens, x});
        ASSERT_EQ(maps.size(), 3U);
        EXPECT_TRUE(at::allclose(maps[0], expected.score, 1e-4, 1e-5)) << mixer << asymmetric;
        EXPECT_TRUE(at::allclose(maps[1], expected.size, 1e-4, 1e-5)) << mixer << asymmetric;
        EXPECT_TRUE(at::allclose(maps[2], expected.offset, 1e-4, 1e-5)) << mixer << asymmetric;
      }
    }
  }
}

TEST(TrackerGraphs, ATemplatePartHoldsThePatchEmbeddingAlone) {
  const Network network = make_network("comba", 1, false);
  const vision::Recording part = vision::record(tracker_graphs(network).front());
  int64_t parameters = 0;
  for (const at::Tensor& tensor : part.module.parameters(/*recurse=*/true)) {
    parameters += tensor.numel();
  }
  EXPECT_EQ(parameters, 3 * 8 * 8 * 32 + 32);
}

TEST(TrackerGraphs, AnotherSearchSizeKeepsTheWeights) {
  const Network network = make_network("softmax", 1, false);
  const Network larger = resized(network, 96);
  const CenterMaps maps =
      Network(larger)->forward(at::randn({1, 1, 3, 32, 32}), at::randn({1, 3, 96, 96}));
  EXPECT_EQ(maps.score.sizes(), (std::vector<int64_t>{1, 1, 12, 12}));
  const at::Tensor z = at::randn({1, 1, 3, 32, 32}), x = at::randn({1, 3, 64, 64});
  EXPECT_TRUE(at::equal(Network(resized(network, 64))->forward(z, x).offset,
                        Network(network)->forward(z, x).offset));
}

// Our half of tests/python/export_test.py, which sets COMBA_INTEROP_FOLDER.
TEST(TrackerInterop, WritesTrackersOfEveryKind) {
  const char* folder = std::getenv("COMBA_INTEROP_FOLDER");
  if (folder == nullptr) {
    GTEST_SKIP() << "run by tests/python/export_test.py";
  }
  for (const char* mixer : {"comba", "softmax", "agent", "mamba"}) {
    for (const bool asymmetric : {false, true}) {
      const Network network = make_network(mixer, 1, asymmetric);
      for (const vision::GraphModel& graph : tracker_graphs(network)) {
        const std::filesystem::path path =
            std::filesystem::path(folder) /
            (std::string(mixer) + (asymmetric ? "_asymmetric_" : "_") + graph.name);
        const vision::Recording recording = vision::record(graph);
        const std::map<std::string, std::string> metadata = {{"comba.kind", mixer}};
        vision::save_torchscript(path.string() + ".torchscript", recording, metadata);
        vision::onnx::save_onnx(path.string() + ".onnx", graph, recording, metadata, {});
        vision::save_examples(path.string() + ".safetensors", graph, vision::make_examples(graph));
      }
    }
  }
}

}  // namespace
}  // namespace comba::tracking
