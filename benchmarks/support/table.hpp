// SPDX-License-Identifier: BSL-1.0
#pragma once

// Tables for people, and for a README; and a line that says how far the work is.

#include <cstddef>
#include <string>
#include <vector>

namespace strata::bench {

class table {
  public:
    enum class style { text, markdown };

    /// The first column is text, the others are numbers.
    explicit table(std::vector<std::string> header) : header_{std::move(header)} {}

    void row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
    /// Parts what follows from what was before, if anything was.
    void rule() {
        if (!rows_.empty())
            rows_.emplace_back();
    }
    /// Writes to stdout.
    void print(style as) const;

  private:
    std::vector<std::string> header_;
    std::vector<std::vector<std::string>> rows_; // an empty one is a rule
};

/// Returns: "12.3"; "-" for NaN.
[[nodiscard]] std::string number(double value, int decimals);
/// Returns: "1.07x"; "-" for NaN.
[[nodiscard]] std::string ratio(double value);
/// Returns: "12.3 MiB", "456 KiB".
[[nodiscard]] std::string mebibytes(double bytes);

/// A line on stderr that is overwritten: "[ 12/180] dot: jemalloc". On a terminal alone; elsewhere
/// one line for every change of topic.
class progress {
  public:
    explicit progress(std::size_t steps);
    progress(progress const&) = delete;
    progress& operator=(progress const&) = delete;
    ~progress();
    void step(std::string const& topic, std::string const& what);
    /// Says that this step came to nothing; the reason stands before it.
    void failed(std::string const& topic, std::string const& what);

  private:
    std::size_t steps_;
    std::size_t done_ = 0;
    bool terminal_;
    std::string topic_;
};

} // namespace strata::bench
