#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Checks that the code in README.md is the code of test/example, which is compiled and run.

A line `<!-- FILE [NAME] -->` in README.md is followed by a code block that must hold what stands in
FILE between its two lines `// [NAME]`. With --write, README.md is brought up to date instead. Names
of tests in README.md (`suite/case` in the table of promises) must exist in test/."""

import pathlib
import re
import sys
import textwrap

root = pathlib.Path(__file__).resolve().parent.parent
readme = root / "README.md"
quote = re.compile(r"(<!-- (\S+) \[(\w+)\] -->\n```cpp\n)(.*?)(```)", re.S)


def snippet(path, name):
    text = (root / path).read_text()
    parts = re.split(rf"^ *// \[{name}\]\n", text, flags=re.M)
    if len(parts) != 3:
        sys.exit(f"README.md: {path} must have two lines // [{name}]")
    return textwrap.dedent(parts[1])


def missing_tests(text):
    tests = "\n".join(path.read_text() for path in root.glob("test/**/*.cpp"))
    named = re.findall(r"`(\w+_test|conformance)/(\w+)`", text)
    return [f"{stem}/{case}" for stem, case in named if not re.search(rf"\b{case}\b", tests)]


old = readme.read_text()
new = quote.sub(lambda m: m[1] + snippet(m[2], m[3]) + m[5], old)
if "--write" in sys.argv:
    readme.write_text(new)
elif new != old:
    sys.exit("README.md quotes code that has changed: run test/readme.py --write")
if missing := missing_tests(new):
    sys.exit("README.md names tests that do not exist: " + ", ".join(missing))
