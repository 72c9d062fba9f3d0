// SPDX-License-Identifier: BSL-1.0

// Runs a fuzz target on a corpus without a fuzzer: any compiler will do. A corpus is a text file,
// one input a line, in hexadecimal digits.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size);

int main(int argc, char** argv) {
    std::size_t inputs = 0;
    for (int i = 1; i < argc; ++i) {
        std::ifstream corpus{argv[i]};
        for (std::string line; std::getline(corpus, line); ++inputs) {
            std::vector<std::uint8_t> bytes;
            for (std::size_t at = 0; at + 1 < line.size(); at += 2)
                bytes.push_back(
                    static_cast<std::uint8_t>(std::stoul(line.substr(at, 2), nullptr, 16)));
            try {
                LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
            } catch (std::exception const& broken) {
                std::cerr << argv[i] << ":" << inputs + 1 << ": " << broken.what() << '\n';
                return EXIT_FAILURE;
            }
        }
    }
    std::cout << inputs << " inputs\n";
    return inputs != 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
