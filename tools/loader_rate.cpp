#include "tools/loader_rate.h"

#include "vision/base/stopwatch.h"

#include <algorithm>

namespace comba::tools {

double loader_rate(const std::shared_ptr<const datasets::ImageSource>& source,
                   const datasets::TransformOptions& transform, int64_t batch_size, int64_t threads,
                   double seconds) {
  datasets::LoaderOptions options;
  options.transform = transform;
  options.batch_size = std::min(batch_size, source->size());
  options.training = true;
  options.threads = threads;
  options.on_bad = "grey";
  options.max_bad = source->size();
  datasets::Loader loader(source, options);
  datasets::Batch batch;
  int64_t epoch = 0, images = 0;
  loader.start(epoch);
  loader.next(batch);  // threads are running
  const Stopwatch watch;
  while (watch.seconds() < seconds) {
    if (!loader.next(batch)) {
      loader.start(++epoch);
      continue;
    }
    images += batch.size;
  }
  return static_cast<double>(images) / watch.seconds();
}

}  // namespace comba::tools
