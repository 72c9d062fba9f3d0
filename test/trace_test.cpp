// SPDX-License-Identifier: BSL-1.0
#define BOOST_TEST_MODULE trace
#include <boost/test/unit_test.hpp>

#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

#include <boost/iostreams/filter/lzma.hpp>
#include <boost/iostreams/filtering_stream.hpp>

#include <cstring>

#include <sys/mman.h>

#include <strata/tracked_block_tools.hpp>

#include "support/counting_upstream.hpp"
#include "trace/footprint.hpp"
#include "trace/trace.hpp"

namespace trace = strata::trace;
using strata::test::counting_upstream;

namespace {

// Live bytes after each op: 100, 140, 90, 40, 104, 64; the peak is 140, after op 1.
std::string const small = "140\n3\n6\n1\n"
                          "a 0 100\n"
                          "a 1 40 4096\n"
                          "r 0 50\n"
                          "f 0\n"
                          "a 2 64\n"
                          "f 1\n";

trace::trace read_text(std::string const& text) {
    std::istringstream in{text};
    return trace::read(in, "text");
}

// What read says of a text: "", or the error's text.
std::string complaint(std::string const& text) {
    try {
        static_cast<void>(read_text(text));
        return {};
    } catch (trace::format_error const& wrong) {
        return wrong.what();
    }
}

// A header for `ops` ops of `ids` ids, and the ops.
std::string with_header(int ids, int ops, std::string const& lines) {
    return "0\n" + std::to_string(ids) + "\n" + std::to_string(ops) + "\n1\n" + lines;
}

// A file that is gone when the test is.
class scratch_file {
  public:
    scratch_file(std::string const& ending, std::string const& content)
        : path_{
              std::filesystem::temp_directory_path() /
              ("strata_trace_test_" + std::to_string(std::hash<std::string>{}(content)) + ending)} {
        std::ofstream{path_, std::ios::binary} << content;
    }
    scratch_file(scratch_file const&) = delete;
    scratch_file& operator=(scratch_file const&) = delete;
    ~scratch_file() { std::filesystem::remove(path_); }
    [[nodiscard]] std::filesystem::path const& path() const { return path_; }

  private:
    std::filesystem::path path_;
};

std::string compressed(std::string const& text) {
    std::ostringstream out;
    {
        boost::iostreams::filtering_ostream in;
        in.push(boost::iostreams::lzma_compressor{});
        in.push(out);
        in << text;
    }
    return out.str();
}

// A memory that answers with made-up addresses and notes what it is asked.
struct notebook {
    void* allocate(std::size_t bytes, std::size_t alignment) {
        lines.push_back("a " + std::to_string(bytes) + " " + std::to_string(alignment));
        blocks.push_back(std::make_unique<char[]>(bytes));
        return blocks.back().get();
    }
    void deallocate(void*, std::size_t bytes, std::size_t alignment) {
        lines.push_back("f " + std::to_string(bytes) + " " + std::to_string(alignment));
    }
    std::vector<std::string> lines;
    std::vector<std::unique_ptr<char[]>> blocks;
};

} // namespace

BOOST_AUTO_TEST_SUITE(reading)

BOOST_AUTO_TEST_CASE(a_good_trace_is_read_whole) {
    trace::trace const read = read_text(small);
    BOOST_TEST(read.name == "text");
    BOOST_TEST(read.ids == 3u);
    BOOST_TEST(read.ops.size() == 6u);
    BOOST_TEST(read.peak_live_bytes == 140u);
    BOOST_TEST(read.peak_live_blocks == 2u);
    BOOST_TEST(read.peak_op == 1u);
    BOOST_TEST(read.ops[1].bytes == 40u);
    BOOST_TEST(read.ops[1].alignment() == 4096u);
    BOOST_TEST((read.ops[2].what == trace::verb::reallocate));
    BOOST_TEST(read.ops[2].alignment() == 16u);
    BOOST_TEST(read.ops[5].id == 1u);
    BOOST_TEST(read.ops[5].bytes == 40u);
}

BOOST_AUTO_TEST_CASE(an_empty_trace_is_a_trace) {
    BOOST_TEST(read_text("0\n0\n0\n1\n").ops.empty());
}

BOOST_AUTO_TEST_CASE(peak_of_rounded_blocks) {
    trace::trace const read = read_text(small);
    BOOST_TEST(trace::peak_live_bytes(read, 1) == read.peak_live_bytes);
    BOOST_TEST(trace::peak_live_bytes(read, 64) == 192u);
    BOOST_TEST(trace::peak_live_bytes(read, 4096) == 8192u);
}

