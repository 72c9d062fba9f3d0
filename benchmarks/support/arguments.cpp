// SPDX-License-Identifier: BSL-1.0
// GCC 12 inlines a branch of typed_value::notify that is never taken, and warns of its null pointer.
#pragma GCC diagnostic ignored "-Wnull-dereference"

#include "arguments.hpp"

#include <cstdlib>
#include <exception>
#include <iostream>
#include <optional>

#include <boost/program_options.hpp>

#include "candidates.hpp"

namespace strata::bench {

namespace options = boost::program_options;

namespace {

// Returns: what the command line says; nothing when help was asked for, and given.
// Throws: std::exception with what is wrong with it.
std::optional<arguments> parse(int argc, char** argv, std::string const& usage) {
    options::options_description named{usage};
    named.add_options()("help,h", "say this") //
        ("rounds", options::value<std::size_t>()->default_value(7)->value_name("N"),
         "take medians of N rounds") //
        ("candidate", options::value<std::string>()->default_value("")->value_name("TEXT"),
         "only those whose name holds TEXT")                                            //
        ("list", "name what there is to measure, and how it is set up")                 //
        ("regions", "the smallest region that a trace fits in, in place of times")      //
        ("reallocate", "reallocate where the block stands, if the candidate can")       //
        ("structures", "P0089's structures by size, in place of the small workloads")   //
        ("threads", "libstdc++'s scenarios for pools, in place of the small workloads") //
        ("littered", "small workloads and structures in a heap that is full of holes")  //
        ("smoke", "one short round: whether it works, not how fast")                    //
        ("markdown", "print tables for a README");
    auto const parsed = options::command_line_parser(argc, argv).options(named).run();
    options::variables_map given;
    options::store(parsed, given);
    if (given.count("help") != 0) {
        std::cout << named;
        return std::nullopt;
    }
    bool const smoke = given.count("smoke") != 0;
    return arguments{
        .operands = options::collect_unrecognized(parsed.options, options::include_positional),
        .candidate = given["candidate"].as<std::string>(),
        .rounds = smoke ? 1 : given["rounds"].as<std::size_t>(),
        .smoke = smoke,
        .list = given.count("list") != 0,
        .regions = given.count("regions") != 0,
        .reallocate = given.count("reallocate") != 0,
        .structures = given.count("structures") != 0,
        .threads = given.count("threads") != 0,
        .littered = given.count("littered") != 0,
        .style = given.count("markdown") != 0 ? table::style::markdown : table::style::text};
}

} // namespace

int run_program(int argc, char** argv, std::string const& usage, bool (*run)(arguments const&)) {
    make_room_for_thread_locals(argv);
    try {
        auto const chosen = parse(argc, argv, usage);
        return !chosen || run(*chosen) ? EXIT_SUCCESS : EXIT_FAILURE;
    } catch (std::exception const& error) {
        std::cerr << usage.substr(0, usage.find(' ')) << ": " << error.what() << '\n';
        return EXIT_FAILURE;
    }
}

} // namespace strata::bench
