// SPDX-License-Identifier: BSL-1.0
#include "trace.hpp"

#include <array>
#include <bit>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <istream>
#include <limits>
#include <optional>
#include <string_view>
#include <system_error>

#include <boost/iostreams/filter/lzma.hpp>
#include <boost/iostreams/filtering_stream.hpp>

namespace strata::trace {

namespace {

// No machine of today addresses more; below it, no sum of live bytes overflows.
constexpr std::uint64_t most_bytes = std::uint64_t{1} << 47;
constexpr std::size_t most_ids = std::numeric_limits<std::uint32_t>::max();
// Headers are not trusted with more memory than this before the ops themselves have been seen.
constexpr std::size_t most_reserved_ops = std::size_t{1} << 20;

// Live blocks by id, while a trace is read or measured.
struct extent {
    std::uint64_t bytes = 0; // 0: freed
    std::uint8_t alignment_log2 = 0;
};

class high_water_mark {
  public:
    void add(std::uint64_t bytes) {
        live_ += bytes;
        peak_ = std::max(peak_, live_);
    }
    void remove(std::uint64_t bytes) { live_ -= bytes; }
    [[nodiscard]] std::uint64_t live() const { return live_; }
    [[nodiscard]] std::uint64_t peak() const { return peak_; }

  private:
    std::uint64_t live_ = 0;
    std::uint64_t peak_ = 0;
};

std::uint8_t log2_of(std::uint64_t power_of_two) {
    return static_cast<std::uint8_t>(std::countr_zero(power_of_two));
}

class reader {
  public:
    reader(std::istream& text, std::string const& name) : text_{text} { result_.name = name; }

    trace run() {
        static_cast<void>(header("the peak of live bytes"));
        std::uint64_t const ids = header("the number of ids");
        std::uint64_t const ops = header("the number of ops");
        if (ids > most_ids || ids > ops)
            fail("more ids than ops, or than 32 bits can count", 2);
        if (header("the weight") != 1)
            fail("the weight is not 1");
        result_.ops.reserve(std::min<std::size_t>(ops, most_reserved_ops));
        while (next_line()) {
            if (result_.ops.size() == ops)
                fail("more ops than the header's " + std::to_string(ops));
            one_op(ids);
        }
        if (result_.ops.size() != ops)
            fail("the file ends after " + std::to_string(result_.ops.size()) + " of " +
                 std::to_string(ops) + " ops");
        if (blocks_.size() != ids)
            fail(std::to_string(blocks_.size()) + " ids of the header's " + std::to_string(ids) +
                 " are allocated");
        result_.ids = blocks_.size();
        result_.peak_live_bytes = live_bytes_.peak();
        result_.peak_live_blocks = live_blocks_.peak();
        return std::move(result_);
    }

  private:
    // An op and its fields, as text: "a", "12", "640"; missing ones are empty.
    using fields = std::array<std::string_view, 5>;

    void one_op(std::uint64_t ids) {
        fields const words = split();
        if (words[0].size() != 1)
            fail("an op is one of a, r, f");
        switch (words[0][0]) {
        case 'a':
            expect_fields(words, words[3].empty() ? 3 : 4, "a ID SIZE, or a ID SIZE ALIGNMENT");
            return allocation(words, ids);
        case 'r':
            expect_fields(words, 3, "r ID SIZE");
            return reallocation(words);
        case 'f':
            expect_fields(words, 2, "f ID");
            return free(words);
        default:
            fail("an op is one of a, r, f");
        }
    }

    void allocation(fields const& words, std::uint64_t ids) {
        std::uint64_t const id = number(words[1], "id");
        if (id != blocks_.size())
            fail(id < blocks_.size()
                     ? "id " + std::to_string(id) + " is allocated a second time"
                     : "id out of order: the next is " + std::to_string(blocks_.size()));
        if (id >= ids)
            fail("more ids than the header's " + std::to_string(ids));
        std::uint64_t const bytes = size(words[2]);
        std::uint64_t alignment = plain_alignment;
        if (!words[3].empty()) {
            alignment = number(words[3], "alignment");
            if (!std::has_single_bit(alignment) || alignment <= plain_alignment ||
                alignment > most_bytes)
                fail("an alignment is a power of two over 16");
        }
        blocks_.push_back({bytes, log2_of(alignment)});
        live_blocks_.add(1);
        append(verb::allocate, id, bytes);
    }

    void reallocation(fields const& words) {
        std::uint64_t const id = live_id(words[1]);
        live_bytes_.remove(blocks_[id].bytes);
        blocks_[id] = {size(words[2]), log2_of(plain_alignment)};
        append(verb::reallocate, id, blocks_[id].bytes);
    }

    void free(fields const& words) {
        std::uint64_t const id = live_id(words[1]);
        live_bytes_.remove(blocks_[id].bytes);
        live_blocks_.remove(1);
        append(verb::free, id, 0);
        blocks_[id].bytes = 0;
    }