BOOST_AUTO_TEST_CASE(bad_headers_are_named) {
    BOOST_TEST(complaint("") == "text: the file ends before the peak of live bytes");
    BOOST_TEST(complaint("5\n1\n") == "text:2: the file ends before the number of ops");
    BOOST_TEST(complaint("5\nx\n1\n1\n") == "text:2: the number of ids: \"x\" is no whole number");
    BOOST_TEST(complaint("-5\n1\n1\n1\n") ==
               "text:1: the peak of live bytes: \"-5\" is no whole number");
    BOOST_TEST(complaint("5\n1\n1 \n1\n") ==
               "text:3: the number of ops: \"1 \" is no whole number");
    BOOST_TEST(complaint("5\n1\n1\n2\na 0 5\n") == "text:4: the weight is not 1");
    BOOST_TEST(complaint("5\n2\n1\n1\na 0 5\n") ==
               "text:2: more ids than ops, or than 32 bits can count");
    BOOST_TEST(complaint("5\n5000000000\n5000000000\n1\n") ==
               "text:2: more ids than ops, or than 32 bits can count");
    BOOST_TEST(complaint("5\n1\n99999999999999999999\n1\n") ==
               "text:3: the number of ops: \"99999999999999999999\" is no whole number");
}

BOOST_AUTO_TEST_CASE(counts_that_disagree_with_the_header_are_named) {
    BOOST_TEST(complaint(with_header(1, 2, "a 0 5\n")) == "text:5: the file ends after 1 of 2 ops");
    BOOST_TEST(complaint(with_header(1, 1, "a 0 5\nf 0\n")) ==
               "text:6: more ops than the header's 1");
    BOOST_TEST(complaint(with_header(1, 2, "a 0 5\na 1 5\n")) ==
               "text:6: more ids than the header's 1");
    BOOST_TEST(complaint(with_header(2, 2, "a 0 5\nf 0\n")) ==
               "text:6: 1 ids of the header's 2 are allocated");
    // A header may claim anything: memory is taken for ops that are there.
    BOOST_TEST(complaint("0\n1\n18446744073709551615\n1\na 0 5\n") ==
               "text:5: the file ends after 1 of 18446744073709551615 ops");
}

BOOST_AUTO_TEST_CASE(ids_that_are_not_live_are_named) {
    BOOST_TEST(complaint(with_header(2, 2, "a 1 5\na 0 5\n")) ==
               "text:5: id out of order: the next is 0");
    BOOST_TEST(complaint(with_header(2, 2, "a 0 5\na 0 5\n")) ==
               "text:6: id 0 is allocated a second time");
    BOOST_TEST(complaint(with_header(1, 3, "a 0 5\nf 0\nf 0\n")) ==
               "text:7: id 0 has been freed already");
    BOOST_TEST(complaint(with_header(1, 3, "a 0 5\nf 0\nr 0 7\n")) ==
               "text:7: id 0 has been freed already");
    BOOST_TEST(complaint(with_header(1, 2, "f 0\na 0 5\n")) ==
               "text:5: id 0 has not been allocated");
    BOOST_TEST(complaint(with_header(1, 2, "a 0 5\nr 1 5\n")) ==
               "text:6: id 1 has not been allocated");
}

BOOST_AUTO_TEST_CASE(malformed_ops_are_named) {
    auto const of_line = [](std::string const& line) {
        return complaint(with_header(1, 2, "a 0 5\n" + line + "\n"));
    };
    BOOST_TEST(of_line("x 0") == "text:6: an op is one of a, r, f");
    BOOST_TEST(of_line("") == "text:6: an op is one of a, r, f");
    BOOST_TEST(of_line("free 0") == "text:6: an op is one of a, r, f");
    BOOST_TEST(of_line("f") == "text:6: expected: f ID");
    BOOST_TEST(of_line("f 0 5") == "text:6: expected: f ID");
    BOOST_TEST(of_line("r 0") == "text:6: expected: r ID SIZE");
    BOOST_TEST(of_line("r 0 5 32") == "text:6: expected: r ID SIZE");
    BOOST_TEST(of_line("f  0") == "text:6: fields are parted by one space");
    BOOST_TEST(of_line("f 0 ") == "text:6: fields are parted by one space");
    BOOST_TEST(of_line("f 0\r") == "text:6: id: \"0\r\" is no whole number");
    BOOST_TEST(of_line("f +0") == "text:6: id: \"+0\" is no whole number");
    BOOST_TEST(of_line("r 0 0") == "text:6: a size is 1 to 2^47 bytes");
    BOOST_TEST(of_line("r 0 281474976710656") == "text:6: a size is 1 to 2^47 bytes");
    auto const of_allocation = [](std::string const& line) {
        return complaint(with_header(1, 1, line + "\n"));
    };
    BOOST_TEST(of_allocation("a 0") == "text:5: expected: a ID SIZE, or a ID SIZE ALIGNMENT");
    BOOST_TEST(of_allocation("a 0 8 32 4") ==
               "text:5: expected: a ID SIZE, or a ID SIZE ALIGNMENT");
    BOOST_TEST(of_allocation("a 0 8 48") == "text:5: an alignment is a power of two over 16");
    BOOST_TEST(of_allocation("a 0 8 16") == "text:5: an alignment is a power of two over 16");
    BOOST_TEST(of_allocation("a 0 8 0") == "text:5: an alignment is a power of two over 16");
    BOOST_TEST(complaint(with_header(2, 2, "a 0 140737488355328\na 1 140737488355328\n")) ==
               "text:6: more bytes are live than a machine can address");
}

