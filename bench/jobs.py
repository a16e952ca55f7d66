# SPDX-License-Identifier: GPL-2.0
"""What fio does to each disk, at ring level and in a guest."""

from collections import namedtuple

# A job of fio for each queue.
Job = namedtuple("Job", "options queues", defaults=[1])


def random_name(what, depth, queues=1):
    return f"4 KiB random {what}, depth {depth}" + (f", {queues} queues" if queues > 1 else "")


def random(what, depth, queues=1):
    return {random_name(what, depth, queues): Job(f"--rw=rand{what} --bs=4k --iodepth={depth}", queues)}


def sequential(size, bs, what, depth):
    return {f"{size} sequential {what}, depth {depth}": Job(f"--rw={what} --bs={bs} --iodepth={depth}")}


JOBS: dict[str, Job] = {}
for what in "read", "write":
    for depth in 1, 4, 32, 128:
        JOBS |= random(what, depth)
    for depth in 1, 32:
        JOBS |= random(what, depth, 2)
for queues in 4, 8, 16:
    JOBS |= random("read", 32, queues)
JOBS["4 KiB random, 70 % reads, depth 32"] = Job("--rw=randrw --rwmixread=70 --bs=4k --iodepth=32")
for what in "read", "write":
    for depth in 1, 2, 3:
        JOBS |= sequential("512 B", 512, what, depth)
    JOBS |= sequential("128 KiB", "128k", what, 8)
JOBS["4 KiB random write, fsync after each"] = Job("--rw=randwrite --bs=4k --iodepth=1 --fsync=1")
