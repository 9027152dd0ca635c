#include "classify/config.h"

#include "datasets/transform.h"
#include "vision/base/config_reader.h"
#include "vision/base/error.h"
#include "vision/base/files.h"

#include <string>

namespace comba::classify {
namespace fs = std::filesystem;
namespace {

constexpr double kMany = 1e12;

void declare_data(ConfigTable& table, RunConfig& config) {
  DataOptions& data = config.data;
  table.add("data.train", &data.train,
            "training images: a pack, a folder, tar archives, or \"synthetic\" (no files)");
  table.add("data.train_split", &data.train_split,
            "which split of data.train, if it holds several");
  table.add("data.eval", &data.eval, "held-out images; empty: the same place as data.train");
  table.add("data.eval_split", &data.eval_split, "which split of data.eval, if it holds several");
  table.add(
      "data.repeats", &data.repeats,
      "repeated augmentation: so many views of an image follow each other in training, and an "
      "epoch, as long as ever, has fewer images",
      {1, 1000});
  table.add("data.threads", &data.threads, "loader threads; 0: one per core", {0, 1024});
  table.add_choice(
      "data.on_bad", &data.on_bad, {"fail", "skip", "grey"},
      "an image that cannot be read stops the run, is replaced by the next, or is grey");
  table.add("data.max_bad", &data.max_bad, "stop after so many bad images", {0, kMany});
  table.add("data.nvjpeg_share", &data.nvjpeg_share,
            "share of the training images whose JPEGs the GPU decodes, always the same ones; on "
            "CUDA, with "
            "data.train_crop = random_resized",
            {0, 1});
  table.add("data.mean", &data.mean, "mean of the pixels scaled to 0..1, one per channel", {0, 1});
  table.add("data.std", &data.std, "their standard deviation, one per channel", {1e-6, 1e3});
  table.add("data.synthetic_size", &data.synthetic_size, "images per epoch of synthetic data",
            {1, kMany});
  table.add("data.synthetic_fixed_batch", &data.synthetic_fixed_batch,
            "train on one synthetic batch over and over (speed measurements, overfitting tests)");
}

void declare_mixing(ConfigTable& table, MixOptions& mix) {
  table.add("data.mixup", &mix.mixup, "a of Beta(a, a) of mixup in training; 0: none", {0, 100});
  table.add("data.cutmix", &mix.cutmix, "a of Beta(a, a) of CutMix in training; 0: none", {0, 100});
  table.add("data.mix_probability", &mix.probability, "that mixup or CutMix is done", {0, 1});
  table.add("data.cutmix_share", &mix.cutmix_share, "of CutMix where both are on", {0, 1});
  table.add_choice("data.mix_mode", &mix.mode, {"batch", "image"},
                   "one draw for a batch or for every image");
  table.add("data.mix_off_epoch", &mix.off_epoch,
            "from this epoch on, counted from 0, nothing is mixed; 0: always", {0, kMany});
}

// The image geometry has one owner, the model; the data keys follow it unless they are given.
void settle_geometry(const ConfigTable& table, RunConfig& config) {
  const auto follow = [&](const char* key, const char* owner, int64_t& value, int64_t wanted) {
    if (table.given(key) && value != wanted) {
      throw UsageError(
          fmt::format("configuration: {} = {} contradicts {} = {}; remove {} (it follows {})", key,
                      value, owner, wanted, key, owner));
    }
    value = wanted;
  };
  follow("data.image_size", "model.image_size", config.transform.image_size,
         config.model.image_size);
  follow("data.channels", "model.in_channels", config.transform.channels, config.model.in_channels);
}

void check_channels(const RunConfig& config) {
  const auto channels = static_cast<size_t>(config.model.in_channels);
  const auto check = [&](const char* key, const std::vector<double>& values) {
    if (values.size() != channels) {
      throw UsageError(
          fmt::format("configuration: {} has {} values, but model.in_channels = {}; "
                      "give one value per channel",
                      key, values.size(), channels));
    }
  };
  check("data.mean", config.data.mean);
  check("data.std", config.data.std);
}

void check_loss(const RunConfig& config) {
  if (config.loss == "bce" && config.label_smoothing > 0) {
    throw UsageError(fmt::format(
        "configuration: train.loss = \"bce\" takes every target above 0 for 1, but "
        "train.label_smoothing = {} puts all of them above 0; expected train.label_smoothing = 0",
        config.label_smoothing));
  }
}

std::string resolve_images(const std::string& path, const fs::path& folder) {
  return path.empty() || path == "synthetic" ? path : resolve_path(path, folder);
}

}  // namespace

void declare(ConfigTable& table, RunConfig& config) {
  table.add_choice("task", &config.task, {"classify"}, "what is trained");
  table.add("seed", &config.seed, "of initialisation, sample order, augmentation and drop path",
            {0, 9007199254740992.0});
  vision::declare(table, config.model);
  table.add("model.classes", &config.classes,
            "outputs of the head; 0: as many as the data has classes", {0, 1e7});
  table.add("model.init", &config.init,
            "a run or weights file to begin with (.safetensors, .pth; timm's names too); empty: "
            "random");
  declare_data(table, config);
  datasets::declare(table, config.transform);
  datasets::declare(table, config.erase);
  declare_mixing(table, config.mix);
  vision::declare(table, config.train);
  table.add_choice("train.loss", &config.loss, {"ce", "bce"},
                   "ce: cross entropy over the classes; bce: binary cross entropy of each class, "
                   "with target 1 for all classes that are in a mixed image (DeiT III)");
  table.add("train.layer_decay", &config.layer_decay,
            "a layer's learning rate as a share of that of the layer above it; 1: the same for all",
            {0.01, 1});
  table.add("train.label_smoothing", &config.label_smoothing,
            "share of the target spread evenly over all classes", {0, 0.999});
  declare(table, config.distill);
}

std::string read_run_config_text(std::string_view text, const std::string& origin,
                                 const fs::path& folder,
                                 const std::vector<std::string>& assignments, RunConfig& config) {
  const ConfigTable table = read_keys(text, origin, assignments, config);
  settle_geometry(table, config);
  vision::validate(config.model);
  check_channels(config);
  // Refuses what it cannot do before data is opened.
  static_cast<void>(datasets::TrainingTransform(config.transform));
  check_loss(config);
  config.data.train = resolve_images(config.data.train, folder);
  config.data.eval = resolve_images(config.data.eval, folder);
  for (std::string* path : {&config.init, &config.distill.teacher, &config.distill.config}) {
    *path = path->empty() ? *path : resolve_path(*path, folder);
  }
  return table.dump();
}

std::string read_run_config(const fs::path& path, const std::vector<std::string>& assignments,
                            RunConfig& config) {
  return read_run_config_text(read_config_file(path), path.string(),
                              fs::absolute(path).parent_path(), assignments, config);
}

std::string dump(const RunConfig& config) { return dump_keys(config); }

}  // namespace comba::classify
