// Recorded graphs, TorchScript and ONNX files. The oracle of a file is the model that it was made of, run as it always runs:
// through kernels/ and not through their compositions.
#include "classify/graph.h"
#include "tests/base/temporary_folder.h"
#include "tests/vision/export_models.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/io/examples.h"
#include "vision/io/graph_models.h"
#include "vision/io/onnx/converter.h"
#include "vision/io/onnx/onnx.h"
#include "vision/io/torchscript.h"

#include <cstdlib>
#include <set>

#include <ATen/Functions.h>
#include <gtest/gtest.h>

namespace comba::vision {
namespace {

void expect_close(const Tensors& got, const Tensors& expected, double bound, const char* what) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].sizes(), expected[i].sizes()) << what;
    EXPECT_LE((got[i] - expected[i]).abs().max().item<double>(), bound) << what;
  }
}

class ExportedModel : public testing::TestWithParam<test::ExportCase> {};

TEST_P(ExportedModel, AsTorchScriptAnswersAsTheModelForAnyBatch) {
  const at::NoGradGuard no_grad;
  const testing_tools::TemporaryFolder folder;
  const classify::Classifier model = test::make_export_model(GetParam());
  for (const GraphModel& graph :
       {classify::classifier_graph(model), backbone_graph(backbone_of(*model))}) {
    const Recording recording = record(graph);
    for (const auto* node : recording.graph->nodes()) {
      EXPECT_NE(std::string(node->kind().ns().toUnqualString()), "comba") << *node;
    }
    save_torchscript(folder.path() / "m.torchscript", recording, {});
    for (const int64_t batch : {1, 2, 5}) {
      const Tensors inputs = graph.inputs_of(example_images(graph, batch));
      expect_close(run_torchscript(folder.path() / "m.torchscript", inputs), graph.run(inputs),
                   2e-5, graph.name.c_str());
    }
  }
}

TEST_P(ExportedModel, HasAnOnnxRuleForEveryOperatorItUses) {
  const classify::Classifier model = test::make_export_model(GetParam());
  const GraphModel graph = classify::classifier_graph(model);
  const onnx::Model file = onnx::Converter(graph, record(graph)).convert();
  ASSERT_EQ(file.outputs.size(), 1U);
  EXPECT_EQ(file.outputs[0].sizes, (std::vector<int64_t>{-1, 7}));
  int64_t bytes = 0, weights = 0;
  for (const auto& [name, tensor] : file.initializers) {
    bytes += static_cast<int64_t>(tensor.nbytes());
  }
  for (const at::Tensor& parameter : model->parameters()) {
    weights += static_cast<int64_t>(parameter.nbytes());
  }
  EXPECT_LE(bytes, weights + 64 * 1024);  // nothing twice; matrices of chunks and the like
  std::set<std::string> computed;
  for (const onnx::Node& node : file.nodes) {
    computed.insert(node.outputs.begin(), node.outputs.end());
  }
  EXPECT_GE(2 * file.values.size(), computed.size());
  for (const onnx::TensorInfo& value : file.values) {
    EXPECT_EQ(computed.erase(value.name), 1U) << value.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Every, ExportedModel, testing::ValuesIn(test::export_cases()),
                         [](const auto& info) { return info.param.name; });

TEST(Recording, RefusesAModelThatHoldsForOneBatchAlone) {
  const classify::Classifier model = test::make_export_model({"comba", [](BackboneConfig&) {}});
  GraphModel graph = classify::classifier_graph(model);
  const auto run = graph.run;
  graph.run = [run](const Tensors& inputs) -> Tensors {
    return {run(inputs)[0] * static_cast<double>(inputs[0].size(0))};
  };
  try {
    record(graph);
    FAIL() << "was recorded";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("size of the batch"), std::string::npos)
        << error.what();
  }
}

TEST(Onnx, NamesAnOperatorWithoutARule) {
  const classify::Classifier model = test::make_export_model({"comba", [](BackboneConfig&) {}});
  GraphModel graph = classify::classifier_graph(model);
  const auto run = graph.run;
  graph.run = [run](const Tensors& inputs) -> Tensors { return {at::erfinv(run(inputs)[0])}; };
  try {
    onnx::Converter(graph, record(graph)).convert();
    FAIL() << "was converted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("aten::erfinv"), std::string::npos) << error.what();
  }
}

TEST(Onnx, SaysWhichPoolingItDoesNotHave) {
  const classify::Classifier model = test::make_export_model({"comba", [](BackboneConfig&) {}});
  GraphModel graph = classify::classifier_graph(model);
  const auto run = graph.run;
  graph.run = [run](const Tensors& inputs) -> Tensors {
    const at::Tensor uneven = at::adaptive_avg_pool2d(inputs[0], {36, 36});
    return {run(inputs)[0] + uneven.flatten(1).mean(1, true)};
  };
  try {
    onnx::Converter(graph, record(graph)).convert();
    FAIL() << "was converted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("a side of 48 to 36"), std::string::npos)
        << error.what();
  }
}

