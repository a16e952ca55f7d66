# SPDX-License-Identifier: GPL-2.0
"""Run a scenario of bench/sim in the simulated host that it is for, and write down what each contestant did."""

import json
import os
import re
import shlex
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from bench.backends import BACKENDS
from bench.contestants import command_line
from bench.guest import (contestants_for, fio_command, guest_of, kvm_counts, rivals_served, time_job, wakeups,
                         wakeups_counted)
from bench.measure import fio_options, run_fio
from bench.sim_plan import ALONE, BARE, GHZ
from tests.lib.host import Failure, load_module, wait_until

# Milliseconds of a run: fio neither measures the first ones, nor does the host count events then.
RAMP, RUNTIME, WINDOW = 10, 50, 35
LIMIT = ["--time_based", f"--runtime={RUNTIME}ms", f"--ramp_time={RAMP}ms"]
STARTED = 30  # requests after which fio is taken to run

# A disk of the guest itself, which its virtual CPUs serve.
OWN_DISK = """# load null_blk
[ -b /dev/nullb0 ] || insmod /lib/modules/configfs.ko
[ -b /dev/nullb0 ] || insmod /lib/modules/null_blk.ko nr_devices=1 gb=1 hw_queue_depth=256 submit_queues={queues}
"""


def disk_requests():
    """Requests that the host's disks have completed."""
    stats = [path.read_text().split() for path in Path("/sys/block").glob("nullb*/stat")]
    return sum(int(words[0]) + int(words[4]) for words in stats)


def host_counts(guests):
    """What has happened up to now: nanoseconds that passed, and of them those that CPUs were idle; and events."""
    cpus = os.sched_getaffinity(0)
    # A CPU that is idle adds to its idle time when it wakes up.
    for cpu in cpus:
        os.sched_setaffinity(0, {cpu})
    os.sched_setaffinity(0, cpus)
    timers = Path("/proc/timer_list").read_text()
    found = {"idle": sum(map(int, re.findall(r"\.(?:idle|iowait)_sleeptime *: (\d+) nsecs", timers))),
             "wakeups": wakeups()}
    for name, file in ("exits", "exits"), ("interrupts", "irq_injections"):
        found[name] = sum(int((kvm_counts(guest) / file).read_text()) for guest in guests)
    return {**found, "time": time.monotonic_ns()}


def per_request(before, after, cpus, iops):
    """Busy cycles of the host's CPUs and events for each request, of what was counted before and after some time."""
    passed = {name: after[name] - count for name, count in before.items()}
    requests = iops * passed["time"] / 1e9
    busy = cpus * passed["time"] - passed["idle"]
    return {"busy": busy * GHZ / requests,
            **{name: passed[name] / requests for name in ("exits", "interrupts", "wakeups")}}


def together(figures):
    """Of guests that run at the same time: the sum of IOPS, and the worst latencies."""
    worst = {name: max(one[name] for one in figures) for name in figures[0]}
    return {**worst, "iops": sum(one["iops"] for one in figures)}


def run_job(guests, places, job):
    """Let all guests do a job at the same time, each on its disk."""
    with ThreadPoolExecutor(len(guests)) as pool:
        before = disk_requests()
        runs = [pool.submit(time_job, guest, place, job, LIMIT) for guest, place in zip(guests, places)]
        wait_until(lambda: any(run.done() for run in runs) or disk_requests() >= before + STARTED * len(guests),
                   lambda: "fio does not start", 0.002)
        time.sleep(RAMP / 1000)
        begin = host_counts(guests)
        time.sleep(WINDOW / 1000)
        end = host_counts(guests)
        if any(run.done() for run in runs):
            for run in runs:
                run.result()
            raise Failure("fio ended before its events were counted")
        figures = together([run.result() for run in runs])
    return {**figures, **per_request(begin, end, os.cpu_count(), figures["iops"])}


def run_alone(guests, job):
    """The same on the guests' own disks, and so without the host."""
    for guest in guests:
        guest.run(OWN_DISK.format(queues=guest.vcpus))
    with ThreadPoolExecutor(len(guests)) as pool:
        return together(list(pool.map(lambda guest: time_job(guest, "nullb0", job, LIMIT), guests)))


def bare_command(fio, path, job):
    return [fio, "--name=bench", "--ioengine=io_uring", f"--filename={path}", *job.options.split(), *LIMIT,
            *fio_options(job.queues)]


def measure(scenario, fio, names):
    load_module()
    title, served = BACKENDS[scenario.disk]
    runs = []
    with ExitStack() as stack:
        stack.enter_context(wakeups_counted())
        path, _ = stack.enter_context(served())
        addresses, _, servers = stack.enter_context(rivals_served(path, scenario.queues, scenario.guests))
        guests, places = [], []
        for number in range(scenario.guests):
            ways = {name: way for name, way in contestants_for(path, None, addresses[number], number).items()
                    if scenario.queues >= way.queues_min and re.search(names, name)}
            guest, disks, place = stack.enter_context(guest_of(ways, scenario.queues))
            guests.append(guest)
            places.append(place)
        commands = {name: shlex.join(disk.words) for name, disk in disks.items()}
        print(f"# {scenario.title}: guests are up", flush=True)

        def ran(job_name, contestant, figures):
            runs.append({"scenario": scenario.title, "job": job_name, "contestant": contestant, **figures})
            print(f"{job_name}, {contestant}: {json.dumps(figures)}", flush=True)

        for name in scenario.jobs:
            job = scenario.job(name)
            for contestant in commands:
                ran(name, contestant, run_job(guests, [place[contestant] for place in places], job))
            ran(name, ALONE, run_alone(guests, job))
            ran(name, BARE, run_fio(bare_command(fio, path, job)))
        return {
            "kernel": os.uname().release, "disk": title, "commands": commands, "servers": servers,
            "guest": command_line(guests[0].process.args),
            "fio": {name: shlex.join(fio_command("DISK", scenario.job(name), LIMIT)) for name in scenario.jobs},
            "bare": command_line(bare_command("fio", path, scenario.job(scenario.jobs[0]))),
            "runs": runs,
        }
