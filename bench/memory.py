# SPDX-License-Identifier: GPL-2.0
"""Tell in the test host how much of the host kernel's memory each started queue of vhost-blk takes, by its options."""

import argparse
import re
import subprocess
import time
from pathlib import Path
from statistics import median

from bench.backends import BACKENDS
from bench.contestants import VARIANTS
from tests.lib.host import TREE, Failure, load_module

# The more, the less it counts what else the host allocates.
QUEUES = 1, 65
# Stacks of threads are mapped.
PARTS = {"slab": "SUnreclaim", "mapped": "VmallocUsed", "per CPU": "Percpu"}


def kernel_memory():
    """What the kernel has taken for itself, in KiB."""
    fields = dict(re.findall(r"(\w+): +(\d+) kB", Path("/proc/meminfo").read_text()))
    return {part: int(fields[name]) for part, name in PARTS.items()}


def memory_with(queues, disk, more):
    command = [f"{TREE}/build/bench/ringcount", *more, f"--idle={queues}", disk]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        if not process.stdout or not process.stdout.readline():
            raise Failure(f"{' '.join(command)} ended")
        # What the one before it had is given back with some delay.
        time.sleep(2)
        return kernel_memory()


def memory_per_queue(disk, more):
    few, many = (memory_with(queues, disk, more) for queues in QUEUES)
    return {part: (many[part] - few[part]) / (QUEUES[1] - QUEUES[0]) for part in few}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    load_module()
    with BACKENDS["null_blk"][1]() as (disk, _):
        for name, more in VARIANTS.items():
            samples = [memory_per_queue(disk, more) for _ in range(options.rounds)]
            parts = ", ".join(f"{part} {median(sample[part] for sample in samples):.0f}" for part in PARTS)
            print(f"{name}: {median(sum(sample.values()) for sample in samples):.0f} KiB ({parts})")


if __name__ == "__main__":
    main()
