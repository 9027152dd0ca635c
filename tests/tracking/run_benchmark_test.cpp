// A tracker on a benchmark: results once, whole and the same whoever tracks; frames read ahead; folders that are not as they
// should be.
#include "tracking/run_benchmark.h"

#include "datasets/decode.h"
#include "tests/base/temporary_folder.h"
#include "tests/tracking/folder.h"
#include "tests/tracking/tiny_tracker.h"
#include "tracking/box_file.h"
#include "tracking/frame_reader.h"
#include "tracking/synthetic_benchmark.h"
#include "vision/base/error.h"
#include "vision/base/files.h"

#include <algorithm>
#include <map>

#include <ATen/detail/CUDAHooksInterface.h>

namespace comba::tracking {
namespace {

namespace fs = std::filesystem;
using testing_tools::message_of;

class RunBenchmarkTest : public FolderTest {
 protected:
  void SetUp() override {
    FolderTest::SetUp();
    synthesise("val", 0);
  }
  void synthesise(const std::string& folder, int64_t seed) const {
    SyntheticOptions options;
    options.sequences = 3;
    options.frames = 24;
    options.width = 160;
    options.height = 120;
    options.split = "val";
    options.seed = static_cast<decltype(options.seed)>(seed);
    write_synthetic_got10k(root / folder, options, [](int) {});
  }
  static std::string name(int n) { return fmt::format("GOT-10k_Val_{:06}", n); }
  fs::path result(const std::string& folder, int n) const {
    return root / folder / name(n) / (name(n) + "_001.txt");
  }
  std::vector<Assignment> assignments() const { return got10k_assignments(root / "val"); }
  BenchmarkRun run(const std::string& folder, std::vector<c10::Device> workers = {c10::kCPU},
                   int decoders = 1) const {
    return {root / folder, true, std::move(workers), decoders};
  }
  BenchmarkTimes track(const BenchmarkRun& run, int* made = nullptr) const {
    return run_benchmark(
        assignments(), run,
        [&](const c10::Device& device) {
          if (made != nullptr) {
            ++*made;
          }
          return std::make_unique<Tracker>(tiny_bundle(), device);
        },
        [](int64_t) {});
  }
  // The sequence's last frames are not there.
  void shorten(int n, size_t frames) const {
    const fs::path folder = root / "val" / name(n);
    for (const char* file : {"groundtruth.txt", "cover.label", "absence.label"}) {
      const auto lines = read_names(folder / file);
      std::string text;
      for (size_t i = 0; i < frames; ++i) {
        text += lines[i] + "\n";
      }
      write_file_atomic(folder / file, text);
    }
    for (size_t i = frames + 1; i <= 24; ++i) {
      fs::remove(folder / fmt::format("{:08}.jpg", i));
    }
  }
};

TEST_F(RunBenchmarkTest, SequencesAreTrackedOnceAndWhereResultsAreMissingAgain) {
  int made = 0;
  int64_t reported = 0;
  const BenchmarkRun two = run("results", {c10::kCPU, c10::kCPU}, 2);
  const auto first = run_benchmark(
      assignments(), two,
      [&](const c10::Device& device) {
        ++made;
        return std::make_unique<Tracker>(tiny_bundle(), device);
      },
      [&](int64_t done) { reported = done; });
  EXPECT_EQ(first.frames, 72);
  EXPECT_EQ(reported, 72);
  EXPECT_EQ(made, 2);
  const std::string text = read_file(result("results", 2));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 24);
  made = 0;
  EXPECT_EQ(track(two, &made).skipped_sequences, 3);
  EXPECT_EQ(made, 0) << "no tracker is made for nothing";
  write_file_atomic(result("results", 2), text.substr(0, text.size() / 2));
  EXPECT_EQ(track(two, &made).frames, 24);
  EXPECT_EQ(made, 1) << "one sequence, one worker";
  EXPECT_EQ(read_file(result("results", 2)), text) << "the same bits again";
}

TEST_F(RunBenchmarkTest, NeitherWorkersNorReadersChangeAResult) {
  track(run("one"));
  track(run("many", {c10::kCPU, c10::kCPU, c10::kCPU}, 3));
  for (int n = 1; n <= 3; ++n) {
    EXPECT_EQ(read_file(result("one", n)), read_file(result("many", n)));
  }
}

TEST_F(RunBenchmarkTest, ResultsOfAnotherSetsSequenceOfThatNameAreMadeAgain) {
  track(run("results"));
  const std::string before = read_file(result("results", 1));
  fs::remove_all(root / "val");
  synthesise("val", 77);
  const BenchmarkTimes times = track(run("results"));
  EXPECT_EQ(times.skipped_sequences, 0);
  EXPECT_NE(read_file(result("results", 1)), before);
}

TEST_F(RunBenchmarkTest, TheLongestSequencesComeFirst) {
  shorten(1, 10);
  shorten(2, 18);
  std::map<int64_t, int> finished;  // after so many frames, the sequences with results
  run_benchmark(
      assignments(), run("results"),
      [](const c10::Device& device) { return std::make_unique<Tracker>(tiny_bundle(), device); },
      [&](int64_t done) {
        for (int n = 1; n <= 3; ++n) {
          finished[done] += fs::exists(result("results", n)) ? n : 0;
        }
      });
  EXPECT_EQ(finished[24], 0);
  EXPECT_EQ(finished[25], 3) << "the third, of 24 frames";
  EXPECT_EQ(finished[24 + 18 + 1], 3 + 2);
}

TEST_F(RunBenchmarkTest, StagesAddUpAndTheLargestIsNamed) {
  const BenchmarkTimes t = track(run("results"));
  EXPECT_GT(t.decode, 0);
  EXPECT_GT(t.crop, 0);
  EXPECT_GT(t.network, 0);
  EXPECT_GE(t.rest, 0);
  EXPECT_LE(t.waiting + t.crop + t.network + t.rest, t.wall) << "one worker does nothing twice";
  BenchmarkTimes made_up;
  made_up.waiting = 3;
  made_up.network = 2;
  EXPECT_EQ(bottleneck(made_up), "decoding");
  made_up.network = 4;
  EXPECT_EQ(bottleneck(made_up), "network");
}

// The others are tracked: an evaluation of hours does not end at one bad file.
TEST_F(RunBenchmarkTest, AFrameThatCannotBeReadIsNamedAndTheOthersAreTracked) {
  write("val/" + name(1) + "/00000007.jpg", "");
  for (const size_t workers : {1U, 2U}) {
    fs::remove_all(root / "results");
    const std::string message = message_of<Error>(
        [&] { track(run("results", std::vector<c10::Device>(workers, c10::Device(c10::kCPU)))); });
    EXPECT_SAYS(message, "1 of 3 sequences failed");
    EXPECT_SAYS(message, name(1) + "/00000007.jpg");
    EXPECT_FALSE(fs::exists(root / "results" / name(1)));
    EXPECT_TRUE(fs::exists(result("results", 2)));
    EXPECT_TRUE(fs::exists(result("results", 3)));
  }
}

TEST_F(RunBenchmarkTest, FoldersThatAreNotAsTheyShouldBeAreNamed) {
  const std::string folder = "val/" + name(2) + "/";
  const auto says = [&] { return message_of<Error>([&] { assignments(); }); };
  const std::string truth = read_file(root / (folder + "groundtruth.txt"));
  fs::remove(root / (folder + "00000024.jpg"));
  EXPECT_SAYS(says(), "a box for each of 23 images, got 24");
  fs::remove(root / (folder + "00000007.jpg"));
  EXPECT_SAYS(says(), "there are 22 images, but");
  EXPECT_SAYS(says(), "00000007.jpg is missing");
  for (int i = 1; i <= 24; ++i) {
    fs::remove(root / (folder + fmt::format("{:08}.jpg", i)));
  }
  EXPECT_SAYS(says(), "holds no images");
  synthesise("fresh", 0);
  fs::remove_all(root / "val");
  fs::rename(root / "fresh", root / "val");
  for (const char* first : {"10,10,0,5\n", "nan,nan,nan,nan\n", "nan,10,20,20\n"}) {
    write(folder + "groundtruth.txt", first);
    EXPECT_SAYS(says(), "expected the box of the first frame (left, top, width, height), got one");
  }
  write(folder + "groundtruth.txt", "");
  EXPECT_SAYS(says(), "got nothing");
  write(folder + "groundtruth.txt", truth.substr(0, truth.find('\n') + 1));
  EXPECT_EQ(assignments()[1].frames.count, 24U) << "the test split has one box";
}

TEST_F(RunBenchmarkTest, FramesMayChangeTheirSize) {
  const datasets::Image other{90, 75, 3, std::vector<uint8_t>(size_t{90} * 75 * 3, 90)};
  for (int i = 5; i < 9; ++i) {
    write("val/" + name(1) + fmt::format("/{:08}.jpg", i), datasets::encode_jpeg(other, 90));
  }
  EXPECT_EQ(track(run("results")).frames, 72);
  EXPECT_EQ(read_boxes(result("results", 1)).size(), 24U);
}

TEST_F(RunBenchmarkTest, FramesComeInOrderFromAnyNumberOfThreads) {
  const FrameFiles files = assignments()[0].frames;
  for (const int threads : {1, 4}) {
    FrameReader reader(threads);
    datasets::Image frame;
    for (const size_t stop : {size_t{5}, files.count}) {  // a start drops the rest
      reader.start(files);
      for (size_t n = 0; n < stop; ++n) {
        ASSERT_TRUE(reader.next(frame));
        EXPECT_EQ(frame.pixels, datasets::read_image(files[n], 3).pixels);
      }
    }
    EXPECT_FALSE(reader.next(frame));
    EXPECT_GT(reader.seconds(), 0);
  }
}

TEST_F(RunBenchmarkTest, NoMoreFramesThanTheBoundAreReadAhead) {
  const FrameFiles files = assignments()[0].frames;
  FrameReader reader(4);
  reader.start(files);
  // Broken before anything is taken: whatever the threads do, they have not come this far.
  write_file_atomic(files[FrameReader::kAhead], "broken");
  datasets::Image frame;
  const std::string message = message_of<Error>([&] {
    for (int64_t n = 0; n <= FrameReader::kAhead; ++n) {
      reader.next(frame);
    }
  });
  EXPECT_SAYS(message, files[FrameReader::kAhead].filename().string());
}

TEST_F(RunBenchmarkTest, GpusGiveWhatOneGives) {
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  const auto gpu = [](int n) { return c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(n)); };
  const int count{static_cast<uint8_t>(at::detail::getCUDAHooks().deviceCount())};
  std::vector<c10::Device> every;
  for (int n = 0; n < std::max(2, count); ++n) {
    every.push_back(gpu(n % count));
  }
  track(run("one", {gpu(0)}));
  track(run("shared", {gpu(0), gpu(0), gpu(0)}, 2));
  track(run("spread", every, 2));
  for (int n = 1; n <= 3; ++n) {
    EXPECT_EQ(read_file(result("one", n)), read_file(result("shared", n)));
    EXPECT_EQ(read_file(result("one", n)), read_file(result("spread", n)));
  }
}

}  // namespace
}  // namespace comba::tracking
