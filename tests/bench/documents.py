# SPDX-License-Identifier: GPL-2.0
"""Small documents of figures, made here, about which the answers of the benchmark's programs are known."""

from bench.contestants import NO_POLLING
from bench.sim_plan import ALONE, BARE

READ = "4 KiB random read, depth 1"
SCENARIO = "1 vCPU, 4 CPUs, null_blk"
IOTHREAD = "virtio-blk aio=native"


def ran(contestant, iops, scenario=SCENARIO, job=READ):
    """A run of bench/sim."""
    latency = 1e6 / iops
    return {"scenario": scenario, "job": job, "contestant": contestant, "iops": iops, "mean": latency, "p50": latency,
            "p99": latency, "p99.9": latency, "busy": 3e9 / iops, "exits": 2, "interrupts": 1, "wakeups": 1}


def runs(scenario=SCENARIO, job=READ, ours=150000, quiet=60000):
    return [ran("vhost-blk", ours, scenario, job), ran(f"vhost-blk{NO_POLLING}", quiet, scenario, job),
            ran(IOTHREAD, 100000, scenario, job), ran(f"{IOTHREAD}{NO_POLLING}", 70000, scenario, job),
            ran("vhost-scsi", 80000, scenario, job), ran(ALONE, 500000, scenario, job),
            ran(BARE, 300000, scenario, job)]


def simulated(costs="", **figures):
    """What bench/sim writes."""
    scenario = {"title": SCENARIO, "kernel": "6.12", "run": "testbed/run --simulate", "guest": "qemu", "bare": "fio",
                "commands": {"vhost-blk": "-device"}, "servers": {"vhost-scsi": "mkdir a\nmkdir b"},
                "fio": {READ: "fio read"}}
    return {"command": "make sim", "costs": costs, "scenarios": [scenario], "runs": runs(**figures)}


def counted(kernel, low, high, contestant="vhost-blk, minimal driver"):
    """What bench/instructions writes."""
    return {"level": "ring", "kernel": "6.1", "backend": "null_blk", "instructions": [
        {"contestant": contestant, "job": READ, "guest": 0, "kernel": kernel, "user": 100, "low": low, "high": high}]}
