# SPDX-License-Identifier: GPL-2.0
"""What bench/sim runs: scenarios, each in a simulated host of its own."""

import os
from dataclasses import dataclass

from bench.jobs import JOBS, Job, random_name

GHZ = 3
# In cycles; docs/simulator.md has them all.
COSTS = {"sim-vmexit": 1000, "sim-vmentry": 500, "sim-irq": 600}
# What tells the limit: fio on a null_blk of the guest itself, and fio in the host.
ALONE = "null_blk of the guest"
BARE = "io_uring in the host"
DEPTHS = (1, 4, 32, 128)
# In nanoseconds.
DELAYS = {"33us": 33000, "80us": 80000}


@dataclass(frozen=True)
class Scenario:
    """Guests that do the same jobs at the same time on the same disk."""

    name: str
    cpus: int  # of the host
    disk: str  # of bench.backends
    jobs: tuple[str, ...]
    queues: int = 1  # of the disk of each guest, with a virtual CPU and a job of fio for each
    guests: int = 1

    @property
    def title(self):
        return f"{self.name}, {self.disk}"

    @property
    def work(self):
        """How much there is to simulate, roughly."""
        return self.guests * self.queues * len(self.jobs)

    def job(self, name):
        return Job(JOBS[name].options, self.queues)


def reads(*depths):
    return tuple(random_name("read", depth) for depth in depths)


def one_vcpu(disk, jobs, cpus=4):
    return Scenario(f"1 vCPU, {cpus} CPUs", cpus, disk, jobs)


def two_vcpus(disk, jobs):
    return Scenario("2 vCPUs, 2 queues, 2 CPUs", 2, disk, jobs, queues=2)


def four_vcpus(disk, jobs):
    return Scenario("4 vCPUs, 4 queues, 8 CPUs", 8, disk, jobs, queues=4)


def four_guests(disk, jobs):
    return Scenario("4 guests of 1 vCPU, 4 CPUs", 4, disk, jobs, guests=4)


def main_plan():
    """The scenarios of the main table."""
    return [one_vcpu("null_blk", reads(1, 32)), one_vcpu("33us", reads(1, 32)), two_vcpus("null_blk", reads(1, 32)),
            four_vcpus("null_blk", reads(32)), four_guests("null_blk", reads(32))]


def full_plan():
    every = tuple(name for name, job in JOBS.items() if job.queues == 1)
    several = reads(*DEPTHS) + tuple(random_name("write", depth) for depth in (1, 32))
    return [*(one_vcpu(disk, every) for disk in ("null_blk", "33us", "80us", "ext4", "xfs")),
            one_vcpu("null_blk", reads(*DEPTHS), cpus=8),
            *(make(disk, several) for make in (two_vcpus, four_vcpus, four_guests) for disk in ("null_blk", "33us"))]


def event_costs():
    """Those of COSTS= for the ones it names."""
    given = dict(word.split("=") for word in os.environ.get("COSTS", "").split(",") if word)
    return {name: int(given.get(name, cost)) for name, cost in COSTS.items()}
