// comba export from the outside. What its files compute is tested in tests/vision/export_test.cpp and tests/python/.
#include "tests/tools/cli.h"

namespace comba::tools {
namespace {

const fs::path kTracker = kSource / "tracking/weights/comba_t_synthetic.safetensors";

TEST_F(Cli, ExportsAClassifierInEveryFormatAndVerifiesIt) {
  ASSERT_EQ(run(tiny_train("run", {"--set", "train.max_steps=2"})).code, 0);
  const Outcome outcome = run({"export", "run", "--format", "safetensors,onnx,torchscript",
                               "--verify", "--pictures", digit().string(), "--output", "out"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  for (const char* name : {"classifier.safetensors", "classifier.onnx", "classifier.torchscript"}) {
    EXPECT_TRUE(fs::exists(folder_ / "out" / name)) << outcome.out;
    EXPECT_SAYS(outcome.out, name);
  }
  EXPECT_SAYS(outcome.out, "every bit the same");
  EXPECT_SAYS(outcome.out, "(LibTorch)");
  const std::string file = comba::read_file(folder_ / "out/classifier.onnx");
  for (const char* key : {"comba.classes", "comba.mean", "comba.std", "comba.crop", "logits"}) {
    EXPECT_NE(file.find(key), std::string::npos) << key;
  }
  // What was exported is a weights file like any other.
  EXPECT_EQ(run({"predict", "out/classifier.safetensors", digit().string()}).code, 0);
}

TEST_F(Cli, ExportsTheBackboneAtAnotherSizeInHalfPrecision) {
  ASSERT_EQ(run(tiny_train("run", {"--set", "train.max_steps=2"})).code, 0);
  ASSERT_EQ(run({"export", "run", "--what", "backbone", "--format", "onnx,torchscript", "--output",
                 "wide"})
                .code,
            0);
  const Outcome outcome =
      run({"export", "run", "--what", "backbone", "--format", "onnx,torchscript", "--image-size",
           "56", "--dtype", "float16", "--verify", "--output", "half"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_LT(fs::file_size(folder_ / "half/backbone.torchscript"),
            fs::file_size(folder_ / "wide/backbone.torchscript"));
}

TEST_F(Cli, ExportsATrackerInTwoParts) {
  const Outcome outcome = run({"export", kTracker.string(), "--format", "onnx,torchscript"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  for (const char* part : {"tracker_template", "tracker_search"}) {
    for (const char* kind : {".onnx", ".torchscript"}) {
      EXPECT_TRUE(fs::exists(folder_ / "exported" / (std::string(part) + kind)));
    }
  }
  EXPECT_LT(fs::file_size(folder_ / "exported/tracker_template.onnx"), 1U << 20);
}

TEST_F(Cli, ExportNamesWhatItCannotDo) {
  const Outcome kind = run({"export", kTracker.string(), "--what", "classifier"});
  EXPECT_EQ(kind.code, 2);
  EXPECT_SAYS(kind.err, "weights of a tracker");
  const Outcome side =
      run({"export", kTracker.string(), "--image-size", "250", "--format", "onnx"});
  EXPECT_EQ(side.code, 2);
  EXPECT_SAYS(side.err, "multiple of the model's patches of 16 px");
  EXPECT_EQ(run({"export", kTracker.string(), "--format", "tflite"}).code, 2);
  EXPECT_EQ(run({"export", "absent"}).code, 2);
  const Outcome pictures =
      run({"export", kTracker.string(), "--verify", "--pictures", "no_such.jpg"});
  EXPECT_EQ(pictures.code, 2);
  EXPECT_SAYS(pictures.err, "no_such.jpg");
}

}  // namespace
}  // namespace comba::tools
