#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
#
# Runs annotations, each mistake in a process of its own, where a tool watches: it must report each,
# and nothing of what is no mistake.
#
#   annotations.py asan|valgrind|heaptrack PROGRAM    skipped where PROGRAM or the tool is not there

import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile

SKIPPED = 77
WATCHED = {
    'asan': ([], 'ERROR: AddressSanitizer: (use-after-poison|heap-use-after-free|heap-buffer-overflow)'),
    'valgrind': (['valgrind', '--quiet', '--leak-check=no'], 'Invalid (read|write) of size'),
}
FEW = ('none', 'after_free', 'past_the_end', 'into_a_neighbour', 'behind_the_last',
       'never_allocated')


def skip(why):
    print('skipped:', why)
    sys.exit(SKIPPED)


def run(command):
    environment = dict(os.environ, ASAN_OPTIONS='detect_leaks=0:abort_on_error=0')
    done = subprocess.run(command, capture_output=True, text=True, errors='replace', env=environment)
    return done.returncode, done.stdout + done.stderr


def what_is_wrong(tool, program, stack, mistake):
    """Returns: how the outcome differs from what it should be; None where it does not."""
    before, report = WATCHED[tool]
    status, said = run(before + [program, stack, mistake])
    if mistake == 'none':
        return said or f'status {status}' if said or status else None
    return None if re.search(report, said) else 'no report: ' + said


def watch(tool, program):
    cases = [line.split() for line in run([program])[1].splitlines()]
    if tool == 'valgrind':  # which takes a second for each
        cases = [case for case in cases if case[1] in FEW]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = pool.map(lambda case: what_is_wrong(tool, program, *case), cases)
        wrong = [(case, outcome) for case, outcome in zip(cases, outcomes) if outcome]
    for (stack, mistake), outcome in wrong:
        print(f'{stack}, {mistake}: {outcome[:2000]}')
    print(f'{len(cases)} cases, {len(wrong)} wrong')
    return len(cases) < 90 or bool(wrong)


def attribute(program):
    """What heaptrack says of 100 blocks that stay and 10 that come back: whose they are, how many."""
    wrong = 0
    for stack in 'segregated_pool', 'best_fit', 'segregated_pool.best_fit.buffer':
        with tempfile.TemporaryDirectory() as place:
            run(['heaptrack', '-o', f'{place}/recorded', program, stack, 'blocks_of_two'])
            recorded = [f'{place}/{name}' for name in os.listdir(place)]
            said = run(['heaptrack_print', '--print-peaks', '0', *recorded])[1] if recorded else ''
        for calls, by in (100, 'hundred_blocks'), (10, 'ten_blocks_that_come_back'):
            if not re.search(rf'\b{calls} calls[^\n]*(\n[^\n]+)*{by}', said):
                print(f'{stack}: not {calls} calls by {by}:\n{said[:4000]}')
                wrong += 1
    return wrong


tool, program = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
if program is None:
    skip(f'this build has no program for {tool}')
if tool != 'asan' and shutil.which(tool) is None:
    skip(f'{tool} is not installed')
sys.exit(attribute(program) if tool == 'heaptrack' else watch(tool, program))