TEST(Onnx, WeightsMayStandInAFileOfTheirOwn) {
  const testing_tools::TemporaryFolder folder;
  const classify::Classifier model = test::make_export_model({"comba", [](BackboneConfig&) {}});
  const GraphModel graph = classify::classifier_graph(model);
  const Recording recording = record(graph);
  EXPECT_FALSE(onnx::save_onnx(folder.path() / "one.onnx", graph, recording, {}, {}));
  EXPECT_TRUE(
      onnx::save_onnx(folder.path() / "two.onnx", graph, recording, {}, {.external_data = true}));
  const auto size = [&](const char* name) {
    return std::filesystem::file_size(folder.path() / name);
  };
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "one.onnx.data"));
  EXPECT_LT(size("two.onnx"), size("one.onnx"));
  EXPECT_GE(size("two.onnx") + size("two.onnx.data"), size("one.onnx"));
}

TEST(GraphModels, AnotherImageSizeResizesLearnedPositionsAndNothingElse) {
  const at::NoGradGuard no_grad;
  const classify::Classifier model = test::make_export_model(
      {"", [](BackboneConfig& c) { c.pool = "cls", c.position = "learned"; }});
  const classify::Classifier same = classify::resized(model, 48);
  const at::Tensor images = at::randn({2, 3, 48, 48});
  EXPECT_TRUE(at::equal(classify::Classifier(same)->forward(images),
                        classify::Classifier(model)->forward(images)));
  const classify::Classifier larger = classify::resized(model, 64);
  EXPECT_EQ(larger->named_parameters()["pos_embed"].sizes(), (std::vector<int64_t>{1, 257, 32}));
  EXPECT_TRUE(at::equal(larger->named_parameters()["pos_embed"].select(1, 0),
                        model->named_parameters()["pos_embed"].select(1, 0)));
  EXPECT_EQ(classify::Classifier(larger)->forward(at::randn({1, 3, 64, 64})).size(1), 7);
}

TEST(GraphModels, AnotherImageSizeKeepsAMiddleClassTokenAndResizesAgentBiases) {
  const at::NoGradGuard no_grad;
  const classify::Classifier model = test::make_export_model({"", [](BackboneConfig& c) {
                                                                c.pool = "middle_cls";
                                                                c.position = "learned";
                                                              }});
  const classify::Classifier larger = classify::resized(model, 64);
  EXPECT_TRUE(at::equal(larger->named_parameters()["pos_embed"].select(1, 128),
                        model->named_parameters()["pos_embed"].select(1, 72)));
  const classify::Classifier agent = test::make_export_model({"", [](BackboneConfig& c) {
                                                                c.mixer = "agent";
                                                                c.agents = 4;
                                                              }});
  classify::Classifier resized = classify::resized(agent, 64);
  EXPECT_EQ(resized->named_parameters()["blocks.0.attn.wa_bias"].sizes(),
            (std::vector<int64_t>{1, 2, 1, 16, 4}));
  EXPECT_EQ(resized(at::randn({1, 3, 64, 64})).size(1), 7);
}

TEST(GraphModels, RoundingLeavesTheRecurrencesOwnParametersAlone) {
  classify::Classifier model = test::make_export_model({"", [](BackboneConfig&) {}});
  round_parameters(*model, at::kHalf);
  for (const auto& item : model->named_parameters()) {
    const std::string leaf = item.key().substr(item.key().rfind('.') + 1);
    const bool own = leaf.starts_with("A_log") || leaf.starts_with("dt_bias") ||
                     leaf.starts_with("decay") || leaf == "D" || leaf == "D_b";
    EXPECT_EQ(item.value().scalar_type(), own ? at::kFloat : at::kHalf) << item.key();
  }
}

// Our half of tests/python/export_test.py, which sets COMBA_INTEROP_FOLDER.
TEST(ExportInterop, WritesModelsOfEveryKind) {
  const char* folder = std::getenv("COMBA_INTEROP_FOLDER");
  if (folder == nullptr) {
    GTEST_SKIP() << "run by tests/python/export_test.py";
  }
  const std::filesystem::path root = folder;
  for (const test::ExportCase& export_case : test::export_cases()) {
    const classify::Classifier model = test::make_export_model(export_case);
    for (const GraphModel& graph :
         {classify::classifier_graph(model), backbone_graph(backbone_of(*model))}) {
      const std::string name = export_case.name + "_" + graph.name;
      const Recording recording = record(graph);
      const std::map<std::string, std::string> metadata = {{"comba.kind", export_case.name}};
      save_torchscript(root / (name + ".torchscript"), recording, metadata);
      onnx::save_onnx(root / (name + ".onnx"), graph, recording, metadata,
                      {.external_data = export_case.name == "grey"});
      save_examples(root / (name + ".safetensors"), graph, make_examples(graph));
    }
  }
}

}  // namespace
}  // namespace comba::vision
