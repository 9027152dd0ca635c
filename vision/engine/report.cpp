#include "vision/engine/report.h"

#include "vision/base/files.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include <fmt/format.h>

namespace comba::vision {
namespace {

constexpr double kWidth = 560, kHeight = 300, kLeft = 64, kRight = 16, kTop = 34,
                 kBottom = 44;  // px
constexpr const char* kColours[] = {"#2f7ed8", "#e4572e", "#3aa655", "#8a63d2",
                                    "#c9971c", "#17a2a2", "#b0527a"};

constexpr const char* kStyle = R"(
:root{color-scheme:light dark;--ink:#1d2430;--soft:#667085;--line:#d9dee7;--paper:#ffffff;--page:#f5f6f8;--accent:#2f7ed8;--bad:#d64545}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#9aa4b5;--line:#343b48;--paper:#1b202a;--page:#12151c;--accent:#5ea3f0;--bad:#f07171}}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1220px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:26px;margin:0 0 18px}h2{font-size:17px;margin:0 0 12px}
section{background:var(--paper);border:1px solid var(--line);border-radius:10px;padding:18px 20px;margin:0 0 18px;overflow-x:auto}
svg{max-width:100%;height:auto;margin:4px 8px 4px 0}svg text{fill:var(--ink);font:12px system-ui,sans-serif}
svg .soft{fill:var(--soft)}svg .title{font-size:14px;font-weight:600}svg .grid{stroke:var(--line)}
table{border-collapse:collapse}td,th{padding:4px 18px 4px 0;text-align:left;border-bottom:1px solid var(--line)}td+td{font-variant-numeric:tabular-nums}
.grid-images{display:flex;flex-wrap:wrap;gap:10px}figure{margin:0;width:104px}figure img{width:100%;border-radius:6px;image-rendering:pixelated;border:2px solid transparent;box-sizing:border-box}
figure.bad img{border-color:var(--bad)}figcaption{font-size:12px;color:var(--soft);overflow-wrap:anywhere}
pre{margin:0;font:12.5px/1.5 ui-monospace,Menlo,Consolas,monospace}
)";

// 1, 2 or 5 times a power of ten, so that about `count` steps cover the range.
double nice_step(double range, int count) {
  const double raw = range / count, power = std::pow(10.0, std::floor(std::log10(raw)));
  const double lead = raw / power;
  return (lead < 1.5 ? 1 : lead < 3.5 ? 2 : lead < 7.5 ? 5 : 10) * power;
}

// An axis from data to pixels, with its ticks.
struct Axis {
  double low = 0, high = 1, from = 0, to = 1;  // data range, pixel range
  double base = 0;                             // of its logarithms; 0: linear

