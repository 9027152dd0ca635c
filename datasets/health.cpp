#include "datasets/health.h"

#include "datasets/decode.h"
#include "datasets/inspect.h"
#include "datasets/sampler.h"
#include "vision/base/parallel.h"

#include <algorithm>
#include <mutex>
#include <numeric>

namespace comba::datasets {
namespace {

// In the order in which they lie on the disk.
std::vector<int64_t> choose(int64_t size, int64_t count) {
  std::vector<int64_t> indices(count > 0 ? std::min(count, size) : size);
  std::iota(indices.begin(), indices.end(), 0);
  if (static_cast<int64_t>(indices.size()) < size) {
    const Permutation order(size, 0, 0);
    std::transform(indices.begin(), indices.end(), indices.begin(),
                   [&](int64_t position) { return order[position]; });
    std::sort(indices.begin(), indices.end());
  }
  return indices;
}

}  // namespace

ImageHealth examine_images(const ImageSource& source, int64_t count, int threads,
                           const std::function<void(int64_t)>& done) {
  ImageHealth health;
  health.per_class.resize(source.classes().size());
  for (int64_t i = 0; i < source.size(); ++i) {
    ++health.per_class[source.label(i)];
  }
  const std::vector<int64_t> indices = choose(source.size(), count);
  std::map<int64_t, RejectedImage> bad;
  std::mutex mutex;
  parallel_for(indices.size(), threads, [&](size_t n) {
    try {
      const EncodedSample sample = read_or_reject(source, indices[n]);
      const ImageFacts facts = inspect_image(sample.bytes, sample.name);
      const Image image = decode_image(sample.bytes, 3, sample.name);
      const std::lock_guard lock(mutex);
      for (const std::string& what : peculiarities(facts, source.original(indices[n]))) {
        ++health.peculiar[what];
      }
      ++health.short_sides[std::min(image.height, image.width)];
      health.bytes += static_cast<int64_t>(sample.bytes.size());
    } catch (const ImageError& error) {
      const std::lock_guard lock(mutex);
      bad.emplace(indices[n],
                  RejectedImage{error.problem(), source.original(indices[n]), error.what()});
    }
    const std::lock_guard lock(mutex);
    done(++health.checked);
  });
  for (auto& [index, image] : bad) {
    health.bad.push_back(std::move(image));
  }
  return health;
}

}  // namespace comba::datasets