    // `grown`: the bytes that become live by it.
    void append(verb what, std::uint64_t id, std::uint64_t grown) {
        std::uint64_t const before = live_bytes_.peak();
        live_bytes_.add(grown);
        if (live_bytes_.live() > most_bytes)
            fail("more bytes are live than a machine can address");
        if (live_bytes_.peak() > before)
            result_.peak_op = result_.ops.size();
        result_.ops.push_back(
            {blocks_[id].bytes, static_cast<std::uint32_t>(id), what, blocks_[id].alignment_log2});
    }

    std::uint64_t live_id(std::string_view word) {
        std::uint64_t const id = number(word, "id");
        if (id >= blocks_.size())
            fail("id " + std::to_string(id) + " has not been allocated");
        if (blocks_[id].bytes == 0)
            fail("id " + std::to_string(id) + " has been freed already");
        return id;
    }

    std::uint64_t size(std::string_view word) {
        std::uint64_t const bytes = number(word, "size");
        if (bytes == 0 || bytes > most_bytes)
            fail("a size is 1 to 2^47 bytes");
        return bytes;
    }

    std::uint64_t header(std::string const& what) {
        if (!next_line())
            fail("the file ends before " + what);
        return number(line_, what);
    }

    std::uint64_t number(std::string_view word, std::string const& what) {
        std::uint64_t value = 0;
        auto const [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
        if (error != std::errc{} || end != word.data() + word.size())
            fail(what + ": \"" + std::string{word.substr(0, 40)} + "\" is no whole number");
        return value;
    }

    fields split() {
        fields words;
        std::string_view rest = line_;
        for (std::size_t i = 0; i < words.size(); ++i) {
            std::size_t const space = i + 1 < words.size() ? rest.find(' ') : rest.npos;
            words[i] = rest.substr(0, space);
            if (space == rest.npos)
                return words;
            rest.remove_prefix(space + 1);
            if (words[i].empty() || rest.empty())
                fail("fields are parted by one space");
        }
        return words;
    }

    void expect_fields(fields const& words, std::size_t count, char const* shape) {
        for (std::size_t i = 0; i < words.size(); ++i)
            if (words[i].empty() != (i >= count))
                fail("expected: " + std::string{shape});
    }

    bool next_line() {
        if (!std::getline(text_, line_))
            return false;
        ++line_number_;
        return true;
    }

    [[noreturn]] void fail(std::string const& what) { fail(what, line_number_); }
    [[noreturn]] void fail(std::string const& what, std::size_t line) {
        throw format_error{result_.name, line, what};
    }

    std::istream& text_;
    std::string line_;
    std::size_t line_number_ = 0;
    trace result_;
    std::vector<extent> blocks_;
    high_water_mark live_bytes_;
    high_water_mark live_blocks_;
};

bool is_xz(std::istream& file) {
    constexpr std::string_view magic{"\xFD"
                                     "7zXZ\0",
                                     6};
    std::array<char, magic.size()> first{};
    file.read(first.data(), first.size());
    bool const found = file.gcount() == std::streamsize{magic.size()} &&
                       std::string_view{first.data(), first.size()} == magic;
    file.clear();
    file.seekg(0);
    return found;
}

std::string name_of(std::filesystem::path const& path) {
    std::filesystem::path name = path.filename();
    for (char const* ending : {".xz", ".rep"})
        if (name.extension() == ending)
            name = name.stem();
    return name.string();
}

// "NAME:LINE", or "NAME" where it is the file as a whole.
std::string place(std::string const& name, std::size_t line) {
    std::string text = name;
    if (line != 0)
        text.append(":").append(std::to_string(line));
    return text;
}

} // namespace

format_error::format_error(std::string const& name, std::size_t line, std::string const& what)
    : std::runtime_error{place(name, line) + ": " + what}, line_{line} {}

trace read(std::istream& text, std::string const& name) {
    return reader{text, name}.run();
}

trace read(std::filesystem::path const& path) {
    std::ifstream file{path, std::ios::binary};
    if (!file || std::filesystem::is_directory(path))
        throw std::system_error{errno != 0 ? errno : EISDIR, std::generic_category(),
                                path.string()};
    if (!is_xz(file))
        return read(file, name_of(path));
    boost::iostreams::filtering_istream text;
    text.push(boost::iostreams::lzma_decompressor{});
    text.push(file);
    text.exceptions(std::ios::badbit);
    try {
        return read(text, name_of(path));
    } catch (std::ios_base::failure const&) {
        throw format_error{name_of(path), 0, "the xz data are damaged or cut short"};
    }
}

std::size_t peak_live_bytes(trace const& of, std::size_t granule_bytes) {
    std::vector<std::uint64_t> blocks(of.ids);
    high_water_mark live;
    for (op const& step : of.ops) {
        std::uint64_t const granules = (step.bytes + granule_bytes - 1) / granule_bytes;
        if (step.what != verb::allocate)
            live.remove(blocks[step.id]);
        if (step.what != verb::free)
            live.add(granules * granule_bytes);
        blocks[step.id] = granules * granule_bytes;
    }
    return live.peak();
}

} // namespace strata::trace
