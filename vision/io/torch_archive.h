// What torch.save writes: a zip archive of a pickle (vision/io/pickle.h) and the bytes of its storages. Nothing in it is executed.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include <ATen/core/Tensor.h>

namespace comba::vision {

// Whether the file at `path` begins as such an archive, or as one of torch.save before version 1.6, does.
bool is_torch_file(const std::filesystem::path& path);

// The weights in it: those under the first of these keys that there is, or else the whole file.
//   state_dict_ema, model_ema (averaged), state_dict, model (as trained)
// `weights`: "raw" or "ema" leave the keys of the other kind out, "auto" takes them in this order.
// Tensors are on the CPU; they may share memory and be strided, but none has more elements than its storage. Only the storages of
// these weights are read. Throws Error naming path, key and what was wrong; never reads outside of the file, never allocates
// more than a multiple of its size.
std::map<std::string, at::Tensor> load_torch_archive(const std::filesystem::path& path,
                                                     const std::string& weights);

}  // namespace comba::vision
