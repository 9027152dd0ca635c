#include "tracking/config.h"

#include "vision/base/config_reader.h"
#include "vision/base/error.h"
#include "vision/base/files.h"

namespace comba::tracking {
namespace fs = std::filesystem;
namespace {

constexpr double kMany = 1e12;

void declare_data(ConfigTable& table, TrackDataOptions& data) {
  table.add(
      "data.train", &data.train,
      "training videos: got10k:DIR, lasot:DIR, trackingnet:DIR, coco:DIR, video:DIR or pack:FILE, "
      "\"#FILE\" behind it for some of the sequences");
  table.add("data.eval", &data.eval, "held-out videos, likewise");
  table.add("data.ratios", &data.ratios, "how often each of data.train is drawn; empty: all alike",
            {0, kMany});
  table.add("data.samples", &data.samples, "pairs of an epoch", {1, kMany});
  table.add("data.eval_samples", &data.eval_samples, "pairs of an evaluation", {1, kMany});
  table.add("data.skip_known_bad", &data.skip_known_bad,
            "leave out the sequences of GOT-10k whose labels are known to be wrong");
  table.add("data.threads", &data.threads, "loader threads; 0: one per core", {0, 1024});
  table.add_choice("data.on_bad", &data.on_bad, {"fail", "skip"},
                   "an image that cannot be read stops the run, or another sample takes its place");
  table.add("data.max_bad", &data.max_bad, "stop after so many bad images", {0, kMany});
  declare(table, data.crops);
  table.add("data.mean", &data.mean, "mean of the pixels scaled to 0..1, one per channel", {0, 1});
  table.add("data.std", &data.std, "their standard deviation, one per channel", {1e-6, 1e3});
}

void check(TrackConfig& config) {
  vision::validate(config.network.backbone);
  TrackDataOptions& data = config.data;
  if (data.ratios.empty()) {
    data.ratios.assign(data.train.size(), 1.0);
  }
  if (config.network.backbone.in_channels != 3 || data.mean.size() != 3 || data.std.size() != 3) {
    throw UsageError(
        fmt::format("configuration: tracking takes colour images; expected model.in_channels = 3 "
                    "and 3 values of data.mean and data.std, got {}, {} and {}",
                    config.network.backbone.in_channels, data.mean.size(), data.std.size()));
  }
  if (data.ratios.size() != data.train.size()) {
    throw UsageError(fmt::format(
        "configuration: data.ratios: expected one for each of the {} data.train, got {}",
        data.train.size(), data.ratios.size()));
  }
  data.crops.template_size = config.network.template_size;
  data.crops.search_size = config.network.backbone.image_size;
}

// "kind:DIR#FILE" with both paths resolved.
std::string resolve_set(const std::string& text, const fs::path& folder) {
  const size_t colon = text.find(':'), hash = text.rfind('#');
  if (colon == std::string::npos) {
    return text;  // opening it says what is wrong
  }
  const std::string place =
      text.substr(colon + 1, hash == std::string::npos ? hash : hash - colon - 1);
  std::string resolved = text.substr(0, colon + 1) + resolve_path(place, folder);
  if (hash != std::string::npos) {
    resolved += '#';
    resolved += resolve_path(text.substr(hash + 1), folder);
  }
  return resolved;
}

}  // namespace

void declare(ConfigTable& table, TrackConfig& config) {
  table.add_choice("task", &config.task, {"track"}, "what is trained");
  table.add("seed", &config.seed, "of initialisation, samples, augmentation and drop path",
            {0, 9007199254740992.0});
  vision::declare(table, config.network.backbone);
  table.add("model.template_size", &config.network.template_size,
            "side of the template image in pixels; model.image_size is the search image's",
            {1, 4096});
  table.add("model.templates", &config.network.templates, "images of the target", {1, 2});
  table.add("model.head_width", &config.network.head_width, "channels of the head's first layer",
            {8, 4096});
  table.add(
      "model.asymmetric", &config.network.asymmetric,
      "the templates' tokens never read the search image's, so that they are computed once for a "
      "video");
  table.add(
      "model.init", &config.init,
      "a run or weights file (.safetensors, .pth; timm's names too) whose backbone to begin with; "
      "empty: random");
  declare_data(table, config.data);
  vision::declare(table, config.train);
  table.add("train.backbone_lr", &config.backbone_lr,
            "the backbone's learning rate as a share of train.lr", {0, 10});
  table.add("train.focal_weight", &config.loss.focal, "of the loss of the centre map", {0, 1e3});
  table.add("train.giou_weight", &config.loss.giou, "of the loss 1 - GIoU", {0, 1e3});
  table.add("train.l1_weight", &config.loss.l1, "of the box coordinates' L1 loss", {0, 1e3});
}

std::string read_track_config_text(std::string_view text, const std::string& origin,
                                   const fs::path& folder,
                                   const std::vector<std::string>& assignments,
                                   TrackConfig& config) {
  const ConfigTable table = read_keys(text, origin, assignments, config);
  check(config);
  for (std::vector<std::string>* sets : {&config.data.train, &config.data.eval}) {
    for (std::string& set : *sets) {
      set = resolve_set(set, folder);
    }
  }
  if (!config.init.empty()) {
    config.init = resolve_path(config.init, folder);
  }
  return table.dump();
}

std::string read_track_config(const fs::path& path, const std::vector<std::string>& assignments,
                              TrackConfig& config) {
  return read_track_config_text(read_config_file(path), path.string(),
                                fs::absolute(path).parent_path(), assignments, config);
}

std::string dump(const TrackConfig& config) { return dump_keys(config); }

}  // namespace comba::tracking
