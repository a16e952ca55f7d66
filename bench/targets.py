# SPDX-License-Identifier: GPL-2.0
"""What vhost-blk is to reach on null_blk with one queue of 256, unless said otherwise, and what it does."""

from dataclasses import dataclass, field
from statistics import median

from bench.jobs import random_name
from bench.results import OURS, is_ours, spread, total

NULL_BLK = "null_blk"
GUEST = "guest", NULL_BLK
VIRTUAL = "guest in virtual time", NULL_BLK
RING = "ring", NULL_BLK
LIMIT = "io_uring"  # at ring level, directly on the disk
IOTHREAD = "virtio-blk aio=io_uring"
DRIVER = "minimal driver"
READS = {(depth, queues): random_name("read", depth, queues) for depth in (1, 32) for queues in (1, 2, 16)}


@dataclass
class Target:
    what: str
    goal: float
    at_least: bool
    values: list = field(default_factory=list)  # of which the median counts; none: not measured
    beside: str = ""  # another measure of the same

    @property
    def reached(self):
        if not self.values:
            return None
        found = median(self.values)
        return found >= self.goal if self.at_least else found <= self.goal


def host(row):
    return row["kernel"] + row["user"]


def executed_ratio(row, other):
    """The median, between the extremes that the two ranges allow."""
    if not row or not other:
        return []
    return [row["low"] / other["high"], total(row) / total(other), row["high"] / other["low"]]


def host_ratio(row, other):
    return [host(row) / host(other)] if row and other else []


def guest_iops(results, key, depth, queues, goal):
    job = READS[depth, queues]
    best = results.best_rival(key, job)
    rows = results.executed(key, job)
    beside = []
    if best:
        beside.append(f"the best is {best}")
    if ratio := host_ratio(rows.get(OURS), rows.get(best)):
        beside.append(f"host instructions {spread(ratio)}")
    beside += [f"{name.removeprefix(f'{OURS}, ')} {spread(results.ratios(key, job, name, best))}"
               for name in results.contestants(key) if is_ours(name) and name != OURS]
    return Target(f"{key[0]}, IOPS against the best other way: {job}", goal, True, results.ratios(key, job, OURS, best),
                  "; ".join(beside))


def ring_instructions(results, depth, variant, goal):
    """The target was set for a driver that costs next to nothing; fio costs more on a ring than elsewhere."""
    job = READS[depth, 1]
    rows = results.executed(RING, job)
    beside = [f"with fio as driver {spread(executed_ratio(rows.get(variant), rows.get(LIMIT)))}",
              f"IOPS {spread(results.ratios(RING, job, variant, LIMIT))}"]
    return Target(f"ring, instructions against fio's io_uring on the disk: {job}" + variant.removeprefix(OURS),
                  goal, False, executed_ratio(rows.get(f"{variant}, {DRIVER}"), rows.get(LIMIT)), "; ".join(beside))


def queues_instructions(results):
    one, many = READS[32, 1], READS[32, 16]
    limits = [spread(results.ratios(RING, job, OURS, LIMIT)) for job in (many, one)]
    return Target("ring, instructions with 16 queues against 1, depth 32", 1.05, False,
                  executed_ratio(results.executed(RING, many).get(OURS), results.executed(RING, one).get(OURS)),
                  f"IOPS against fio's io_uring {limits[0]}, with 1 queue {limits[1]}")


def guest_instructions(results, depth, goal):
    job = READS[depth, 1]
    rows = results.executed(GUEST, job)
    return Target(f"guest, host instructions against {IOTHREAD}: {job}", goal, False,
                  host_ratio(rows.get(OURS), rows.get(IOTHREAD)),
                  f"IOPS {spread(results.ratios(GUEST, job, OURS, IOTHREAD))}")


def file_iops(results):
    ring, guest = ("ring", "file on ext4"), ("guest", "file on ext4")
    job, block = READS[32, 1], "vhost-blk on the block device"
    beside = [f"against {block} {spread(results.ratios(ring, job, OURS, block))}",
              f"in a guest {spread(results.ratios(guest, job, OURS, block))}"]
    return Target(f"ring, IOPS of a file on ext4 against fio's io_uring on the block device: {job}", 0.85, True,
                  results.ratios(ring, job, OURS, f"{LIMIT} on the block device"), "; ".join(beside))


def idle(results):
    found = results.times[RING].get("idle", {}) if RING in results.times else {}
    what = "ring, how often the workers of an idle device run in 10 s"
    return [Target(what + name.removeprefix(OURS), 0, False, [count])
            for name, count in found.items()] or [Target(what, 0, False)]


def targets(results):
    return [
        guest_iops(results, GUEST, 1, 1, 2.0),
        guest_iops(results, VIRTUAL, 1, 1, 2.0),
        guest_iops(results, GUEST, 32, 1, 1.5),
        guest_iops(results, VIRTUAL, 32, 1, 1.5),
        guest_iops(results, GUEST, 1, 2, 1.5),
        guest_iops(results, GUEST, 32, 2, 1.5),
        ring_instructions(results, 1, OURS, 1.4),
        ring_instructions(results, 1, f"{OURS}, busy polling", 1.0),
        ring_instructions(results, 32, OURS, 0.5),
        queues_instructions(results),
        guest_instructions(results, 1, 0.40),
        guest_instructions(results, 32, 0.35),
        file_iops(results),
        *idle(results),
    ]
