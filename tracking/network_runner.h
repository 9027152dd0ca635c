// A tracker's network as it is used frame by frame: pixels in, boxes out. On CUDA upload, network and the answer's way back
// are captured in a graph, anew where the number of objects changes.
#pragma once

#include "tracking/bundle.h"
#include "tracking/prepared_network.h"

#include <memory>

namespace comba::tracking {

class NetworkRunner {
 public:
  NetworkRunner(const TrackerBundle& bundle, const c10::Device& device);
  ~NetworkRunner();
  NetworkRunner(const NetworkRunner&) = delete;
  NetworkRunner& operator=(const NetworkRunner&) = delete;

  // templates: [N, n, S_t, S_t, 3] uint8 on the CPU. Kept until the next call.
  void set_templates(const at::Tensor& templates);
  // [N, S, S, 3] uint8 on the CPU, to be filled with the search crops of as many objects as there are templates of.
  at::Tensor search_pixels();
  // Of what search_pixels() holds now.
  std::vector<Answer> run();

 private:
  struct Buffers;
  Buffers& buffers();
#ifdef COMBA_CUDA
  void capture(Buffers& buffers) const;
#endif

  PreparedNetwork network_;
  c10::Device device_;
  int64_t side_, cells_;
  at::Tensor window_;                 // [F, F] on the CPU
  std::unique_ptr<Buffers> buffers_;  // for as many objects as there are templates of
};

}  // namespace comba::tracking
