# SPDX-License-Identifier: GPL-2.0
"""Compare vhost-blk with virtio-blk on this machine and one of its disks, and say which of the two to use for it.

It boots a guest under KVM, which reads the disk by each way in turn, round by round, until the rounds agree. Nothing is
written to the disk, unless --destroy-data is given. As root; the module is loaded.
"""

import argparse
import json
import os
import platform
import re
import shlex
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

from bench.contestants import NO_POLLING, OURS, command_line, is_rival
from bench.guest import contestants_for, fio_command, guest_of, time_job
from bench.jobs import JOBS, Job, random_name
from bench.measure import TIMED, fio_options, run_fio
from tests.guest.guest import load_kvm
from tests.lib.host import TREE, Failure, shell

OUTPUT = TREE / "build/host"
BARE = "io_uring in the host"
DEPTHS = (1, 4, 32)
LEAST_ROUNDS = 3
AGREED = 0.05  # of the median, the range at which rounds agree
RUN_SECONDS = 2.5  # that a run takes, with fio's start
SOURCES = {
    "governor": "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
    "C-states": "/sys/devices/system/cpu/cpu0/cpuidle/state*/name",
    "mitigations": "/sys/devices/system/cpu/vulnerabilities/*",
    "KVM's halt_poll_ns": "/sys/module/kvm/parameters/halt_poll_ns",
    "module": "/sys/module/vhost_blk/srcversion",
}


def spread(samples):
    """How far apart samples are, as a part of their median."""
    return (max(samples) - min(samples)) / statistics.median(samples)


def agree(runs):
    """True if the rounds of each contestant agree in IOPS."""
    return all(len(samples) >= LEAST_ROUNDS and spread(samples) < AGREED for samples in iops(runs).values())


def iops(runs):
    found: dict = {}
    for run in runs:
        found.setdefault(run["contestant"], []).append(run["iops"])
    return found


def better(samples, others):
    """True if samples are better beyond what rounds of the same differ by."""
    return min(samples) > max(others) and statistics.median(samples) > (1 + AGREED) * statistics.median(others)


def verdict(runs):
    """Which to use, and why: a line for each job, and the conclusion."""
    lines, won, lost = [], 0, 0
    for job in dict.fromkeys(run["job"] for run in runs):
        found = iops(run for run in runs if run["job"] == job)
        rivals = {name: samples for name, samples in found.items() if is_rival(name) and name != BARE}
        best = max(rivals, key=lambda name: statistics.median(rivals[name]))
        ratio = statistics.median(found[OURS]) / statistics.median(rivals[best])
        word = "no difference beyond that of the rounds"
        if better(found[OURS], rivals[best]):
            won, word = won + 1, "vhost-blk is faster"
        elif better(rivals[best], found[OURS]):
            lost, word = lost + 1, "vhost-blk is slower"
        lines.append(f"- {job}: {ratio:.2f} of {best}: {word}.")
    if won and not lost:
        lines.append("\nUse **vhost-blk** for this disk.")
    elif lost and not won:
        lines.append("\nUse **virtio-blk** for this disk.")
    elif won:
        lines.append("\nIt depends: use what wins in the job that is most like yours.")
    else:
        lines.append("\nUse **virtio-blk** for this disk: it does as well, and QEMU's block layer serves more kinds of"
                     " images.")
    return "\n".join(lines)


