// Files that cannot be used as images.
#pragma once

#include "vision/base/error.h"

#include <string>
#include <utility>

namespace comba::datasets {

enum class ImageProblem { unreadable, empty, unknown_format, too_large, damaged };

// For counting.
inline const char* describe(ImageProblem problem) {
  constexpr const char* kWords[] = {"cannot be read", "empty", "not an image", "too large",
                                    "damaged"};
  return kWords[static_cast<size_t>(problem)];
}

class ImageError : public Error {
 public:
  ImageError(ImageProblem problem, const std::string& message)
      : Error(message), problem_(problem) {}
  ImageProblem problem() const { return problem_; }

 private:
  ImageProblem problem_;
};

// An image that is not used, and why.
struct RejectedImage {
  ImageProblem problem;
  std::string path, reason;
};

template <typename... Args>
void require_image(bool holds, ImageProblem problem, fmt::format_string<Args...> format,
                   Args&&... args) {
  if (!holds) {
    throw ImageError(problem, fmt::format(format, std::forward<Args>(args)...));
  }
}

}  // namespace comba::datasets
