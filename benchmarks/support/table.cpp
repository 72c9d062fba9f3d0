// SPDX-License-Identifier: BSL-1.0
#include "table.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include <unistd.h>

namespace strata::bench {

namespace {

// Characters, not bytes: cells may hold UTF-8.
std::size_t width_of(std::string const& text) {
    return static_cast<std::size_t>(std::ranges::count_if(
        text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string padded(std::string const& text, std::size_t width, bool left) {
    std::size_t const used = width_of(text);
    std::string const space(width > used ? width - used : 0, ' ');
    return left ? text + space : space + text;
}

} // namespace

void table::print(style as) const {
    std::vector<std::size_t> widths;
    for (std::string const& cell : header_)
        widths.push_back(width_of(cell));
    for (auto const& cells : rows_)
        for (std::size_t i = 0; i < cells.size(); ++i)
            widths[i] = std::max(widths[i], width_of(cells[i]));

    bool const markdown = as == style::markdown;
    auto const line = [&](std::vector<std::string> const& cells) {
        std::string text = markdown ? "| " : "";
        for (std::size_t i = 0; i < widths.size(); ++i) {
            text += i == 0 ? "" : markdown ? " | " : "  ";
            text += padded(i < cells.size() ? cells[i] : "", widths[i], i == 0);
        }
        std::printf("%s%s\n", text.c_str(), markdown ? " |" : "");
    };
    auto const rule = [&] {
        std::string text = markdown ? "|" : "";
        for (std::size_t i = 0; i < widths.size(); ++i)
            text += markdown ? (i == 0 ? "---|" : "---:|")
                             : std::string(widths[i] + (i == 0 ? 0 : 2), '-');
        std::printf("%s\n", text.c_str());
    };
    line(header_);
    rule();
    for (auto const& cells : rows_) {
        if (!cells.empty())
            line(cells);
        else if (!markdown)
            rule();
    }
    std::fflush(stdout);
}

std::string number(double value, int decimals) {
    if (std::isnan(value))
        return "-";
    char text[64];
    std::snprintf(text, sizeof text, "%.*f", decimals, value);
    return text;
}

std::string ratio(double value) {
    return std::isnan(value) ? "-" : number(value, 2) + "x";
}

std::string mebibytes(double bytes) {
    return bytes < 1048576 ? number(bytes / 1024, 0) + " KiB" : number(bytes / 1048576, 1) + " MiB";
}

progress::progress(std::size_t steps) : steps_{steps}, terminal_{::isatty(STDERR_FILENO) == 1} {}

progress::~progress() {
    if (terminal_)
        std::fprintf(stderr, "\r\033[K");
}

void progress::step(std::string const& topic, std::string const& what) {
    ++done_;
    if (terminal_)
        std::fprintf(stderr, "\r\033[K[%3zu/%zu] %s: %s", done_, steps_, topic.c_str(),
                     what.c_str());
    else if (topic != topic_)
        std::fprintf(stderr, "[%3zu/%zu] %s\n", done_, steps_, topic.c_str());
    topic_ = topic;
}

void progress::failed(std::string const& topic, std::string const& what) {
    std::fprintf(stderr, " (%s: %s failed)\n", topic.c_str(), what.c_str());
}

} // namespace strata::bench