def machine(disk):
    """What the figures depend on, by name."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    found = {
        "CPU": f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} CPUs",
        "topology": shell("lscpu | grep -E '^(Thread|Core|Socket|NUMA node)' | tr -s ' ' | paste -sd,"),
        "kernel": os.uname().release,
        "disk": f"{disk}: {shell(f'lsblk -dno MODEL,SIZE,ROTA,SCHED {shlex.quote(disk)} 2>/dev/null || true')}"
                if Path(disk).is_block_device() else f"{disk}, on {shell(f'stat -fc %T {shlex.quote(disk)}')}",
    }
    for name, pattern in SOURCES.items():
        values = [f"{path.name}: {text}" if "*" in pattern and name == "mitigations" else text
                  for path in sorted(Path("/").glob(pattern[1:])) if (text := path.read_text().strip())]
        found[name] = "; ".join(values) or "not known"
    return found


def page(results):
    runs = results["runs"]
    rows = ["| | IOPS | range | p50, µs | p99, µs | p99.9, µs | rounds |", "| --- " * 7 + "|"]
    for job in dict.fromkeys(run["job"] for run in runs):
        rows.append(f"| **{job}** | | | | | | |")
        for name in dict.fromkeys(run["contestant"] for run in runs if run["job"] == job):
            samples = [run for run in runs if (run["job"], run["contestant"]) == (job, name)]
            values = [run["iops"] for run in samples]
            rows.append(f"| {name} | {statistics.median(values):.0f} | {spread(values):.1%} | "
                        + " | ".join(f"{statistics.median(run[p] for run in samples):.1f}"
                                     for p in ("p50", "p99", "p99.9")) + f" | {len(values)} |")
    return "\n".join([
        "# vhost-blk and virtio-blk on this machine\n",
        *(f"- {name}: {text}" for name, text in results["machine"].items()),
        "", *rows, "", "## Which to use\n", verdict(runs), "", "## How\n",
        *(f"- {name}: `{words}`" for name, words in results["commands"].items()), "",
        *(f"fio, {job}:\n\n    {command}\n" for job, command in results["fio"].items())])


def read_only(way):
    return replace(way, arguments=lambda *words: [word.replace("locking=off", "locking=off,read-only=on")
                                                  for word in way.arguments(*words)])


def chosen_jobs(queues, writes):
    return {name: Job(JOBS[name].options, queues)
            for what in ("read", *(["write"] if writes else [])) for depth in DEPTHS
            if (name := random_name(what, depth)) in JOBS}


def check(options):
    if os.geteuid():
        raise Failure("this needs root")
    if not Path("/sys/module/vhost_blk").exists():
        raise Failure("the module vhost_blk is not loaded: make install, or modprobe vhost_blk")
    if not os.path.exists(options.disk):
        raise Failure(f"there is no {options.disk}")
    load_kvm()


def announce(options, jobs, names):
    least = len(jobs) * len(names) * LEAST_ROUNDS * RUN_SECONDS / 60
    print(f"This reads {options.disk}" + (" AND OVERWRITES IT" if options.destroy_data else "; it writes nothing to it")
          + f", by {len(names)} ways in {len(jobs)} jobs, at least {LEAST_ROUNDS} times each: {least:.0f} to"
          f" {max(least, options.minutes):.0f} minutes. It binds nothing to CPUs.\nWays: {', '.join(names)}.",
          flush=True)


def measure(options):
    jobs = chosen_jobs(options.queues, options.destroy_data)
    ways = {name: way if options.destroy_data else read_only(way)
            for name, way in contestants_for(options.disk, None).items()
            if options.queues >= way.queues_min
            and (name in (OURS, OURS + NO_POLLING) or is_rival(name) and not name.endswith(NO_POLLING))}
    announce(options, jobs, [*ways, BARE])
    fio = shell(f"{TREE}/testbed/fio shared")
    end = time.monotonic() + 60 * options.minutes
    runs: list[dict] = []
    with guest_of(ways, options.queues) as (guest, disks, places):
        commands = {name: shlex.join(disk.words) for name, disk in disks.items()}
        for number, (name, job) in enumerate(jobs.items(), 1):
            bare = [f"{fio}/fio", "--name=bench", "--ioengine=io_uring", f"--filename={options.disk}",
                    *job.options.split(), *TIMED, *fio_options(job.queues)]
            commands[BARE] = command_line(bare)
            left = end - time.monotonic()
            deadline = time.monotonic() + left / (len(jobs) - number + 1)
            of_job: list[dict] = []
            while len(of_job) < LEAST_ROUNDS * (len(ways) + 1) or not agree(of_job) and time.monotonic() < deadline:
                for way, place in places.items():
                    of_job.append({"job": name, "contestant": way, **time_job(guest, place, job)})
                of_job.append({"job": name, "contestant": BARE, **run_fio(bare)})
                widest = max(map(spread, iops(of_job).values()))
                print(f"{name} ({number} of {len(jobs)}): round {len(of_job) // (len(ways) + 1)}, widest range"
                      f" {widest:.1%}", flush=True)
            runs += of_job
    return {"machine": {**machine(options.disk), "QEMU": command_line(guest.process.args[:1])}, "commands": commands,
            "fio": {name: shlex.join(fio_command("DISK", job, TIMED)) for name, job in jobs.items()}, "runs": runs}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--disk", required=True, help="a block device or a raw image file")
    parser.add_argument("--destroy-data", action="store_true", help="overwrite what is on it, to measure writes too")
    parser.add_argument("--queues", type=int, default=1, help="of the disk, with a virtual CPU each")
    parser.add_argument("--minutes", type=float, default=15, help="after which no further round begins")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    check(options)
    results = measure(options)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "host.json").write_text(json.dumps(results, indent=1))
    (options.output / "host.md").write_text(page(results))
    print(page(results))


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"host: {failure}")
