#include "classify/distillation.h"

#include "classify/bundle.h"
#include "classify/task.h"
#include "tests/base/temporary_folder.h"
#include "tests/classify/tiny.h"
#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/engine/checkpoint.h"
#include "vision/io/safetensors.h"

#include <cmath>

#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

namespace comba::classify {
namespace {

using testing_tools::TemporaryFolder;

// By the definitions, in double and element by element.
double expected_soft(const at::Tensor& student, const at::Tensor& teacher, double t) {
  const auto probabilities = [&](const at::Tensor& logits, int64_t row) {
    std::vector<double> p;
    double sum = 0;
    for (int64_t k = 0; k < logits.size(1); ++k) {
      p.push_back(std::exp(logits[row][k].item<double>() / t));
      sum += p.back();
    }
    for (double& value : p) {
      value /= sum;
    }
    return p;
  };
  double loss = 0;
  for (int64_t row = 0; row < student.size(0); ++row) {
    const auto s = probabilities(student, row), q = probabilities(teacher, row);
    for (size_t k = 0; k < s.size(); ++k) {
      loss += q[k] * std::log(q[k] / s[k]);
    }
  }
  return t * t * loss / static_cast<double>(student.size(0));
}

TEST(Distillation, SoftIsTheScaledDivergenceOfTheSoftenedOutputs) {
  const at::Tensor student = at::randn({5, 7}), teacher = 3 * at::randn({5, 7});
  for (const double t : {1.0, 3.0}) {
    const DistillOptions options{.kind = "soft", .temperature = t};
    EXPECT_NEAR(distillation_loss(student, teacher, options).item<double>(),
                expected_soft(student, teacher, t), 1e-5);
  }
}

TEST(Distillation, HardIsTheCrossEntropyWithTheTeachersChoices) {
  const at::Tensor student = at::randn({4, 3});
  const at::Tensor teacher = at::zeros({4, 3});
  double expected = 0;
  for (int64_t row = 0; row < 4; ++row) {
    teacher[row][row % 3] = 5.0;
    const at::Tensor logits = student[row].to(at::kDouble);
    expected += (logits.exp().sum().log() - logits[row % 3]).item<double>() / 4;
  }
  EXPECT_NEAR(distillation_loss(student, teacher, {.kind = "hard"}).item<double>(), expected, 1e-6);
}

// Weights of a model with its description, as checkpoints have them.
std::string write_teacher(const TemporaryFolder& folder, const RunConfig& config) {
  ClassifyTask task(config, at::kCPU);
  const auto path = folder.path() / "teacher.safetensors";
  vision::save_safetensors(path, vision::weights_of(task.model()), task.weights_metadata());
  return path.string();
}

TEST(Distillation, ATasksLossIsMixedFromTheLabelsAndTheTeachers) {
  const TemporaryFolder folder;
  const std::string teacher = write_teacher(folder, tiny_config({"seed=0", "model.width=32"}));
  const auto loss_at = [&](const std::vector<std::string>& more) {
    std::vector<std::string> set = {"model.drop_path=0"};
    set.insert(set.end(), more.begin(), more.end());
    ClassifyTask task(tiny_config(set), at::kCPU);
    task.start_epoch(0, 0);
    return task.next_loss().item<double>();
  };
  const std::string from = "distill.teacher=" + teacher;
  const double labels = loss_at({}), all = loss_at({from, "distill.weight=1"});
  EXPECT_NE(labels, all);
  EXPECT_NEAR(loss_at({from, "distill.weight=0"}), labels, 1e-6);
  EXPECT_NEAR(loss_at({from, "distill.weight=0.25"}), 0.75 * labels + 0.25 * all, 1e-5);
}

TEST(Distillation, TheTeacherSeesImagesNormalisedItsWay) {
  const TemporaryFolder folder;
  const std::string path =
      write_teacher(folder, tiny_config({"data.mean=[0.5,0.4,0.3]", "data.std=[0.2,0.3,0.4]"}));
  RunConfig config = tiny_config({"distill.teacher=" + path});
  const Bundle bundle = load_bundle(path, "raw", at::kCPU);
  Teacher teacher(config, bundle.class_names, at::kCPU);
  const at::Tensor pixels = at::rand({2, 3, 8, 8});
  const auto normalised = [&](const RunConfig& by) {
    const auto row = [](const std::vector<double>& values) {
      return at::tensor(values, at::kFloat).view({3, 1, 1});
    };
    return (pixels - row(by.data.mean)) / row(by.data.std);
  };
  Bundle own = load_bundle(path, "raw", at::kCPU);
  EXPECT_TRUE(at::allclose(teacher.logits(normalised(config)),
                           own.model->forward(normalised(own.config)), 1e-4, 1e-5));
}

TEST(Distillation, ATeacherOfAnotherProgramNamesNoClassesAndMayHaveAsMany) {
  const TemporaryFolder folder;
  ClassifyTask task(tiny_config(), at::kCPU);
  const auto path = folder.path() / "teacher.safetensors", config = folder.path() / "c.toml";
  vision::save_safetensors(path, vision::weights_of(task.model()));
  write_file_atomic(config, kTinyConfig);
  const std::vector<std::string> set = {"distill.teacher=" + path.string(),
                                        "distill.config=" + config.string()};
  const RunConfig student = tiny_config(set);
  EXPECT_NO_THROW(Teacher(student, {"ant", "bee", "cat", "dog"}, at::kCPU));
  EXPECT_THROW(Teacher(student, {"ant", "bee"}, at::kCPU), UsageError);
}

TEST(Distillation, ATeacherOfOtherImagesOrClassesIsRefused) {
  const TemporaryFolder folder;
  const std::string set = "distill.teacher=" + write_teacher(folder, tiny_config());
  const auto message = [&](const std::string& other) {
    try {
      ClassifyTask(tiny_config({set, other}), at::kCPU);
    } catch (const UsageError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_NE(message("model.image_size=16").find("8 x 8"), std::string::npos);
  EXPECT_NE(message("model.classes=6").find("4 classes"), std::string::npos);
  EXPECT_EQ(message("model.depth=1"), "");
}

TEST(Distillation, WeightsThatAreNotThereAreNamedWithTheirKey) {
  for (const std::string key : {"distill.teacher", "model.init"}) {
    try {
      ClassifyTask(tiny_config({key + "=absent.safetensors"}), at::kCPU);
      ADD_FAILURE() << "taken";
    } catch (const Error& error) {
      EXPECT_EQ(std::string(error.what()).find(key + ": loading weights: absent.safetensors"), 0U)
          << error.what();
    }
  }
}

TEST(Distillation, TheStudentsWeightsDoNotNameTheTeachersPath) {
  const TemporaryFolder folder;
  const RunConfig config = tiny_config({"distill.teacher=" + write_teacher(folder, tiny_config())});
  ClassifyTask task(config, at::kCPU);
  EXPECT_EQ(task.weights_metadata().at("comba.config").find("teacher.safetensors"),
            std::string::npos);
}

}  // namespace
}  // namespace comba::classify
