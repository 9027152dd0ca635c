#include "vision/engine/checkpoint.h"

#include "vision/base/error.h"
#include "vision/base/files.h"
#include "vision/base/log.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <vector>

#include <nlohmann/json.hpp>

namespace comba::vision {
namespace fs = std::filesystem;
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kStateFile = "state.json";

uint32_t checksum(std::string_view text) {
  return crc32c({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

Json describe_file(const fs::path& path) {
  const MappedFile file(path);
  return {{"bytes", file.bytes().size()}, {"crc32c", crc32c(file.bytes())}};
}

Json to_json(const CheckpointState& state) {
  return {{"format", kCheckpointVersion},
          {"step", state.step},
          {"epoch", state.epoch},
          {"epoch_step", state.epoch_step},
          {"epoch_closed", state.epoch_closed},
          {"ema_updates", state.ema_updates},
          {"epoch_loss_sum", state.epoch_loss_sum},
          {"epoch_loss_steps", state.epoch_loss_steps},
          {"best_metric", state.best_metric},
          {"best_epoch", state.best_epoch},
          {"best_weights", state.best_weights},
          {"data_fingerprint", state.data_fingerprint},
          {"config_hash", state.config_hash}};
}

CheckpointState from_json(const Json& json) {
  CheckpointState state;
  json.at("step").get_to(state.step);
  json.at("epoch").get_to(state.epoch);
  json.at("epoch_step").get_to(state.epoch_step);
  json.at("epoch_closed").get_to(state.epoch_closed);
  json.at("ema_updates").get_to(state.ema_updates);
  json.at("epoch_loss_sum").get_to(state.epoch_loss_sum);
  state.epoch_loss_steps = json.value("epoch_loss_steps", state.epoch_step);  // older files: all
  json.at("best_metric").get_to(state.best_metric);
  json.at("best_epoch").get_to(state.best_epoch);
  json.at("best_weights").get_to(state.best_weights);
  json.at("data_fingerprint").get_to(state.data_fingerprint);
  json.at("config_hash").get_to(state.config_hash);
  return state;
}

// The parsed state.json, its own checksum verified and removed.
Json read_state(const fs::path& folder) {
  const fs::path path = folder / kStateFile;
  const std::string text = read_file(path);
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  COMBA_CHECK(json.is_object() && json.contains("crc32c") && json["crc32c"].is_number_unsigned() &&
                  json.contains("files") && json["files"].is_object() && json.contains("format") &&
                  json["format"].is_number_integer(),
              "checkpoint {}: {} is damaged (not the JSON that was written)", folder.string(),
              kStateFile);
  const auto version = json["format"].get<int64_t>();
  COMBA_CHECK(
      version == kCheckpointVersion,
      "checkpoint {}: format version {}, this program reads version {}; use the program that "
      "wrote it",
      folder.string(), version, kCheckpointVersion);
  const auto expected = json["crc32c"].get<uint32_t>();
  json.erase("crc32c");
  const uint32_t found = checksum(json.dump());
  COMBA_CHECK(found == expected, "checkpoint {}: {} is damaged (crc32c {:08x}, expected {:08x})",
              folder.string(), kStateFile, found, expected);
  return json;
}

void verify_file(const fs::path& folder, const std::string& name, const Json& expected) {
  const fs::path path = folder / name;
  std::error_code missing;
  COMBA_CHECK(fs::is_regular_file(path, missing), "checkpoint {}: {} is missing", folder.string(),
              name);
  const MappedFile file(path);
  const auto bytes = expected.at("bytes").get<uint64_t>();
  COMBA_CHECK(file.bytes().size() == bytes,
              "checkpoint {}: {} has {} bytes, expected {} (truncated?)", folder.string(), name,
              file.bytes().size(), bytes);
  const auto crc = expected.at("crc32c").get<uint32_t>();
  const uint32_t found = crc32c(file.bytes());
  COMBA_CHECK(found == crc, "checkpoint {}: {} is damaged (crc32c {:08x}, expected {:08x})",
              folder.string(), name, found, crc);
}

// N of "step-N", or -1.
int64_t step_of(const fs::path& folder) {
  constexpr std::string_view kPrefix = "step-";
  const std::string name = folder.filename().string();
  if (!name.starts_with(kPrefix)) {
    return -1;
  }
  int64_t step = -1;
  const char* end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data() + kPrefix.size(), end, step);
  return error == std::errc() && rest == end ? step : -1;
}

bool is_checkpoint_name(const fs::path& folder) {
  const std::string name = folder.filename().string();
  // ".old" is where AtomicFolder puts a predecessor for the moment of its replacement.
  return name == "last" || name == "last.old" || name == "best" || name == "best.old" ||
         step_of(folder) >= 0;
}

struct Candidate {
  fs::path path;
  int64_t step;
};

// Newest first. A folder whose state.json cannot be read is ordered by its name, so that the warning about
// it comes before an older one is taken.
std::vector<Candidate> candidates(const fs::path& folder) {
  std::vector<Candidate> found;
  std::error_code absent;
  for (const auto& entry : fs::directory_iterator(folder, absent)) {
    if (!entry.is_directory() || !is_checkpoint_name(entry.path())) {
      continue;
    }
    int64_t step = step_of(entry.path());
    if (step < 0) {
      try {
        step = read_state(entry.path()).at("step").get<int64_t>();
      } catch (const std::exception&) {
        step = std::numeric_limits<int64_t>::max();
      }
    }
    found.push_back({entry.path(), step});
  }
  std::sort(found.begin(), found.end(), [](const Candidate& a, const Candidate& b) {
    return a.step != b.step ? a.step > b.step : a.path.filename() > b.path.filename();
  });
  return found;
}

}  // namespace

std::string to_text(const CheckpointState& state) { return to_json(state).dump(); }

CheckpointState state_of(const std::string& text) { return from_json(Json::parse(text)); }

NamedTensors weights_of(const torch::nn::Module& model) {
  NamedTensors tensors;
  for (const auto& item : model.named_parameters()) {
    tensors.emplace_back(item.key(), item.value().detach());
  }
  for (const auto& item : model.named_buffers()) {
    tensors.emplace_back(item.key(), item.value().detach());
  }
  return tensors;
}

void save_checkpoint(const fs::path& path, const Checkpoint& checkpoint) {
  AtomicFolder folder(path);
  Json json = to_json(checkpoint.state);
  Json& files = json["files"];
  const auto add_tensors = [&](const char* name, const NamedTensors& tensors) {
    save_safetensors(folder.path() / name, tensors, checkpoint.metadata);
    files[name] = describe_file(folder.path() / name);
  };
  add_tensors("model.safetensors", checkpoint.model);
  if (!checkpoint.ema.empty()) {
    add_tensors("ema.safetensors", checkpoint.ema);
  }
  add_tensors("optimizer.safetensors", checkpoint.optimizer);
  write_file_atomic(folder.path() / "config.toml", checkpoint.config);
  files["config.toml"] = describe_file(folder.path() / "config.toml");
  json["crc32c"] = checksum(json.dump());
  write_file_atomic(folder.path() / kStateFile, json.dump(2) + "\n");
  folder.commit();
}

CheckpointState verify_checkpoint(const fs::path& path) {
  const Json json = read_state(path);
  try {
    for (const auto& [name, expected] : json.at("files").items()) {
      verify_file(path, name, expected);
    }
    return from_json(json);
  } catch (const nlohmann::json::exception& error) {
    throw Error(fmt::format("checkpoint {}: {} lacks a field or has one of a wrong type ({})",
                            path.string(), kStateFile, error.what()));
  }
}

LoadedCheckpoint load_checkpoint(const fs::path& path) {
  LoadedCheckpoint loaded;
  loaded.path = path;
  loaded.state = verify_checkpoint(path);
  loaded.model = load_safetensors(path / "model.safetensors").tensors;
  if (fs::exists(path / "ema.safetensors")) {
    loaded.ema = load_safetensors(path / "ema.safetensors").tensors;
  }
  loaded.optimizer = load_safetensors(path / "optimizer.safetensors").tensors;
  loaded.config = read_file(path / "config.toml");
  return loaded;
}

std::optional<LoadedCheckpoint> load_newest_checkpoint(const fs::path& folder) {
  const std::vector<Candidate> found = candidates(folder);
  for (const Candidate& candidate : found) {
    try {
      return load_checkpoint(candidate.path);
    } catch (const Error& error) {
      log::warning("{}; it is not used, trying an older one", error.what());
    }
  }
  COMBA_CHECK(found.empty(),
              "resuming from {}: none of the {} checkpoints is valid (see the warnings)",
              folder.string(), found.size());
  return std::nullopt;
}

void link_checkpoint(const fs::path& source, const fs::path& destination) {
  AtomicFolder folder(destination);
  for (const auto& entry : fs::directory_iterator(source)) {
    const fs::path target = folder.path() / entry.path().filename();
    std::error_code no_links;
    fs::create_hard_link(entry.path(), target, no_links);
    if (no_links) {
      std::error_code failed;
      fs::copy_file(entry.path(), target, failed);
      COMBA_CHECK(!failed, "copying checkpoint {} to {}: {}", source.string(), destination.string(),
                  failed.message());
    }
  }
  folder.commit();
}

void prune_checkpoints(const fs::path& folder, int64_t keep) {
  std::vector<Candidate> steps = candidates(folder);
  std::erase_if(steps, [](const Candidate& candidate) { return step_of(candidate.path) < 0; });
  for (size_t i = static_cast<size_t>(std::max<int64_t>(keep, 0)); i < steps.size(); ++i) {
    std::error_code failed;
    fs::remove_all(steps[i].path, failed);
    if (failed) {
      log::warning("removing the old checkpoint {}: {}", steps[i].path.string(), failed.message());
    }
  }
}

}  // namespace comba::vision
