#include "datasets/pack_images.h"

#include "datasets/decode.h"
#include "datasets/entry_log.h"
#include "datasets/inspect.h"
#include "datasets/ordered_batches.h"
#include "datasets/shrink.h"
#include "vision/base/error.h"
#include "vision/base/stopwatch.h"

#include <algorithm>
#include <optional>

#include <nlohmann/json.hpp>
#include <opencv2/core/utility.hpp>

namespace comba::datasets {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;

constexpr int64_t kBlock = 64;       // images that are written together
constexpr int kLongestSide = 65500;  // px; libjpeg's limit, within the pack's

// An image as it goes into the pack, or why it does not.
struct Prepared {
  std::string bytes;
  int width = 0, height = 0;
  bool encoded = false;
  std::vector<std::string> peculiar;
  std::optional<RejectedImage> rejected;
};
using Block = std::vector<Prepared>;

Prepared convert(const EncodedSample& sample, const std::string& path, const PackOptions& options) {
  Prepared out;
  const ImageFacts facts = inspect_image(sample.bytes, sample.name);
  Image image = decode_image(sample.bytes, 3, sample.name);
  require_image(std::max(image.width, image.height) <= kLongestSide, ImageProblem::too_large,
                "packing {}: {} x {} pixels, expected sides of at most {}", sample.name,
                image.width, image.height, kLongestSide);
  const bool shrinks =
      options.short_side > 0 && std::min(image.width, image.height) > options.short_side;
  if (shrinks) {
    image = shrink_short_side(image, static_cast<int>(options.short_side));
  }
  out.encoded = shrinks || !(facts.plain_jpeg || options.as_is);
  out.bytes = out.encoded ? encode_jpeg(image, static_cast<int>(options.quality))
                          : std::string(sample.bytes.begin(), sample.bytes.end());
  out.width = image.width;
  out.height = image.height;
  out.peculiar = peculiarities(facts, path);
  return out;
}

Prepared prepare(const ImageSource& source, int64_t index, const PackOptions& options) {
  const std::string path = source.original(index);
  try {
    return convert(read_or_reject(source, index), path, options);
  } catch (const ImageError& error) {
    Prepared out;
    out.rejected = RejectedImage{error.problem(), path, error.what()};
    return out;
  }
}

// What must be the same for an interrupted pack to go on.
json key_of(const ImageSource& source, const PackOptions& o) {
  return {{"source", source.fingerprint()},
          {"short side", o.short_side},
          {"quality", o.quality},
          {"as is", o.as_is},
          {"shard bytes", o.shard_bytes}};
}

class Packing {
 public:
  Packing(const ImageSource& source, const fs::path& index, const PackOptions& options)
      : source_(source),
        index_(index),
        options_(options),
        journal_(index.string() + ".journal"),
        writer_(index, source.classes(), options.shard_bytes) {
    const json key = key_of(source, options);
    if (journal_.entries().empty()) {
      append(key);
    } else {
      go_on(key);
    }
  }

  int64_t next() const { return next_; }
  int64_t bad() const { return static_cast<int64_t>(report_.rejected.size()); }

  void add(const Block& block) {
    for (const Prepared& image : block) {
      if (image.rejected) {
        reject(*image.rejected);
      } else {
        add(image);
      }
      ++next_;
    }
    if (unsaved_ >= options_.save_bytes || since_save_.seconds() >= options_.save_seconds ||
        next_ == source_.size()) {
      save();
    }
  }

  PackReport finish() {
    if (report_.images == 0 && bad() > 0) {
      journal_.remove();
      throw Error(fmt::format("packing {}: none of {} images can be read; the first: {}",
                              index_.string(), bad(), report_.rejected.front().reason));
    }
    if (options_.skip_bad || bad() == 0) {
      writer_.finish();
      journal_.remove();
      report_.finished = true;
    }
    return std::move(report_);
  }

 private:
  // What cannot be read now may be readable later: by default it ends the run, and the next one tries again.
  void reject(const RejectedImage& image) {
    if (image.problem == ImageProblem::unreadable && !options_.skip_bad) {
      save();
      throw Error(image.reason + "; --on-bad skip leaves it out");
    }
    report_.rejected.push_back(image);
  }

  void add(const Prepared& image) {
    writer_.add(image.bytes, image.width, image.height, source_.label(next_),
                source_.original(next_));
    unsaved_ += image.bytes.size();
    ++report_.images;
    report_.encoded += image.encoded ? 1 : 0;
    for (const std::string& what : image.peculiar) {
      ++report_.peculiar[what];
    }
  }