  double scaled(double value) const { return base > 0 ? std::log(value) / std::log(base) : value; }
  double place(double value) const {
    const double at = scaled(value);
    return from + (at - low) / (high - low) * (to - from);
  }
  void include(double value) {
    low = std::min(low, scaled(value));
    high = std::max(high, scaled(value));
  }
  std::vector<std::pair<double, std::string>> ticks() const {
    std::vector<std::pair<double, std::string>> out;
    const double step =
        base > 0 ? std::max(1.0, nice_step(high - low, 5)) : nice_step(high - low, 5);
    const auto first = static_cast<int64_t>(std::ceil(low / step - 1e-9)),
               last = static_cast<int64_t>(std::floor(high / step + 1e-6));
    for (int64_t i = first; i <= last; ++i) {
      const double at = static_cast<double>(i) * step;
      const double value = base > 0 ? std::pow(base, at) : at;
      out.emplace_back(value, fmt::format("{:.6g}", value));
    }
    return out;
  }
};

bool usable(double x, double y, const PlotOptions& options) {
  return std::isfinite(x) && std::isfinite(y) && (!options.log_x || x > 0) &&
         (!options.log_y || y > 0);
}

std::pair<Axis, Axis> axes_of(const PlotOptions& options, const std::vector<Series>& series) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  Axis x{kInfinity, -kInfinity, kLeft, kWidth - kRight, options.log_x ? 2.0 : 0.0};
  Axis y{kInfinity, -kInfinity, kHeight - kBottom, kTop, options.log_y ? 10.0 : 0.0};
  for (const Series& s : series) {
    for (size_t i = 0; i < std::min(s.xs.size(), s.ys.size()); ++i) {
      if (usable(s.xs[i], s.ys[i], options)) {
        x.include(s.xs[i]);
        y.include(s.ys[i]);
      }
    }
  }
  for (Axis* axis : {&x, &y}) {
    if (axis->low > axis->high) {
      axis->low = 0;
      axis->high = 1;
    }
    const double span = axis->high - axis->low;
    const double margin =
        span > 0 ? (axis == &y ? 0.05 * span : 0.0) : std::max(0.5, std::abs(axis->high) * 0.05);
    axis->low -= margin;
    axis->high += margin;
  }
  return {x, y};
}

std::string frame_svg(const PlotOptions& options, const Axis& x, const Axis& y) {
  std::string out;
  for (const auto& [value, label] : y.ticks()) {
    const double at = y.place(value);
    out += fmt::format(
        R"(<line class="grid" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/><text class="soft" x="{:.1f}" y="{:.1f}" text-anchor="end">{}</text>)",
        kLeft, kWidth - kRight, at, at, kLeft - 7, at + 4, label);
  }
  for (const auto& [value, label] : x.ticks()) {
    const double at = x.place(value);
    const double middle = std::min(at, kWidth - 2 - 3.5 * static_cast<double>(label.size()));
    out += fmt::format(
        R"(<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="{1:.1f}" y2="{2:.1f}"/><text class="soft" x="{3:.1f}" y="{4:.1f}" text-anchor="middle">{5}</text>)",
        at, kHeight - kBottom, kHeight - kBottom + 4, middle, kHeight - kBottom + 18, label);
  }
  out += fmt::format(R"(<text class="title" x="{}" y="18">{}</text>)", kLeft,
                     escape_html(options.title));
  out += fmt::format(R"(<text class="soft" x="{}" y="{}" text-anchor="middle">{}</text>)",
                     (kLeft + kWidth - kRight) / 2, kHeight - 8, escape_html(options.x_label));
  return out;
}

std::string series_svg(const Series& s, const char* colour, const Axis& x, const Axis& y,
                       const PlotOptions& options) {
  std::string points, dots;
  const size_t count = std::min(s.xs.size(), s.ys.size());
  for (size_t i = 0; i < count; ++i) {
    if (!usable(s.xs[i], s.ys[i], options)) {
      continue;
    }
    const double px = x.place(s.xs[i]), py = y.place(s.ys[i]);
    points += fmt::format("{:.1f},{:.1f} ", px, py);
    if (count <= 120) {
      dots += fmt::format(
          R"(<circle cx="{:.1f}" cy="{:.1f}" r="2.6" fill="{}"><title>{}: {:.6g} at {:.6g}</title></circle>)",
          px, py, colour, escape_html(s.name), s.ys[i], s.xs[i]);
    }
  }
  return fmt::format(
      R"(<polyline points="{}" fill="none" stroke="{}" stroke-width="1.8" stroke-linejoin="round"/>{})",
      points, colour, dots);
}

std::string base64(const std::string& bytes) {
  static constexpr char kLetters[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t word = 0;
    for (size_t j = 0; j < 3; ++j) {
      word = word << 8 | (i + j < bytes.size() ? static_cast<uint8_t>(bytes[i + j]) : 0u);
    }
    for (size_t j = 0; j < 4; ++j) {
      out += i + j <= bytes.size() ? kLetters[word >> (18 - 6 * j) & 63] : '=';
    }
  }
  return out;
}

std::string confusion_table(const std::vector<std::string>& classes,
                            const std::vector<int64_t>& counts) {
  std::vector<std::tuple<int64_t, size_t, size_t>> pairs;
  for (size_t i = 0; i < classes.size(); ++i) {
    for (size_t j = 0; j < classes.size(); ++j) {
      if (const int64_t count = counts.at(i * classes.size() + j); i != j && count > 0) {
        pairs.emplace_back(-count, i, j);
      }
    }
  }
  std::sort(pairs.begin(), pairs.end());
  pairs.resize(std::min<size_t>(pairs.size(), 20));
  std::string out = "<table><tr><th>label</th><th>taken for</th><th>times</th></tr>";
  for (const auto& [count, i, j] : pairs) {
    out += fmt::format("<tr><td>{}</td><td>{}</td><td>{}</td></tr>", escape_html(classes.at(i)),
                       escape_html(classes.at(j)), -count);
  }
  return out + "</table>";
}

constexpr double kCell = 38;  // px of the confusion matrix

std::string confusion_row_svg(const std::vector<std::string>& classes,
                              const std::vector<int64_t>& counts, size_t row, double left,
                              double top) {
  const size_t size = classes.size();
  int64_t total = 0;
  for (size_t j = 0; j < size; ++j) {
    total += counts.at(row * size + j);
  }
  std::string out;
  for (size_t j = 0; j < size; ++j) {
    const int64_t count = counts[row * size + j];
    const double share = total > 0 ? static_cast<double>(count) / static_cast<double>(total) : 0.0;
    const double opacity = count == 0 ? 0.0 : 0.12 + 0.88 * std::sqrt(share);
    const double x = left + kCell * static_cast<double>(j);
    out += fmt::format(
        R"(<rect x="{:.1f}" y="{:.1f}" width="{}" height="{}" rx="3" fill="{}" fill-opacity="{:.3f}" class="grid"><title>{} taken for {}: {} of {}</title></rect>)",
        x, top, kCell - 2, kCell - 2, row == j ? "var(--accent)" : "var(--bad)", opacity,
        escape_html(classes[row]), escape_html(classes[j]), count, total);
    if (count > 0) {
      out += fmt::format(
          R"(<text x="{:.1f}" y="{:.1f}" text-anchor="middle" pointer-events="none">{}</text>)",
          x + kCell / 2 - 1, top + kCell / 2 + 4, count);
    }
  }
  return out;
}

}  // namespace

