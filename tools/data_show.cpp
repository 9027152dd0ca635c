// comba data show: images on one sheet, as they are stored or as training gets them.
#include "classify/training_batches.h"
#include "datasets/contact_sheet.h"
#include "datasets/decode.h"
#include "datasets/source.h"
#include "tools/data_verbs.h"
#include "vision/base/error.h"
#include "vision/base/files.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>

namespace comba::tools {
namespace {

struct Arguments {
  std::string source, split, out, config;
  int64_t threads = 0, count = 32, columns = 8, side = 96, channels = 3, epoch = 0, step = 0;
  bool train = false;
  std::vector<std::string> assignments;
};

void write_sheet(const Arguments& a, const std::vector<datasets::SheetTile>& tiles) {
  const datasets::Image sheet =
      datasets::contact_sheet(tiles, static_cast<int>(a.side), static_cast<int>(a.columns));
  write_file_atomic(a.out, datasets::encode_png(sheet));
}

void show_stored(const Arguments& a) {
  const auto source = datasets::open_images(a.source, a.split);
  std::vector<datasets::SheetTile> tiles;
  const int64_t count = std::min(a.count, source->size());
  for (int64_t i = 0; i < count; ++i) {
    const int64_t index = i * source->size() / count;  // spread over the classes
    const auto sample = source->read(index);
    tiles.push_back(
        {datasets::decode_image(sample.bytes, static_cast<int>(a.channels), sample.name),
         source->classes()[static_cast<size_t>(sample.label)]});
  }
  write_sheet(a, tiles);
  fmt::print("{}: {} of {} images\n", a.out, count, source->size());
}

// Without a config file: the data keys alone count, and a batch is what is shown.
classify::RunConfig bare_config(const Arguments& a) {
  classify::RunConfig config;
  config.data.train = a.source;
  config.data.train_split = a.split;
  config.train.batch_size = std::min(a.count, datasets::open_images(a.source, a.split)->size());
  config.transform.channels = a.channels;
  if (a.channels == 1) {
    config.data.mean = {0.5};
    config.data.std = {0.5};
  }
  ConfigTable table;
  classify::declare(table, config);
  for (const std::string& assignment : a.assignments) {
    table.set(assignment);
  }
  config.model.image_size = config.transform.image_size;
  config.model.in_channels = config.transform.channels;
  return config;
}

classify::RunConfig run_config(const Arguments& a) {
  classify::RunConfig config;
  classify::read_run_config(a.config, a.assignments, config);
  if (!a.source.empty()) {
    config.data.train = a.source;
    config.data.train_split = a.split;
  }
  return config;
}

void show_training(const Arguments& a) {
  classify::RunConfig config = a.config.empty() ? bare_config(a) : run_config(a);
  config.data.threads = a.threads > 0 ? a.threads : config.data.threads;
  classify::TrainingBatches batches(config, at::kCPU);
  const int64_t steps = batches.stream().batches_per_epoch();
  if (a.step >= steps) {
    throw UsageError(fmt::format("--step {}: an epoch has {} batches of {}; expected 0 to {}",
                                 a.step, steps, config.train.batch_size, steps - 1));
  }
  batches.start(a.epoch, a.step);
  const classify::TrainingBatch batch = batches.next();
  const auto tiles = classify::pictures_of(batch, batches.stream().classes(), config.data, a.count);
  write_sheet(a, tiles);
  fmt::print("{}: {} of the {} images of batch {} of epoch {}\n", a.out, tiles.size(),
             batch.images.size(0), a.step, a.epoch);
}

void run_show(const Arguments& a) {
  const bool training = a.train || !a.config.empty();
  if (a.source.empty() && a.config.empty()) {
    throw UsageError("comba data show: there is nothing to show; give SOURCE or --config FILE");
  }
  if (!training && !a.assignments.empty()) {
    throw UsageError("--set: stored images depend on no key; give --train or --config FILE too");
  }
  training ? show_training(a) : show_stored(a);
}

}  // namespace

void add_show_verb(CLI::App& data) {
  CLI::App* show = data.add_subcommand(
      "show", "Draws a contact sheet: images as they are stored, or a batch as training gets it");
  const auto a = std::make_shared<Arguments>();
  add_source(*show, a->source, a->split, a->threads);
  show->get_option("SOURCE")->required(false);
  show->add_option("--out", a->out, "PNG file to write")->required();
  show->add_option(
      "--config", a->config,
      "Shows a training batch of this configuration: cropped, augmented, erased and "
      "mixed, with the labels and their shares; SOURCE may stand in for its data.train");
  show->add_flag("--train", a->train, "The same without a configuration file, by --set alone");
  show->add_option("--set", a->assignments,
                   "With --config or --train: overrides a key, e.g. --set data.mixup=0.8")
      ->allow_extra_args(false);
  show->add_option("--epoch", a->epoch, "Of the training batch, counted from 0")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  show->add_option("--step", a->step, "Number of the batch in the epoch, counted from 0")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  show->add_option("--count", a->count, "Most images on the sheet")->check(CLI::Range(1, 100000));
  show->add_option("--columns", a->columns, "Images in a row")->check(CLI::Range(1, 1000));
  show->add_option("--side", a->side, "Side of a tile, px")->check(CLI::Range(16, 1024));
  show->add_option("--channels", a->channels, "3 colour, 1 grey; a configuration knows its own")
      ->check(CLI::IsMember({1, 3}));
  show->footer(
      "Examples:\n  comba data show datasets/samples/mnist5k --split train --out sheet.png --count "
      "64\n  comba data show imagenet/train --train --set data.augment=3a --out sheet.png\n"
      "  comba data show --config configs/imagenet/deit_t.toml --set train.batch_size=32 "
      "--out batch.png");
  show->callback([a] { run_show(*a); });
}

}  // namespace comba::tools
