# SPDX-License-Identifier: GPL-2.0
"""What `bench/instructions ring` runs in the test host: reads between marks. Writes down who read how much, and what
else was counted meanwhile."""

import json
import os
import subprocess
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.backends import BACKENDS
from bench.contestants import VARIANTS, VHOST_USER_QUEUES, command_line, contestants
from tests.lib.host import TREE, Failure, expect_text, load_module
from bench.jobs import JOBS, Job, random_name
from bench.measure import storage_daemon

CASES = [(1, 1), (32, 1), (32, 16)]  # depth and queues
# Of each queue. The few are taken off, with what the start of a program costs.
READS = {1: (500, 10000), 16: (125, 2500)}
MARK = f"{TREE}/build/bench/mark"
EVENTS = Path("/sys/kernel/tracing/events")
COUNTED = {"switches": "sched/sched_switch", "wakeups": "sched/sched_wakeup", "system_calls": "raw_syscalls/sys_enter"}


@dataclass
class Case:
    contestant: str
    job: str
    commands: list  # that make the few and the many reads
    marks: int  # that each of them makes; the first and the last count
    reads: list  # between those, of all queues
    all_reads: list


def fio_command(fio, contestant, job, reads):
    return [fio, "--name=read", *contestant.options(job.queues), *job.options.split(), "--direct=1",
            f"--number_ios={reads}", "--thread", f"--numjobs={job.queues}", f"--exec_prerun={MARK}",
            f"--exec_postrun={MARK}", "--output=/dev/null"]


def ringcount_command(disk, variant, depth, reads):
    return [f"{TREE}/build/bench/ringcount", disk, str(depth), str(reads), *variant]


def driver_name(variant):
    return f"{variant}, minimal driver"


def driver_case(disk, name, depth):
    reads = READS[1]
    return Case(driver_name(name), random_name("read", depth),
                [ringcount_command(disk, VARIANTS[name], depth, number) for number in reads], 2, list(reads),
                # Some are ahead of the first mark.
                [number + number // 10 for number in reads])


def fio_case(fio, who, contestant, depth, queues):
    name = random_name("read", depth, queues)
    reads = [number * queues for number in READS[queues]]
    return Case(who, name, [fio_command(fio, contestant, JOBS[name], number) for number in READS[queues]], 2 * queues,
                reads, reads)


def execute(command):
    # fio keeps the output of its hooks in files of the current directory.
    done = subprocess.run(command, cwd="/tmp", capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")


@contextmanager
def counting():
    """Has the kernel count, and gives what reads the counts."""
    triggers = [EVENTS / event / "trigger" for event in COUNTED.values()]
    for trigger in triggers:
        trigger.write_text("hist:keys=common_cpu")

    def counts():
        found = {name: int(expect_text(r"Hits: (\d+)", (EVENTS / event / "hist").read_text())[1])
                 for name, event in COUNTED.items()}
        found["interrupts"] = int(expect_text(r"(?m)^intr (\d+)", Path("/proc/stat").read_text())[1])
        return found

    try:
        yield counts
    finally:
        for trigger in triggers:
            trigger.write_text("!hist:keys=common_cpu")


def counts_per_read(case, counts):
    taken = []
    for command in case.commands:
        before = counts()
        execute(command)
        taken.append({name: count - before[name] for name, count in counts().items()})
    few, many = taken
    return {name: (many[name] - few[name]) / (case.all_reads[1] - case.all_reads[0]) for name in many}


def measure(options):
    load_module()
    with ExitStack() as stack:
        title, make = BACKENDS["null_blk"]
        disk, bare = stack.enter_context(make())
        socket, _, server = stack.enter_context(storage_daemon(options.storage_daemon, disk, VHOST_USER_QUEUES))
        competing = contestants(disk, bare, socket)
        cases, left_out = [], []
        for depth, queues in CASES:
            if queues == 1:
                cases += [driver_case(disk, name, depth) for name in VARIANTS]
            for who, contestant in competing.items():
                if queues <= contestant.queues_max:
                    cases.append(fio_case(options.fio, who, contestant, depth, queues))
                else:
                    left_out.append({"contestant": who, "job": random_name("read", depth, queues),
                                     "why": contestant.left_out})
        runs = []
        for number in range(options.rounds):
            for case in cases:
                for command in case.commands:
                    execute(command)
                runs.append({"contestant": case.contestant, "job": case.job, "marks": case.marks, "reads": case.reads})
            print(f"# round {number + 1}", flush=True)
        # The counting costs instructions of its own.
        with counting() as counts:
            counted = [{"contestant": case.contestant, "job": case.job, "round": 0, **counts_per_read(case, counts)}
                       for case in cases]
    measured = {
        "level": "ring", "kernel": os.uname().release, "backend": title,
        "commands": {
            **{driver_name(name): command_line(ringcount_command(disk, VARIANTS[name], "DEPTH", "READS"))
               for name in VARIANTS},
            **{who: command_line(fio_command("fio", contestant, Job("JOB", "QUEUES"), "READS"))
               for who, contestant in competing.items()}},
        "servers": {"vhost-user-blk": command_line(server)},
        "jobs": {name: JOBS[name]._asdict() for name in dict.fromkeys(case.job for case in cases)},
        "left_out": left_out,
        "marks": (options.rounds + 1) * sum(case.marks * len(case.commands) for case in cases),
        "runs": runs,
        "counts": counted,
    }
    options.output.write_text(json.dumps(measured))
