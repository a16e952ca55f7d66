# SPDX-License-Identifier: GPL-2.0
"""Time fio on the rings of vhost-blk and of QEMU's vhost-user-blk, and directly on the same disk, in the test host.

Writes a JSON document for each backend: how each contestant was run, and what each of its runs gave. In each round
all contestants do a job one after the other, so that a busy moment of the machine meets all of them.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from bench.backends import BACKENDS
from bench.contestants import VARIANTS, VHOST_USER_QUEUES, command_line, contestants
from tests.lib.host import TREE, Failure, accelerator, all_tasks, load_module, tasks, wait_until
from bench.jobs import JOBS, Job, random_name
from bench.measure import TIMED, fio_options, run_fio, storage_daemon

# What the targets are about.
MAIN = {
    "null_blk": [random_name("read", 1), random_name("read", 32), random_name("read", 32, 16)],
    "ext4": [random_name("read", 32)],
}
IDLE = "null_blk"
# The more, the less it counts what else the host allocates.
MEMORY_QUEUES = 1, 65
# Stacks of threads are mapped.
MEMORY = {"slab": "SUnreclaim", "mapped": "VmallocUsed", "percpu": "Percpu"}
RINGCOUNT = TREE / "build/bench/ringcount"


def fio_command(fio, contestant, job):
    return [fio, "--name=bench", *contestant.options(job.queues), *job.options.split(), *TIMED,
            *fio_options(job.queues)]


def idle_command(fio, contestant):
    return [fio, "--name=idle", *contestant.options(1), "--rw=randread", "--bs=4k", "--direct=1", "--thread",
            "--thinktime=60s", "--thinktime_blocks=1", "--output=/dev/null"]


def idle_wakeups(command):
    """How often the device's workers ran in ten seconds without a request."""
    process = subprocess.Popen(command)

    def switches(task):
        return sum(map(int, re.findall(r"ctxt_switches:\s*(\d+)", (task / "status").read_text())))

    def workers():
        return tasks(all_tasks(), r"vhost-\d+-[sc]\d+", switches)

    try:
        wait_until(workers, lambda: f"no workers: {command_line(command)}")
        # The first request and the workers' start take their time.
        time.sleep(5)
        before = workers()
        time.sleep(10)
        after = workers()
    finally:
        process.kill()
        process.wait()
    if [name for name, _ in before] != [name for name, _ in after]:
        raise Failure(f"workers came or went: {before} {after}")
    return sum(count for _, count in after) - sum(count for _, count in before)


def kernel_memory():
    """What the kernel has taken for itself, in KiB."""
    fields = dict(re.findall(r"(\w+): +(\d+) kB", Path("/proc/meminfo").read_text()))
    return {part: int(fields[name]) for part, name in MEMORY.items()}


def memory_with(queues, disk, more):
    command = [RINGCOUNT, *more, f"--idle={queues}", disk]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        if not process.stdout or not process.stdout.readline():
            raise Failure(f"{command_line(command)} ended")
        # What the one before it had is given back with some delay.
        time.sleep(2)
        return kernel_memory()


def memory_per_queue(disk, more):
    few, many = (memory_with(queues, disk, more) for queues in MEMORY_QUEUES)
    return {part: (many[part] - few[part]) / (MEMORY_QUEUES[1] - MEMORY_QUEUES[0]) for part in few}


def measure(backend, jobs, rounds, programs):
    title, make = BACKENDS[backend]
    with ExitStack() as stack:
        disk, bare = stack.enter_context(make())
        socket, _, server = stack.enter_context(storage_daemon(programs.storage_daemon, disk, VHOST_USER_QUEUES))
        competing = contestants(disk, bare, socket)
        runs, left_out = [], []
        for name in jobs:
            job = JOBS[name]
            able = {who: contestant for who, contestant in competing.items() if job.queues <= contestant.queues_max}
            left_out += [{"contestant": who, "job": name, "why": contestant.left_out}
                         for who, contestant in competing.items() if who not in able]
            for number in range(rounds):
                for who, contestant in able.items():
                    run = run_fio(fio_command(programs.fio, contestant, job))
                    runs.append({"job": name, "round": number, "contestant": who, **run})
            print(f"# {backend}: {name}", flush=True)
        idle, memory = {}, []
        if backend == IDLE:
            memory = [{"contestant": name, **memory_per_queue(disk, more)} for name, more in VARIANTS.items()
                      for _ in range(rounds)]
            print(f"# {backend}: memory", flush=True)
            idle = {name: idle_wakeups(idle_command(programs.fio, competing[name])) for name in VARIANTS}
            print(f"# {backend}: idle", flush=True)
    return {
        "level": "ring", "kernel": os.uname().release, "backend": title,
        "host": f"{accelerator()}, {os.cpu_count()} CPUs",
        "commands": {who: command_line(fio_command("fio", contestant, Job("JOB", "QUEUES")))
                     for who, contestant in competing.items()},
        "servers": {"vhost-user-blk": command_line(server)},
        "jobs": {name: JOBS[name]._asdict() for name in jobs},
        "left_out": left_out,
        "idle": idle,
        "memory": memory,
        "runs": runs,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--full", action="store_true", help="every job on every backend")
    parser.add_argument("--backend", action="append", choices=BACKENDS, help="only this one; can be repeated")
    parser.add_argument("--jobs", help="those whose names contain this, instead of the main ones")
    parser.add_argument("--output", type=Path, required=True, help="the directory of the documents")
    parser.add_argument("fio")
    parser.add_argument("storage_daemon")
    options = parser.parse_args()
    load_module()
    for backend in options.backend or BACKENDS:
        if options.jobs:
            jobs = [name for name in JOBS if options.jobs in name]
        else:
            jobs = list(JOBS) if options.full else MAIN.get(backend, [])
        if jobs:
            measured = measure(backend, jobs, options.rounds, options)
            path = options.output / f"ring-{backend}.json"
            path.write_text(json.dumps(measured, indent=1))


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"ring: {failure}")
