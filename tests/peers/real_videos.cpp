// Real videos with boxes drawn by hand (real_videos.txt), as sequences in GOT-10k's layout for comba eval, opencv_trackers and
// comba score. Frames without a box are marked as not visible, so that no measure counts them.
//   real_videos BOXES VIDEO_FOLDER OUT_FOLDER
#include "datasets/decode.h"
#include "datasets/video.h"
#include "tracking/box_file.h"
#include "vision/base/error.h"
#include "vision/base/files.h"

#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;
using comba::tracking::Box;

struct Sequence {
  std::string name, video;
  int first = 1, last = 1;
  std::map<int, Box> boxes;
};

std::vector<Sequence> read_sequences(const fs::path& path) {
  std::ifstream file(path);
  COMBA_CHECK(file.good(), "reading {}: no such file", path.string());
  std::vector<Sequence> sequences;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    int frame = 0;
    std::string box;
    if (line.empty() || line[0] == '#') {
      continue;
    }
    if (words >> frame >> box) {
      COMBA_CHECK(!sequences.empty(), "reading {}: \"{}\" belongs to no sequence", path.string(),
                  line);
      sequences.back().boxes[frame] = comba::tracking::parse_boxes(box, path.string()).at(0);
      continue;
    }
    words = std::istringstream(line);
    Sequence s;
    COMBA_CHECK(words >> s.name >> s.video >> s.first >> s.last,
                "reading {}: expected NAME VIDEO FIRST LAST, got \"{}\"", path.string(), line);
    sequences.push_back(s);
  }
  return sequences;
}

void write_sequence(const Sequence& s, const fs::path& videos, const fs::path& folder) {
  fs::create_directories(folder);
  const auto reader = comba::datasets::open_video((videos / s.video).string());
  comba::datasets::Image frame;
  std::string truth, cover, absence, cut;
  for (int n = 1; n <= s.last; ++n) {
    COMBA_CHECK(reader->read(frame), "reading {}: it ends before frame {}", s.video, n);
    if (n < s.first) {
      continue;
    }
    comba::write_file_atomic(folder / fmt::format("{:08}.jpg", n - s.first + 1),
                             comba::datasets::encode_jpeg(frame, 98));
    const auto box = s.boxes.find(n);
    const bool known = box != s.boxes.end();
    truth += known ? fmt::format("{},{},{},{}\n", box->second.x, box->second.y, box->second.w,
                                 box->second.h)
                   : "-1,-1,-1,-1\n";
    cover += known ? "8\n" : "0\n";
    absence += known ? "0\n" : "1\n";
    cut += "0\n";
  }
  comba::write_file_atomic(folder / "groundtruth.txt", truth);
  comba::write_file_atomic(folder / "cover.label", cover);
  comba::write_file_atomic(folder / "absence.label", absence);
  comba::write_file_atomic(folder / "cut_by_image.label", cut);
  comba::write_file_atomic(
      folder / "meta_info.ini",
      fmt::format(
          "[METAINFO]\nurl: {}\nbegin: 00:00:00\nend: 00:00:10\nanno_fps: 10Hz\nobject_class: "
          "{}\nmotion_class: any\nmajor_class: object\nroot_class: object\nmotion_adverb: "
          "freely\nresolution: ({}, {})\n",
          s.video, s.name, frame.width, frame.height));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: real_videos BOXES VIDEO_FOLDER OUT_FOLDER\n";
    return 2;
  }
  try {
    std::string list;
    for (const Sequence& s : read_sequences(argv[1])) {
      write_sequence(s, argv[2], fs::path(argv[3]) / s.name);
      list += s.name + "\n";
    }
    comba::write_file_atomic(fs::path(argv[3]) / "list.txt", list);
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return 1;
  }
}
