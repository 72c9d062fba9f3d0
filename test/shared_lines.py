#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
#
# Counts what two threads share that use a resource in turns:
#
#   moved   lines that one thread wrote and the other then touched, or both had and one wrote
#   worst   lines that would move if the threads worked at the same time, as unhappily as can be
#   locks   taken; and of these, those of mutexes that both threads lock
#
#   shared_lines.py PROGRAM       runs shared_lines under valgrind; skipped where that is not there

import collections
import shutil
import subprocess
import sys

LINE_BYTES = 64
# The most that an operation may cost of each. Where threads keep to themselves, nothing may be shared
# but when a slab comes or goes.
ANY = float('inf')
LIMITS = {
    'pool:pairs': (0, 0, 0, 0),
    'pool:tide': (0.01, 0.02, 0.01, 0.01),
    'pool:churn': (0.01, 0.02, 0.001, 0.001),
    'pool:handed-over': (0.3, ANY, 0.01, 0.01),
    'fixed:pairs': (0, 0, 0, 0),
    'fixed:tide': (0.05, 1.2, 0.03, 0.03), # the worst is of what threads touch under the lock
    'fixed:churn': (0.01, 0.02, 0.001, 0.001),
    'fixed:handed-over': (0.1, ANY, 0.03, 0.03),
}


class Experiment:
    def __init__(self):
        self.operations = self.moved = 0
        self.locks = collections.Counter()  # (mutex, thread): times
        self.touches = collections.Counter()  # (line, thread, writes, instruction): times
        self.modified_by = {}  # line: the thread that wrote it last, while no other has read it
        self.holders = {}      # line: the threads that have it

    def touch(self, thread, line, writes):
        holders = self.holders.setdefault(line, set())
        if writes:
            self.moved += bool(holders - {thread})
            self.modified_by[line] = thread
            holders.clear()
        elif self.modified_by.get(line, thread) != thread:
            self.moved += 1
            del self.modified_by[line]
        holders.add(thread)

    def worst(self):
        """Returns: the most moves that any order of the touches makes of each line."""
        reads, writes = collections.Counter(), collections.Counter()
        for (line, thread, is_write, _), times in self.touches.items():
            (writes if is_write else reads)[line, thread] += times
        most = collections.Counter()
        for line in {line for line, _ in writes}:
            for own, other in ('0', '1'), ('1', '0'):
                most[line] += min(reads[line, own], writes[line, other]) + min(
                    writes[line, own], writes[line, other] + reads[line, other])
        return +most


def lines(begin, size):
    return range(begin // LINE_BYTES, (begin + size - 1) // LINE_BYTES + 1)


def read(trace):
    """Returns: the experiments by name, and what is where: (begin, bytes, name)."""
    experiments = collections.OrderedDict()
    ranges = []
    programs_own = set()
    now = thread = None
    instruction = b''
    for text in trace:
        if text[:1] == b'I':
            instruction = text
        elif text[:1] == b' ':
            if now is None:
                continue
            address, size = text[3:].split(b',')
            address = int(address, 16)
            kind = text[1:2]  # a load, a store, or both
            for line in lines(address, int(size)):
                if line in programs_own:
                    continue
                if kind != b'S':
                    now.touch(thread, line, False)
                if kind != b'L':
                    now.touch(thread, line, True)
                now.touches[line, thread, kind != b'L', instruction[3:].split(b',')[0]] += 1
        elif b'@' in text:
            word, *rest = text.decode().split('@')[1].split()
            if word == 'range':
                ranges.append((int(rest[1], 16), int(rest[2]), rest[0]))
                if rest[0] == 'program':
                    programs_own.update(lines(*ranges[-1][:2]))
            elif word == 'begin':
                now = experiments.setdefault(rest[0], Experiment())
                thread = rest[1]
            elif word == 'end':
                now.operations += int(rest[0])
                now = None
            elif word == 'locks':
                experiments[rest[0]].locks[rest[2], rest[1]] += int(rest[3])
    return experiments, ranges


def place(line, ranges):
    for begin, size, name in reversed(ranges):
        if begin <= (line + 1) * LINE_BYTES - 1 and line * LINE_BYTES < begin + size:
            return f'{name} + {line * LINE_BYTES - begin}'
    return f'{line * LINE_BYTES:#x}'


def main(program=None):
    valgrind = shutil.which('valgrind')
    if program is None or valgrind is None:
        print('skipped: valgrind is not installed, or this is a build for a sanitizer')
        return 77
    run = subprocess.Popen(
        [valgrind, '--tool=lackey', '--trace-mem=yes', '--log-fd=1', program],
        stdout=subprocess.PIPE, bufsize=1 << 20)
    experiments, ranges = read(run.stdout)
    if run.wait() != 0:
        print('the program failed')
        return 1
    sound = experiments.keys() == LIMITS.keys()
    print(f'{"an operation:":20}{"moved":>10}{"worst":>10}{"locks":>10}{"shared":>10}')
    for name, it in experiments.items():
        worst = it.worst()
        threads = collections.Counter(mutex for mutex, _ in it.locks)
        shared = sum(n for (mutex, _), n in it.locks.items() if threads[mutex] > 1)
        costs = [n / it.operations
                 for n in (it.moved, worst.total(), it.locks.total(), shared)]
        within = all(cost <= limit for cost, limit in zip(costs, LIMITS[name]))
        print(f'{name:20}' + ''.join(f'{cost:10.4f}' for cost in costs) +
              ('' if within else '   too much'))
        if not within:
            sound = False
            for line, moves in worst.most_common(8):
                print(f'    {place(line, ranges)}: {moves}')
                for (_, thread, is_write, instruction), times in sorted(
                        (what for what in it.touches.items() if what[0][0] == line),
                        key=lambda what: -what[1])[:8]:
                    print(f'        thread {thread} {"writes" if is_write else "reads"} at '
                          f'{instruction.decode()}, {times} times')
    return 0 if sound else 1


sys.exit(main(*sys.argv[1:]))
