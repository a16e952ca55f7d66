# SPDX-License-Identifier: GPL-2.0
"""Print how many instructions each function of the kernel executes per 4 KiB random read through a vhost-blk ring."""

import argparse
import bisect
import collections
import os
import subprocess
import tempfile
from pathlib import Path

from tests.lib.host import TREE

READS = 20000


def output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def execute(build, directory, kernel, depth):
    """Run the reads in the test host, and leave counts and symbols in the directory."""
    host = (f"{TREE}/tests/lib/load-module && modprobe null_blk && {build}/ringcount /dev/nullb0 {depth} {READS}"
            f" && cat /proc/kallsyms >{directory}/symbols")
    plugin = f"-plugin {build}/icount.so,out={directory}/marks,profile={directory}/profile"
    subprocess.run([f"{TREE}/testbed/run", "--kernel", kernel, "--out", directory, "--", "sh", "-c", host], check=True,
                   env=os.environ | {"ACCEL": "tcg", "TESTBED_QEMU_ARGS": plugin})


def marked_counts(path):
    """For each mark the instructions executed so far, by the address of the block of code."""
    counts: list[dict] = [{}]
    for line in path.read_text().splitlines():
        if line == "mark":
            counts.append({})
        else:
            address, count = line.split()
            counts[-1][int(address, 16)] = int(count)
    return counts[:-1]


def functions(directory):
    """Instructions executed between the two marks, by function."""
    symbols = sorted((int(words[0], 16), words[2]) for words in map(str.split, Path(directory, "symbols").open())
                     if words[1] in "tTwW")
    starts = [address for address, _ in symbols]
    before, after = marked_counts(Path(directory, "profile"))
    found: collections.Counter = collections.Counter()
    for address, count in after.items():
        # The program is one place.
        name = symbols[bisect.bisect(starts, address) - 1][1] if address else "(the driver, in userspace)"
        found[name] += count - before.get(address, 0)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernel", default="6.12")
    parser.add_argument("--depth", type=int, default=1, help="reads in flight")
    parser.add_argument("--least", type=float, default=10, help="instructions per read of which a function is shown")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        execute(output(f"{TREE}/bench/build"), directory, options.kernel, options.depth)
        found = functions(directory)
    print(f"Instructions per read, kernel {options.kernel}, depth {options.depth}: {sum(found.values()) / READS:.0f}")
    for name, count in found.most_common():
        if count / READS < options.least:
            break
        print(f"{count / READS:8.1f}  {name}")


if __name__ == "__main__":
    main()
