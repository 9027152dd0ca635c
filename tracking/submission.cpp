#include "tracking/submission.h"

#include "tracking/benchmark.h"
#include "tracking/box_file.h"
#include "vision/base/error.h"

#include <algorithm>
#include <map>
#include <memory>
#include <set>

#include <fmt/format.h>
#include <zip.h>

namespace comba::tracking {
namespace {

namespace fs = std::filesystem;

constexpr int kSequences = 180, kRepetitions = 3;
constexpr uint64_t kMaxFile =
    16 << 20;  // bytes of a file in a submission; real ones have some thousands
constexpr int64_t kMaxEntries = 10000;
constexpr double kSameBox =
    0.5;  // px between the first box and the given one, whatever the rounding

std::string sequence_name(int number) { return fmt::format("GOT-10k_Test_{:06}", number); }

struct CloseArchive {
  void operator()(zip_t* archive) const { zip_discard(archive); }
};
using Archive = std::unique_ptr<zip_t, CloseArchive>;

Archive open_zip(const fs::path& path, int flags, const char* doing) {
  int code = 0;
  Archive archive(zip_open(path.c_str(), flags, &code));
  if (archive == nullptr) {
    zip_error_t error;
    zip_error_init_with_code(&error, code);
    const std::string reason = zip_error_strerror(&error);
    zip_error_fini(&error);
    throw Error(fmt::format("{} {}: expected a zip file: {}", doing, path.string(), reason));
  }
  return archive;
}

std::string read_entry(zip_t* archive, zip_uint64_t index, uint64_t size) {
  zip_file_t* file = zip_fopen_index(archive, index, 0);
  COMBA_CHECK(file != nullptr, "{}", zip_strerror(archive));
  std::string content(size, '\0');
  const zip_int64_t got = zip_fread(file, content.data(), size);
  zip_fclose(file);
  COMBA_CHECK(got == static_cast<zip_int64_t>(size), "it is damaged");
  return content;
}

// Name without the one folder that may hold everything -> content, for text files; problems are added.
std::map<std::string, std::string> read_all(zip_t* archive, std::vector<std::string>& problems) {
  std::map<std::string, std::string> files;
  const zip_int64_t count = zip_get_num_entries(archive, 0);
  if (count > kMaxEntries) {
    problems.push_back(fmt::format("expected some hundred files, got {}", count));
    return files;
  }
  for (zip_uint64_t i = 0; i < static_cast<zip_uint64_t>(count); ++i) {
    zip_stat_t stat;
    if (zip_stat_index(archive, i, 0, &stat) != 0) {
      problems.push_back(fmt::format("file {} cannot be read: {}", i, zip_strerror(archive)));
      continue;
    }
    std::string name = stat.name;
    if (name.ends_with('/') || name.starts_with("__MACOSX/")) {
      continue;
    }
    if (!name.starts_with("GOT-10k_Test_") && name.find('/') != std::string::npos) {
      name.erase(0, name.find('/') + 1);
    }
    if (stat.size > kMaxFile) {
      problems.push_back(
          fmt::format("{}: expected at most {} bytes, got {}", name, kMaxFile, stat.size));
      continue;
    }
    try {
      files[name] = read_entry(archive, i, stat.size);
    } catch (const Error& error) {
      problems.push_back(fmt::format("{}: {}", name, error.what()));
    }
  }
  return files;
}

// What is known of a test sequence.
struct Given {
  size_t frames = 0;  // 0: unknown
  Box first;
};

Given given_of(const fs::path& test_folder, const std::string& name) {
  Given given;
  if (!test_folder.empty()) {
    const std::vector<Box> truth = read_boxes(test_folder / name / "groundtruth.txt");
    COMBA_CHECK(!truth.empty(), "reading {}: expected the first box, got an empty file",
                (test_folder / name / "groundtruth.txt").string());
    given.first = truth[0];
    for (const auto& entry : fs::directory_iterator(test_folder / name)) {
      given.frames += entry.path().extension() == ".jpg" ? 1 : 0;
    }
  }
  return given;
}

double largest_difference(const Box& a, const Box& b) {
  return std::max(
      {std::abs(a.x - b.x), std::abs(a.y - b.y), std::abs(a.w - b.w), std::abs(a.h - b.h)});
}

void check_boxes(const std::string& file, const std::string& content, const Given& given,
                 std::vector<std::string>& problems, size_t& frames) {
  if (content.find(',') == std::string::npos) {
    problems.push_back(
        file + ": expected commas between the four numbers; the server fails silently without");
    return;
  }
  const std::vector<Box> boxes = parse_boxes(content, file);
  if (boxes.size() < 2 || (given.frames > 0 && boxes.size() != given.frames)) {
    problems.push_back(fmt::format("{}: expected {} boxes, one a frame, got {}", file,
                                   given.frames > 0 ? std::to_string(given.frames) : "two or more",
                                   boxes.size()));
    return;
  }
  if (frames > 0 && boxes.size() != frames) {
    problems.push_back(fmt::format("{}: expected {} boxes as in the other repetition, got {}", file,
                                   frames, boxes.size()));
  }
  frames = boxes.size();
  for (size_t n = 0; n < boxes.size(); ++n) {
    if (boxes[n].has_nan()) {
      problems.push_back(fmt::format("{}:{}: expected four numbers, got nan", file, n + 1));
      return;
    }
  }
  if (given.frames > 0 && largest_difference(boxes[0], given.first) > kSameBox) {
    problems.push_back(fmt::format("{}:1: expected the given box {},{},{},{}, got {},{},{},{}",
                                   file, given.first.x, given.first.y, given.first.w, given.first.h,
                                   boxes[0].x, boxes[0].y, boxes[0].w, boxes[0].h));
  }
}

void check_sequence(const std::string& name, const Given& given,
                    std::map<std::string, std::string>& files, std::vector<std::string>& problems) {
  size_t frames = 0;
  int repetitions = 0;
  for (; repetitions < kRepetitions; ++repetitions) {
    const auto found = files.find(fmt::format("{0}/{0}_{1:03}.txt", name, repetitions + 1));
    if (found == files.end()) {
      break;
    }
    check_boxes(found->first, found->second, given, problems, frames);
    files.erase(found);
  }
  if (repetitions == 0) {
    problems.push_back(fmt::format("{0}/{0}_001.txt: it is not there", name));
  }
  const auto times = files.find(fmt::format("{0}/{0}_time.txt", name));
  if (times == files.end()) {
    problems.push_back(fmt::format("{0}/{0}_time.txt: it is not there", name));
    return;
  }
  const size_t want = frames * static_cast<size_t>(repetitions);
  const size_t got = parse_numbers(times->second, times->first).size();
  if (frames > 0 && got != want) {
    problems.push_back(fmt::format("{}: expected {} times, one a frame and repetition, got {}",
                                   times->first, want, got));
  }
  files.erase(times);
}

struct Packed {
  std::string name, content;
};

std::string boxes_text(const std::vector<Box>& boxes) {
  std::string text;
  for (const Box& b : boxes) {
    text += fmt::format("{:.3f},{:.3f},{:.3f},{:.3f}\n", b.x, b.y, b.w, b.h);
  }
  return text;
}

std::string times_text(const std::vector<double>& times, size_t columns) {
  std::string text;
  for (size_t i = 0; i < times.size(); ++i) {
    text += fmt::format("{:.8f}{}", times[i], (i + 1) % columns == 0 ? '\n' : ',');
  }
  return text;
}

void collect(const fs::path& results, const std::string& name, std::vector<Packed>& packed) {
  const ResultFiles files = find_results(results, name);
  COMBA_CHECK(!files.boxes.empty() && !files.times.empty(),
              "packing {}: expected {} and {} of {}, {} not there", results.string(), name + ".txt",
              name + "_time.txt", name, files.boxes.empty() ? "the boxes are" : "the times are");
  COMBA_CHECK(files.boxes.size() <= kRepetitions,
              "packing {}: {}: expected at most {} repetitions, got {}", results.string(), name,
              kRepetitions, files.boxes.size());
  size_t frames = 0;
  for (size_t r = 0; r < files.boxes.size(); ++r) {
    const std::vector<Box> boxes = read_boxes(files.boxes[r]);
    frames = boxes.size();
    packed.push_back({fmt::format("{0}/{0}_{1:03}.txt", name, r + 1), boxes_text(boxes)});
  }
  const std::vector<double> times = read_numbers(files.times);
  COMBA_CHECK(times.size() == frames * files.boxes.size(),
              "packing {}: expected {} times, one a frame and repetition, got {}",
              files.times.string(), frames * files.boxes.size(), times.size());
  packed.push_back({fmt::format("{0}/{0}_time.txt", name), times_text(times, files.boxes.size())});
}

}  // namespace

void pack_submission(const fs::path& results, const fs::path& zip) {
  std::vector<Packed> packed;  // alive until the archive is written
  for (int n = 1; n <= kSequences; ++n) {
    collect(results, sequence_name(n), packed);
  }
  // libzip writes a temporary file beside it and renames.
  Archive archive = open_zip(zip, ZIP_CREATE | ZIP_TRUNCATE, "writing");
  for (const Packed& file : packed) {
    zip_source_t* source =
        zip_source_buffer(archive.get(), file.content.data(), file.content.size(), 0);
    const zip_int64_t at = source == nullptr ? -1
                                             : zip_file_add(archive.get(), file.name.c_str(),
                                                            source, ZIP_FL_ENC_UTF_8);
    COMBA_CHECK(at >= 0, "writing {}: {}: {}", zip.string(), file.name,
                zip_strerror(archive.get()));
    zip_file_set_mtime(archive.get(), static_cast<zip_uint64_t>(at), 315532800,
                       0);  // the same bytes at any time
  }
  zip_t* const written = archive.release();
  if (zip_close(written) != 0) {
    archive.reset(written);  // it is open still
    throw Error(fmt::format("writing {}: {}", zip.string(), zip_strerror(written)));
  }
}

std::vector<std::string> submission_problems(const fs::path& zip, const fs::path& test_folder) {
  const Archive archive = open_zip(zip, ZIP_RDONLY, "reading");
  std::vector<std::string> problems;
  auto files = read_all(archive.get(), problems);
  for (int n = 1; n <= kSequences; ++n) {
    const std::string name = sequence_name(n);
    try {
      check_sequence(name, given_of(test_folder, name), files, problems);
    } catch (const Error& error) {
      problems.push_back(error.what());
    }
  }
  for (const auto& [name, content] : files) {
    problems.push_back(name + ": it does not belong to a submission");
  }
  return problems;
}

}  // namespace comba::tracking