  static json::binary_t binary(const std::string& bytes) {
    return json::binary_t(std::vector<uint8_t>(bytes.begin(), bytes.end()));
  }
  static std::string text(const json& binary) {
    const auto& bytes = binary.get_binary();
    return {bytes.begin(), bytes.end()};
  }

  void append(const json& entry) {
    const auto bytes = json::to_cbor(entry);
    journal_.append({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }

  void save() {
    const PackProgress progress = writer_.save();
    json rejected = json::array();
    for (size_t i = saved_rejected_; i < report_.rejected.size(); ++i) {
      const RejectedImage& image = report_.rejected[i];
      rejected.push_back(
          {static_cast<int>(image.problem), binary(image.path), binary(image.reason)});
    }
    append({{"next", next_},
            {"shards", progress.shards},
            {"records", binary(progress.records)},
            {"paths", binary(progress.paths)},
            {"rejected", rejected},
            {"images", report_.images},
            {"encoded", report_.encoded},
            {"peculiar", report_.peculiar}});
    saved_rejected_ = report_.rejected.size();
    unsaved_ = 0;
    since_save_.restart();
  }

  void go_on(const json& key) {
    try {
      const json begun = json::from_cbor(journal_.entries().front());
      for (const auto& [name, value] : key.items()) {
        COMBA_CHECK(begun.at(name) == value,
                    "packing {}: it was begun with {} = {}, this call has {}; give what it was "
                    "begun with, or delete {}.journal to begin anew",
                    index_.string(), name, begun.at(name).dump(), value.dump(), index_.string());
      }
      PackProgress done;
      for (size_t i = 1; i < journal_.entries().size(); ++i) {
        replay(json::from_cbor(journal_.entries()[i]), done);
      }
      saved_rejected_ = report_.rejected.size();
      writer_.go_on(std::move(done));
    } catch (const json::exception& error) {
      throw Error(
          fmt::format("packing {}: {}.journal is of another version of Comba ({}); delete "
                      "it to begin anew",
                      index_.string(), index_.string(), error.what()));
    }
  }

  void replay(const json& entry, PackProgress& done) {
    next_ = entry.at("next");
    done.shards = entry.at("shards").get<std::vector<uint64_t>>();
    done.records += text(entry.at("records"));
    done.paths += text(entry.at("paths"));
    for (const json& image : entry.at("rejected")) {
      report_.rejected.push_back({static_cast<ImageProblem>(image.at(0).get<int>()),
                                  text(image.at(1)), text(image.at(2))});
    }
    report_.images = entry.at("images");
    report_.encoded = entry.at("encoded");
    report_.peculiar = entry.at("peculiar").get<std::map<std::string, int64_t>>();
  }

  const ImageSource& source_;
  const fs::path index_;
  const PackOptions options_;
  EntryLog journal_;
  PackWriter writer_;
  PackReport report_;
  int64_t next_ = 0;  // image
  uint64_t unsaved_ = 0;
  Stopwatch since_save_;
  size_t saved_rejected_ = 0;
};

void pack_rest(const ImageSource& source, const PackOptions& options, Packing& packing,
               const std::function<void(int64_t, int64_t)>& done) {
  const int64_t first = packing.next(), rest = source.size() - first;
  const auto begin_of = [&](int64_t block) { return first + block * kBlock; };
  OrderedBatches<Block> blocks(
      {.open =
           [&](int64_t number, Block& block) {
             block.assign(std::min(kBlock, source.size() - begin_of(number)), {});
             return static_cast<int64_t>(block.size());
           },
       .fill =
           [&](int64_t number, int64_t place, Block& block) {
             block[place] = prepare(source, begin_of(number) + place, options);
           }},
      options.threads);
  blocks.start(0, (rest + kBlock - 1) / kBlock, [] {});
  Block block;
  while (blocks.next(block)) {
    packing.add(block);
    done(packing.next(), packing.bad());
  }
}

}  // namespace

PackReport pack_images(const ImageSource& source, const fs::path& index, const PackOptions& options,
                       const std::function<void(int64_t, int64_t)>& done) {
  make_place_for_pack(index);
  cv::setNumThreads(1);  // our threads are the parallelism
  Packing packing(source, index, options);
  done(packing.next(), packing.bad());
  try {
    pack_rest(source, options, packing, done);
  } catch (const Error& error) {
    throw Error(fmt::format("{} (the images before are kept; the same command goes on with them)",
                            error.what()));
  }
  return packing.finish();
}

}  // namespace comba::datasets