BOOST_AUTO_TEST_CASE(files_are_read_plain_and_compressed) {
    scratch_file const plain{".rep", small};
    scratch_file const packed{".rep.xz", compressed(small)};
    for (auto const* file : {&plain, &packed}) {
        trace::trace const read = trace::read(file->path());
        BOOST_TEST(read.ops.size() == 6u);
        BOOST_TEST(read.name.find('.') == std::string::npos);
    }
}

BOOST_AUTO_TEST_CASE(damaged_files_are_refused) {
    std::string const whole = compressed(small);
    for (std::size_t length = 0; length < whole.size(); ++length) {
        scratch_file const cut{".rep.xz", whole.substr(0, length)};
        BOOST_CHECK_THROW(static_cast<void>(trace::read(cut.path())), trace::format_error);
    }
    std::string flipped = whole;
    flipped[whole.size() / 2] ^= 0x10;
    scratch_file const damaged{".rep.xz", flipped};
    BOOST_CHECK_THROW(static_cast<void>(trace::read(damaged.path())), trace::format_error);
}

BOOST_AUTO_TEST_CASE(files_that_cannot_be_read_are_system_errors) {
    BOOST_CHECK_THROW(static_cast<void>(trace::read("no/such/trace.rep")), std::system_error);
    BOOST_CHECK_THROW(static_cast<void>(trace::read(std::filesystem::temp_directory_path())),
                      std::system_error);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(replaying)

BOOST_AUTO_TEST_CASE(memory_is_asked_what_the_trace_says) {
    trace::trace const read = read_text(small);
    trace::block_table blocks{read};
    notebook memory;
    trace::replay(read, memory, blocks);
    std::vector<std::string> const expected{"a 100 16", "a 40 4096", "a 50 16",  "f 100 16",
                                            "f 50 16",  "a 64 16",   "f 40 4096"};
    BOOST_TEST(memory.lines == expected, boost::test_tools::per_element());
    trace::free_rest(blocks, memory);
    BOOST_TEST(memory.lines.size() == expected.size() + 1);
    BOOST_TEST(memory.lines.back() == "f 64 16");
}

BOOST_AUTO_TEST_CASE(a_moved_block_keeps_its_contents) {
    trace::trace const read = read_text(with_header(1, 3, "a 0 8\nr 0 20\nr 0 4\n"));
    trace::block_table blocks{read};
    counting_upstream memory;
    std::vector<std::string> seen;
    trace::replay(
        read, memory, blocks,
        [&](void* p, std::size_t bytes) {
            auto* const text = static_cast<char*>(p);
            seen.emplace_back(text, std::min<std::size_t>(bytes, 8));
            std::copy_n("contents", std::min<std::size_t>(bytes, 8), text);
        },
        [](std::size_t) {});
    BOOST_TEST(seen[1] == "contents");
    BOOST_TEST(seen[2] == "cont");
    trace::free_rest(blocks, memory);
    BOOST_TEST(memory.settled());
}

BOOST_AUTO_TEST_CASE(what_is_live_at_a_failure_can_be_freed) {
    trace::trace const read = read_text(small);
    strata::tracked_block_resource memory;
    std::size_t const failures = strata::for_each_failure(memory, [&] {
        trace::block_table blocks{read};
        struct free_at_the_end {
            trace::block_table& blocks;
            strata::tracked_block_resource& memory;
            ~free_at_the_end() { trace::free_rest(blocks, memory); }
        } const free{blocks, memory};
        trace::replay(read, memory, blocks);
    });
    BOOST_TEST(failures == 4u);
    BOOST_TEST(memory.stats().live_blocks == 0u);
    BOOST_TEST(memory.totals().all_misuses() == 0u);
}

BOOST_AUTO_TEST_CASE(the_peak_of_a_replay_is_metered) {
    trace::trace const read = read_text(small);
    trace::block_table blocks{read};
    trace::footprint_meter memory;
    std::size_t at_peak = 0;
    trace::replay(read, memory, blocks, trace::touch_pages{},
                  [&](std::size_t op) { at_peak = op == read.peak_op ? memory.bytes() : at_peak; });
    BOOST_TEST(at_peak == read.peak_live_bytes);
    BOOST_TEST(memory.peak_bytes() == 190u); // the copy in a moving reallocation: 100 + 40 + 50
    trace::free_rest(blocks, memory);
    BOOST_TEST(memory.bytes() == 0u);
}

BOOST_AUTO_TEST_CASE(resident_memory_grows_by_what_is_written) {
    constexpr std::size_t bytes = 8 << 20;
    std::size_t const before = trace::resident_anonymous_bytes();
    void* const fresh =
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    BOOST_REQUIRE(fresh != MAP_FAILED);
    std::memset(fresh, 1, bytes);
    std::size_t const grown = trace::resident_anonymous_bytes() - before;
    ::munmap(fresh, bytes);
    BOOST_TEST((before == 0 || (grown > bytes - bytes / 8 && grown < 2 * bytes)));
}

BOOST_AUTO_TEST_SUITE_END()
