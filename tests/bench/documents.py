# SPDX-License-Identifier: GPL-2.0
"""Small documents of figures, made here, about which the answers of the benchmark's programs are known."""

READ = "4 KiB random read, depth 1"
STEADY = [1.00, 1.01, 1.02, 1.03, 1.04]  # factors of five rounds


def times(iops, level="ring", backend="null_blk", job=READ):
    """A document of times; iops is by contestant and round."""
    runs = [{"job": job, "round": number, "contestant": name, "iops": value, "mean": 1000 / value, "p50": 1000 / value,
             "p99": 2000 / value, "p99.9": 3000 / value}
            for name, values in iops.items() for number, value in enumerate(values)]
    return {"level": level, "kernel": "6.1", "backend": backend, "commands": {name: f"fio {name}" for name in iops},
            "servers": {}, "jobs": {job: {"options": "--rw=randread", "queues": 1}}, "left_out": [], "runs": runs}


def instructions(kernel, low, high, contestant="vhost-blk, minimal driver"):
    return {"contestant": contestant, "job": READ, "guest": 0, "kernel": kernel, "user": 100, "low": low, "high": high}


def counted(*rows, level="ring"):
    return {"level": level, "kernel": "6.1", "backend": "null_blk", "runs": [], "instructions": list(rows)}


def steady(iops):
    return [iops * factor for factor in STEADY]