std::string escape_html(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string line_plot_svg(const PlotOptions& options, const std::vector<Series>& series) {
  const auto [x, y] = axes_of(options, series);
  std::string out = fmt::format(
      R"(<svg viewBox="0 0 {0} {1}" width="{0}" height="{1}" role="img" aria-label="{2}">)", kWidth,
      kHeight, escape_html(options.title));
  out += frame_svg(options, x, y);
  // Names from the right; those for which there is no room beside the title go below it.
  double legend = kWidth - kRight, line = 18;
  double first = kLeft + 9.0 * static_cast<double>(options.title.size());
  for (size_t i = 0; i < series.size(); ++i) {
    const char* colour = kColours[i % std::size(kColours)];
    out += series_svg(series[i], colour, x, y, options);
    if (series.size() > 1) {
      const double width = 7.0 * static_cast<double>(series[i].name.size());
      if (legend - width < first) {
        legend = kWidth - kRight;
        line += 14;
        first = 0;
      }
      out += fmt::format(R"(<text x="{:.1f}" y="{}" text-anchor="end" style="fill:{}">{}</text>)",
                         legend, line, colour, escape_html(series[i].name));
      legend -= width + 16;
    }
  }
  return out + "</svg>";
}

std::string standalone_svg(const std::vector<std::string>& plots) {
  const double height = kHeight * static_cast<double>(plots.size());
  std::string out = fmt::format(
      R"(<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0} {1}" width="{0}" height="{1}">)"
      "<style>svg{{background:#fff}}text{{fill:#222;font:12px sans-serif}}.soft{{fill:#666}}"
      ".title{{font-size:14px;font-weight:600}}.grid{{stroke:#ddd}}</style>",
      kWidth, height);
  double top = 0;
  for (std::string plot : plots) {
    plot.insert(std::string("<svg").size(), fmt::format(R"( y="{}")", top));
    out += plot;
    top += kHeight;
  }
  return out + "</svg>\n";
}

std::string confusion_matrix_svg(const std::vector<std::string>& classes,
                                 const std::vector<int64_t>& counts) {
  if (classes.size() > 30) {
    return confusion_table(classes, counts);
  }
  size_t longest = 0;
  for (const std::string& name : classes) {
    longest = std::max(longest, name.size());
  }
  const double label = 16 + 7.0 * static_cast<double>(std::min<size_t>(longest, 24));
  const double side = kCell * static_cast<double>(classes.size());
  std::string out = fmt::format(
      R"(<svg viewBox="0 0 {0:.0f} {1:.0f}" width="{0:.0f}" height="{1:.0f}" role="img">)",
      label + side + 8, 30 + side + 8);
  for (size_t i = 0; i < classes.size(); ++i) {
    const double at = kCell * (static_cast<double>(i) + 0.5);
    const std::string name = escape_html(classes[i].substr(0, 24));
    out += fmt::format(R"(<text x="{:.1f}" y="{:.1f}" text-anchor="end">{}</text>)", label - 8,
                       30 + at + 4, name);
    out += fmt::format(R"(<text x="{:.1f}" y="20" text-anchor="middle">{}</text>)", label + at,
                       name.substr(0, 5));
  }
  for (size_t i = 0; i < classes.size(); ++i) {
    out += confusion_row_svg(classes, counts, i, label, 30 + kCell * static_cast<double>(i));
  }
  return out + "</svg>";
}

std::string image_grid_html(const std::vector<GridImage>& images) {
  std::string out = R"(<div class="grid-images">)";
  for (const GridImage& image : images) {
    const std::string caption = escape_html(image.caption);
    out += fmt::format(
        R"(<figure{}><img alt="{}" src="data:image/png;base64,{}"><figcaption>{}</figcaption></figure>)",
        image.good ? "" : R"( class="bad")", caption, base64(image.png_bytes), caption);
  }
  return out + "</div>";
}

std::string key_value_table_html(const std::vector<std::pair<std::string, std::string>>& rows) {
  std::string out = "<table>";
  for (const auto& [key, value] : rows) {
    out += fmt::format("<tr><td>{}</td><td>{}</td></tr>", escape_html(key), escape_html(value));
  }
  return out + "</table>";
}

void write_report(const std::filesystem::path& path, const std::string& title,
                  const std::vector<Section>& sections) {
  std::string out = fmt::format(
      "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width\"><title>{0}</title><style>{1}</style></"
      "head><body><main><h1>{0}</h1>\n",
      escape_html(title), kStyle);
  for (const Section& section : sections) {
    out +=
        fmt::format("<section><h2>{}</h2>{}</section>\n", escape_html(section.title), section.html);
  }
  write_file_atomic(path, out + "</main></body></html>\n");
}

}  // namespace comba::vision
